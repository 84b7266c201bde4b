"""SQLite databases as files: sidecars, durable replacement, checks, and full disks.

SQLite keeps up to three *sidecars* next to a database: the write-ahead log, its shared index and
the rollback journal. They belong to one file. A database that is replaced or removed without its
sidecars is corrupted by them. This module handles a database and its sidecars as one thing, for the
daemon, the bucket, the client and the command line.

It needs only the standard library, and loads `sqlite3` only for `quick_check`. Importing
`schedproto` does not load this module. What needs apsw is in `schedd.store`.
"""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

from .errors import ErrorCode, SchedulerError

#: Write-ahead log, its index in shared memory, rollback journal.
SIDECAR_SUFFIXES = ("-wal", "-shm", "-journal")
#: Sidecars that hold data of the database. The `-shm` file is rebuilt from the log.
DATA_SUFFIXES = ("-wal", "-journal")

#: What the operating system reports if a disk, or a user's share of it, is full.
_FULL_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT})
#: What SQLite reports: SQLITE_FULL, and SQLITE_IOERR_SHMSIZE if the `-shm` file cannot grow
#: (https://www.sqlite.org/rescode.html).
SQLITE_FULL, SQLITE_IOERR_SHMSIZE = 13, 4874
_FULL_RESULTS = frozenset({SQLITE_FULL, SQLITE_IOERR_SHMSIZE})
#: The primary code of what cannot be compiled, such as an unknown function.
_SQLITE_ERROR = 1

_QUICK_CHECK, _INTEGRITY_CHECK = "quick_check", "integrity_check"
#: Faults after which a check stops.
_MAX_FAULTS = 100
#: Lines of a check that are about values.
_OF_VALUES = re.compile(
    r"NULL value in |CHECK constraint failed in |(TEXT|NUMERIC|INT|REAL|BLOB|non-\w+) value in "
)
#: Bytes that one system call copies at most, so that a signal is not kept waiting for long.
_COPY_BYTES = 64 << 20
#: A check reads through a mapping of this size, which saves a copy of each page.
_CHECK_MAP_BYTES = 1 << 30
#: The longest time of a check, and SQLite's steps between looks at the clock.
_CHECK_LIMIT_S, _CHECK_STEPS = 1800.0, 100_000


class _Connection(Protocol):
    """A connection of `sqlite3` or of `apsw`."""

    def execute(self, sql: str, bindings: tuple[Any, ...] = (), /) -> Iterable[Any]: ...


# Sidecars -----------------------------------------------------------------------------------------


def sidecar(path: Path, suffix: str) -> Path:
    """Return the path of one sidecar of a database; suffix: one of `SIDECAR_SUFFIXES`."""
    return path.with_name(path.name + suffix)


def sidecars(path: Path) -> list[Path]:
    """Return the paths of all sidecars that a database can have, existing or not."""
    return [sidecar(path, suffix) for suffix in SIDECAR_SUFFIXES]


def unmerged_sidecar(path: Path, suffixes: Iterable[str] = DATA_SUFFIXES) -> Path | None:
    """Return the first log or journal that is not empty, None if there is none. Raises `OSError`.

    Without one, the file alone is the database; a program may have it open nevertheless. With one,
    it may be: a journal that `journal_mode = PERSIST` keeps is not empty either.
    """
    for suffix in suffixes:
        found = sidecar(path, suffix)
        try:
            if found.stat().st_size:
                return found
        except FileNotFoundError:
            continue
    return None


def remove_sidecars(path: Path) -> None:
    """Remove the sidecars of a database that is about to be replaced. Raises `OSError`."""
    for found in sidecars(path):
        found.unlink(missing_ok=True)


def remove_database(path: Path) -> None:
    """Remove a database and its sidecars; missing files are ignored. Raises `OSError`.

    The database is removed first: without its log or journal it would look complete and not be.
    """
    path.unlink(missing_ok=True)
    remove_sidecars(path)


