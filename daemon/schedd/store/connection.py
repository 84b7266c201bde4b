"""How an organization's file is opened: one small function for each decision, with its reason."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

import apsw

from schedproto import ErrorCode, Mode, SchedulerError
from schedproto.layout import database_path

from .errors import sqlite_errors

#: How long a lock of another program is waited for.
BUSY_TIMEOUT_MS = 5_000
#: Page cache of a reader: chunks are read front to back, so little is read twice.
READER_CACHE_KIB = 16 * 1024
#: Page cache of the writer. In the high-performance mode it grows with the file, up to 2 GB: enough
#: to hold all that is there, while new pages, which are never read again, need not be kept.
WRITER_CACHE_KIB = 64 * 1024
HIGHPERF_CACHE_KIB = 2 * 1024 * 1024
#: Every so many steps of SQLite's virtual machine a running statement looks whether it is to end.
PROGRESS_STEPS = 200_000


def resolve_database(data_dir: Path, organization: str) -> Path:
    """Return an organization's file, or raise if a symbolic link leads out of the data folder."""
    path = database_path(data_dir, organization)
    if path.resolve().parent != data_dir.resolve():
        raise SchedulerError(
            ErrorCode.INVALID_ORGANIZATION,
            f"{path.name} is a link to a file outside the data folder",
            hint="Put the file itself into the data folder.",
        )
    return path


def check_file(path: Path) -> None:
    """Raise a clear error for a file that is not there, not a file, or marked read-only for everybody."""
    try:
        info = path.stat()
    except FileNotFoundError:
        raise SchedulerError(
            ErrorCode.DATABASE_MISSING,
            f"there is no file {path.name} in {path.parent}",
            hint="Upload the organization's database first, or check the organization's id and the data folder.",
            details={"path": str(path)},
        ) from None
    except OSError as error:
        raise SchedulerError(
            ErrorCode.DATABASE_UNREADABLE,
            f"cannot access {path.name}: {error.strerror}",
            hint="Check the permissions of the file and its folder.",
            details={"path": str(path)},
        ) from None
    if not stat.S_ISREG(info.st_mode):
        raise SchedulerError(
            ErrorCode.DATABASE_UNREADABLE,
            f"{path.name} is not a regular file",
            hint="An organization's database must be one SQLite file.",
            details={"path": str(path)},
        )


def check_writable(path: Path) -> None:
    """Raise for a file that is marked read-only, also when the daemon is root, whom marks do not stop."""
    if not path.stat().st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH):
        raise SchedulerError(
            ErrorCode.DATABASE_READ_ONLY,
            f"{path.name} is marked read-only",
            hint="Make it writable (chmod u+w) if the scheduler may change it. Dry runs do not need this.",
            details={"path": str(path)},
        )


def _base(connection: apsw.Connection) -> apsw.Connection:
    connection.set_busy_timeout(BUSY_TIMEOUT_MS)
    # Text that is no text, or a cell that reaches beyond its page, is reported instead of read.
    connection.execute("PRAGMA cell_size_check = ON")
    # Sorting and temporary tables stay off the volume.
    connection.execute("PRAGMA temp_store = MEMORY")
    # The schema belongs to another program: it may not run functions with side effects.
    connection.execute("PRAGMA trusted_schema = OFF")
    # The application's references and cascades are the application's: a plan deletes nothing in
    # other tables.
    connection.execute("PRAGMA foreign_keys = OFF")
    connection.execute("PRAGMA recursive_triggers = OFF")
    return connection


def open_reader(path: Path) -> apsw.Connection:
    """Open for reading only; SQLite itself refuses writes. Raises `SchedulerError`."""
    check_file(path)
    with sqlite_errors(path):
        connection = _base(
            apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_NOMUTEX)
        )
        connection.execute(f"PRAGMA cache_size = -{READER_CACHE_KIB}")
        # Finds out now whether this is a database at all.
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()
        return connection


def open_writer(path: Path, mode: Mode) -> apsw.Connection:
    """Open an existing file for reading and writing. Changes nothing yet.

    Raises `SchedulerError`.
    """
    check_file(path)
    check_writable(path)
    with sqlite_errors(path):
        connection = _base(
            apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_NOMUTEX)
        )
        cache_kib = WRITER_CACHE_KIB
        if mode is Mode.HIGHPERF:
            cache_kib = min(HIGHPERF_CACHE_KIB, cache_kib + path.stat().st_size // 1024)
        connection.execute(f"PRAGMA cache_size = -{cache_kib}")
        # Durable at commit, in both modes and with either journal.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()
        return connection


def interrupt_when(connection: apsw.Connection, cancelled: Callable[[], bool]) -> None:
    """Have running statements end with `InterruptError` once `cancelled` says so."""
    connection.set_progress_handler(cancelled, PROGRESS_STEPS)
