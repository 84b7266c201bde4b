"""Terminal output for the review of a plan: the guards that it exceeds, and its warnings."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from schedproto import RunResult
from schedproto.printable import shows_printable

#: Kinds of warnings that are shown.
_MAX_WARNINGS = 10


@shows_printable
def print_review(out: Console, result: RunResult) -> None:
    """Show the guards that a result exceeds and its warnings, if any."""
    _print_guards(out, result)
    _print_warnings(out, result)


def _print_guards(out: Console, result: RunResult) -> None:
    exceeded = [measure for measure in result.guard if measure.exceeded]
    if not exceeded:
        return
    out.print()
    if result.dry_run:
        out.print(
            Text(
                "A run would stop and write nothing, unless --accept-changes is given:",
                style="bold red",
            )
        )
    else:
        out.print(
            Text(
                "Written although it exceeds the guards, because the changes were accepted:",
                style="bold yellow",
            )
        )
    for measure in exceeded:
        out.print(f"  {measure.message}", soft_wrap=True)


def _print_warnings(out: Console, result: RunResult) -> None:
    if not result.warnings:
        return
    out.print()
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("warnings", justify="right")
    table.add_column("")
    for warning in result.warnings[:_MAX_WARNINGS]:
        table.add_row(f"{warning.count:,}", warning.message)
    out.print(table)
    more = len(result.warnings) - _MAX_WARNINGS
    if more > 0:
        out.print(f"and {more:,} more; --json shows all")
