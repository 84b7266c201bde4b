"""Terminal output of checks and adoptions."""

from __future__ import annotations

from collections.abc import Sequence

import click
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from schedclient.toml import dotted, inline
from schedctl.terminal import console
from schedproto.checks import ERROR, NOTE, SEVERITIES, WARNING, Adoption, CheckFinding, CheckReport
from schedproto.printable import shows_printable

_STYLES = {ERROR: "bold red", WARNING: "yellow", NOTE: "cyan"}
#: Errors that are named before a first run.
_MAX_FIRST = 5
_INDENT = 9


def summary(report: CheckReport) -> str:
    """Return how many findings of each severity there are."""
    counts = {
        severity: sum(item.severity == severity for item in report.findings)
        for severity in SEVERITIES
    }
    parts = [
        f"{count} {severity}{'' if count == 1 else 's'}"
        for severity, count in counts.items()
        if count
    ]
    return ", ".join(parts) or "nothing to report"


@shows_printable
def print_report(
    report: CheckReport, next_steps: Sequence[str] = (), out: Console | None = None
) -> None:
    """Show all findings. next_steps: lines about what to do with the configuration that follows."""
    out = out or console()
    eligible = f"{report.contacts_eligible:,} of {report.contacts:,} contacts eligible"
    out.print(
        Text.assemble(
            (report.organization, "bold"),
            f" checked as of {report.as_of}: {eligible}; {summary(report)}",
        ),
        soft_wrap=True,
    )
    for item in report.findings:
        out.print()
        _print_finding(out, item)
    if report.settings:
        out.print()
        out.print("Suggested configuration:", style="bold")
        for key, value in dotted(report.settings):
            out.print(Text(f"  {key} = {inline(value)}"), soft_wrap=True)
        for line in next_steps:
            out.print(Text(line), soft_wrap=True)


def _print_finding(out: Console, item: CheckFinding) -> None:
    location = ".".join(part for part in (item.table, item.column) if part)
    out.print(
        Text.assemble(
            (f"{item.severity:<{_INDENT}}", _STYLES.get(item.severity, "")),
            (item.code, "bold"),
            f"  {location}" if location else "",
            (f"  {item.name}" if item.name else "", "dim"),
        ),
        soft_wrap=True,
    )
    lines = [Text(item.message)]
    if item.values:
        pairs = zip(item.row_ids, item.values, strict=False)
        lines.append(
            Text("for example " + "; ".join(f"{row}: {value}" for row, value in pairs), style="dim")
        )
    lines.append(Text(f"-> {item.fix}", style="green"))
    for line in lines:
        out.print(Padding(line, (0, 0, 0, _INDENT), expand=False))


@shows_printable
def print_first_run(report: CheckReport, command: str) -> None:
    """Show the errors that a check before the first run has found, on standard error."""
    errors = [item for item in report.findings if item.severity == ERROR]
    if not errors:
        return
    out = console(err=True)
    out.print(
        Text(f"First run of {report.organization}: the check of its file found {summary(report)}:"),
        soft_wrap=True,
    )
    for item in errors[:_MAX_FIRST]:
        out.print(Text.assemble(("error  ", _STYLES[ERROR]), item.message), soft_wrap=True)
    out.print(Text(f"Show all of them and how to fix them: {command}"), soft_wrap=True)


@shows_printable
def print_adoption(adoption: Adoption) -> None:
    """Show what an adoption would change, and what it leaves."""
    out = console()
    if not (adoption.changes or adoption.settings):
        out.print(f"Nothing to do to adopt {adoption.organization}.")
    if adoption.settings:
        out.print(
            Text(f"New version of the configuration of {adoption.organization}:", style="bold"),
            soft_wrap=True,
        )
        before = dict(dotted(adoption.settings_before))
        for key, value in dotted(adoption.settings):
            changed = before.get(key) != value
            out.print(
                Text(
                    f"{'+' if changed else ' '} {key} = {inline(value)}",
                    style="green" if changed else "",
                )
            )
    if adoption.changes:
        out.print(Text("Changes to the scheduler's own tables:", style="bold"))
        for change in adoption.changes:
            out.print(Text(f"- {change.message}"), soft_wrap=True)
    if adoption.left:
        out.print(Text("Left for you to decide:", style="bold"))
        for item in adoption.left:
            mark = (f"{item.severity:<{_INDENT}}", _STYLES.get(item.severity, ""))
            out.print(Text.assemble(mark, f"{item.message} {item.fix}"), soft_wrap=True)


@shows_printable
def print_adopted(adoption: Adoption, command: str) -> None:
    """Say what was done."""
    if not adoption.applied:
        click.echo("There was nothing left to do.")
        return
    version = (
        ""
        if adoption.version is None
        else f" Version {adoption.version} of its configuration applies."
    )
    backup = (
        ""
        if adoption.backup_id is None
        else f" Backup {adoption.backup_id} contains the previous file."
    )
    click.echo(f"{adoption.organization} is adopted.{version}{backup}")
    click.echo(f"Show what a run would plan: {command}", err=True)