def move_database(path: Path, target: Path) -> None:
    """Rename a database and its sidecars, over those of `target`. Raises `OSError`.

    Both have to be on the same file system. No program may have either open.
    """
    path.replace(target)

    for suffix in SIDECAR_SUFFIXES:
        moved, replaced = sidecar(path, suffix), sidecar(target, suffix)
        if moved.exists():
            moved.replace(replaced)
        else:
            replaced.unlink(missing_ok=True)


# Content and durability ---------------------------------------------------------------------------


def copy_content(source: int, target: int, size_bytes: int) -> None:
    """Copy the first bytes of one file into another; blocks. Both are descriptors.

    The kernel shares the blocks instead if the file system can. Raises `OSError`, also if the
    source has become shorter.
    """
    offset = 0
    while offset < size_bytes:
        step = min(_COPY_BYTES, size_bytes - offset)
        copied = os.copy_file_range(source, target, step, offset, offset)
        if not copied:
            raise OSError(errno.EIO, "the file was truncated while it was copied")
        offset += copied


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Write a file's content to the disk; blocks. Raises `OSError`.

    This process must have no SQLite connection to the file: closing a descriptor of a file drops
    all of the process's locks on it (POSIX).
    """
    _sync(path, os.O_RDONLY)


def sync_folder(folder: Path) -> None:
    """Write a folder's entries to the disk, which makes renames in it durable. Raises `OSError`."""
    _sync(folder, os.O_RDONLY | os.O_DIRECTORY)


def write_file(path: Path, content: bytes) -> None:
    """Write a small file, such as a note next to a database, completely or not at all; blocks.

    The content is on the disk before the name is. The name is durable after `sync_folder`.
    Raises `OSError`; then the earlier file, if any, is unchanged.
    """
    temporary = path.with_name(path.name + ".new")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)  # On a full disk, others need the space.
        raise


def replace_database(new: Path, path: Path) -> None:
    """Make the file `new`, which has no sidecars, the database `path`, durably; blocks.

    The sidecars of the replaced database go first. If the process is killed in between, that
    database may be incomplete, so call this only if its content is not needed any more. The new
    file is never next to sidecars of another one. Raises `OSError`.

    Example, with a download that was checked before it gets its name:

        if fault := quick_check(incoming):
            raise damaged(fault)
        replace_database(incoming, path)
    """
    sync_file(new)
    remove_sidecars(path)
    new.replace(path)
    sync_folder(path.parent)


# Checks -------------------------------------------------------------------------------------------


def immutable_uri(path: Path) -> str:
    """Return the URI under which SQLite reads a file without locks, log or journal.

    Only for files that nothing changes meanwhile, such as a copy or a download.
    """
    return f"{path.resolve().as_uri()}?mode=ro&immutable=1"


def faults(connection: _Connection, *, indexes: bool = False) -> list[str]:
    """Return what is wrong with a database, empty if it is sound; blocks, and reads all pages.

    indexes: whether each index is compared with its table, which takes about six times as long.

    What SQLite reports of values (a NULL in a NOT NULL column, a violated CHECK) is not a fault
    here: other programs wrote them. Tables whose check needs a function or collation that only
    their application has are left out. Raises the error of the connection's library if the database
    cannot be read at all.
    """
    check = _INTEGRITY_CHECK if indexes else _QUICK_CHECK
    try:
        return _reported(connection, check, f"pragma_{check}({_MAX_FAULTS})")
    except Exception as error:
        if not _needs_application(error):
            raise
    return _faults_by_table(connection, check)


def table_faults(connection: _Connection, table: str) -> list[str]:
    """Return what is wrong with one table and its indexes, each compared with the table; blocks.

    Raises the error of the connection's library, also if an index needs a function or collation
    that only its application has.
    """
    return _reported(connection, _INTEGRITY_CHECK, f"pragma_{_INTEGRITY_CHECK}(?)", (table,))


