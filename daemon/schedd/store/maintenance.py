"""Integrity and journal mode of a file, before and after the transaction of a run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import apsw

from schedproto import ErrorCode, Mode, RunWarning, SchedulerError, sqlite_files

from . import integrity
from .connection import open_reader
from .errors import sqlite_errors, translate
from .limits import connect
from .schema import PLAN

#: Maximum size of files that are checked before a reliable run, in some tens of milliseconds.
QUICK_CHECK_BYTES = 64 * 1024 * 1024
#: A write-ahead log that is larger after a run, and cannot be emptied, causes a warning.
LARGE_LOG_BYTES = 64 * 1024 * 1024
#: Maximum rows of a plan whose indexes are compared with it before a reliable run. That takes 0.4 %
#: of a run over 1,000 rows, but 4 % over 7,000 and 12 % over 14,000.
INDEX_CHECK_ROWS = 4_000


def check_integrity(connection: apsw.Connection, path: Path, mode: Mode) -> None:
    """Raise `database_damaged` if SQLite finds faults in the file.

    Large files are not checked. The indexes of a small plan are compared with it, and of a plan
    with triggers in files of any size: an earlier release could leave an inconsistent index then.
    `schedctl check` compares them always.
    """
    found: list[str] = []
    quick = mode is Mode.RELIABLE and path.stat().st_size <= QUICK_CHECK_BYTES
    if quick:
        found = sqlite_files.faults(connection)
    if not found and ((quick and _is_small(connection)) or _has_triggers(connection, PLAN)):
        with suppress(apsw.SQLError):  # `foreign` reports statements that cannot be compiled
            found = sqlite_files.table_faults(connection, PLAN)
    if found:
        raise SchedulerError(
            ErrorCode.DATABASE_DAMAGED,
            f"{path.name} is damaged: {found[0]}",
            hint=integrity.remedy(found, "Restore it from a backup.") + " Nothing was changed.",
            details={"path": str(path), "integrity_check": "; ".join(found)[:500]},
        )


def _is_small(connection: apsw.Connection) -> bool:
    """Return whether the plan has few rows."""
    with suppress(apsw.SQLError):
        sql = f"SELECT count(*) FROM (SELECT 1 FROM main.{PLAN} LIMIT {INDEX_CHECK_ROWS + 1})"
        return int(connection.execute(sql).get) <= INDEX_CHECK_ROWS
    return False  # there is no such table, or a view that cannot be read


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
    """Set the file's journal mode for a run, and restore it afterwards.

    Reliable runs use a write-ahead log, so that readers can continue. Runs in the mode highperf use
    a rollback journal, which writes new pages once instead of twice. If another program has the
    file open, the journal mode may not change. All modes are safe, so the run keeps the current
    one.
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
        # Another program may have opened the file; it is valid in both journal modes.
        with suppress(apsw.Error):
            _journal_mode(connection, before)


def empty_log(connection: apsw.Connection) -> None:
    """Move the content of the write-ahead log into the file.

    If readers still need the log, it is kept; see `log_is_empty`.
    """
    if _journal_mode(connection) == "wal":
        with suppress(apsw.BusyError):
            connection.execute("PRAGMA main.wal_checkpoint(TRUNCATE)").fetchall()


def log_is_empty(path: Path) -> bool:
    """Return whether the write-ahead log is empty; the caller holds the write lock."""
    return sqlite_files.unmerged_sidecar(path, ("-wal",)) is None


def log_warning(connection: apsw.Connection, path: Path) -> list[RunWarning]:
    """Return a warning if the write-ahead log is large and a reader prevents it from shrinking.

    Call it after the commit, before the connection is closed.
    """
    if _log_bytes(path) <= LARGE_LOG_BYTES:
        return []
    empty_log(connection)
    left = _log_bytes(path)
    if left <= LARGE_LOG_BYTES:
        return []
    return [
        RunWarning(
            code="log_grows",
            name=sqlite_files.sidecar(path, "-wal").name,
            count=1,
            message=(
                f"The write-ahead log next to {path.name} has {left / 1e6:,.0f} MB and grows with "
                "each run, as another program has been reading for long: end its transaction."
            ),
        )
    ]


def _log_bytes(path: Path) -> int:
    try:
        return sqlite_files.sidecar(path, "-wal").stat().st_size
    except OSError:
        return 0


def whole_copy(source: Path, path: Path) -> None:
    """Write the committed state of a database, including its log, into a new file.

    It opens a connection of its own, as SQLite does not copy from one that is writing.
    """
    origin, target = open_reader(source), connect(str(path))
    try:
        target.execute("PRAGMA synchronous = OFF")
        with target.backup("main", origin, "main") as copying:
            copying.step(-1)
    finally:
        target.close()
        origin.close()


def check_file(path: Path, organization: str) -> None:
    """Raise `SchedulerError` and remove an uploaded file if it is not an intact database."""
    try:
        connection = connect(
            sqlite_files.immutable_uri(path), apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
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
    """Return `ok` or the first fault of a file, and the remedy if one is known; blocks.

    Compares indexes with their tables, which reads the file once for each index: about 5 s for
    1 GB. Raises `SchedulerError`.
    """
    connection = open_reader(path)
    try:
        with sqlite_errors(path):
            found = sqlite_files.faults(connection, indexes=True)
    finally:
        connection.close()
    return (found[0], integrity.remedy(found, "")) if found else ("ok", "")
