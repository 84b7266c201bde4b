"""The commands check and adopt, and the check before an organization's first run."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click

from schedclient.errors import DaemonError, IncompatibleError, SettingsError
from schedclient.toml import render
from schedctl.common import (
    command_hint,
    connection_options,
    handles_errors,
    make_client,
    print_json,
)
from schedctl.exitcodes import ExitCode
from schedctl.options import as_of_option, config_option, read_overrides
from schedctl.terminal import console
from schedctl.views import check as show_check
from schedproto.checks import ERROR, CheckReport
from schedproto.ids import DATABASE_SUFFIX, ORGANIZATION_ID

from .config import by_option

_accept_status = click.option(
    "--accept-status",
    "accept_statuses",
    multiple=True,
    metavar="STATUS",
    help="Treat contacts with this status as active in the suggested configuration (repeatable).",
)


def _is_file(target: str) -> bool:
    """Return whether an argument names a file.

    It does if it has a folder or a database's suffix, or is not a valid organization id.
    """
    path = Path(target)
    named = path.suffix.lower() in {DATABASE_SUFFIX, ".sqlite", ".sqlite3"}
    return path.name != target or named or not ORGANIZATION_ID.fullmatch(target)


@click.command("check")
@click.argument("target", metavar="ORGANIZATION|FILE")
@as_of_option
@config_option
@_accept_status
@click.option(
    "--suggest", is_flag=True, help="Print the suggested configuration as TOML for `config set`."
)
@connection_options
@handles_errors
def check_command(
    target: str,
    *,
    as_of: str | None,
    config: Path | None,
    accept_statuses: tuple[str, ...],
    suggest: bool,
    as_json: bool,
    **options: Any,
) -> ExitCode:
    """Check the file of ORGANIZATION, or FILE, for problems.

    Changes nothing. FILE is a path: it contains a folder (./org-123) or ends with .db.
    docs/CHECK.md lists all findings. Exits 1 if there are errors; exits 0 if there are only
    warnings and notes, or with --suggest.
    """
    arguments: dict[str, Any] = {
        "as_of": as_of,
        "config": read_overrides(config),
        "accept_statuses": accept_statuses,
    }
    with _busy(f"Checking {target}", quiet=as_json):
        if _is_file(target):
            from schedctl.local_check import check_file  # noqa: PLC0415 - a daemon of its own is started for it

            report = check_file(Path(target), **arguments)
        else:
            with make_client(options) as client:
                report = client.check(target, **arguments)
    if as_json:
        print_json(report)
    elif suggest:
        _print_suggestion(report)
    else:
        show_check.print_report(
            report, [] if _is_file(target) else _next_steps(target, accept_statuses)
        )
    errors = any(item.severity == ERROR for item in report.findings)
    return ExitCode.JOB_FAILED if errors and not suggest else ExitCode.OK


def _next_steps(organization: str, accept_statuses: tuple[str, ...]) -> list[str]:
    accepted = [word for status in accept_statuses for word in ("--accept-status", status)]
    return [
        f"Print it: {command_hint('check', organization, *accepted, '--suggest')}",
        f"Use it:   {command_hint('adopt', organization, *accepted)}",
    ]


def _busy(what: str, *, quiet: bool) -> Any:
    out = console(err=True)
    return nullcontext() if quiet or not out.is_terminal else out.status(f"{what} ...")


def _print_suggestion(report: CheckReport) -> None:
    if not report.settings:
        click.echo("Nothing is suggested.", err=True)
        return
    click.echo(
        f"# {report.organization}: configuration suggested by the check as of {report.as_of}"
    )
    click.echo(render(report.settings), nl=False)


def check_first_run(
    client: Any, organization: str, as_of: str | None, config: dict[str, Any]
) -> None:
    """Before an organization's first run, print the errors that a check of its file finds.

    Never stops the run.
    """
    try:
        report = client.check(organization, as_of=as_of, config=config, first_run_only=True)
    except (DaemonError, IncompatibleError):
        return  # the run itself says what is wrong, if it is anything that concerns it
    if report.checked:
        show_check.print_first_run(report, command_hint("check", organization))


@click.command("adopt")
@click.argument("organization")
@_accept_status
@by_option
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@connection_options
@handles_errors
def adopt_command(
    organization: str,
    *,
    accept_statuses: tuple[str, ...],
    author: str | None,
    yes: bool,
    as_json: bool,
    **options: Any,
) -> ExitCode:
    """Prepare a file of another program for its first run.

    Shows the changes and asks before it makes them. Stores the suggested configuration as a new
    version and completes the scheduler's own tables: removes duplicate planned rows, drops unique
    indexes that a plan can violate, adds missing columns and indexes. Makes a backup, then changes
    the file in one transaction. Never changes rows of the sender. Idempotent. With --json and
    without --yes, only prints the changes.
    """
    with make_client(options) as client:
        with _busy(f"Checking {organization}", quiet=as_json):
            adoption = client.plan_adoption(organization, accept_statuses)
        nothing = not (adoption.changes or adoption.settings)
        if not as_json:
            show_check.print_adoption(adoption)
        if nothing or (as_json and not yes):
            if as_json:
                print_json(adoption)
            return ExitCode.OK
        if not yes:
            if not sys.stdin.isatty():
                raise SettingsError(
                    "cannot ask for confirmation; nothing was changed",
                    "Use --yes to apply the changes without confirmation.",
                )
            if not click.confirm("\nApply these changes?", err=True):
                click.echo("Nothing was changed.", err=True)
                return ExitCode.OK
        adoption = client.adopt(organization, adoption, accept_statuses, author)
    if as_json:
        print_json(adoption)
    else:
        show_check.print_adopted(adoption, command_hint("preview", organization))
    return ExitCode.OK
