"""The rows of `email_schedules` of one chunk as columns: the present plan, the history, and who holds keys.

One pass over the chunk's rows yields all three. What a plan row says besides its key is reduced, inside
SQLite, to numbers that can be compared with the new plan's: its class (`rows.Classes`), its skip reason, its
event date, and whether everything else is as a row of that class would have it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import apsw
import numpy as np
from numpy.typing import NDArray

from schedd.engine.calendar import NONE, Ordinals
from schedd.engine.contacts import date_of, parse_dates, parse_digits
from schedd.engine.rows import FIXED_TYPES, FOLLOWUP_PREFIX, NO_INSTANCE, SKIP_REASONS, Classes, History

from . import blocks
from .blocks import MisalignedError
from .contacts import Range
from .schema import PLAN, Schema

#: What a row's status makes of it.
SCHEDULED, SKIPPED, DISPATCHED, OTHER = 0, 1, 2, 3
DISPATCHED_STATUSES = ("scheduled", "processing", "sent", "delivered")

#: Stands for "no type / no class of this run"; both numbers have five digits.
_NO_NUMBER = 99_999
_NO_DATE = "0000-00-00"
#: What a plan row says besides its key and status.
_CONTENT = (
    "campaign_instance_id",
    "skip_reason",
    "scheduled_send_time",
    "metadata",
    "priority",
    "email_template",
    "sms_template",
    "event_year",
    "event_month",
    "event_day",
)
# Where each number stands in the packed one.
_TYPE_PLACE, _CLASS_PLACE, _REGULAR_PLACE = 10_000_000_000, 100_000, 10_000


@dataclass
class Present:
    """All rows of a chunk, in no particular order.

    kind: SCHEDULED, SKIPPED, DISPATCHED or OTHER.   type_number: -1 for a type that this run does not plan.
    cls: the class whose type and instance the row has, -1 for none.   reason: number in `SKIP_REASONS`, -1 for
    another text.   event: year * 10000 + month * 100 + day, 0 for anything else.   regular: whether all other
    columns are as in a new row of the class.   followup: whether the type is a follow-up's.
    plain_date: whether the date is written without a time part, so that it can be a planned row's key.
    """

    row_id: NDArray[np.int64]
    contact_id: NDArray[np.int64]
    kind: NDArray[np.int8]
    type_number: NDArray[np.int32]
    cls: NDArray[np.int32]
    date: Ordinals
    reason: NDArray[np.int16]
    event: NDArray[np.int32]
    regular: NDArray[np.bool_]
    followup: NDArray[np.bool_]
    plain_date: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.row_id)


class ScheduleReader:
    """Reads the present rows of one file; makes its lookup tables in the connection's temporary database."""

    def __init__(self, connection: apsw.Connection, schema: Schema, classes: Classes, send_time: str) -> None:
        self._connection = connection
        self._classes = classes
        self._send_time = send_time
        self._columns = schema.columns.get(PLAN, frozenset())
        self._sql = ""
        needed = {"id", "contact_id", "email_type", "scheduled_send_date", "status"}
        self._usable = needed <= self._columns
        if self._usable:
            self._make_lookups()
            self._sql = self._statement()

    def _make_lookups(self) -> None:
        execute, classes = self._connection.execute, self._classes
        execute("CREATE TEMP TABLE run_type(name TEXT PRIMARY KEY, number INTEGER) WITHOUT ROWID")
        execute("CREATE TEMP TABLE run_reason(name TEXT PRIMARY KEY, number INTEGER) WITHOUT ROWID")
        execute(
            "CREATE TEMP TABLE run_class(instance INTEGER PRIMARY KEY, number INTEGER, email_type TEXT, "
            "priority INTEGER, email_template TEXT, sms_template TEXT)"
        )
        many = self._connection.executemany
        many("INSERT INTO run_type VALUES (?, ?)", [(n, i) for i, n in enumerate(classes.types)])
        many("INSERT INTO run_reason VALUES (?, ?)", [(n, i) for i, n in enumerate(SKIP_REASONS) if n])
        many(
            "INSERT INTO run_class VALUES (?, ?, ?, ?, ?, ?)",
            [
                (
                    int(classes.instance[cls]),
                    cls,
                    classes.types[classes.type_number[cls]],
                    classes.priorities[cls],
                    classes.email_template[cls],
                    classes.sms_template[cls],
                )
                for cls in range(len(FIXED_TYPES), len(classes))
            ],
        )

    def _column(self, name: str) -> str:
        return f"s.{name}" if name in self._columns else "NULL"

    def _statement(self) -> str:
        """Return the statement but for its condition; see `_by_block` for what comes out.

        The fixed types, which are nearly all rows, cost no look-up: their class is known from the type's name.
        """
        c = self._column
        status = (
            f"CASE s.status WHEN 'pre-scheduled' THEN {SCHEDULED} WHEN 'skipped' THEN {SKIPPED} "
            f"ELSE CASE WHEN s.status IN ({_quoted(DISPATCHED_STATUSES)}) THEN {DISPATCHED} ELSE {OTHER} END END"
        )
        reason = (
            f"CASE WHEN {c('skip_reason')} IS NULL THEN 0 ELSE "
            f"coalesce((SELECT number FROM run_reason WHERE name = {c('skip_reason')}), 999) END"
        )
        # What is no date comes out as 0, as a number that no date is, or with other than nine digits.
        year, month, day = c("event_year"), c("event_month"), c("event_day")
        event = (
            f"CASE WHEN {month} BETWEEN 1 AND 12 AND {day} BETWEEN 1 AND 31 "
            f"THEN coalesce({year} * 10000 + {month} * 100 + {day}, 0) ELSE 0 END"
        )
        # Digits, from the left: 1, status, type (5), class (5), regular, reason (3), follow-up.
        packed = (
            f"10000000000000000 + ({status}) * 1000000000000000 + ({reason}) * 10 + "
            f"CASE s.email_type {self._fixed()} ELSE {self._other()} END"
        )
        date = f"CASE WHEN octet_length(s.scheduled_send_date) = 10 THEN s.scheduled_send_date ELSE '{_NO_DATE}' END"
        return (
            f"SELECT count(*), {blocks.number('s.id')}, {blocks.number('s.contact_id - ?1')}, "
            f"{blocks.text(packed)}, {blocks.text('100000000 + ' + event)}, {blocks.text(date)} FROM {PLAN} s WHERE "
        )

    def _fixed(self) -> str:
        """Return the branches for the fixed types: type, class and whether the row is regular, as one number."""
        c, classes = self._column, self._classes
        branches = ""
        for cls, name in enumerate(FIXED_TYPES):
            number = int(classes.type_number[cls]) * _TYPE_PLACE
            template = str(classes.email_template[cls]).replace("'", "''")
            branches += (
                f"WHEN '{name}' THEN CASE WHEN {c('campaign_instance_id')} IS NULL "
                f"THEN {number + cls * _CLASS_PLACE} + {_REGULAR_PLACE} * coalesce("
                f"{c('scheduled_send_time')} = '{self._send_time}' AND {c('metadata')} IS NULL "
                f"AND {c('priority')} IS {classes.priorities[cls]} AND {c('email_template')} IS '{template}' "
                f"AND {c('sms_template')} IS NULL, 0) ELSE {number + _NO_NUMBER * _CLASS_PLACE} END "
            )
        return branches

    def _other(self) -> str:
        """Return the same number for all other types, by looking up type and class."""
        c = self._column
        number = f"coalesce((SELECT number FROM run_type WHERE name = s.email_type), {_NO_NUMBER}) * {_TYPE_PLACE}"
        cls = (
            f"coalesce((SELECT k.number * {_CLASS_PLACE} + {_REGULAR_PLACE} * coalesce("
            f"{c('scheduled_send_time')} = '{self._send_time}' AND {c('metadata')} IS NULL "
            f"AND {c('priority')} IS k.priority AND {c('email_template')} IS k.email_template "
            f"AND {c('sms_template')} IS k.sms_template, 0) FROM run_class k "
            f"WHERE k.instance = {c('campaign_instance_id')} AND k.email_type = s.email_type), "
            f"{_NO_NUMBER * _CLASS_PLACE})"
        )
        # All texts that begin with the prefix lie between it and the prefix with its last character raised.
        after = FOLLOWUP_PREFIX[:-1] + chr(ord(FOLLOWUP_PREFIX[-1]) + 1)
        followup = f"coalesce(s.email_type >= '{FOLLOWUP_PREFIX}' AND s.email_type < '{after}', 0)"
        return f"{number} + {cls} + {followup}"

    def read(self, chunk: Range) -> Present:
        """Return the rows of a chunk's contacts (and of contacts missing between them)."""
        if not self._usable:
            return self._of_rows([])
        try:
            return self._by_block(chunk)
        except MisalignedError:
            return self._by_value(chunk)

    def _by_block(self, chunk: Range) -> Present:
        [(count, ids, contacts, packed, event, date)] = self._connection.execute(
            self._sql + chunk.where("s.contact_id"), (chunk.low,)
        )
        digits = blocks.matrix(packed, count, 17)

        def field(start: int, width: int) -> NDArray[np.int64]:
            return parse_digits(digits[:, start : start + width])[0]

        row_id = blocks.numbers(ids, count)
        dates, plain = parse_dates(blocks.matrix(date, count, 10))
        if not plain.all():
            self._read_odd_dates(dates, row_id, np.flatnonzero(~plain))
        type_number, cls, reason = field(2, 5), field(7, 5), field(13, 3)
        return Present(
            row_id=row_id,
            contact_id=blocks.numbers(contacts, count) + chunk.low,
            kind=field(1, 1).astype(np.int8),
            type_number=np.where(type_number == _NO_NUMBER, -1, type_number).astype(np.int32),
            cls=np.where(cls == _NO_NUMBER, -1, cls).astype(np.int32),
            date=dates,
            reason=np.where(reason == 999, -1, reason).astype(np.int16),
            event=(parse_digits(blocks.matrix(event, count, 9))[0] - 100_000_000).astype(np.int32),
            regular=field(12, 1) == 1,
            followup=field(16, 1) == 1,
            plain_date=plain,
        )

    def _read_odd_dates(self, dates: Ordinals, row_id: NDArray[np.int64], odd: NDArray[Any]) -> None:
        """Read the dates that are not plainly a day; one with a time part is the day an e-mail went out."""
        rows = self._connection.execute(
            f"SELECT s.scheduled_send_date FROM carray(?) AS wanted CROSS JOIN {PLAN} s ON s.id = wanted.value",
            (apsw.carray(np.ascontiguousarray(row_id[odd])),),
        )
        dates[odd] = [date_of(value)[0] for (value,) in rows]

    def _by_value(self, chunk: Range) -> Present:
        """Return the rows of a chunk whose ids are too odd for blocks."""
        columns = ("id", "contact_id", "status", "email_type", "scheduled_send_date", *_CONTENT)
        names = ", ".join(f"{self._column(name)} AS {name}" for name in columns)
        rows = self._connection.execute(f"SELECT {names} FROM {PLAN} s WHERE {chunk.where('s.contact_id')}")
        return self._of_rows([dict(zip(columns, row, strict=True)) for row in rows])

    def _of_rows(self, rows: list[dict[str, Any]]) -> Present:
        number = {name: index for index, name in enumerate(self._classes.types)}
        classes: dict[tuple[Any, Any], int] = {
            (int(self._classes.instance[cls]), self._classes.types[self._classes.type_number[cls]]): cls
            for cls in range(len(FIXED_TYPES), len(self._classes))
        }
        classes |= {(None, name): cls for cls, name in enumerate(FIXED_TYPES)}
        kinds = {"pre-scheduled": SCHEDULED, "skipped": SKIPPED, **dict.fromkeys(DISPATCHED_STATUSES, DISPATCHED)}
        reasons = {name or None: index for index, name in enumerate(SKIP_REASONS)}
        cls = [classes.get((row["campaign_instance_id"], row["email_type"]), -1) for row in rows]
        return Present(
            row_id=np.array([row["id"] for row in rows], np.int64),
            # A contact id that is a fraction belongs to nobody; 2**62 is no id either.
            contact_id=np.array(
                [row["contact_id"] if isinstance(row["contact_id"], int) else 1 << 62 for row in rows], np.int64
            ),
            kind=np.array([kinds.get(row["status"], OTHER) for row in rows], np.int8),
            type_number=np.array([number.get(row["email_type"], -1) for row in rows], np.int32),
            cls=np.array(cls, np.int32),
            date=np.array([date_of(row["scheduled_send_date"])[0] for row in rows], np.int32),
            reason=np.array([reasons.get(row["skip_reason"], -1) for row in rows], np.int16),
            event=np.array([_event(row) for row in rows], np.int32),
            regular=np.array([self._regular(row, c) for row, c in zip(rows, cls, strict=True)], np.bool_),
            followup=np.array([str(row["email_type"]).startswith(FOLLOWUP_PREFIX) for row in rows], np.bool_),
            plain_date=np.array([_is_plain(row["scheduled_send_date"]) for row in rows], np.bool_),
        )

    def _regular(self, row: dict[str, Any], cls: int) -> bool:
        """Return whether a row says what every row of its class says."""
        classes = self._classes
        return (
            cls >= 0
            and row["scheduled_send_time"] == self._send_time
            and row["metadata"] is None
            and row["priority"] == classes.priorities[cls]
            and row["email_template"] == classes.email_template[cls]
            and row["sms_template"] == classes.sms_template[cls]
        )

    def _outside(self, columns: str, first: int, statuses: Sequence[str]) -> list[Any]:
        """Return columns of the rows of no chunk: before the first contact, or with an id that is no number.

        One range of the key's index at a time, so that nothing else is looked at.
        """
        if not self._usable:
            return []
        wanted = _quoted(statuses)
        rows: list[Any] = []
        for condition in (f"contact_id < {first}", "contact_id >= ''", "contact_id IS NULL"):
            rows += self._connection.execute(
                f"SELECT {columns} FROM {PLAN} WHERE {condition} AND +status IN ({wanted})"
            )
        return rows

    def orphans(self, first: int) -> list[int]:
        """Return the plan rows of no chunk; `first` is the lowest contact id.

        Those behind the last contact belong to the last chunk, which is open.
        """
        return [int(row_id) for (row_id,) in self._outside("id", first, ("pre-scheduled", "skipped"))]

    def orphan_days(self, first: int) -> list[int]:
        """Return the ordinals of dispatched rows of no chunk; they too fill their day (section 9)."""
        rows = self._outside("scheduled_send_date", first, DISPATCHED_STATUSES)
        return [day for day in (date_of(value)[0] for (value,) in rows) if day != NONE]


