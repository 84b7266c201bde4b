"""Several organizations in one `schedctl submit`: a table of progress, a summary, an exit code."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.live import Live
from rich.table import Table

from schedproto import Job, JobState

from .common import make_client, print_json
from .exitcodes import ExitCode
from .show import console, seconds, size

if TYPE_CHECKING:
    from schedclient.many import Outcome, Outcomes

#: Rows of the table of progress: those in work, then those that have ended, newest first.
MOST_ROWS = 20


class _Table:
    """What is in work, on standard error while it lasts; shows nothing where there is no terminal."""

    def __init__(self, *, quiet: bool) -> None:
        self._console = console(err=True)
        self._live: Live | None = None
        self._jobs: dict[str, Job | None] = {}
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self._enabled = self._console.is_terminal and not quiet

    def __enter__(self) -> Self:
        if self._enabled:
            self._live = Live(get_renderable=self._render, console=self._console, transient=True, refresh_per_second=5)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def update(self, organization: str, job: Job | None) -> None:
        with self._lock:
            self._jobs[organization] = job

    def _render(self) -> Table:
        with self._lock:
            jobs = dict(self._jobs)
        ended = [name for name, job in jobs.items() if job is None or job.final]
        active = [name for name in jobs if name not in ended]
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in ("organization", "state", "stage"):
            table.add_column(name, no_wrap=True)
        table.add_column("done", justify="right")
        for name in [*active, *reversed(ended)][:MOST_ROWS]:
            table.add_row(name, *_progress_of(jobs[name]))
        bad = sum(1 for name in ended if (job := jobs[name]) is None or job.state != JobState.SUCCEEDED)
        table.caption = (
            f"{len(ended)} ended, {bad} of them not well, {len(active)} in work; "
            f"{seconds(time.monotonic() - self._began)}"
        )
        table.caption_justify = "left"
        return table


def _progress_of(job: Job | None) -> tuple[str, str, str]:
    if job is None:
        return "refused", "", ""
    if job.final or job.progress is None:
        return job.state, "", ""
    return job.state, job.progress.stage, f"{job.progress.fraction:.0%}"


def submit_many(
    organizations: Sequence[str] | None,
    at_once: int | None,
    overrides: dict[str, Any],
    *,
    as_json: bool,
    **options: Any,
) -> ExitCode:
    """Schedule several organizations, or all; returns how it went."""
    with make_client(options) as client, _Table(quiet=as_json) as table:
        outcomes = client.schedule_many(
            organizations, at_once=at_once, on_each=table.update, config=overrides, **options
        )
    print_json(outcomes) if as_json else _print_outcomes(outcomes)
    return _code_of(outcomes)


def _code_of(outcomes: Outcomes) -> ExitCode:
    codes = {outcome.error.code for outcome in outcomes.outcomes if outcome.error is not None}
    if not codes:
        return ExitCode.OK
    return ExitCode.CANCELLED if codes == {"cancelled"} else ExitCode.JOB_FAILED


def _print_outcomes(outcomes: Outcomes) -> None:
    out = console()
    if not outcomes.outcomes:
        out.print("There are no organizations.")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("organization", no_wrap=True)
    for name in ("contacts", "inserted", "updated", "deleted", "time", "fetched", "sent"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("outcome", overflow="fold")
    for outcome in outcomes.outcomes:
        table.add_row(outcome.organization, *_cells(outcome))
    out.print(table)
    out.print()
    cost = "" if outcomes.cost_usd is None else f", {outcomes.cost_usd:.6f} US dollars of machine time"
    moved = ""
    if outcomes.bytes_whole:
        moved = (
            f"; {size(outcomes.bytes_down)} fetched and {size(outcomes.bytes_up)} sent "
            f"(whole files: {size(outcomes.bytes_whole)})"
        )
    out.print(
        f"{outcomes.succeeded:,} of {len(outcomes.outcomes):,} organizations scheduled, {outcomes.contacts:,} contacts "
        f"in {seconds(outcomes.wall_s)}{moved}{cost}",
        soft_wrap=True,
    )
    if outcomes.failed:
        out.print(f"{outcomes.failed:,} failed; the table says why.", style="bold red")


def _cells(outcome: Outcome) -> tuple[str, ...]:
    result = outcome.result
    if result is None:
        error = outcome.error
        return ("", "", "", "", "", "", "", "" if error is None else f"{error.code}: {error.message} {error.hint}")
    use = result.replica
    return (
        f"{result.contacts:,}",
        f"{result.rows_inserted:,}",
        f"{result.rows_updated:,}",
        f"{result.rows_deleted:,}",
        seconds(result.wall_s),
        "" if use is None else size(use.bytes_down),
        "" if use is None else size(use.bytes_up),
        "scheduled",
    )
