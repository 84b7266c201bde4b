"""The commands about jobs: submit, watch, status, list, cancel."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import msgspec

from schedclient.errors import WaitTimeoutError
from schedctl import terminal
from schedctl.common import (
    ask_what_to_do,
    command_hint,
    connection_options,
    handles_errors,
    make_client,
    print_json,
)
from schedctl.exitcodes import ExitCode
from schedctl.options import (
    as_of_option,
    config_option,
    read_overrides,
    timeout_option,
    workers_option,
)
from schedctl.views import results
from schedproto import Job, JobState, RunResult

from .batch import submit_many


@click.command("submit")
@click.argument("organizations", nargs=-1, metavar="[ORGANIZATION]...")
@click.option(
    "--all",
    "everyone",
    is_flag=True,
    help="Schedule all organizations in the bucket or the data folder.",
)
@click.option(
    "--at-once",
    "concurrency",
    type=click.IntRange(1, 1000),
    metavar="N",
    help="Run at most N organizations concurrently (default: number of workers).",
)
@as_of_option
@workers_option
@click.option(
    "--mode",
    type=click.Choice(["reliable", "highperf"]),
    default="reliable",
    show_default=True,
    help="reliable: backup, every write synced; highperf: large cache, fewer syncs. Both are safe.",
)
@config_option
@click.option("--dry-run", is_flag=True, help="Compute the plan without writing it.")
@click.option(
    "--accept-changes",
    is_flag=True,
    help="Write the plan even if it exceeds a guard, for this run only.",
)
@click.option(
    "--expect",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write only if the plan equals the one saved by `preview --save FILE`; uses its date and "
    "--config.",
)
@click.option("--detach", is_flag=True, help="Return as soon as the job is accepted.")
@timeout_option
@click.option(
    "--key", "idempotency_key", help="Idempotency key; submitting it again returns the first job."
)
@connection_options
@handles_errors
def submit_command(
    organizations: tuple[str, ...],
    *,
    everyone: bool,
    concurrency: int | None,
    config: Path | None,
    expect: Path | None,
    detach: bool,
    timeout_s: float | None,
    as_json: bool,
    **options: Any,
) -> ExitCode:
    """Schedule one or more organizations and print the results.

    ORGANIZATION is an id, for example org-123; its file is org-123.db in the data folder or the
    bucket. Before an organization's first run, its file is checked and errors are shown (see
    `schedctl check`).
    """
    if bool(organizations) == everyone:
        raise click.UsageError(
            "Name one or more organizations, or use --all."
            + (" Do not use both." if everyone else "")
        )
    overrides = None if config is None else read_overrides(config)
    if everyone or len(organizations) > 1:
        if detach or expect or timeout_s is not None or options.pop("idempotency_key") is not None:
            raise click.UsageError(
                "--expect, --detach, --timeout and --key require exactly one organization."
            )
        return submit_many(
            None if everyone else organizations,
            concurrency,
            overrides or {},
            as_json=as_json,
            **options,
        )
    [organization] = organizations
    with make_client(options) as client:
        if not as_json and expect is None:
            from .check import check_first_run  # noqa: PLC0415 - it takes options from here

            check_first_run(client, organization, options["as_of"], overrides or {})
        interrupted = False
        try:
            handle = client.submit(organization, config=overrides, expect=expect, **options)
        except KeyboardInterrupt as interrupt:
            job_id = getattr(interrupt, "job_id", None)
            if job_id is None:
                raise
            handle, interrupted = client.job(job_id), True
        if detach:
            if as_json:
                print_json(handle.job)
            else:
                click.echo(handle.job_id)
                click.echo(f"Watch it with: {command_hint('watch', handle.job_id)}", err=True)
            return ExitCode.OK
        return follow(client, handle, timeout_s, as_json=as_json, interrupted=interrupted)


@click.command("watch")
@click.argument("job_id")
@timeout_option
@connection_options
@handles_errors
def watch_command(
    job_id: str, *, timeout_s: float | None, as_json: bool, **options: Any
) -> ExitCode:
    """Wait for a job and print its result."""
    with make_client(options) as client:
        return follow(client, client.job(job_id), timeout_s, as_json=as_json)


def follow(
    client: Any,
    handle: Any,
    timeout_s: float | None,
    *,
    as_json: bool,
    print_result: Callable[[RunResult], None] = results.print_result,
    interrupted: bool = False,
) -> ExitCode:
    """Wait for a job with a progress bar; Ctrl-C asks whether to cancel or detach.

    interrupted: Ctrl-C has come while the job was submitted, so ask first.
    """
    while True:
        try:
            if interrupted:
                interrupted = False
                raise KeyboardInterrupt  # noqa: TRY301 - the question is below
            with terminal.JobProgress(quiet=as_json) as progress:
                result = handle.wait(timeout_s, progress.update)
        except WaitTimeoutError as error:
            error.hint = f"Resume with: {command_hint('watch', handle.job_id)}"
            raise
        except KeyboardInterrupt:
            choice = ask_what_to_do(
                f"Job {handle.job_id} is still running.",
                "[c]ancel it, [d]etach and leave it running, or [g]o on waiting?",
            )
            if choice == "cancel":
                client.cancel(handle.job_id)
                click.echo("The job is being cancelled.", err=True)
            elif choice == "detach":
                click.echo(
                    f"The job continues. Resume with: {command_hint('watch', handle.job_id)}",
                    err=True,
                )
                if as_json:
                    print_json(handle.job)
                return ExitCode.DETACHED
        else:
            if as_json:
                print_json(result)
            else:
                print_result(result)
            return ExitCode.OK


@click.command("status")
@click.argument("job_id", required=False)
@connection_options
@handles_errors
def status_command(job_id: str | None, *, as_json: bool, **options: Any) -> None:
    """Show a job's status, or the daemon's health."""
    with make_client(options) as client:
        found = client.health() if job_id is None else client.status(job_id)
    if as_json:
        fields = msgspec.to_builtins(found)
        # What pairs messages on the wire is not about the daemon's health.
        print_json({name: value for name, value in fields.items() if name not in {"type", "id"}})
    elif isinstance(found, Job):
        results.print_job(found)
    else:
        results.print_health(found)


@click.command("list")
@click.option("--organization", help="Show only jobs of this organization.")
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice([s.value for s in JobState]),
    help="Show only jobs in this state.",
)
@click.option(
    "--limit",
    type=click.IntRange(1, 1000),
    default=50,
    show_default=True,
    metavar="N",
    help="Maximum number of jobs.",
)
@connection_options
@handles_errors
def list_command(
    *, organization: str | None, states: tuple[str, ...], limit: int, as_json: bool, **options: Any
) -> None:
    """List jobs, newest first."""
    with make_client(options) as client:
        jobs = client.list(organization, states=list(states), limit=limit)
    if as_json:
        print_json({"jobs": jobs})
    else:
        results.print_jobs(jobs)


@click.command("cancel")
@click.argument("job_id")
@connection_options
@handles_errors
def cancel_command(job_id: str, *, as_json: bool, **options: Any) -> None:
    """Cancel a queued or running job. A cancelled run changes nothing."""
    with make_client(options) as client:
        job = client.cancel(job_id)
    if as_json:
        print_json(job)
    elif job.state == JobState.CANCELLED:
        click.echo(f"{job.job_id} is cancelled.")
    elif job.final:
        click.echo(f"{job.job_id} had already ended: {job.state}.")
    else:
        click.echo(f"{job.job_id} is being cancelled.")
