"""Shared parts of the commands: connection options, output, errors, unknown commands."""

from __future__ import annotations

import functools
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import click
import msgspec

from schedclient.errors import DaemonError, SchedulerClientError
from schedclient.settings import TABLE
from schedproto.printable import printable
from schedproto.settings import did_you_mean

from .exitcodes import ExitCode, of_error

#: The settings that are options of every command that talks to a daemon.
_CONNECTION = ("data", "endpoint", "app", "key_file", "server_key")


class TypoGroup(click.Group):
    """A group that suggests a similar command if one is unknown."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command, or raise `UsageError` with a suggestion."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            hint = did_you_mean(args[0], self.list_commands(ctx), 0.5)
            if hint and "did you mean" not in error.message.lower():
                raise click.UsageError(f"{error.message} {hint}", ctx) from None
            raise


def setting_option(name: str, **options: Any) -> Callable[..., Any]:
    """Return the option for a setting of the client, with the setting's help text."""
    setting = TABLE[name]
    return click.option(setting.flag, name, help=f"{setting.help} ({setting.variable})", **options)


json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document on standard output."
)


def connection_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --data, --endpoint, --app, the keys and --json."""
    command = json_option(command)
    for name in reversed(_CONNECTION):
        path = {"type": click.Path(path_type=Path)} if name in {"data", "key_file"} else {}
        command = setting_option(name, **path)(command)
    return command


def make_client(options: dict[str, Any]) -> Any:
    """Return a client for a command's connection options, and remove them from `options`."""
    from schedclient.sync import Client  # noqa: PLC0415 - loads ZeroMQ

    arguments = connection_arguments(options)
    return Client(**arguments, launcher=_notifying_launcher(arguments))


def _notifying_launcher(arguments: dict[str, Any]) -> Any:
    """Return a launcher that prints the machine's state while it starts.

    None (the usual launcher) without a machine or a terminal.
    """
    from schedclient.settings import load  # noqa: PLC0415 - settings are read when a command needs them

    settings = load(arguments)
    if settings.fly is None or settings.endpoint is not None or not sys.stderr.isatty():
        return None
    from schedclient.launch.fly import FlyLauncher  # noqa: PLC0415 - loads HTTP

    app = settings.fly.app

    def notify(state: str) -> None:
        if state != "started":
            click.echo(f"The machine of {app} is {state}; starting it ...", err=True)

    return FlyLauncher(settings.fly, notify)


def connection_arguments(options: dict[str, Any]) -> dict[str, Any]:
    """Remove the connection options from `options` and return them as arguments of a client."""
    return {name: options.pop(name, None) for name in _CONNECTION}


def command_hint(*command: str) -> str:
    """Return a command line for a hint, with the connection options of the current command."""
    given = click.get_current_context().params
    words = ["schedctl", *command]
    for name in _CONNECTION:
        value = given.get(name)
        if value is not None:
            words += [f"--{name.replace('_', '-')}", str(value)]
    return shlex.join(words)


def ask_what_to_do(what: str, prompt: str) -> str:
    """Ask after Ctrl-C what to do; returns `cancel`, `detach` or `go on`.

    Returns `detach` without a terminal, and at a second Ctrl-C.
    """
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return "detach"
    click.echo(f"\n{what}", err=True)
    try:
        answer = click.prompt(
            prompt,
            type=click.Choice(["c", "d", "g"], case_sensitive=False),
            default="d",
            show_choices=False,
            err=True,
        )
    except (KeyboardInterrupt, click.Abort):
        return "detach"
    return {"c": "cancel", "d": "detach", "g": "go on"}[str(answer).lower()]


def print_json(value: Any) -> None:
    """Print a value as one JSON document, readable and stable."""
    text = msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
    click.echo(text)


def error_document(error: SchedulerClientError) -> dict[str, Any]:
    """Return an error in the form of the JSON contract (docs/CLI.md)."""
    document: dict[str, Any] = {
        "error": {
            "code": error.code,
            "message": error.message,
            "hint": error.hint,
            "retryable": error.retryable,
            "details": error.details,
        }
    }
    if isinstance(error, DaemonError) and error.job is not None:
        document["job_id"] = error.job.job_id
    return document


def print_error(code: str, message: str, hint: str) -> None:
    """Print an error that is not an exception of the client, as a JSON document."""
    print_json(
        {
            "error": {
                "code": code,
                "message": message,
                "hint": hint,
                "retryable": False,
                "details": {},
            }
        }
    )


def report_error(error: SchedulerClientError, *, as_json: bool) -> ExitCode:
    """Show an error and return the exit code that goes with it."""
    if as_json:
        print_json(error_document(error))
    else:
        colour = None if os.environ.get("NO_COLOR") else "red"
        click.secho("Error: ", fg=colour, bold=True, nl=False, err=True)
        click.echo(printable(error.message), err=True)
        if error.hint:
            click.echo(f"  {printable(error.hint, lines=True)}", err=True)
    return of_error(error)


def run_command(
    command: click.Command,
    name: str,
    show: Callable[[click.ClickException], None] = click.ClickException.show,
) -> NoReturn:
    """Run a command with the arguments of this process, and exit with its code.

    show: reports a wrong command line.
    """
    try:
        code: Any = command.main(prog_name=name, standalone_mode=False)
    except click.ClickException as error:
        show(error)
        code = error.exit_code
    except click.Abort:
        click.echo("Interrupted.", err=True)
        code = ExitCode.DETACHED
    sys.exit(code if isinstance(code, int) else ExitCode.OK)


def handles_errors(command: Callable[..., Any]) -> Callable[..., Any]:
    """Turn the client's exceptions into messages and exit codes."""

    @functools.wraps(command)
    def wrapped(*args: Any, **options: Any) -> None:
        try:
            code = command(*args, **options)
        except SchedulerClientError as error:
            sys.exit(int(report_error(error, as_json=bool(options.get("as_json")))))
        except KeyboardInterrupt:
            if options.get("as_json"):
                print_error(
                    "interrupted",
                    "interrupted before the daemon answered",
                    "Run `schedctl list` to see the jobs.",
                )
            else:
                click.echo("\nInterrupted.", err=True)
            sys.exit(int(ExitCode.DETACHED))
        sys.exit(int(code or ExitCode.OK))

    return wrapped
