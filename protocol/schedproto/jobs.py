"""Jobs: specification, states, progress and result.

Times are aware UTC datetimes, dates are `YYYY-MM-DD` strings, durations are seconds (`_s`), sizes
bytes. States, modes and stages travel as plain strings, so that a new one does not break an old
peer.

>>> spec = JobSpec(organization="org-123", as_of="2026-11-23", dry_run=True)
>>> msgspec.to_builtins(spec)["mode"]
'reliable'
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec

from .errors import ErrorInfo
from .explanations import Explanation

MIN_WORKERS = 1
MAX_WORKERS = 32


class JobState(StrEnum):
    """The durable states of a job; the last three are final."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


FINAL_STATES = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})


class Mode(StrEnum):
    """The modes of a run; see docs/ARCHITECTURE.md, section "Two modes"."""

    RELIABLE = "reliable"
    HIGHPERF = "highperf"


class SavedPlan(msgspec.Struct, frozen=True, kw_only=True):
    """A plan as a dry run computed it: a job that expects it writes this plan or nothing.

    format: of this structure; a daemon refuses one that it does not know.
    config: the overrides of the job that computed it.   config_version: of the organization's
    configuration.
    settings: digest of all settings, the guards aside.   contacts, contacts_eligible: what the run
    read.
    rows: rows of the plan.   counts: email type -> status -> rows.   issues: reason -> contacts.
    digest: of every row of the plan and every contact with an issue; equal plans have equal
    digests, whatever the number of workers, the mode and what the file's plan was before.
    """

    format: int = 1
    organization: str
    as_of: str
    config: dict[str, Any] = {}
    config_version: int | None = None
    settings: str = ""
    contacts: int = 0
    contacts_eligible: int = 0
    rows: int = 0
    counts: dict[str, dict[str, int]] = {}
    issues: dict[str, int] = {}
    digest: str = ""


class JobSpec(msgspec.Struct, frozen=True, kw_only=True):
    """The specification of a job. `None` means: the daemon's or the organization's default.

    as_of: `YYYY-MM-DD`, the date D of the rules; today in the organization's time zone.
    workers: 1 to 32 shards and processes; chosen by the organization's size.
    config: overrides in the shape of the rules' section 13, on top of the organization's
    configuration.
    dry_run: compute and count, change nothing.
    explain: contacts whose e-mails the result explains; only with dry_run.
    accept_changes: write the plan although it exceeds a guard (rules, section 13), in this run
    alone.
    expect: the plan that was reviewed; the run writes exactly this plan, or fails with
    `plan_differs`.
    """

    organization: str
    as_of: str | None = None
    mode: str = Mode.RELIABLE.value
    workers: int | None = None
    config: dict[str, Any] = {}
    dry_run: bool = False
    explain: list[int] = []
    accept_changes: bool = False
    expect: SavedPlan | None = None


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """Progress of a running job.

    `fraction` is of the complete job, 0.0 to 1.0, and never falls in one attempt.
    """

    stage: str
    fraction: float = 0.0
    contacts_done: int = 0
    contacts_total: int = 0


class TypeChanges(msgspec.Struct, frozen=True, kw_only=True):
    """The changes of a run to the rows of one e-mail type.

    A row that moves to another day counts as `moved` alone.
    """

    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    moved: int = 0
    unchanged: int = 0


class RowChange(msgspec.Struct, frozen=True, kw_only=True):
    """One row that a run changes.

    change: `inserted`, `updated`, `deleted` or `moved`; dates `YYYY-MM-DD`.

    Of a skipped row the status is `skipped` and the reason is given.
    """

    contact_id: int
    email_type: str
    change: str
    date_before: str | None = None
    date_after: str | None = None
    status_before: str | None = None
    status_after: str | None = None
    reason_before: str | None = None
    reason_after: str | None = None


class Preview(msgspec.Struct, frozen=True, kw_only=True):
    """The changes that a dry run would make to the current plan.

    types: email type -> changes.   volume_present: date -> pre-scheduled rows of the current plan.
    examples: the first changes of each type and kind.
    """

    types: dict[str, TypeChanges] = {}
    volume_present: dict[str, int] = {}
    examples: list[RowChange] = []


class TransferStats(msgspec.Struct, frozen=True, kw_only=True):
    """Data transferred between the bucket and a working copy (docs/BUCKET.md).

    version_before: the version that was fetched or changed.   version: the version afterwards, of a
    job the one that it published. Both are 0 in the layout `plain`, None if there is none.
    bytes_whole: size of the transfers if complete files had been sent.
    carried_over: how often a job carried its plan over to a version that another writer published.
    """

    version_before: int | None = None
    version: int | None = None
    bytes_down: int = 0
    bytes_up: int = 0
    bytes_whole: int = 0
    carried_over: int = 0


