"""Several organizations in one `schedctl submit`: a table of progress, a summary, an exit code."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import click
from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from schedctl.common import ask_what_to_do, command_hint, make_client, print_json
from schedctl.exitcodes import ExitCode
from schedctl.terminal import STATE_STYLE, console, seconds, size
from schedproto import Job, JobState

if TYPE_CHECKING:
    from schedclient.batch import Outcome, Outcomes

#: Maximum rows of the progress table: running jobs, then ended ones, newest first.
MAX_ROWS = 20
#: Lines of a terminal that are not rows: the header, an empty line, the sum, the cursor's.
_OTHER_LINES = 4
_BAR_WIDTH = 20
#: Fixed widths of the columns whose contents change while jobs run.
_WIDTHS = {
    "state": len("succeeded"),
    "progress": _BAR_WIDTH + len(" publish"),
    "took": len("000 ms"),
}


class ProgressTable:
    """A live table of running jobs on standard error. Shows nothing without a terminal."""

    def __init__(self, *, quiet: bool) -> None:
        self._console = console(err=True)
        self._live: Live | None = None
        self._total = 0
        self._jobs: dict[str, Job | None] = {}
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self._enabled = self._console.is_terminal and not quiet

    def __enter__(self) -> Self:
        if self._enabled:
            self._live = Live(
                get_renderable=self.render,
                console=self._console,
                transient=True,
                refresh_per_second=8,
            )
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def expect(self, total: int) -> None:
        """Say how many there will be."""
        self._total = total

    def update(self, organization: str, job: Job | None) -> None:
        """Show an organization's job; None: it has none and never will."""
        with self._lock:
            self._jobs.pop(organization, None)  # the newest news last
            self._jobs[organization] = job

    def render(self) -> Group:
        """Return the table and, below it, how far all is."""
        with self._lock:
            jobs = dict(self._jobs)
        ended = [name for name, job in jobs.items() if job is None or job.final]
        active = sorted(jobs.keys() - set(ended))
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in ("organization", "state", "progress", "contacts", "rows changed", "took"):
            right = name in {"contacts", "rows changed", "took"}
            table.add_column(
                name,
                no_wrap=True,
                justify="right" if right else "left",
                min_width=_WIDTHS.get(name),
            )
        rows = max(1, min(MAX_ROWS, self._console.height - _OTHER_LINES))
        for name in [*active, *reversed(ended)][:rows]:
            table.add_row(name, *_progress_of(jobs[name]))
        bad = sum(
            1 for name in ended if (job := jobs[name]) is None or job.state != JobState.SUCCEEDED
        )
        waiting = max(0, self._total - len(jobs))
        words = [
            f"{len(ended)} of {self._total or len(jobs)} ended",
            f"{len(active)} running",
            f"{waiting} waiting",
        ]
        line = Text(" \u00b7 ".join(words), style="bold")
        if bad:
            line.append(f" \u00b7 {bad} failed", style="red")
        line.append(f" \u00b7 {seconds(time.monotonic() - self._began)}")
        return Group(table, Text(), line)


def _progress_of(job: Job | None) -> tuple[Any, ...]:
    if job is None:
        return (Text("refused", style="red"), "", "", "", "")
    state = Text(job.state, style=STATE_STYLE.get(job.state, ""))
    if job.error is not None:
        return (state, job.error.code, "", "", "")
    if job.result is not None:
        result = job.result
        changed = result.rows_inserted + result.rows_updated + result.rows_deleted
        return (state, "", f"{result.contacts:,}", f"{changed:,}", seconds(result.wall_s))
    if job.progress is None:
        return (state, "", "", "", "")
    bar = Table.grid(padding=(0, 1))
    bar.add_row(ProgressBar(1.0, job.progress.fraction, width=_BAR_WIDTH), Text(job.progress.stage))
    total = job.progress.contacts_total
    return (state, bar, f"{total:,}" if total else "", "", "")


def submit_many(
    organizations: Sequence[str] | None,
    concurrency: int | None,
    overrides: dict[str, Any],
    *,
    as_json: bool,
    **options: Any,
) -> ExitCode:
    """Schedule several organizations, or all; returns the exit code.

    Ctrl-C asks whether to cancel or detach.
    """
    with make_client(options) as client:
        table = ProgressTable(quiet=as_json)
        with table:
            batch = client.submit_many(
                organizations,
                concurrency=concurrency,
                on_update=table.update,
                config=overrides,
                **options,
            )
            table.expect(len(batch.organizations))
        while True:
            try:
                with table:
                    outcomes = batch.wait()
            except KeyboardInterrupt:
                if _interrupted(batch) != "detach":
                    continue
                outcomes = batch.snapshot()
            print_json(outcomes) if as_json else _print_outcomes(outcomes)
            return _code_of(outcomes)


def _interrupted(batch: Any) -> str:
    """Ask after Ctrl-C whether to cancel or detach, do it, and return the answer."""
    running = [
        outcome
        for outcome in batch.snapshot().outcomes
        if outcome.job_id and not (outcome.result or outcome.error)
    ]
    what = "1 job is" if len(running) == 1 else f"{len(running)} jobs are"
    choice = ask_what_to_do(
        f"{what} still running.", "[c]ancel all, [d]etach and submit no more, or [g]o on waiting?"
    )
    if choice == "cancel":
        batch.cancel()
        click.echo("Cancelling running jobs; the rest is not submitted.", err=True)
    elif choice == "detach":
        batch.stop()
        click.echo(
            "Running jobs continue; the rest is not submitted. List them with: "
            f"{command_hint('list')}",
            err=True,
        )
    return choice


def _code_of(outcomes: Outcomes) -> ExitCode:
    if outcomes.succeeded + outcomes.failed < len(outcomes.outcomes):
        return ExitCode.DETACHED
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
    table.add_column("outcome", no_wrap=True)
    for outcome in outcomes.outcomes:
        table.add_row(outcome.organization, *_cells(outcome))
    out.print(table)
    out.print()
    # Not in the table: sentences in a narrow column are hard to read.
    for outcome in outcomes.outcomes:
        if outcome.error is not None:
            out.print(
                Text(f"{outcome.organization}: {outcome.error.message}", style="red"),
                soft_wrap=True,
            )
            if outcome.error.hint:
                out.print(f"  {outcome.error.hint}", soft_wrap=True)
        elif outcome.result is None and outcome.job_id:
            out.print(f"{outcome.organization}: {outcome.job_id} continues", soft_wrap=True)
    cost = (
        "" if outcomes.cost_usd is None else f", {outcomes.cost_usd:.6f} US dollars of machine time"
    )
    moved = ""
    if outcomes.bytes_whole:
        moved = (
            f"; {size(outcomes.bytes_down)} downloaded and {size(outcomes.bytes_up)} uploaded "
            f"(complete files: {size(outcomes.bytes_whole)})"
        )
    out.print(
        f"{outcomes.succeeded:,} of {len(outcomes.outcomes):,} organizations scheduled, "
        f"{outcomes.contacts:,} contacts in {seconds(outcomes.wall_s)}{moved}{cost}",
        soft_wrap=True,
    )
    if outcomes.failed:
        out.print(f"{outcomes.failed:,} failed.", style="bold red")


def _cells(outcome: Outcome) -> tuple[str, ...]:
    result = outcome.result
    if result is None:
        if outcome.error is not None:
            return ("", "", "", "", "", "", "", outcome.error.code)
        return ("", "", "", "", "", "", "", "running" if outcome.job_id else "not submitted")
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
