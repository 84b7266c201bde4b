"""Filling a plan.

The sender's index is built from rows that numpy has sorted, not sorted by SQLite.

Sorting texts is what costs most in building the index on (status, scheduled_send_date): SQLite
compares two texts with long common beginnings about twenty times a row. Here the rows are known as
they are written, as numbers, and numpy sorts those. The sorted rows go into a WITHOUT ROWID table
with the primary key (status, date, row id), whose b-tree is, record for record, the b-tree of the
index (SQLite's file format, sections 1.6 and 2.4); the schema then names it as that. All of it
happens in the run's transaction; `PRAGMA integrity_check` is part of the tests.

That holds only where the table has exactly the rows that were asked for. So a table with triggers
is written row by row, and before an index is built the table is compared with what was asked: where
they differ, SQLite builds the index (docs/DATABASE.md, "Files of other programs").
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import apsw
import numpy as np
from numpy.typing import NDArray

from schedd.engine.calendar import iso
from schedproto import ErrorCode, SchedulerError

from . import integrity
from .schema import PLAN, sender_indexes
from .tables import quoted, read_table

#: From this many new rows on, and if they are more than those that are there, the sender's index is
#: made again after the rows instead of row by row.
BULK_ROWS = 20_000

#: Up to this many rows, about 0.3 s, `PRAGMA integrity_check` looks at a table of another program
#: after a bulk load.
MAX_CHECKED_ROWS = 250_000

_BUILD = "scheduler_index_build"
# How a row of the index is packed: whether it is skipped, its day, its row id.
_ROW_ID_BITS, _DAY_BITS = 40, 22
_STATUSES = ("pre-scheduled", "skipped")
#: Rows that are compared one by one with what was asked, spread evenly over all.
SAMPLE_ROWS = 4096


class BulkLoad:
    """Remembers what is written into the plan, to build the sender's indexes at the end."""

    def __init__(self, connection: apsw.Connection, indexes: dict[str, str]) -> None:
        self._connection = connection
        self._indexes = indexes
        self._keys: list[NDArray[np.int64]] = []
        self._packable = True

    def add(self, last_row_id: int, skipped: NDArray[np.bool_], days: NDArray[np.int32]) -> None:
        """Note rows that were inserted one after the other, the last one with this row id."""
        if not len(days):
            return
        first = last_row_id - len(days) + 1
        self._packable &= first >= 1 and last_row_id < 1 << _ROW_ID_BITS
        self._packable &= int(days.min()) >= 0 and int(days.max()) < 1 << _DAY_BITS
        keys = (skipped.astype(np.int64) << (_DAY_BITS + _ROW_ID_BITS)) | (
            days.astype(np.int64) << _ROW_ID_BITS
        )
        self._keys.append(keys | np.arange(first, last_row_id + 1))

    def build(self) -> None:
        """Make the indexes."""
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
        ids = keys & ((1 << _ROW_ID_BITS) - 1)
        first, last = int(ids.min()), int(ids.max())
        if last - first + 1 != len(keys) or not self._are_stored(keys, ids, first):
            return None, 0
        keys.sort()
        return keys, first

    def _are_stored(self, keys: NDArray[np.int64], ids: NDArray[np.int64], first: int) -> bool:
        """Return whether the table has these rows, and no others, from a row id on.

        Without triggers and conflict clauses SQLite stores what it is asked to, so all rows are
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
        asked = [
            (
                _STATUSES[key >> (_DAY_BITS + _ROW_ID_BITS)],
                iso(key >> _ROW_ID_BITS & ((1 << _DAY_BITS) - 1)),
            )
            for key in sample.tolist()
        ]
        wanted = np.ascontiguousarray(sample & ((1 << _ROW_ID_BITS) - 1))
        stored = self._connection.execute(
            f"SELECT status, scheduled_send_date FROM carray(?) AS wanted CROSS JOIN {PLAN} s ON s.id = wanted.value",
            (apsw.carray(wanted),),
        ).fetchall()
        return asked == stored

    def _adopt(self, name: str, sql: str, keys: NDArray[np.int64], first: int) -> None:
        execute = self._connection.execute
        [(table,)] = execute(
            f"SELECT name FROM main.sqlite_schema WHERE type = 'table' AND lower(name) = '{PLAN}'"
        )
        execute("CREATE TEMP TABLE IF NOT EXISTS load_day(id INTEGER PRIMARY KEY, text TEXT)")
        days = np.flatnonzero(np.bincount((keys >> _ROW_ID_BITS) & ((1 << _DAY_BITS) - 1))).tolist()
        self._connection.executemany(
            "INSERT OR IGNORE INTO load_day VALUES (?, ?)", [(d, iso(d)) for d in days]
        )
        execute(
            f"CREATE TABLE main.{_BUILD}(status, day, row_id, PRIMARY KEY (status, day, row_id)) WITHOUT ROWID"
        )
        skipped_from = int(np.searchsorted(keys, 1 << (_DAY_BITS + _ROW_ID_BITS)))
        # In the order of the statuses' texts, so that the b-tree grows at its end.
        self._copy_present(first, "status IS NULL OR status < 'pre-scheduled'")
        self._insert_new("pre-scheduled", keys[:skipped_from])
        self._copy_present(first, "status >= 'pre-scheduled' AND status < 'skipped'")
        self._insert_new("skipped", keys[skipped_from:])
        self._copy_present(first, "status >= 'skipped'")
        [(version,)] = execute("PRAGMA main.schema_version")
        execute("PRAGMA writable_schema = ON")
        try:
            execute(
                "UPDATE main.sqlite_schema SET type = 'index', name = ?, tbl_name = ?, sql = ? WHERE name = ?",
                (name, table, sql, _BUILD),
            )
            # Every connection, this one too, reads the schema again.
            execute(f"PRAGMA main.schema_version = {version + 1}")
        finally:
            execute("PRAGMA writable_schema = RESET")

    def _copy_present(self, first: int, condition: str) -> None:
        """Copy the rows that were there before, those of some statuses."""
        self._connection.execute(
            f"INSERT INTO {_BUILD} SELECT status, scheduled_send_date, id FROM {PLAN} NOT INDEXED "
            f"WHERE id < {first} AND ({condition}) ORDER BY 1, 2, 3"
        )

    def _insert_new(self, status: str, keys: NDArray[np.int64]) -> None:
        if len(keys):
            self._connection.execute(
                f"INSERT INTO {_BUILD} SELECT ?, d.text, v.value & {(1 << _ROW_ID_BITS) - 1} FROM carray(?) v "
                f"CROSS JOIN load_day d ON d.id = (v.value >> {_ROW_ID_BITS}) & {(1 << _DAY_BITS) - 1}",
                (status, apsw.carray(np.ascontiguousarray(keys))),
            )


@contextmanager
def bulk_load(
    connection: apsw.Connection, new_rows: int, *, active: bool, created: bool
) -> Iterator[BulkLoad | None]:
    """Build the sender's indexes after the block instead of during it, when it adds more rows than there are.

    created: whether the run has made the table itself; another program's is checked afterwards.
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
    """Have SQLite compare the table with its indexes; what it finds, it builds itself.

    Raises `SchedulerError`.
    """
    if not integrity.table_findings(connection, PLAN):
        return
    for name, sql in indexes.items():
        connection.execute(f"DROP INDEX main.{quoted(name)}")
        connection.execute(sql)
    found = integrity.table_findings(connection, PLAN)
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
    """Return what ANALYZE has noted about indexes, which SQLite forgets with them: (table, row)."""
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
