"""The command report: an organization's newest run as a page, or in short on the terminal."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import click

from schedclient.errors import SettingsError
from schedctl.common import (
    command_hint,
    connection_options,
    handles_errors,
    make_client,
    print_json,
)
from schedctl.exitcodes import ExitCode
from schedctl.views.results import print_result


def _write(path: Path, text: str) -> None:
    """Write a file atomically."""
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
            mask = os.umask(0)
            os.umask(mask)
            Path(name).chmod(0o666 & ~mask)
            Path(name).rename(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise SettingsError(
            f"{path} cannot be written: {error.strerror}", "Choose another file for --html."
        ) from None


@click.command("report")
@click.argument("organization")
@click.option(
    "--html",
    type=click.Path(path_type=Path, allow_dash=True),
    help="Write the report as an HTML page (- for standard output).",
)
@connection_options
@handles_errors
def report_command(
    organization: str, *, html: Path | None, as_json: bool, **options: Any
) -> ExitCode:
    """Report on the newest run and compare it with the previous.

    With --html FILE, writes a self-contained page: volume per day against the cap before and after
    balancing, plan by type and state, exclusions by state and rule, contacts with issues. Otherwise
    prints a summary.
    """
    with make_client(options) as client:
        report = client.report(organization)
    if as_json:
        print_json(report)
        return ExitCode.OK
    if report.latest is None:
        raise SettingsError(
            f"{organization} has no run to report on yet",
            f"Schedule it first: {command_hint('submit', organization)}",
        )
    if html is None:
        print_result(report.latest)
        click.echo(
            "As an HTML page: "
            f"{command_hint('report', organization, '--html', f'{organization}.html')}",
            err=True,
        )
        return ExitCode.OK
    from schedctl.report import render  # noqa: PLC0415 - only needed here

    page = render(report)
    if str(html) == "-":
        click.echo(page, nl=False)
    else:
        _write(html, page)
        click.echo(f"Written: {html.resolve()}")
    return ExitCode.OK