def _faults_by_table(connection: _Connection, check: str) -> list[str]:
    """Return the faults of the tables that can be checked, each in a statement of its own.

    The statement takes the name from the schema, as a name may be bytes that are not text.
    """
    tables = "main.sqlite_schema WHERE type = 'table' AND rootpage > 0"
    rows = connection.execute(f"SELECT rowid FROM {tables}")  # noqa: S608 - no value of a user
    numbers = [int(number) for (number,) in rows]

    found: list[str] = []
    for number in numbers:
        source = f"main.sqlite_schema AS s, pragma_{check}(s.name) WHERE s.rowid = ?"
        try:
            found += _reported(connection, check, source, (number,))
        except Exception as error:
            if not _needs_application(error):
                raise
    return found


def _reported(
    connection: _Connection, check: str, source: str, bindings: tuple[Any, ...] = ()
) -> list[str]:
    """Return the lines of a check that report damage. source: the FROM clause that runs it.

    The lines quote names of the schema, which may be bytes that are not text: hence the cast.
    """
    [(encoding,)] = connection.execute("PRAGMA main.encoding")
    sql = f"SELECT CAST({check} AS BLOB) FROM {source}"  # noqa: S608 - no value of a user
    rows = connection.execute(sql, bindings)
    texts = [bytes(text).decode(encoding, "replace") for (text,) in rows]

    lines = [line for text in texts if text != "ok" for line in text.strip().splitlines()]
    return [line for line in lines if not line.startswith("***") and not _OF_VALUES.match(line)]


def quick_check(path: Path) -> str | None:
    """Return the first fault of a file that nothing changes meanwhile, None if it is sound; blocks.

    A file that is not a database, or cannot be opened, is a fault too. Indexes are not compared
    with their tables.
    """
    import sqlite3  # noqa: PLC0415 - most processes that handle files never check one

    try:
        with closing(sqlite3.connect(immutable_uri(path), uri=True)) as connection:
            # The schema is a program of others: it must not call functions with side effects, and
            # its CHECK constraints and generated columns have to come to an end.
            connection.execute("PRAGMA trusted_schema = OFF")
            ends = time.monotonic() + _CHECK_LIMIT_S
            connection.set_progress_handler(lambda: time.monotonic() > ends, _CHECK_STEPS)
            connection.execute(f"PRAGMA mmap_size = {_CHECK_MAP_BYTES}")
            return next(iter(faults(connection)), None)
    except sqlite3.DatabaseError as error:
        return str(error)


# Errors -------------------------------------------------------------------------------------------


def _result_of(error: BaseException) -> int:
    """Return SQLite's extended result code, 0 if the error has none.

    `apsw` and `sqlite3` name the attribute differently.
    """
    return int(getattr(error, "extendedresult", 0) or getattr(error, "sqlite_errorcode", 0))


def _needs_application(error: BaseException) -> bool:
    """Return whether a statement cannot be compiled here, as for an unknown function."""
    return _result_of(error) & 0xFF == _SQLITE_ERROR


def is_disk_full(error: BaseException) -> bool:
    """Return whether an error of the operating system, `sqlite3` or `apsw` means a full disk.

    An exceeded quota counts as well.
    """
    if isinstance(error, OSError):
        return error.errno in _FULL_ERRNOS
    return _result_of(error) in _FULL_RESULTS


def free_space(folder: Path) -> str:
    """Return how much space is free for ordinary users in a folder, for messages."""
    try:
        stats = os.statvfs(folder)
    except OSError:
        return "the free space is not known"
    return f"{stats.f_bavail * stats.f_frsize / 1e6:,.1f} MB are free"


def disk_full(message: str, hint: str, path: Path) -> SchedulerError:
    """Return the error for a full disk. path: the file or folder that could not be written."""
    return SchedulerError(ErrorCode.DISK_FULL, message, hint=hint, details={"path": str(path)})
