"""Writes the plan: inserts, updates and deletes of one run, inside the caller's transaction.

SQLite takes rows from one bound array of 64-bit integers: contact, kind of row, send date and event
date are packed into each, and small temporary tables turn the numbers into the columns. Binding one
array is several times faster than binding seventeen values a row.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import apsw
import numpy as np
from numpy.typing import NDArray

from schedd.engine import calendar
from schedd.engine.contacts import ISSUES
from schedd.engine.packing import pack_kinds, unpack_kind
from schedd.engine.rows import FIXED_TYPES, NOT_SKIPPED, SKIP_REASONS, RowClasses

from .bulk import BulkLoad
from .errors import foreign_schema
from .expected import ExpectedRows
from .followups import FollowUpRow
from .packing import BitField
from .schema import PLAN
from .tables import read_table

_COLUMNS = (
    "scheduled_send_time, status, skip_reason, priority, campaign_instance_id, email_template, "
    "sms_template, event_year, event_month, event_day, scheduler_run_id, metadata, updated_at"
)
#: The values of `_COLUMNS`: of the row's kind k and event day e, and of `PlanWriter._constants`.
_VALUES = (
    "?2, k.status, k.skip_reason, k.priority, k.instance, k.email_template, k.sms_template, "
    "e.year, e.month, e.day, ?3, NULL, ?4"
)

#: The columns of `FollowUpRow.content`.
_FOLLOWUP_COLUMNS = (
    "status, skip_reason, priority, campaign_instance_id, email_template, sms_template, "
    "event_year, event_month, event_day, metadata"
)


@dataclass
class PlainRows:
    """Rows to write, follow-ups aside, in the order of their keys; columns as in `rows.Rows`.

    `row_class` and `reason` are columns of `RowClasses` and `SKIP_REASONS`, dates are ordinals.
    """

    contact_id: NDArray[np.int64]
    row_class: NDArray[np.int32]
    reason: NDArray[np.int16]
    date: NDArray[np.int32]
    event: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.contact_id)

    def part(self, chosen: NDArray[Any] | slice) -> PlainRows:
        """Return some of the rows."""
        return PlainRows(
            self.contact_id[chosen],
            self.row_class[chosen],
            self.reason[chosen],
            self.date[chosen],
            self.event[chosen],
        )


@dataclass
class Changes:
    """Numbers of rows that a writer changed."""

    inserted: int = 0
    updated: int = 0
    deleted: int = 0


@dataclass
class _Numbers:
    """Dense numbers for the values met so far: 0, 1, 2, ... in the order of their appearance.

    Kinds of rows and days are few, so that their numbers need few bits and small tables.
    """

    known: dict[int, int] = field(default_factory=dict)

    @property
    def bits(self) -> int:
        """Return the bits that the numbers need."""
        return len(self.known).bit_length()

    def of(self, values: NDArray[np.int64]) -> tuple[NDArray[np.int64], list[tuple[int, int]]]:
        """Return the number of each value, and (number, value) of those that are new."""
        low = int(values.min())
        unique = np.flatnonzero(np.bincount(values - low)) + low
        new = []
        for value in unique.tolist():
            if value not in self.known:
                self.known[value] = len(self.known)
                new.append((self.known[value], value))
        numbers = np.zeros(int(unique[-1]) - low + 1, np.int64)
        numbers[unique - low] = [self.known[value] for value in unique.tolist()]
        return numbers[values - low], new


@dataclass(frozen=True)
class _Layout:
    """The fields of a packed row; the bits above them are the contact's.

    >>> _Layout.of(kind_bits=3, day_bits=9).contact_shift
    21
    """

    kind: BitField
    day: BitField
    event: BitField

    @staticmethod
    def of(kind_bits: int, day_bits: int) -> _Layout:
        """Return the narrowest layout for numbers of these sizes."""
        return _Layout(
            kind=BitField(2 * day_bits, kind_bits),
            day=BitField(day_bits, day_bits),
            event=BitField(0, day_bits),
        )

    @property
    def contact_shift(self) -> int:
        """Return the number of bits below the contact's."""
        return self.kind.shift + self.kind.bits

    def joins(self, value: str) -> str:
        """Return the SQL that joins kind k, day d and event day e to a packed row."""
        return (
            f"CROSS JOIN write_kind k ON k.id = {self.kind.sql(value)} "
            f"CROSS JOIN write_day d ON d.id = {self.day.sql(value)} "
            f"CROSS JOIN write_day e ON e.id = {self.event.sql(value)}"
        )


