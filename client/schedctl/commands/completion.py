"""The command completion."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

_HOW = {
    "bash": 'eval "$(schedctl completion bash)"    # in ~/.bashrc',
    "zsh": 'eval "$(schedctl completion zsh)"     # in ~/.zshrc',
    "fish": "schedctl completion fish > ~/.config/fish/completions/schedctl.fish",
}


@click.command("completion", epilog="\b\n" + "\n".join(_HOW.values()))
@click.argument("shell", type=click.Choice(list(_HOW)))
def completion_command(shell: str) -> None:
    """Print a shell completion script for schedctl."""
    from schedctl.main import cli  # noqa: PLC0415 - the group loads this module

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(cli, {}, "schedctl", "_SCHEDCTL_COMPLETE").source())
