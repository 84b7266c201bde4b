"""SQLite's errors in the scheduler's terms: one place that turns `apsw` exceptions into `SchedulerError`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

from schedproto import ErrorCode, SchedulerError

_TABLE: list[tuple[type[Exception], ErrorCode, str, str]] = [
    (
        apsw.NotADBError,
        ErrorCode.DATABASE_NOT_SQLITE,
        "is not an SQLite database",
        "Check that the right file was uploaded; encrypted files cannot be read.",
    ),
    (
        apsw.CorruptError,
        ErrorCode.DATABASE_DAMAGED,
        "is damaged",
        "Restore it from a backup; `PRAGMA integrity_check` in the sqlite3 shell names the damage.",
    ),
    (
        apsw.BusyError,
        ErrorCode.DATABASE_LOCKED,
        "is locked by another program",
        "Wait until the other program has ended its transaction, then submit again.",
    ),
    (
        apsw.LockedError,
        ErrorCode.DATABASE_LOCKED,
        "is locked by another program",
        "Wait until the other program has ended its transaction, then submit again.",
    ),
    (
        apsw.ReadOnlyError,
        ErrorCode.DATABASE_READ_ONLY,
        "cannot be written",
        "Give the daemon's user the right to write the file and its folder.",
    ),
    (
        apsw.FullError,
        ErrorCode.DISK_FULL,
        "could not be written: the disk is full",
        "Free space on the volume or extend it, then submit again; the file is as it was before.",
    ),
    (
        apsw.CantOpenError,
        ErrorCode.DATABASE_UNREADABLE,
        "cannot be opened",
        "Check the rights of the file and its folder.",
    ),
    (
        apsw.PermissionsError,
        ErrorCode.DATABASE_UNREADABLE,
        "cannot be read",
        "Give the daemon's user the right to read and write the file.",
    ),
    (
        apsw.NoMemError,
        ErrorCode.OUT_OF_MEMORY,
        "needs more memory than there is",
        "Use a machine with more memory, or fewer workers.",
    ),
    (apsw.InterruptError, ErrorCode.CANCELLED, "was left when the job was cancelled", ""),
    (
        apsw.IOError,
        ErrorCode.DATABASE_UNREADABLE,
        "could not be read or written",
        "Look at the volume: the operating system reported an input/output error.",
    ),
]


def translate(error: apsw.Error, path: Path) -> SchedulerError:
    """Return the scheduler's error for one of SQLite's."""
    for kind, code, says, hint in _TABLE:
        if isinstance(error, kind):
            return SchedulerError(
                code,
                f"{path.name} {says} ({error})",
                hint=hint,
                details={"path": str(path), "sqlite": str(error)},
            )
    return SchedulerError(
        ErrorCode.INTERNAL,
        f"SQLite reported an error on {path.name}: {error}",
        hint="This is a fault of the scheduler; the file is as it was before.",
        details={"path": str(path), "sqlite": str(error)},
    )


@contextmanager
def sqlite_errors(path: Path) -> Iterator[None]:
    """Translate what SQLite raises inside the block."""
    try:
        yield
    except apsw.Error as error:
        raise translate(error, path) from error
