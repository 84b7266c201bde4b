"""The commands about backups: list, restore."""

from __future__ import annotations

import sys
from typing import Any

import click
from rich.table import Table

from schedproto import BackupList

from .common import TypoGroup, connection_options, handles_errors, make_client, print_json
from .show import console, size


@click.group("backup", cls=TypoGroup)
def backup_command() -> None:
    """List and restore what reliable runs keep of an organization's file before they change it."""


def _print_backups(backups: BackupList) -> None:
    out = console()
    if not backups.backups:
        out.print(f"{backups.organization} has no backups; runs in the mode reliable make them.")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("backup", "state of (UTC)", "before run"):
        table.add_column(name, no_wrap=True)
    for name in ("file", "stored"):
        table.add_column(name, justify="right", no_wrap=True)
    for entry in backups.backups:
        table.add_row(entry.backup_id, entry.created_at, entry.run_id, size(entry.size_bytes), size(entry.stored_bytes))
    out.print(table)


@backup_command.command("list")
@click.argument("organization")
@connection_options
@handles_errors
def list_command(organization: str, *, as_json: bool, **options: Any) -> None:
    """List the states of ORGANIZATION's file that can be restored, newest first."""
    with make_client(options) as client:
        backups = client.backups(organization)
    print_json(backups) if as_json else _print_backups(backups)


@backup_command.command("restore")
@click.argument("organization")
@click.argument("backup_id", metavar="BACKUP")
@click.option("--yes", is_flag=True, help="Do not ask.")
@connection_options
@handles_errors
def restore_command(organization: str, backup_id: str, *, yes: bool, as_json: bool, **options: Any) -> None:
    """Make ORGANIZATION's file what it was in a BACKUP.

    Refused while a job of it waits or runs. What the file is now is kept as a backup, too, so that this can be undone;
    whatever other programs wrote since the backup is lost from the file.
    """
    asking = not (yes or as_json) and sys.stdin.isatty()
    if asking and not click.confirm(f"Overwrite the file of {organization} with backup {backup_id}?", err=True):
        click.echo("Nothing was changed.", err=True)
        return
    with make_client(options) as client:
        backups = client.restore(organization, backup_id)
    if as_json:
        print_json(backups)
    else:
        click.echo(f"{organization} is what it was in backup {backup_id}.")
        _print_backups(backups)
