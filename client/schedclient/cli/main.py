"""`schedctl`: the group, and which module has which command. Modules are loaded when their command is called."""

from __future__ import annotations

import importlib
import sys

import click

from schedproto import __version__

from .common import TypoGroup

#: command -> module, in the order of the help
COMMANDS = {
    "submit": "jobs",
    "watch": "jobs",
    "status": "jobs",
    "list": "jobs",
    "cancel": "jobs",
    "info": "inspect",
    "demo": "demo",
    "keys": "keys",
    "completion": "completion",
    "version": "inspect",
}

FIRST_STEPS = """
First steps:

\b
  schedctl demo                       make and schedule a synthetic organization
  schedctl submit org-123 --data DIR  schedule DIR/org-123.db
  schedctl info --data DIR            what lies in DIR
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
        module = importlib.import_module(f".{COMMANDS[cmd_name]}", __package__)
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
    """Decide for every contact of an organization which e-mail goes out on which day."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
        context.exit(0)


def main() -> None:
    """Run the command."""
    sys.exit(cli(prog_name="schedctl"))
