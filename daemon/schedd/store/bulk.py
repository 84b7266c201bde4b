"""Bulk load of a plan: builds the sender's index from rows that numpy has sorted.

Sorting texts is what costs most in building the index on (status, scheduled_send_date): SQLite
compares two texts with long common beginnings about twenty times a row. Here the rows are known as
they are written, as numbers, and numpy sorts those. The sorted rows go into a WITHOUT ROWID table
with the primary key (status, date, row id), whose b-tree is, record for record, the b-tree of the
index (SQLite's file format, sections 1.6 and 2.4); the schema then names it as that. All of it
happens in the run's transaction; `PRAGMA integrity_check` is part of the tests.

That holds only if the table has exactly the requested rows. So a table with triggers is written
row by row, and before an index is built, the table is compared with the requested rows: if they
differ, SQLite builds the index (docs/DATABASE.md, "Files of other programs").
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import apsw
import numpy as np
from numpy.typing import NDArray

from schedd.engine.calendar import iso
from schedproto import ErrorCode, SchedulerError, sqlite_files

from . import integrity
from .packing import BitField
from .schema import PLAN, sender_indexes
from .tables import quoted, read_table

#: From this many new rows on, and if they are more than the existing ones, the sender's index is
#: rebuilt after the rows instead of row by row.
BULK_ROWS = 20_000

#: Up to this many rows, about 0.3 s, `PRAGMA integrity_check` looks at a table of another program
#: after a bulk load.
MAX_CHECKED_ROWS = 250_000

_BUILD = "scheduler_index_build"
# A row of the index in one integer, in the index's order: whether it is skipped, its day, its row
# id.
_ROW_ID = BitField(0, 40)
_DAY = BitField(40, 22)
_SKIPPED = BitField(62, 1)
_STATUSES = ("pre-scheduled", "skipped")
#: Rows that are compared one by one with the requested ones, spread evenly over all.
SAMPLE_ROWS = 4096


class BulkLoad:
    """Remembers the rows written into the plan, to build the sender's indexes at the end.

    Example:

        with bulk_load(connection, growth, active=True, created=True) as writer.load:
            writer.insert(rows)
    """

    def __init__(self, connection: apsw.Connection, indexes: dict[str, str]) -> None:
        self._connection = connection
        self._indexes = indexes
        self._keys: list[NDArray[np.int64]] = []
        self._packable = True

    def add(self, last_row_id: int, skipped: NDArray[np.bool_], days: NDArray[np.int32]) -> None:
        """Note rows that were inserted one after the other; the last one has this row id."""
        if not len(days):
            return
        first = last_row_id - len(days) + 1
        self._packable &= first >= 1 and last_row_id < _ROW_ID.limit
        self._packable &= int(days.min()) >= 0 and int(days.max()) < _DAY.limit
        row_ids = np.arange(first, last_row_id + 1)
        self._keys.append(_SKIPPED.put(skipped) | _DAY.put(days) | _ROW_ID.put(row_ids))

    def build(self) -> None:
        """Build the indexes."""
        keys, first = self._sorted_keys()
        for name, sql in self._indexes.items():
            if keys is None:
                self._connection.execute(sql)
            else:
                self._adopt(name, sql, keys, first)

    def _sorted_keys(self) -> tuple[NDArray[np.int64] | None, int]:
        """Return the new rows in the index's order and the first of their row ids.

        None unless they are exactly the rows of the table from that row id on.
        """
        if not self._keys or not self._packable:
            return None, 0
        keys = np.concatenate(self._keys)
        ids = _ROW_ID.of(keys)
        first, last = int(ids.min()), int(ids.max())
        if last - first + 1 != len(keys) or not self._are_stored(keys, ids, first):
            return None, 0
        keys.sort()
        return keys, first

    def _are_stored(self, keys: NDArray[np.int64], ids: NDArray[np.int64], first: int) -> bool:
        """Return whether the table has these rows, and no others, from a row id on.

        Without triggers and conflict clauses SQLite stores the requested rows, so all rows are
        counted, and a sample is compared: it finds whatever else would change rows. Reading all of
        them would cost a twentieth of a run.
        """
        [(count,)] = self._connection.execute(
            f"SELECT count(*) FROM {PLAN} NOT INDEXED WHERE id >= {first}"
        )
        [(last,)] = self._connection.execute(f"SELECT max(id) FROM {PLAN}")
        if count != len(keys) or last != int(ids.max()):
            return False
        sample = keys[:: max(1, len(keys) // SAMPLE_ROWS)]
        skipped, days = _SKIPPED.of(sample).tolist(), _DAY.of(sample).tolist()
        requested = [(_STATUSES[s], iso(day)) for s, day in zip(skipped, days, strict=True)]
        stored = self._connection.execute(
            "SELECT status, scheduled_send_date FROM carray(?) AS wanted "
            f"CROSS JOIN {PLAN} s ON s.id = wanted.value",
            (apsw.carray(np.ascontiguousarray(_ROW_ID.of(sample))),),
        ).fetchall()
        return requested == stored

    def _adopt(self, name: str, sql: str, keys: NDArray[np.int64], first: int) -> None:
        execute = self._connection.execute
        [(table,)] = execute(
            f"SELECT name FROM main.sqlite_schema WHERE type = 'table' AND lower(name) = '{PLAN}'"
        )
        execute("CREATE TEMP TABLE IF NOT EXISTS load_day(id INTEGER PRIMARY KEY, text TEXT)")
        days = np.flatnonzero(np.bincount(_DAY.of(keys))).tolist()
        self._connection.executemany(
            "INSERT OR IGNORE INTO load_day VALUES (?, ?)", [(d, iso(d)) for d in days]
        )
        execute(
            f"CREATE TABLE main.{_BUILD}("
            "status, day, row_id, PRIMARY KEY (status, day, row_id)) WITHOUT ROWID"
        )
        skipped_from = int(np.searchsorted(keys, 1 << _SKIPPED.shift))
        # In the order of the statuses' texts, so that the b-tree grows at its end.
        self._copy_existing(first, "status IS NULL OR status < 'pre-scheduled'")
        self._insert_new("pre-scheduled", keys[:skipped_from])
        self._copy_existing(first, "status >= 'pre-scheduled' AND status < 'skipped'")
        self._insert_new("skipped", keys[skipped_from:])
        self._copy_existing(first, "status >= 'skipped'")
        [(version,)] = execute("PRAGMA main.schema_version")
        # The only statement of the daemon that a defensive connection refuses.
        self._connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 0)
        execute("PRAGMA writable_schema = ON")
        try:
            execute(
                "UPDATE main.sqlite_schema SET type = 'index', name = ?, tbl_name = ?, sql = ? "
                "WHERE name = ?",
                (name, table, sql, _BUILD),
            )
            # Every connection, this one too, reads the schema again.
            execute(f"PRAGMA main.schema_version = {version + 1}")
        finally:
            execute("PRAGMA writable_schema = RESET")
            self._connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)

    def _copy_existing(self, first: int, condition: str) -> None:
        """Copy the rows of some statuses that existed before."""
        self._connection.execute(
            f"INSERT INTO {_BUILD} SELECT status, scheduled_send_date, id FROM {PLAN} NOT INDEXED "
            f"WHERE id < {first} AND ({condition}) ORDER BY 1, 2, 3"
        )

    def _insert_new(self, status: str, keys: NDArray[np.int64]) -> None:
        if len(keys):
            self._connection.execute(
                f"INSERT INTO {_BUILD} SELECT ?, d.text, {_ROW_ID.sql('v.value')} "
                f"FROM carray(?) v CROSS JOIN load_day d ON d.id = {_DAY.sql('v.value')}",
                (status, apsw.carray(np.ascontiguousarray(keys))),
            )


@contextmanager
def bulk_load(
    connection: apsw.Connection, new_rows: int, *, active: bool, created: bool
) -> Iterator[BulkLoad | None]:
    """Build the sender's indexes after the block, if it adds more rows than exist.

    Otherwise SQLite keeps them up to date row by row. Yields None then.

    created: whether the run has created the table; a table of another program is checked
    afterwards.
    """
    plan = read_table(connection, PLAN) if active and new_rows >= BULK_ROWS else None
    taken = connection.execute(
        "SELECT 1 FROM main.sqlite_schema WHERE name = ?", (_BUILD,)
    ).fetchone()
    if plan is None or plan.triggers or taken:
        yield None
        return
    [(rows,)] = connection.execute(f"SELECT count(*) FROM (SELECT 1 FROM {PLAN} LIMIT {new_rows})")
    indexes = sender_indexes(connection) if rows < new_rows else {}
    statistics = _statistics(connection, indexes)
    for name in indexes:
        connection.execute(f"DROP INDEX main.{quoted(name)}")
    load = BulkLoad(connection, indexes)
    yield load
    load.build()
    for table, row in statistics:
        connection.execute(f"INSERT INTO main.{table} VALUES ({', '.join('?' * len(row))})", row)
    if indexes and not created and rows + new_rows <= MAX_CHECKED_ROWS:
        _check(connection, indexes)


def _check(connection: apsw.Connection, indexes: Mapping[str, str]) -> None:
    """Have SQLite compare the table with its indexes, and rebuild them if they differ.

    Raises `SchedulerError` (`database_damaged`) if they still differ.
    """
    if not sqlite_files.table_faults(connection, PLAN):
        return
    for name, sql in indexes.items():
        connection.execute(f"DROP INDEX main.{quoted(name)}")
        connection.execute(sql)
    found = sqlite_files.table_faults(connection, PLAN)
    if found:
        raise SchedulerError(
            ErrorCode.DATABASE_DAMAGED,
            f"{PLAN} is damaged: {found[0]}",
            hint=f"{integrity.remedy(found, 'Restore it from a backup.')} Nothing was changed.",
            details={"table": PLAN},
        )


def _statistics(
    connection: apsw.Connection, indexes: Iterable[str]
) -> list[tuple[str, tuple[Any, ...]]]:
    """Return the statistics of ANALYZE about indexes as (table, row).

    SQLite drops them with the indexes.
    """
    found: list[tuple[str, tuple[Any, ...]]] = []
    for table in ("sqlite_stat1", "sqlite_stat4"):
        if connection.execute(
            "SELECT 1 FROM main.sqlite_schema WHERE name = ?", (table,)
        ).fetchone():
            for name in indexes:
                rows = connection.execute(
                    f"SELECT * FROM main.{table} WHERE idx = ?", (name,)
                ).fetchall()
                found += [(table, tuple(row)) for row in rows]
    return found
