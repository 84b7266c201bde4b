"""The commands about backups: list, restore."""

from __future__ import annotations

import sys
from typing import Any

import click
from rich.table import Table

from schedctl.common import TypoGroup, connection_options, handles_errors, make_client, print_json
from schedctl.terminal import console, size
from schedproto import BackupList


@click.group("backup", cls=TypoGroup)
def backup_command() -> None:
    """List and restore backups of an organization's file.

    Runs in mode reliable make them.
    """


def _print_backups(backups: BackupList) -> None:
    out = console()
    if not backups.backups:
        out.print(f"{backups.organization} has no backups; runs in mode reliable create them.")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("backup", "state of (UTC)", "before run"):
        table.add_column(name, no_wrap=True)
    for name in ("file", "stored"):
        table.add_column(name, justify="right", no_wrap=True)
    for entry in backups.backups:
        table.add_row(
            entry.backup_id,
            entry.created_at,
            entry.run_id,
            size(entry.size_bytes),
            size(entry.stored_bytes),
        )
    out.print(table)


@backup_command.command("list")
@click.argument("organization")
@connection_options
@handles_errors
def list_command(organization: str, *, as_json: bool, **options: Any) -> None:
    """List the backups of ORGANIZATION's file, newest first."""
    with make_client(options) as client:
        backups = client.backups(organization)
    print_json(backups) if as_json else _print_backups(backups)


@backup_command.command("restore")
@click.argument("organization")
@click.argument("backup_id", metavar="BACKUP")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@connection_options
@handles_errors
def restore_command(
    organization: str, backup_id: str, *, yes: bool, as_json: bool, **options: Any
) -> None:
    """Restore ORGANIZATION's file from BACKUP.

    Refused while a job of ORGANIZATION is queued or running. The current file is backed up first,
    so the restore can be undone. Changes that other programs made after the backup are lost.
    """
    asking = not (yes or as_json) and sys.stdin.isatty()
    if asking and not click.confirm(
        f"Overwrite the file of {organization} with backup {backup_id}?", err=True
    ):
        click.echo("Nothing was changed.", err=True)
        return
    with make_client(options) as client:
        backups = client.restore(organization, backup_id)
    if as_json:
        print_json(backups)
    else:
        click.echo(f"{organization} was restored from backup {backup_id}.")
        _print_backups(backups)
