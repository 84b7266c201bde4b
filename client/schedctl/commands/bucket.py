"""Commands of `schedctl bucket`, which need no daemon: list, history, fetch, export, restore."""

from __future__ import annotations

import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from schedclient.errors import LocalFileError, SettingsError
from schedctl.common import TypoGroup, handles_errors, print_json
from schedctl.terminal import console, size
from schedproto import sqlite_files

if TYPE_CHECKING:
    from schedbucket import BucketSettings, Repository, VersionRef
    from schedbucket.head import Entry

#: Concurrent requests of `list`: one round trip for each organization.
_CONCURRENCY = 16

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document on standard output."
)
version_option = click.option(
    "--version",
    "number",
    type=click.IntRange(min=1),
    metavar="N",
    help="An older version (`schedctl bucket history`).",
)


@click.group("bucket", cls=TypoGroup)
def bucket_command() -> None:
    """Inspect the bucket without a daemon (docs/BUCKET.md).

    Set BUCKET_NAME, AWS_ENDPOINT_URL_S3, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION,
    as `fly storage create` does, or SCHEDD_BUCKET_FOLDER. SCHEDD_BUCKET_LAYOUT selects the layout.
    """


@bucket_command.command("list")
@json_option
@handles_errors
def list_command(*, as_json: bool) -> None:
    """List the organizations in the bucket and their newest versions."""
    from schedclient.bucket import (  # noqa: PLC0415 - an extra
        bucket_settings,
        repository_of,
        translated,
    )

    settings = bucket_settings()
    with translated(), ThreadPoolExecutor(_CONCURRENCY) as pool:
        from schedbucket.layouts import open_store, organizations  # noqa: PLC0415

        names = organizations(settings, open_store(settings))
        rows = list(pool.map(lambda name: _summary(repository_of(name, settings)), names))
    if as_json:
        print_json({"layout": settings.layout, "organizations": rows})
        return
    if not rows:
        console().print(_empty(settings), soft_wrap=True)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("organization", no_wrap=True)
    for name in ("version", "file", "versions kept", "stored"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("published (UTC)", no_wrap=True)
    table.add_column("lease holder")
    for row in rows:
        table.add_row(
            row["organization"],
            str(row["version"] or ""),
            size(row["size_bytes"]),
            str(row["versions"]),
            size(row["stored_bytes"]),
            _time(row["created_at"]),
            row["lease"] or "",
        )
    console().print(table)


def _empty(settings: BucketSettings) -> str:
    """Return the message for a bucket without organizations; looks in the other layout, too."""
    from schedbucket.layouts import open_store, organizations  # noqa: PLC0415 - an extra
    from schedbucket.settings import LAYOUT, LAYOUTS  # noqa: PLC0415

    for layout in LAYOUTS:
        there = organizations(replace(settings, layout=layout), open_store(settings))
        if there:
            return (
                f"The bucket has {len(there)} organizations in the layout `{layout}`: "
                f"set {LAYOUT}={layout}."
            )
    return "The bucket has no organizations; `schedctl push FILE ORGANIZATION` adds one."


def _summary(repository: Repository) -> dict[str, Any]:
    """Return one organization's row of `schedctl bucket list`."""
    history, lease = repository.history(), repository.lease()
    return {
        "organization": repository.organization,
        "version": history[0].version if history else None,
        "size_bytes": history[0].size_bytes if history else 0,
        "created_at": history[0].created_at if history else "",
        "versions": len(history),
        "stored_bytes": sum(entry.stored_bytes for entry in history),
        "lease": None if lease is None else lease.holder,
    }


@bucket_command.command("history")
@click.argument("organization")
@json_option
@handles_errors
def history_command(organization: str, *, as_json: bool) -> None:
    """List the available versions of ORGANIZATION, newest first."""
    entries = _history(organization)
    if as_json:
        print_json({"organization": organization, "versions": entries})
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("version", justify="right")
    table.add_column("published (UTC)", no_wrap=True)
    table.add_column("kind")
    for name in ("stored", "file"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("by", overflow="fold")
    table.add_column("for", overflow="fold")
    for entry in entries:
        table.add_row(
            str(entry.version or ""),
            _time(entry.created_at),
            entry.kind,
            size(entry.stored_bytes),
            size(entry.size_bytes),
            entry.created_by,
            entry.note,
        )
    console().print(table)


@bucket_command.command("fetch")
@click.argument("organization")
@click.argument("file", type=click.Path(path_type=Path), required=False)
@version_option
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@json_option
@handles_errors
def fetch_command(
    organization: str, file: Path | None, *, number: int | None, force: bool, as_json: bool
) -> None:
    """Download ORGANIZATION from the bucket to FILE (default: ORGANIZATION.db) and verify it."""
    file = file or Path(f"{organization}.db")
    fetched = _fetch(organization, file, number, force=force)
    if as_json:
        print_json(fetched | {"path": str(file)})
    else:
        click.echo(
            f"{file}: {_version_text(fetched)}, {size(fetched['size_bytes'])}, "
            f"{size(fetched['bytes_down'])} downloaded"
        )


@bucket_command.command("export")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.argument("organizations", nargs=-1, metavar="[ORGANIZATION]...")
@click.option("--force", is_flag=True, help="Replace existing files.")
@json_option
@handles_errors
def export_command(
    folder: Path, organizations: tuple[str, ...], *, force: bool, as_json: bool
) -> None:
    """Download all or the named organizations to FOLDER as plain SQLite files."""
    from schedclient.bucket import bucket_settings, translated  # noqa: PLC0415 - an extra

    settings = bucket_settings()
    names = list(organizations)
    if not names:
        with translated():
            from schedbucket import layouts, open_store  # noqa: PLC0415

            names = layouts.organizations(settings, open_store(settings))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LocalFileError(f"cannot create the folder {folder}: {error.strerror}") from None
    done = []
    for name in names:
        fetched = _fetch(name, folder / f"{name}.db", None, force=force)
        done.append(fetched)
        if not as_json:
            click.echo(
                f"{folder / name}.db: {_version_text(fetched)}, {size(fetched['size_bytes'])}"
            )
    if as_json:
        print_json({"folder": str(folder), "organizations": done})
    elif not done:
        click.echo("The bucket has no organizations.")


@bucket_command.command("restore")
@click.argument("organization")
@click.argument("number", type=click.IntRange(min=1), metavar="VERSION")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@json_option
@handles_errors
def restore_command(organization: str, number: int, *, yes: bool, as_json: bool) -> None:
    """Publish an older VERSION of ORGANIZATION as the newest; the versions in between are kept."""
    from schedclient.bucket import OrganizationLease, translated  # noqa: PLC0415 - an extra

    asking = not (yes or as_json) and sys.stdin.isatty()
    if asking and not click.confirm(
        f"Publish version {number} of {organization} as its newest?", err=True
    ):
        click.echo("Nothing was changed.", err=True)
        return
    with (
        OrganizationLease(organization) as lease,
        translated(),
        tempfile.TemporaryDirectory() as name,
    ):
        repository, held = lease.parts()
        wanted = _wanted(repository, organization, number)
        old = Path(name) / "old.db"
        repository.fetch(wanted, None, None, old)
        published, sent = repository.publish(
            old,
            None,
            repository.newest(cached=True),
            Path(name),
            lease=held,
            note=f"restore of version {number}",
        )
    if as_json:
        print_json(
            {
                "organization": organization,
                "version": published.number,
                "restored": number,
                "bytes_up": sent,
            }
        )
    else:
        click.echo(
            f"{organization} was restored to version {number}, "
            f"published as version {published.number}."
        )


def _history(organization: str) -> list[Entry]:
    from schedclient.bucket import repository_of, translated  # noqa: PLC0415 - an extra

    repository = repository_of(organization)
    with translated():
        entries = repository.history()
        if not entries:
            raise _unknown(organization)
        return entries


def _unknown(organization: str) -> SettingsError:
    return SettingsError(
        f"the bucket has no organization {organization!r:.60}", "See `schedctl bucket list`."
    )


def _wanted(repository: Repository, organization: str, number: int | None) -> VersionRef:
    """Return a version of an organization, the newest by default."""
    if number is None:
        newest = repository.newest()
        if newest is None:
            raise _unknown(organization)
        return newest
    from schedbucket.versions import version_ref  # noqa: PLC0415

    entries = repository.history()
    if not entries:
        raise _unknown(organization)
    for entry in entries:
        if entry.version == number:
            return version_ref(entry)
    kept = (
        f"{entries[-1].version} to {entries[0].version}"
        if entries[0].version
        else "none: the layout is `plain`"
    )
    raise SettingsError(
        f"{organization} no longer has version {number}", f"Available versions: {kept}."
    )


def _fetch(organization: str, file: Path, number: int | None, *, force: bool) -> dict[str, Any]:
    from schedclient.bucket import repository_of, translated  # noqa: PLC0415 - an extra

    if file.exists() and not force:
        raise LocalFileError(
            f"{file} already exists", "Choose another file, or use --force to replace it."
        )
    repository = repository_of(organization)
    with translated():
        try:
            with tempfile.TemporaryDirectory(dir=file.parent, prefix=".fetch-") as name:
                incoming = Path(name) / file.name
                wanted, got = _download(repository, organization, number, incoming)
                incoming.chmod(0o600)  # personal data, whatever the umask
                sqlite_files.replace_database(incoming, file)
        except OSError as error:
            raise LocalFileError(f"{file} cannot be written: {error.strerror or error}") from None
    return {
        "organization": organization,
        "version": wanted.number or None,
        "size_bytes": wanted.size_bytes,
        "bytes_down": got,
    }


def _download(
    repository: Repository, organization: str, number: int | None, target: Path
) -> tuple[VersionRef, int]:
    """Download a version, the newest by default, and return it and the bytes transferred."""
    from schedbucket import OtherVersionError  # noqa: PLC0415 - an extra

    # The newest version may be replaced during the download, so that is tried twice.
    for last in (number is not None, True):
        wanted = _wanted(repository, organization, number)
        try:
            return wanted, repository.fetch(wanted, None, None, target)
        except OtherVersionError:
            target.unlink(missing_ok=True)
            if last:
                break
    raise SettingsError(f"{organization} changed in the bucket during the download", "Retry.")


def _version_text(fetched: dict[str, Any]) -> str:
    return f"version {fetched['version']}" if fetched["version"] else "the newest version"


def _time(text: str) -> str:
    return text[:19].replace("T", " ")
