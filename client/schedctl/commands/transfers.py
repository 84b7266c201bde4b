"""The commands push and pull."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from schedctl.common import connection_options, handles_errors, make_client, print_json
from schedctl.terminal import console, size
from schedproto.transfers import TransferResult


@contextmanager
def _progress(what: str, *, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    out = console(err=True)
    if quiet or not out.is_terminal:
        yield lambda _there, _all: None
        return
    columns = (
        TextColumn(what),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=out, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda there, all_bytes: bar.update(task, completed=there, total=all_bytes)


def _show(result: TransferResult) -> None:
    done = {"push": "sent to", "pull": "downloaded from"}[result.direction]
    click.echo(
        f"{result.path} {done} {result.organization}: {size(result.size_bytes)}, "
        f"{size(result.moved_bytes)} transferred, in {result.wall_s:.1f} s"
    )


@click.command("push")
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("organization")
@connection_options
@handles_errors
def push_command(file: Path, organization: str, *, as_json: bool, **options: Any) -> None:
    """Upload FILE, an SQLite database, as ORGANIZATION's database.

    Sends only missing blocks; repeat the command to resume an interrupted push. FILE may be in use.
    Refused while a job of ORGANIZATION is queued or running. The previous file is kept as a backup.
    """
    with (
        make_client(options) as client,
        _progress(f"Sending {file.name}", quiet=as_json) as on_bytes,
    ):
        result = client.push(file, organization, on_bytes=on_bytes)
    print_json(result) if as_json else _show(result)


@click.command("pull")
@click.argument("organization")
@click.argument("file", type=click.Path(path_type=Path))
@connection_options
@handles_errors
def pull_command(organization: str, file: Path, *, as_json: bool, **options: Any) -> None:
    """Download ORGANIZATION's database to FILE.

    FILE is a consistent snapshot. Downloads only blocks that an older FILE lacks; repeat the
    command to resume an interrupted pull. FILE is replaced atomically after the download is
    complete and verified. Refused while a job of ORGANIZATION is queued or running.
    """
    with (
        make_client(options) as client,
        _progress(f"Downloading {organization}", quiet=as_json) as on_bytes,
    ):
        result = client.pull(organization, file, on_bytes=on_bytes)
    print_json(result) if as_json else _show(result)
