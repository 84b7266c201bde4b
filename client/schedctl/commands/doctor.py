"""The command doctor."""

from __future__ import annotations

import asyncio
from typing import Any

import click

from schedctl.checks import examine
from schedctl.common import connection_arguments, connection_options, handles_errors, print_json
from schedctl.exitcodes import ExitCode
from schedproto.diagnosis import FAILED, Check

_MARKS = {
    "ok": ("ok     ", "green"),
    "warning": ("warning", "yellow"),
    "failed": ("FAILED ", "red"),
}


def _print(check: Check) -> None:
    mark, colour = _MARKS.get(check.state, ("-      ", "bright_black"))
    click.secho(mark, fg=colour, bold=check.state == FAILED, nl=False)
    click.echo(f"  {check.name}: {check.text}")
    if check.remedy:
        click.echo(f"         {check.remedy}")


@click.command("doctor")
@click.argument("organization", required=False)
@click.option(
    "--start",
    is_flag=True,
    help="Start the machine if it is stopped, to check its volume and daemon too.",
)
@connection_options
@handles_errors
def doctor_command(
    organization: str | None, *, start: bool, as_json: bool, **options: Any
) -> ExitCode:
    """Find common problems and show how to fix them.

    Checks settings, keys, token, app, machine, volume, DNS, daemon, versions, clock and free space,
    and the integrity of ORGANIZATION's database (default: all). Does not start the machine. Exits 1
    if a check fails.
    """
    arguments = connection_arguments(options)

    async def run() -> list[Check]:
        found = []
        async for check in examine(arguments, organization, start=start):
            found.append(check)
            if not as_json:
                _print(check)
        return found

    checks = asyncio.run(run())
    failed = sum(1 for check in checks if check.state == FAILED)
    if as_json:
        print_json({"ok": not failed, "checks": checks})
    else:
        click.echo(
            f"\n{failed} of {len(checks)} checks failed." if failed else "\nAll checks passed."
        )
    return ExitCode.JOB_FAILED if failed else ExitCode.OK
