"""The commands check and adopt, and the check before an organization's first run."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click

from schedclient.errors import DaemonError, IncompatibleError, SettingsError
from schedclient.toml import render
from schedproto.checks import ERROR, CheckReport
from schedproto.ids import DATABASE_SUFFIX, ORGANIZATION_ID

from . import show_check
from .common import again, connection_options, handles_errors, make_client, print_json
from .config import by_option
from .exitcodes import ExitCode
from .jobs import config_option, read_overrides
from .show import console

_accept_status = click.option(
    "--accept-status",
    "accept_statuses",
    multiple=True,
    metavar="STATUS",
    help="A contact status that shall get e-mails, in the suggested configuration; may be repeated.",
)


def _is_file(target: str) -> bool:
    """Return whether an argument names a file: it has a folder or a database's ending, or is no organization's id."""
    path = Path(target)
    named = path.suffix.lower() in {DATABASE_SUFFIX, ".sqlite", ".sqlite3"}
    return path.name != target or named or not ORGANIZATION_ID.fullmatch(target)


@click.command("check")
@click.argument("target", metavar="ORGANIZATION|FILE")
@click.option("--as-of", metavar="YYYY-MM-DD", help="The date of the run; by default, today where the organization is.")
@config_option
@_accept_status
@click.option("--suggest", is_flag=True, help="Print the configuration that follows, as TOML for `config set`.")
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
    """Read the file of ORGANIZATION, or FILE, as a run would, and report what is wrong with it; changes nothing.

    FILE is a path: it has a folder (./org-123) or ends with .db. docs/CHECK.md lists what can be found. Exit code 1
    where errors were found, 0 with warnings and notes alone, and with --suggest.
    """
    arguments: dict[str, Any] = {
        "as_of": as_of,
        "config": read_overrides(config),
        "accept_statuses": accept_statuses,
    }
    with _busy(f"Checking {target}", quiet=as_json):
        if _is_file(target):
            from schedclient.local_check import check_file  # noqa: PLC0415 - a daemon of its own is started for it

            report = check_file(Path(target), **arguments)
        else:
            with make_client(options) as client:
                report = client.check(target, **arguments)
    if as_json:
        print_json(report)
    elif suggest:
        _print_suggestion(report)
    else:
        show_check.print_report(report, [] if _is_file(target) else _next_steps(target, accept_statuses))
    errors = any(item.severity == ERROR for item in report.findings)
    return ExitCode.JOB_FAILED if errors and not suggest else ExitCode.OK


def _next_steps(organization: str, accept_statuses: tuple[str, ...]) -> list[str]:
    accepted = [word for status in accept_statuses for word in ("--accept-status", status)]
    return [
        f"Print it: {again('check', organization, *accepted, '--suggest')}",
        f"Use it:   {again('adopt', organization, *accepted)}",
    ]


def _busy(what: str, *, quiet: bool) -> Any:
    out = console(err=True)
    return nullcontext() if quiet or not out.is_terminal else out.status(f"{what} ...")


def _print_suggestion(report: CheckReport) -> None:
    if not report.settings:
        click.echo("Nothing is suggested.", err=True)
        return
    click.echo(f"# {report.organization}: configuration that follows from the check as of {report.as_of}")
    click.echo(render(report.settings), nl=False)


def check_first_run(client: Any, organization: str, as_of: str | None, config: dict[str, Any]) -> None:
    """Before an organization's first run, print the errors that a check of its file finds; never stops the run."""
    try:
        report = client.check(organization, as_of=as_of, config=config, first_run_only=True)
    except (DaemonError, IncompatibleError):
        return  # the run itself says what is wrong, if it is anything that concerns it
    if report.checked:
        show_check.print_first_run(report, again("check", organization))


@click.command("adopt")
@click.argument("organization")
@_accept_status
@by_option
@click.option("--yes", is_flag=True, help="Do not ask.")
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
    """Make the file of ORGANIZATION, made by another program, ready for its first run; shows and asks first.

    Stores the configuration that follows from a check as a new version, and completes the scheduler's own tables:
    surplus planned rows are removed, unique indexes that a plan can violate are dropped, missing columns and indexes
    are made. One transaction, after a backup; rows of the sender are never changed. Doing it twice changes nothing.
    With --json and without --yes, only prints what would be done.
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
                raise SettingsError("nothing was changed, as nobody can be asked", "--yes does it without asking.")
            if not click.confirm("\nDo this?", err=True):
                click.echo("Nothing was changed.", err=True)
                return ExitCode.OK
        adoption = client.adopt(organization, adoption, accept_statuses, author)
    if as_json:
        print_json(adoption)
    else:
        show_check.print_adopted(adoption, again("preview", organization))
    return ExitCode.OK
