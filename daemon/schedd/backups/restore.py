"""Restoring a stored state of an organization's file."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import BinaryIO

import apsw
import msgspec
import numpy as np
from numpy.typing import NDArray

from schedd.store.connection import check_file, open_writer
from schedd.store.errors import sqlite_errors
from schedd.store.limits import connect
from schedproto import ErrorCode, Mode, SchedulerError, sqlite_files
from schedproto.layout import temporary_folder

from . import pages
from .backups import Backups, Entry, PatchEnd, disk_errors, no_backup

#: Pages that are copied into the file in one step.
_STEP_PAGES = 4096


def rebuild(backups: Backups, backup_id: str, target: Path) -> None:
    """Write a stored state to the new file `target`, and verify it; blocks.

    Raises `SchedulerError`.
    """
    chain = backups.index().chain_of(backup_id)
    if not chain:
        known = ", ".join(backup.backup_id for backup in backups.list()[:10]) or "none"
        raise SchedulerError(
            ErrorCode.INVALID_ARGUMENT,
            f"there is no backup {backup_id!r:.60}",
            hint=f"Newest backups: {known}.",
        )
    source = backups.folder / chain[0].file
    with disk_errors(target.parent):
        try:
            shutil.copyfile(source, target)
        except FileNotFoundError:
            raise no_backup(f"{source.name} is missing", source) from None
        with target.open("r+b") as file:
            for entry in chain[1:]:
                _apply(backups.folder / entry.file, file.fileno())
            os.fsync(file.fileno())
            _verify(file.fileno(), chain[-1], source)
    connection = connect(str(target), apsw.SQLITE_OPEN_READONLY)
    try:
        found = sqlite_files.faults(connection)
    except apsw.Error as error:
        found = [str(error)]
    finally:
        connection.close()
    if found:
        raise no_backup(f"SQLite reports damage: {found[0]}", source)


def _apply(path: Path, descriptor: int) -> None:
    """Write the pages of a patch into a file."""
    try:
        with path.open("rb") as patch:
            end, numbers = _read_end(patch)
            patch.seek(0)
            for number in numbers.tolist():
                os.pwrite(descriptor, patch.read(end.page_size), number * end.page_size)
    except (msgspec.DecodeError, ValueError, FileNotFoundError) as error:
        raise no_backup(f"{path.name} cannot be read ({error})", path) from None
    os.ftruncate(descriptor, end.size_bytes)


def _read_end(patch: BinaryIO) -> tuple[PatchEnd, NDArray[np.uint32]]:
    """Return the trailer and the page numbers of a patch; raises `ValueError` if truncated."""
    size = patch.seek(0, os.SEEK_END)
    if size < PatchEnd.LENGTH_BYTES:
        raise ValueError("it is truncated")
    patch.seek(size - PatchEnd.LENGTH_BYTES)
    length = int.from_bytes(patch.read(PatchEnd.LENGTH_BYTES), "little")
    if length > size - PatchEnd.LENGTH_BYTES:
        raise ValueError("it is truncated")
    patch.seek(size - PatchEnd.LENGTH_BYTES - length)
    end = msgspec.json.decode(patch.read(length), type=PatchEnd)
    body = end.pages * (end.page_size + 4)
    if size != body + length + PatchEnd.LENGTH_BYTES:
        raise ValueError("it is truncated")
    patch.seek(end.pages * end.page_size)
    return end, np.frombuffer(patch.read(4 * end.pages), "<u4")


def _verify(descriptor: int, entry: Entry, path: Path) -> None:
    if os.fstat(descriptor).st_size != entry.size_bytes:
        raise no_backup(
            f"{path.name} and its patches do not have the size of the backed-up state", path
        )
    if pages.whole(pages.digests_of(descriptor, entry.size_bytes, entry.page_size)) != entry.whole:
        raise no_backup(f"{path.name} and its patches were changed since the backup", path)


def restore(backups: Backups, backup_id: str, database: Path) -> None:
    """Restore an organization's file to a stored state; blocks.

    The caller makes sure that no job uses the file. The current state is backed up first if SQLite
    can read it, so that a restore can be undone. The file is overwritten in one transaction; one
    that SQLite cannot open is replaced.

    Raises `SchedulerError`.
    """
    with tempfile.TemporaryDirectory(
        prefix="restore-", dir=temporary_folder(database.parent)
    ) as folder:
        rebuilt = Path(folder) / database.name
        rebuild(backups, backup_id, rebuilt)
        put_in_place(backups, rebuilt, database, "before a restore")


def put_in_place(backups: Backups, new: Path, database: Path, reason: str) -> None:
    """Replace the content of an organization's file by that of `new`; blocks.

    The current state is backed up first, under the reason. Afterwards `new` may be gone.
    """
    if back_up_current(backups, database, reason):
        _overwrite(new, database)
        return
    with disk_errors(database.parent):
        sqlite_files.replace_database(new, database)


def back_up_current(backups: Backups, database: Path, reason: str) -> bool:
    """Back up the current state; returns False if there is no file that SQLite can open."""
    if not database.exists():
        return False
    check_file(database)
    descriptor = os.open(database, os.O_RDONLY | os.O_CLOEXEC)
    try:
        connection = open_writer(database, Mode.RELIABLE)
        try:
            with sqlite_errors(database):
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
                connection.execute("BEGIN IMMEDIATE")
                backups.make(descriptor, reason)
                connection.execute("ROLLBACK")
        finally:
            connection.close()
    except SchedulerError as error:
        if error.code in {ErrorCode.DATABASE_NOT_SQLITE, ErrorCode.DATABASE_DAMAGED}:
            return False
        raise
    finally:
        os.close(descriptor)
    return True


def _overwrite(source: Path, database: Path) -> None:
    """Copy a database over another one, in one transaction: readers see the old or the new one."""
    target = open_writer(database, Mode.RELIABLE)
    origin = connect(str(source), apsw.SQLITE_OPEN_READONLY)
    try:
        with sqlite_errors(database), target.backup("main", origin, "main") as copying:
            while not copying.done:
                copying.step(_STEP_PAGES)
    finally:
        origin.close()
        target.close()