class PlanWriter:
    """Writes one run's rows. now: UTC, `YYYY-MM-DD HH:MM:SS`.

    Each statement has to change exactly the rows it names. If the table has triggers, it need not:
    the requested rows are noted instead, and `expected` compares them with the table afterwards.

        writer = PlanWriter(connection, run.classes, "08:30:00", run_id, "2026-11-23 00:00:00")
        writer.insert(finished.insert)
        writer.changes.inserted  # the number of rows of `finished.insert`
    """

    def __init__(
        self,
        connection: apsw.Connection,
        classes: RowClasses,
        send_time: str,
        run_id: str,
        now: str,
    ) -> None:
        self.connection = connection
        self.changes = Changes()
        #: set while the sender's indexes are built later
        self.load: BulkLoad | None = None
        self._classes = classes
        self._constants = (send_time, run_id, now)
        self.rows_before = self.count_rows()
        plan = read_table(connection, PLAN)
        #: the requested rows, set if triggers may change them
        self.expected = (
            ExpectedRows(connection, plan) if plan is not None and plan.triggers else None
        )
        # A conflict clause of the table must not delete or drop a row. In a trigger, the clause of
        # the statement that fires it would replace the trigger's own.
        conflict = " OR ABORT" if self.expected is None else ""
        self._insert, self._update = f"INSERT{conflict} INTO {PLAN}", f"UPDATE{conflict} {PLAN}"
        self._kinds, self._days = _Numbers(), _Numbers()
        connection.execute(
            "CREATE TEMP TABLE write_kind(id INTEGER PRIMARY KEY, email_type, status, skip_reason, "
            "priority, instance, email_template, sms_template);"
            "CREATE TEMP TABLE write_day(id INTEGER PRIMARY KEY, text TEXT, "
            "year INTEGER, month INTEGER, day INTEGER);"
            "CREATE TEMP TABLE write_row(position INTEGER PRIMARY KEY, id INTEGER);"
            "CREATE TEMP TABLE write_value(position INTEGER PRIMARY KEY, value INTEGER)"
        )

    def count_rows(self) -> int:
        """Return how many rows the table has; SQLite counts entries of its smallest index."""
        return int(self.connection.execute(f"SELECT count(*) FROM {PLAN}").get)

    def _change(self, sql: str, bindings: Sequence[Any], requested: int) -> int:
        """Run a statement that has to change `requested` rows and return how many it changed.

        Rows that triggers change do not count.
        """
        self.connection.execute(sql, tuple(bindings))
        changed = self.connection.changes()
        if self.expected is not None:
            self.expected.compare()
        elif changed != requested:
            raise foreign_schema(
                f"{PLAN} took {changed:,} of {requested:,} changes, though it has no trigger",
                f"Look at the constraints of {PLAN}, and run `PRAGMA integrity_check`.",
                table=PLAN,
            )
        return changed

    def _pack(self, rows: PlainRows) -> tuple[NDArray[np.int64], _Layout]:
        """Return kind, date and event of each row in one integer, and its layout."""
        kinds, new_kinds = self._kinds.of(pack_kinds(rows.row_class, rows.reason))
        days, new_days = self._days.of(np.concatenate([rows.date, rows.event]).astype(np.int64))
        self.connection.executemany(
            "INSERT INTO write_kind VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [(number, *self._kind(*unpack_kind(value))) for number, value in new_kinds],
        )
        self.connection.executemany(
            "INSERT INTO write_day VALUES (?, ?, ?, ?, ?)",
            [(number, *_day(value)) for number, value in new_days],
        )
        layout = _Layout.of(self._kinds.bits, self._days.bits)
        dates, events = days[: len(rows)], days[len(rows) :]
        return layout.kind.put(kinds) | layout.day.put(dates) | layout.event.put(events), layout

    def _kind(self, row_class: int, reason: int) -> tuple[Any, ...]:
        classes = self._classes
        return (
            classes.types[classes.type_number[row_class]],
            "pre-scheduled" if reason == NOT_SKIPPED else "skipped",
            SKIP_REASONS[reason] or None,
            classes.priorities[row_class],
            None if row_class < len(FIXED_TYPES) else int(classes.instance[row_class]),
            classes.email_template[row_class],
            classes.sms_template[row_class],
        )

    def insert(self, rows: PlainRows) -> None:
        """Insert rows; in the order of their keys, so that both b-trees grow at their ends."""
        if not len(rows):
            return
        packed, layout = self._pack(rows)
        shift = layout.contact_shift
        reach = 1 << (63 - shift)
        columns = f"contact_id, email_type, scheduled_send_date, created_at, {_COLUMNS}"
        select = (
            f"SELECT ?5 + (v.value >> {shift}), k.email_type, d.text, ?4, {_VALUES} "
            f"FROM carray(?1) v {layout.joins('v.value')}"
        )
        start = 0
        while start < len(rows):
            base = int(rows.contact_id[start])
            # A packed row has the contact's distance from the first one. Contacts that are too far
            # away for the bits that are left go into another statement.
            distance = rows.contact_id[start:].astype(np.uint64) - np.uint64(base % (1 << 64))
            end = start + int(np.searchsorted(distance, np.uint64(reach)))
            values = (distance[: end - start].astype(np.int64) << shift) | packed[start:end]
            bindings = (apsw.carray(np.ascontiguousarray(values)), *self._constants, base)
            if self.expected is not None:
                self.expected.add_inserted(columns, select, bindings)
            self.changes.inserted += self._change(
                f"{self._insert}({columns}) {select}", bindings, end - start
            )
            if self.load is not None:
                skipped = rows.reason[start:end] != NOT_SKIPPED
                self.load.add(self.connection.last_insert_rowid(), skipped, rows.date[start:end])
            start = end

    def update(self, row_ids: NDArray[np.int64], rows: PlainRows) -> None:
        """Make the rows with these ids say what `rows` say; their keys are the same already."""
        if not len(rows):
            return
        packed, layout = self._pack(rows)
        self.connection.execute("DELETE FROM write_row")
        self.connection.execute("DELETE FROM write_value")
        for table, values in (("write_row", row_ids), ("write_value", packed)):
            self.connection.execute(
                f"INSERT INTO {table} SELECT NULL, value FROM carray(?)",
                (apsw.carray(np.ascontiguousarray(values)),),
            )
        source = (
            "FROM write_row r CROSS JOIN write_value v ON v.position = r.position "
            f"{layout.joins('v.value')}"
        )
        bindings = (None, *self._constants)
        if self.expected is not None:
            self.expected.add_updated(_COLUMNS, f"SELECT r.id, {_VALUES} {source}", bindings)
        self.changes.updated += self._change(
            f"{self._update} AS s SET ({_COLUMNS}) = ({_VALUES}) {source} WHERE s.id = r.id",
            bindings,
            len(rows),
        )

    def delete(self, row_ids: NDArray[np.int64]) -> None:
        """Delete the rows with these ids."""
        if len(row_ids):
            distinct = np.unique(row_ids.astype(np.int64))
            self.changes.deleted += self._change(
                f"DELETE FROM {PLAN} WHERE id IN (SELECT value FROM carray(?))",
                (apsw.carray(distinct),),
                len(distinct),
            )

    def insert_followups(self, rows: Sequence[FollowUpRow]) -> None:
        """Insert follow-ups."""
        send_time, run_id, now = self._constants
        columns = (
            f"contact_id, email_type, scheduled_send_date, {_FOLLOWUP_COLUMNS}, "
            "scheduled_send_time, scheduler_run_id, created_at, updated_at"
        )
        values = f"({', '.join('?' * 17)})"
        for row in rows:
            bindings = (*row.key, *row.content(), send_time, run_id, now, now)
            if self.expected is not None:
                self.expected.add_inserted(columns, f"VALUES {values}", bindings)
            self.changes.inserted += self._change(
                f"{self._insert}({columns}) VALUES {values}", bindings, 1
            )
        if self.load is not None and rows:
            skipped = np.array([row.status == "skipped" for row in rows])
            dates = [dt.date.fromisoformat(row.scheduled_send_date) for row in rows]
            days = np.array([calendar.ordinal(date) for date in dates], np.int32)
            self.load.add(self.connection.last_insert_rowid(), skipped, days)

    def update_followups(self, rows: Sequence[tuple[int, FollowUpRow]]) -> None:
        """Make existing rows say what these follow-ups say. rows: (row id, follow-up)."""
        send_time, run_id, now = self._constants
        columns = f"{_FOLLOWUP_COLUMNS}, scheduled_send_time, scheduler_run_id, updated_at"
        values = ", ".join("?" * 13)
        for row_id, row in rows:
            bindings = (*row.content(), send_time, run_id, now)
            if self.expected is not None:
                self.expected.add_updated(columns, f"VALUES (?, {values})", (row_id, *bindings))
            self.changes.updated += self._change(
                f"{self._update} SET ({columns}) = ({values}) WHERE id = ?", (*bindings, row_id), 1
            )


