"""The command `schedd`: serve, version, settings.

Imports each module when it is needed, to start fast.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from pathlib import Path
from typing import Any

import click

from schedproto import __version__
from schedproto.utf8 import ensure_utf8

from . import log_output
from .exitcodes import ExitCode, FatalError
from .settings import SETTINGS, TABLE, load, markdown


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="schedd")
def cli() -> None:
    """E-mail scheduler daemon: plans which e-mail each contact gets on which day."""


def _with_settings(command: Any) -> Any:
    for setting in reversed(SETTINGS):
        default = f" [default: {setting.default}]" if setting.default not in {None, (), ""} else ""
        command = click.option(
            setting.flag,
            setting.name,
            multiple=setting.many,
            hidden=setting.secret,
            metavar=setting.accepts.split(",")[0].upper().replace(" ", "_"),
            help=f"{setting.help}{default} (environment: {setting.variable})",
        )(command)
    return command


@cli.command()
@click.option(
    "--settings",
    "file",
    type=click.Path(path_type=Path),
    envvar="SCHEDD_SETTINGS",
    help="TOML file with settings. Flags and environment variables override it. "
    "(environment: SCHEDD_SETTINGS)",
)
@_with_settings
@click.pass_obj
def serve(output: log_output.LogOutput, /, file: Path | None, **flags: Any) -> None:
    """Run the daemon until it is stopped or idle."""
    from . import hardening, logs  # noqa: PLC0415 - `schedd version` need not wait for them

    hardening.protect_files()
    hardening.protect_memory()
    try:
        settings = load(flags, file=file)
        # Workers get this environment, and do not need the key.
        os.environ.pop(TABLE["server_key"].variable, None)
        logs.configure(settings.log_format, settings.log_level, output)
        # SQLite and ZeroMQ are loaded only once the settings are right.
        from .app import serve as run  # noqa: PLC0415 - see above

        code = run(settings, output)
    except FatalError as error:
        click.echo(f"schedd: {error.message}", err=True)
        if error.hint:
            click.echo(f"  {error.hint}", err=True)
        sys.exit(int(error.code))
    sys.exit(int(code))


@cli.command()
def version() -> None:
    """Print the version."""
    click.echo(__version__)


@cli.command("settings")
@click.option("--markdown", "as_markdown", is_flag=True, help="Print a Markdown table.")
def show_settings(as_markdown: bool) -> None:
    """Print all settings, with accepted values and defaults."""
    if as_markdown:
        click.echo(markdown(), nl=False)
        return
    for setting in SETTINGS:
        click.echo(
            f"{setting.name}\n"
            f"    {'' if setting.secret else setting.flag + ', '}{setting.variable}: "
            f"{setting.accepts}\n    {setting.help}"
        )
    click.echo("\nExit codes: " + ", ".join(f"{code.value} {code.name}" for code in ExitCode))


def main() -> None:
    """Run the command."""
    multiprocessing.freeze_support()
    ensure_utf8()
    output = log_output.install()
    try:
        cli(prog_name="schedd", obj=output)
    finally:
        output.close_soon()