def _event(row: dict[str, Any]) -> int:
    """Return the event date in one number, 0 where it is none."""
    year, month, day = row["event_year"], row["event_month"], row["event_day"]
    if not all(isinstance(part, int) for part in (year, month, day)):
        return 0
    real = 1 <= year <= 9999 and 1 <= month <= 12 and 1 <= day <= 31
    return int(year * 10_000 + month * 100 + day) if real else 0


def _is_plain(date: Any) -> bool:
    """Return whether a send date is written as a planned one would be."""
    return isinstance(date, str) and len(date) == 10 and date_of(date)[0] != NONE


def _quoted(texts: Sequence[str]) -> str:
    """Return texts of our own as a list in SQL."""
    return ", ".join(f"'{text}'" for text in texts)


def email_types(connection: apsw.Connection, row_ids: NDArray[np.int64]) -> list[str]:
    """Return the e-mail types of the rows with these ids, as texts."""
    if not len(row_ids):
        return []
    rows = connection.execute(
        f"SELECT CAST(s.email_type AS TEXT) FROM carray(?) AS wanted CROSS JOIN {PLAN} s ON s.id = wanted.value",
        (apsw.carray(np.ascontiguousarray(row_ids)),),
    )
    return [str(name) for (name,) in rows]


def history_of(present: Present, classes: Classes, people: NDArray[np.int64]) -> History:
    """Return the dispatched rows of eligible contacts (ids `people`, ascending) as the rules look at them."""
    rows = np.flatnonzero(present.kind == DISPATCHED)
    place = np.searchsorted(people, present.contact_id[rows])
    there = place < len(people)
    there[there] = people[place[there]] == present.contact_id[rows[there]]
    rows, who = rows[there], place[there].astype(np.int32)
    cls = present.cls[rows]
    return History(
        who=who,
        type_number=present.type_number[rows],
        date=present.date[rows],
        instance=np.where(cls >= len(FIXED_TYPES), classes.instance[cls], NO_INSTANCE),
        followup=present.followup[rows],
    )
