"""The command demo: a synthetic organization, scheduled by a real daemon."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import click

from schedclient.errors import SettingsError
from schedctl import terminal
from schedctl.common import handles_errors, json_option, print_json
from schedctl.exitcodes import ExitCode
from schedctl.synthetic import make_organization
from schedctl.views import results
from schedproto.ids import DATABASE_SUFFIX

ORGANIZATION = "demo"


def _date(text: str | None) -> dt.date:
    try:
        return dt.date.fromisoformat(text) if text else dt.datetime.now().astimezone().date()
    except ValueError:
        raise SettingsError(f"{text!r} is not a date", "Write it as YYYY-MM-DD.") from None


def _make(path: Path, contacts: int, seed: int, as_of: dt.date) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        make_organization(path, contacts, seed, as_of)
    except OSError as error:
        raise SettingsError(str(error), "Choose another path, or free disk space.") from None


@click.command("demo")
@click.option(
    "--contacts",
    type=click.IntRange(1, 10_000_000),
    default=100_000,
    show_default=True,
    metavar="N",
    help="Number of contacts.",
)
@click.option(
    "--seed",
    type=int,
    default=1,
    show_default=True,
    metavar="N",
    help="Random seed; the same seed creates the same contacts.",
)
@click.option("--as-of", metavar="YYYY-MM-DD", help="Date of the run (default: today).")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Only write the organization's file to this path.",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    default=Path("demo"),
    show_default=True,
    help="Data folder to create and use.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 32),
    metavar="N",
    help="Worker processes (default: chosen by organization size).",
)
@json_option
@handles_errors
def demo_command(
    *,
    contacts: int,
    seed: int,
    as_of: str | None,
    out: Path | None,
    data: Path,
    as_json: bool,
    **options: Any,
) -> ExitCode:
    """Create a synthetic organization and schedule it."""
    day = _date(as_of)
    verbose = not as_json
    if out is not None:
        _make(out, contacts, seed, day)
        if as_json:
            print_json(
                {"file": str(out), "contacts": contacts, "seed": seed, "as_of": day.isoformat()}
            )
        else:
            click.echo(f"{out}: {contacts:,} contacts, {terminal.size(out.stat().st_size)}")
        return ExitCode.OK
    from schedclient.sync import Client  # noqa: PLC0415 - not needed to write a file

    path = data / f"{ORGANIZATION}{DATABASE_SUFFIX}"
    if verbose:
        click.echo(f"Creating {contacts:,} contacts (seed {seed}) in {path} ...", err=True)
    _make(path, contacts, seed, day)
    with Client(data=data) as client:
        if verbose:
            welcome = client.welcome()
            click.echo(
                f"Daemon {welcome.daemon_version} (process {welcome.pid}) listens on "
                f"{data}/.schedd; it exits automatically when idle.",
                err=True,
            )
        with terminal.JobProgress(quiet=as_json) as progress:
            handle = client.submit(ORGANIZATION, as_of=day.isoformat(), **options)
            result = handle.wait(on_progress=progress.update)
    if as_json:
        print_json(result)
        return ExitCode.OK
    click.echo()
    results.print_result(result)
    click.echo(f"\nRun again: schedctl submit {ORGANIZATION} --data {data}")
    click.echo(f"Inspect:   schedctl info {ORGANIZATION} --data {data}")
    return ExitCode.OK