class RunWarning(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of value or object in the file that a run could not use as it is (rules, section 0).

    code: stable, for programs, for example `unreadable_date`.   table, column: where; empty for the
    complete file.
    name: the status, e-mail type or campaign that it is about, if each is counted on its own.
    count: how many rows.   row_ids: up to five of them, ascending.   values: what these rows have,
    shortened.
    message: one sentence for people: what was found and what it means for the plan.
    """

    code: str
    table: str = ""
    column: str = ""
    name: str = ""
    count: int = 0
    row_ids: list[int | str] = []
    values: list[str] = []
    message: str = ""


class GuardMeasure(msgspec.Struct, frozen=True, kw_only=True):
    """One figure by which a run is judged before it writes (rules, section 13).

    code: `ineligible_increase`, `removed`, `unreadable` or `days_over_cap`.
    count: contacts, planned e-mails or days.   total: of how many, 0 of days.
    allowed: the highest share of them in percent, or number of days, that does not stop a run.
    exceeded: whether it stops a run that does not accept the changes.   message: one sentence for
    people.
    """

    code: str
    count: int = 0
    total: int = 0
    allowed: float = 0.0
    exceeded: bool = False
    message: str = ""


class RunResult(msgspec.Struct, frozen=True, kw_only=True):
    """Result of a run; of a dry run, what it would do.

    counts: email type -> status (or `skipped`) -> rows of the plan.
    skipped: skip reason -> rows.   issues: reason -> contacts.
    volume: date -> pre-scheduled rows on it (follow-ups included); volume_before: the same before
    load balancing (sections 9 and 10); volume_dispatched: date -> rows from the run's date on that
    the sender has already.
    states: state -> email type -> pre-scheduled rows.
    stages: stage -> wall seconds, in the order they ran.
    keys_held: planned rows left out because a row that is not the scheduler's holds their key.
    warnings: what could not be read or used as it is, the most serious first.
    guard: the figures of the guards that apply. If one is exceeded, the run was a dry run or
    accepted the changes.
    plan: of a dry run, and of a run that expected a plan.
    finished_at: UTC, `YYYY-MM-DD HH:MM:SS`.   backup_id: the backup made before the first write, if
    any.
    cost_usd: what the machine cost for the time of the run, in US dollars, if its price is
    known.
    replica: what was fetched and published, with a bucket.
    preview: of a dry run.   explanations: of the contacts that `JobSpec.explain` names.
    """

    run_id: str
    organization: str
    as_of: str
    mode: str
    workers: int
    dry_run: bool = False
    config_version: int | None = None
    contacts: int = 0
    contacts_eligible: int = 0
    counts: dict[str, dict[str, int]] = {}
    skipped: dict[str, int] = {}
    issues: dict[str, int] = {}
    volume: dict[str, int] = {}
    volume_before: dict[str, int] = {}
    volume_dispatched: dict[str, int] = {}
    states: dict[str, dict[str, int]] = {}
    rows_planned: int = 0
    rows_inserted: int = 0
    rows_updated: int = 0
    rows_deleted: int = 0
    rows_unchanged: int = 0
    duplicates_dropped: int = 0
    keys_held: int = 0
    warnings: list[RunWarning] = []
    guard: list[GuardMeasure] = []
    plan: SavedPlan | None = None
    daily_cap: int = 0
    daily_limit: int = 0
    stages: dict[str, float] = {}
    wall_s: float = 0.0
    contacts_per_s: float = 0.0
    cost_usd: float | None = None
    finished_at: str = ""
    backup_id: str | None = None
    replica: TransferStats | None = None
    preview: Preview | None = None
    explanations: list[Explanation] = []


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A job as the daemon's journal knows it.

    position: how many jobs are before it in the queue, while queued.
    attempts: number of starts (more than 1 after a crash of a worker or the daemon).
    """

    job_id: str
    spec: JobSpec
    state: str
    submitted_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    attempts: int = 0
    position: int | None = None
    progress: Progress | None = None
    result: RunResult | None = None
    error: ErrorInfo | None = None
    idempotency_key: str | None = None
    cancel_requested: bool = False

    @property
    def final(self) -> bool:
        """Return whether the job has ended."""
        return self.state in FINAL_STATES


class TableInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One table of an organization's file that the scheduler reads or writes."""

    name: str
    present: bool
    rows: int | None = None
    missing_columns: list[str] = []


class LastRun(msgspec.Struct, frozen=True, kw_only=True):
    """The newest row of `scheduler_runs`."""

    run_id: str
    as_of: str
    status: str
    mode: str | None = None
    started_at: str | None = None
    finished_at: str | None = None
    error: str | None = None


class OrganizationInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The contents of one organization's file, as `db-info` shows them.

    plan: status -> rows of `email_schedules`.   next_dates: date -> pre-scheduled rows, the first
    ones.
    """

    organization: str
    path: str
    size_bytes: int
    journal_mode: str
    page_size: int
    contacts: int | None = None
    plan: dict[str, int] = {}
    next_dates: dict[str, int] = {}
    issues: dict[str, int] = {}
    tables: list[TableInfo] = []
    last_run: LastRun | None = None
    config_version: int | None = None
    error: ErrorInfo | None = None


class VolumeInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The data folder, as `db-info` shows it. `organizations`: id -> file size in bytes."""

    data_dir: str
    total_bytes: int
    free_bytes: int
    organizations: dict[str, int] = {}
