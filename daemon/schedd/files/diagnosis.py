"""The daemon's check of its own volume and files, for `schedctl doctor`.

Blocks; changes nothing except a probe file.
"""

from __future__ import annotations

import datetime as dt
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from schedd.replica.location import BucketLocation
from schedd.store.maintenance import integrity_of
from schedproto import SchedulerError
from schedproto.checks import ERROR, CheckReport
from schedproto.checks import WARNING as SERIOUS
from schedproto.diagnosis import FAILED, OK, SKIPPED, WARNING, Check, Diagnosis
from schedproto.ids import DATABASE_SUFFIX, ORGANIZATION_ID
from schedproto.layout import state_folder

#: Less free space than this is worth a warning: a job needs room for its log and for a backup.
LOW_BYTES = 1 << 30
#: Limits if no organization is named: files, and seconds after which no further check starts; a
#: check reads the complete file.
MAX_FILES, MAX_S = 20, 60.0


def diagnose(
    data: Path,
    organization: str | None,
    check: Callable[[Path], CheckReport],
    *,
    on_fly: bool,
    replica: BucketLocation | None = None,
) -> Diagnosis:
    """Check the volume, and the organization's file, or the newest files of all.

    check: the check of a file's contents, which raises `SchedulerError`.
    """
    checks = [_mounted(data, on_fly=on_fly), _writable(data), _room(data)]
    if replica is not None:
        checks.append(_bucket(replica))
    names = [organization] if organization is not None else _organizations(data)
    if not names:
        text, remedy = (
            "there are no organization files",
            "Upload one with `schedctl push FILE org-123`.",
        )
        checks.append(Check(name="databases", state=WARNING, text=text, remedy=remedy))
    began, checked = time.monotonic(), 0
    while checked < min(len(names), MAX_FILES) and time.monotonic() - began < MAX_S:
        path = data / f"{names[checked]}{DATABASE_SUFFIX}"
        database = _database(path)
        checks.append(database)
        if database.state == OK:
            checks.append(_contents(path, check))
        checked += 1
    if len(names) > checked:
        text = f"{len(names) - checked} older files were not checked"
        checks.append(
            Check(
                name="databases",
                state=SKIPPED,
                text=text,
                remedy="Check one with `schedctl doctor org-123`.",
            )
        )
    return Diagnosis(now=dt.datetime.now(dt.UTC), checks=checks)


def _bucket(replica: BucketLocation) -> Check:
    from schedbucket.conformance import (  # noqa: PLC0415 - only with a bucket
        check_conditional_writes,
    )

    try:
        from schedbucket import open_store  # noqa: PLC0415 - a daemon without a bucket loads none of it

        store = open_store(replica.settings())
        broken = check_conditional_writes(store)
    except SchedulerError as error:
        return Check(name="bucket", state=FAILED, text=error.message, remedy=error.hint)
    if broken is not None:
        return Check(
            name="bucket",
            state=FAILED,
            text=f"{store.describe()} does not support conditional writes: {broken}",
            remedy="Use a server (on Tigris: a location) with strongly consistent conditional "
            "writes.",
        )
    return Check(
        name="bucket",
        state=OK,
        text=f"{store.describe()} is reachable and supports conditional writes",
    )


def _organizations(data: Path) -> list[str]:
    files = [
        path
        for path in data.glob(f"*{DATABASE_SUFFIX}")
        if ORGANIZATION_ID.fullmatch(path.stem) and path.is_file()
    ]
    return [
        path.stem for path in sorted(files, key=lambda path: path.stat().st_mtime, reverse=True)
    ]


def _mounted(data: Path, *, on_fly: bool) -> Check:
    if data.is_mount():
        return Check(name="volume", state=OK, text=f"a volume is mounted at {data}")
    if not on_fly:
        return Check(
            name="volume",
            state=SKIPPED,
            text=f"{data} is a folder, not a volume; this machine is not on Fly",
        )
    return Check(
        name="volume",
        state=FAILED,
        text=f"no volume is mounted at {data}: data written there is lost at the next start",
        remedy="Check [mounts] in fly.toml, then run `schedctl deploy`.",
    )


def _writable(data: Path) -> Check:
    probe = state_folder(data) / f"probe-{os.getpid()}"
    try:
        descriptor = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, b"probe")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
            probe.unlink()
    except OSError as error:
        return Check(
            name="writing",
            state=FAILED,
            text=f"cannot write to {data}: {error.strerror}",
            remedy="Free space or extend the volume; check its owner and whether it is mounted "
            "read-only.",
        )
    return Check(name="writing", state=OK, text=f"{data} is writable and can be synced")


def _room(data: Path) -> Check:
    usage = shutil.disk_usage(data)
    files = [path for path in data.glob(f"*{DATABASE_SUFFIX}") if path.is_file()]
    largest = max((path.stat().st_size for path in files), default=0)
    text = (
        f"{usage.free / 1e9:.1f} of {usage.total / 1e9:.1f} GB are free; "
        f"the largest file has {largest / 1e9:.1f} GB"
    )
    if usage.free < max(LOW_BYTES, largest):
        remedy = "Extend the volume (`fly volumes extend`), or reduce SCHEDD_BACKUP_DAYS."
        return Check(name="room", state=WARNING, text=text, remedy=remedy)
    return Check(name="room", state=OK, text=text)


def _database(path: Path) -> Check:
    name = f"database {path.stem}"
    try:
        found, known_remedy = integrity_of(path)
    except SchedulerError as error:
        return Check(name=name, state=FAILED, text=error.message, remedy=error.hint)
    if found != "ok":
        return Check(
            name=name,
            state=FAILED,
            text=f"{path.name} is damaged: {found}",
            remedy=known_remedy
            or f"Restore a backup: `schedctl backup list {path.stem}`, then "
            "`schedctl backup restore` (docs/OPERATIONS.md).",
        )
    return Check(name=name, state=OK, text=f"{path.name} opens and passes integrity_check")


def _contents(path: Path, check: Callable[[Path], CheckReport]) -> Check:
    """Count the errors and warnings of a check of the file; `schedctl check` shows them."""
    name, command = (
        f"contents {path.stem}",
        f"`schedctl check {path.stem}` shows all of them and how to fix them.",
    )
    try:
        report = check(path)
    except SchedulerError as error:
        return Check(name=name, state=FAILED, text=error.message, remedy=error.hint)
    errors = [item for item in report.findings if item.severity == ERROR]
    warnings = sum(item.severity == SERIOUS for item in report.findings)
    if errors:
        return Check(
            name=name,
            state=FAILED,
            text=f"{len(errors)} errors, first: {errors[0].message}",
            remedy=command,
        )
    if warnings:
        return Check(name=name, state=OK, text=f"no errors, {warnings} warnings", remedy=command)
    return Check(name=name, state=OK, text="runs can read all of it")
