"""The summary of a run: sums over its chunks, and the result of its job."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from schedd.engine import calendar
from schedd.engine.configuration import BalanceLimits, Configuration
from schedd.engine.contacts import ISSUES
from schedd.engine.explain import BalanceNote
from schedd.engine.findings import Findings
from schedd.engine.packing import unpack_kind, unpack_state_type
from schedd.engine.rows import NOT_SKIPPED, SKIP_REASONS, RowClasses
from schedd.engine.states import STATES
from schedd.store.schedule_values import Orphans
from schedd.store.write import Changes
from schedproto import JobSpec, Preview, RunResult, SavedPlan

from . import plan_digest, preview
from .chunk_data import ChunkTask, FinishedChunk, FinishReply, IssueColumns, PlanReply, Sums
from .specification import PLAN_FORMAT


def sum_days(parts: Iterable[Mapping[int, int]]) -> dict[int, int]:
    """Return the sums of counts by day, or by any other number."""
    total: dict[int, int] = {}
    for part in parts:
        for day, count in part.items():
            total[day] = total.get(day, 0) + count
    return total


@dataclass
class CompletePlan:
    """All chunks of a run, planned and balanced.

    tasks, replies: of each chunk, in the order of the contacts.   dispatched: ordinal -> dispatched
    rows.   notes: the moves of contacts that are explained.   orphans: the rows of no chunk, and
    what could not be read of them.
    """

    tasks: list[ChunkTask]
    replies: list[PlanReply]
    dispatched: dict[int, int]
    notes: list[BalanceNote]
    orphans: Orphans
    orphan_findings: Findings

    @property
    def growth(self) -> int:
        """Return the number of planned rows less that of existing ones."""
        return sum(reply.rows - reply.existing for reply in self.replies)


def _dates(days: Mapping[int, int]) -> dict[str, int]:
    return {calendar.iso(day): count for day, count in sorted(days.items())}


class RunSummary:
    """Sums over the chunks of one run: of the plan, and of its difference to the file.

    planned, unchanged, dropped, key_conflicts, removed, sums: as in `FinishReply`.
    changes: rows that the plan changes, those of a dry run included.
    counts: type -> status -> planned rows.   skipped: reason -> planned rows.
    volume, volume_before, dispatched: ordinal -> e-mails.

        summary = RunSummary(run.classes, plan, as_of)
        summary.add(reply, finished, issues)  # once for each chunk
        summary.sorted_counts()  # for example {"birthday": {"pre-scheduled": 900, "skipped": 40}}
    """

    def __init__(self, classes: RowClasses, plan: CompletePlan, as_of: int) -> None:
        self.classes = classes
        self.eligible = sum(reply.eligible for reply in plan.replies)
        self.planned = self.unchanged = self.dropped = self.key_conflicts = self.removed = 0
        self.changes = Changes()
        self.sums: Sums = (0, 0)
        self.counts: dict[str, dict[str, int]] = {}
        self.skipped: dict[str, int] = {}
        self.volume: dict[int, int] = {}
        self.volume_before = sum_days(reply.volume for reply in plan.replies)
        self.dispatched = {day: count for day, count in plan.dispatched.items() if day >= as_of}
        self.previews: list[Preview] = []
        self._states: dict[int, int] = {}
        self._issues: list[IssueColumns] = []

    def add(self, reply: FinishReply, finished: FinishedChunk, issues: IssueColumns) -> None:
        """Add one finished chunk."""
        self.planned += reply.planned
        self.unchanged += reply.unchanged
        self.dropped += reply.dropped
        self.key_conflicts += reply.key_conflicts
        self.removed += reply.removed
        self.sums = plan_digest.add(self.sums, reply.sums)
        self.changes.inserted += len(finished.insert) + len(reply.followup_inserts)
        self.changes.updated += len(finished.update) + len(reply.followup_updates)
        self.changes.deleted += len(finished.delete)

        for kind, count in reply.kinds.items():
            row_class, reason = unpack_kind(kind)
            email_type = self.classes.types[self.classes.type_number[row_class]]
            self._count(email_type, reason, count)
        for item in reply.followup_counts:
            self._count(item.email_type, item.reason, item.count)
        self.volume = sum_days([self.volume, reply.volume])
        self._states = sum_days([self._states, reply.states])
        if reply.preview is not None:
            self.previews.append(reply.preview)
        # Copies, because the file of the chunk is removed.
        self._issues.append(IssueColumns(issues.contact_id.copy(), issues.kind.copy()))

    def _count(self, email_type: str, reason: int, count: int) -> None:
        statuses = self.counts.setdefault(email_type, {})
        status = "pre-scheduled" if reason == NOT_SKIPPED else "skipped"
        statuses[status] = statuses.get(status, 0) + count
        if reason != NOT_SKIPPED:
            self.skipped[SKIP_REASONS[reason]] = self.skipped.get(SKIP_REASONS[reason], 0) + count

    def issues(self) -> IssueColumns:
        """Return the issues of all chunks."""
        return IssueColumns(
            np.concatenate([issues.contact_id for issues in self._issues]),
            np.concatenate([issues.kind for issues in self._issues]),
        )

    def sorted_counts(self) -> dict[str, dict[str, int]]:
        """Return type -> status -> rows of the plan."""
        return {kind: dict(sorted(self.counts[kind].items())) for kind in sorted(self.counts)}

    def issue_counts(self) -> dict[str, int]:
        """Return reason -> contacts."""
        kinds, numbers = np.unique(self.issues().kind, return_counts=True)
        return {
            ISSUES[kind]: count
            for kind, count in zip(kinds.tolist(), numbers.tolist(), strict=True)
        }

    def _by_state(self) -> dict[str, dict[str, int]]:
        types = self.classes.types
        states: dict[str, dict[str, int]] = {}
        for number, count in sorted(self._states.items()):
            state, type_number = unpack_state_type(number, len(types))
            states.setdefault(STATES[state], {})[types[type_number]] = count
        return dict(sorted(states.items()))

    def saved_plan(
        self,
        spec: JobSpec,
        as_of: int,
        config_version: int | None,
        configuration: Configuration,
        contacts: int,
    ) -> SavedPlan:
        """Return the plan as a later job can expect it. All chunks must have been added."""
        return SavedPlan(
            format=PLAN_FORMAT,
            organization=spec.organization,
            as_of=calendar.iso(as_of),
            config=spec.config,
            config_version=config_version,
            settings=plan_digest.settings_digest(configuration),
            contacts=contacts,
            contacts_eligible=self.eligible,
            rows=self.planned,
            counts=self.sorted_counts(),
            issues=self.issue_counts(),
            digest=plan_digest.text(self.sums, self.planned),
        )

    def result(
        self,
        spec: JobSpec,
        run_id: str,
        as_of: int,
        workers: int,
        contacts: int,
        config_version: int | None,
        limits: BalanceLimits,
        changes: Changes,
    ) -> RunResult:
        """Return the job's result without its timings.

        changes: rows that SQLite has changed, or that a dry run would change.
        """
        return RunResult(
            run_id=run_id,
            organization=spec.organization,
            as_of=calendar.iso(as_of),
            mode=spec.mode,
            workers=workers,
            dry_run=spec.dry_run,
            config_version=config_version,
            contacts=contacts,
            contacts_eligible=self.eligible,
            counts=self.sorted_counts(),
            skipped=dict(sorted(self.skipped.items())),
            issues=self.issue_counts(),
            volume=_dates(self.volume),
            volume_before=_dates(self.volume_before),
            volume_dispatched=_dates(self.dispatched),
            states=self._by_state(),
            preview=preview.merge(self.previews) if self.previews else None,
            rows_planned=self.planned,
            rows_inserted=changes.inserted,
            rows_updated=changes.updated,
            rows_deleted=changes.deleted,
            rows_unchanged=self.unchanged,
            duplicates_dropped=self.dropped,
            keys_held=self.key_conflicts,
            daily_cap=limits.cap,
            daily_limit=limits.limit,
        )
