"""The group `schedctl`, and the table of its commands and their modules.

A module is loaded when its command is called.
"""

from __future__ import annotations

import importlib
import resource
import sys

import click

from schedproto import __version__
from schedproto.utf8 import ensure_utf8

from .common import TypoGroup, print_error, run_command

#: command -> module, in the order of the help
COMMANDS = {
    "submit": "jobs",
    "watch": "jobs",
    "status": "jobs",
    "list": "jobs",
    "cancel": "jobs",
    "preview": "explain",
    "explain": "explain",
    "check": "check",
    "adopt": "check",
    "info": "info",
    "report": "report",
    "config": "config",
    "backup": "backup",
    "bucket": "bucket",
    "push": "transfers",
    "pull": "transfers",
    "machine": "machine",
    "deploy": "deploy",
    "doctor": "doctor",
    "cost": "cost",
    "demo": "demo",
    "keys": "keys",
    "completion": "completion",
    "version": "info",
}

FIRST_STEPS = """
First steps:

\b
  schedctl demo                       create and schedule a synthetic organization
  schedctl check FILE.db              check an organization's file
  schedctl submit org-123 --data DIR  schedule DIR/org-123.db
  schedctl info --data DIR            show what is in DIR
"""


class _LazyGroup(TypoGroup):
    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order in which they are usually needed."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load a command."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"schedctl.commands.{COMMANDS[cmd_name]}")
        command: click.Command = getattr(module, f"{cmd_name}_command")
        return command


@click.group(
    cls=_LazyGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=FIRST_STEPS,
)
@click.version_option(__version__, prog_name="schedctl")
@click.pass_context
def cli(context: click.Context) -> None:
    """Plan which e-mail each contact of an organization gets on which day."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
        context.exit(0)


def main() -> None:
    """Run the command. With --json even a wrong command line is answered with one JSON document."""
    ensure_utf8()
    # This process holds keys and tokens: no core dump. The library leaves its process as it is.
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    run_command(cli, "schedctl", _show_usage_error)


def _show_usage_error(error: click.ClickException) -> None:
    if "--json" in sys.argv:
        print_error("usage", error.format_message(), f"See {_help_of(error)}.")
    else:
        error.show()


def _help_of(error: click.ClickException) -> str:
    context = error.ctx if isinstance(error, click.UsageError) else None
    return f"{context.command_path if context else 'schedctl'} --help"
