"""The commands explain and preview: the plan of one contact, and the changes of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from schedclient.errors import IncompatibleError
from schedclient.plans import save_plan
from schedctl import terminal
from schedctl.common import (
    command_hint,
    connection_options,
    handles_errors,
    make_client,
    print_json,
)
from schedctl.exitcodes import ExitCode
from schedctl.options import as_of_option, config_option, read_overrides, workers_option
from schedctl.views.explanation import print_explanation, print_preview

from .jobs import follow


@click.command("explain")
@click.argument("organization")
@click.argument("contact", type=int)
@as_of_option
@config_option
@connection_options
@handles_errors
def explain_command(
    organization: str,
    contact: int,
    *,
    as_of: str | None,
    config: Path | None,
    as_json: bool,
    **options: Any,
) -> ExitCode:
    """Explain why a contact gets its e-mails and no others.

    CONTACT is the contact's id. Traces each event from its date to the plan and names the section
    of the rules (docs/RULES.md) that moved, limited or excluded it. Changes nothing.
    """
    overrides = read_overrides(config)
    with make_client(options) as client:
        handle = client.submit(
            organization, as_of=as_of, config=overrides, dry_run=True, explain=[contact]
        )
        with terminal.JobProgress(quiet=as_json) as progress:
            result = handle.wait(None, progress.update)
    [explanation] = result.explanations
    if as_json:
        print_json(explanation)
    else:
        print_explanation(explanation, result)
    return ExitCode.OK if explanation.found else ExitCode.REFUSED


@click.command("preview")
@click.argument("organization")
@as_of_option
@workers_option
@config_option
@click.option(
    "--save",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Save the plan; `submit --expect FILE` writes only this exact plan.",
)
@connection_options
@handles_errors
def preview_command(
    organization: str, *, config: Path | None, save: Path | None, as_json: bool, **options: Any
) -> ExitCode:
    """Show what a run would change in the current plan. Changes nothing.

    Use --as-of and --config to try another date or other settings.
    """
    overrides = read_overrides(config)
    with make_client(options) as client:
        handle = client.submit(organization, config=overrides, dry_run=True, **options)
        code = follow(client, handle, None, as_json=as_json, print_result=print_preview)
    result = handle.job.result
    if save is not None and code == ExitCode.OK:
        if result is None or result.plan is None:
            raise IncompatibleError(
                "the daemon does not support saved plans", "Upgrade the daemon."
            )
        save_plan(result.plan, save)
        if not as_json:
            click.echo(
                "\nSaved. To write this plan: "
                f"{command_hint('submit', organization, '--expect', str(save))}"
            )
    return code
