"""What surrounds the one transaction of a run: integrity and journal mode."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import apsw

from schedproto import ErrorCode, Mode, SchedulerError, sqlite_files

from . import integrity
from .connection import open_reader
from .errors import sqlite_errors, translate
from .schema import PLAN

#: A file up to this size is checked before a reliable run; it costs some tens of milliseconds.
QUICK_CHECK_BYTES = 64 * 1024 * 1024


def check_integrity(connection: apsw.Connection, path: Path, mode: Mode) -> None:
    """Raise `database_damaged` if SQLite finds the file inconsistent.

    Large files are not read twice for this.

    Where the plan has triggers, its indexes are compared with it, whatever the size: an earlier
    release could leave an index that disagrees there.
    """
    found: list[str] = []
    if mode is Mode.RELIABLE and path.stat().st_size <= QUICK_CHECK_BYTES:
        found = sqlite_files.faults(connection)
    if not found and _has_triggers(connection, PLAN):
        with suppress(apsw.SQLError):  # what cannot be compiled is looked for next, and named
            found = sqlite_files.table_faults(connection, PLAN)
    if found:
        raise SchedulerError(
            ErrorCode.DATABASE_DAMAGED,
            f"{path.name} is damaged: {found[0]}",
            hint=integrity.remedy(found, "Restore it from a backup.") + " Nothing was changed.",
            details={"path": str(path), "integrity_check": "; ".join(found)[:500]},
        )


def _has_triggers(connection: apsw.Connection, table: str) -> bool:
    row = connection.execute(
        "SELECT 1 FROM main.sqlite_schema WHERE type = 'trigger' AND lower(tbl_name) = ?", (table,)
    ).fetchone()
    return row is not None


def _journal_mode(connection: apsw.Connection, mode: str | None = None) -> str:
    sql = "PRAGMA main.journal_mode" + (f" = {mode}" if mode else "")
    [(result,)] = connection.execute(sql)
    return str(result)


@contextmanager
def journal_for(connection: apsw.Connection, mode: Mode, *, change: bool) -> Iterator[None]:
    """Give the file the journal of the mode for the time of a run, and its own back afterwards.

    Reliable runs use a write-ahead log, so that readers go on reading; high-performance runs a
    rollback journal, which writes new pages once instead of twice. Where another program has the
    file open the journal may not change; every kind is safe, so the run goes on with the one there
    is.
    """
    before = _journal_mode(connection)
    wanted = "wal" if mode is Mode.RELIABLE else "delete"
    if not change or before == wanted or before not in {"delete", "truncate", "persist", "wal"}:
        yield
        return
    try:
        _journal_mode(connection, wanted)
    except apsw.BusyError:
        yield
        return
    try:
        yield
    finally:
        # Another program may have come meanwhile; the file is whole in either journal mode.
        with suppress(apsw.Error):
            _journal_mode(connection, before)


def empty_log(connection: apsw.Connection) -> None:
    """Have what lies in the write-ahead log put into the file, so that the file alone is the database.

    Where readers need the log still, it stays; `log_is_empty` tells.
    """
    if _journal_mode(connection) == "wal":
        with suppress(apsw.BusyError):
            connection.execute("PRAGMA main.wal_checkpoint(TRUNCATE)").fetchall()


def log_is_empty(path: Path) -> bool:
    """Return whether the file alone is the database; the caller holds the write lock."""
    return sqlite_files.unmerged_sidecar(path, ("-wal",)) is None


def whole_copy(source: Path, path: Path) -> None:
    """Write the committed state of a database, log included, into a new file.

    Over a connection of its own: SQLite does not copy from one that has begun to write.
    """
    origin, target = open_reader(source), apsw.Connection(str(path))
    try:
        target.execute("PRAGMA synchronous = OFF")
        with target.backup("main", origin, "main") as copying:
            copying.step(-1)
    finally:
        target.close()
        origin.close()


def check_file(path: Path, organization: str) -> None:
    """Raise unless a file that was sent for an organization is a database that SQLite finds sound.

    Else remove it.
    """
    try:
        connection = apsw.Connection(
            sqlite_files.immutable_uri(path),
            flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI,
        )
        try:
            found = sqlite_files.faults(connection, indexes=True)
        finally:
            connection.close()
    except apsw.NotADBError:
        path.unlink()
        raise SchedulerError(
            ErrorCode.DATABASE_NOT_SQLITE,
            "the uploaded file is not an SQLite database",
            hint="Check the file name.",
        ) from None
    except apsw.Error as error:
        refusal = translate(error, path)
        if refusal.code == ErrorCode.FOREIGN_SCHEMA:
            path.unlink()
            raise refusal from None
        found = [str(error)]
    if found:
        path.unlink()
        otherwise = "Check the source file with `PRAGMA integrity_check`."
        raise SchedulerError(
            ErrorCode.DATABASE_DAMAGED,
            f"the file uploaded for {organization} is damaged: {found[0]}",
            hint=integrity.remedy(found, otherwise) + " The existing file is unchanged.",
        )


def integrity_of(path: Path) -> tuple[str, str]:
    """Return what SQLite says of a file, indexes included.

    `ok` or the first fault, and the remedy where one is known.

    Raises `SchedulerError`. Reads the file once for each index: about 5 s for 1 GB.
    """
    connection = open_reader(path)
    try:
        with sqlite_errors(path):
            found = sqlite_files.faults(connection, indexes=True)
    finally:
        connection.close()
    return (found[0], integrity.remedy(found, "")) if found else ("ok", "")
