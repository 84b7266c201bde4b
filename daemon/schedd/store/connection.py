"""Opening of organizations' files."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

import apsw

from schedproto import ErrorCode, Mode, SchedulerError
from schedproto.layout import database_path

from .errors import sqlite_errors
from .limits import PROGRESS_STEPS, connect

#: Maximum time to wait for a lock of another program.
BUSY_TIMEOUT_MS = 5_000
#: Page cache of a reader. Chunks are read in order, so few pages are read twice.
READER_CACHE_KIB = 16 * 1024
#: Page cache of the writer. In the mode highperf it grows with the file, up to 2 GB: it holds all
#: existing pages. New pages are not read again and need not be kept.
WRITER_CACHE_KIB = 64 * 1024
HIGHPERF_CACHE_KIB = 2 * 1024 * 1024


def resolve_database(data_dir: Path, organization: str) -> Path:
    """Return an organization's file; raises if a symbolic link leads out of the data folder."""
    path = database_path(data_dir, organization)
    try:
        folder = path.resolve().parent
    except (OSError, RuntimeError):  # a link that leads to itself
        folder = None
    if folder != data_dir.resolve():
        raise SchedulerError(
            ErrorCode.INVALID_ORGANIZATION,
            f"{path.name} is a link to a file outside the data folder, or to itself",
            hint="Put the file itself into the data folder.",
        )
    return path


def check_file(path: Path) -> None:
    """Raise `SchedulerError` if a file does not exist, cannot be accessed, or is not regular."""
    try:
        info = path.stat()
    except FileNotFoundError:
        raise SchedulerError(
            ErrorCode.DATABASE_MISSING,
            f"there is no file {path.name} in {path.parent}",
            hint="Upload the organization's database first, or check the organization's id and "
            "the data folder.",
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
    """Raise for a file that is marked read-only, even if the daemon runs as root."""
    if not path.stat().st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH):
        raise SchedulerError(
            ErrorCode.DATABASE_READ_ONLY,
            f"{path.name} is marked read-only",
            hint="Make it writable (chmod u+w) if the scheduler may change it. Dry runs do not "
            "need this.",
            details={"path": str(path)},
        )


def _base(connection: apsw.Connection) -> apsw.Connection:
    connection.set_busy_timeout(BUSY_TIMEOUT_MS)
    # A cell that reaches beyond its page is reported instead of read.
    connection.execute("PRAGMA cell_size_check = ON")
    # Sorting and temporary tables stay off the volume.
    connection.execute("PRAGMA temp_store = MEMORY")
    # Foreign keys are the application's: a plan deletes nothing in other tables.
    connection.execute("PRAGMA foreign_keys = OFF")
    connection.execute("PRAGMA recursive_triggers = OFF")
    return connection


def open_reader(path: Path) -> apsw.Connection:
    """Open a file for reading; SQLite refuses writes. Raises `SchedulerError`."""
    check_file(path)
    with sqlite_errors(path):
        connection = _base(connect(str(path), apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_NOMUTEX))
        connection.execute(f"PRAGMA cache_size = -{READER_CACHE_KIB}")
        # Fails if the file is not a database.
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()
        return connection


def open_writer(path: Path, mode: Mode) -> apsw.Connection:
    """Open an existing file for reading and writing; changes nothing. Raises `SchedulerError`."""
    check_file(path)
    check_writable(path)
    with sqlite_errors(path):
        connection = _base(
            connect(str(path), apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_NOMUTEX)
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