def _day(ordinal: int) -> tuple[str, int, int, int]:
    day = calendar.to_date(ordinal)
    return day.isoformat(), day.year, day.month, day.day


class IssueWriter:
    """Makes `contact_issues` contain exactly these issues, and changes only rows that differ.

    contacts: contact ids.   kinds: the number in `ISSUES` of each issue.

        issues = IssueWriter(connection, np.array([7]), np.array([0], np.int8))
        if issues.differs():
            issues.write()
    """

    def __init__(
        self, connection: apsw.Connection, contacts: NDArray[np.int64], kinds: NDArray[np.int8]
    ) -> None:
        self._connection = connection
        connection.execute(
            "CREATE TEMP TABLE new_issue("
            "contact_id INTEGER, reason TEXT, PRIMARY KEY (contact_id, reason))"
        )
        for number, reason in enumerate(ISSUES):
            chosen = np.ascontiguousarray(contacts[kinds == number])
            if len(chosen):
                connection.execute(
                    "INSERT INTO new_issue SELECT value, ? FROM carray(?)",
                    (reason, apsw.carray(chosen)),
                )

    _GONE = (
        "FROM contact_issues WHERE NOT EXISTS (SELECT 1 FROM new_issue n "
        "WHERE n.contact_id = contact_issues.contact_id AND n.reason = contact_issues.reason)"
    )
    _NEW = (
        "SELECT contact_id, reason FROM new_issue n WHERE NOT EXISTS ("
        "SELECT 1 FROM contact_issues i WHERE i.contact_id = n.contact_id AND i.reason = n.reason)"
    )

    def differs(self) -> bool:
        """Return whether there is anything to write."""
        [(found,)] = self._connection.execute(
            f"SELECT EXISTS(SELECT 1 {self._GONE}) OR EXISTS({self._NEW})"
        )
        return bool(found)

    def write(self) -> None:
        """Write the difference; a trigger of the file may change it, see `verify`."""
        self._connection.execute(f"DELETE {self._GONE}")
        self._connection.execute(
            f"INSERT INTO contact_issues(contact_id, reason) {self._NEW} ORDER BY 1, 2"
        )
