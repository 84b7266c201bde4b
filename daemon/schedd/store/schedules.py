"""The rows of `email_schedules` of one chunk as columns: the present plan, the history, and who holds keys.

One pass over the chunk's rows yields all three. What a plan row says besides its key is reduced, inside
SQLite, to numbers that can be compared with the new plan's: its class (`rows.Classes`), its skip reason, its
event date, and whether everything else is as a row of that class would have it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import apsw
import numpy as np
from numpy.typing import NDArray

from schedd.engine.calendar import FIRST, NONE, Ordinals, iso
from schedd.engine.contacts import date_of
from schedd.engine.rows import FIXED_TYPES, FOLLOWUP_PREFIX, SKIP_REASONS, Classes

from . import blocks
from .blocks import MisalignedError
from .contacts import Range
from .present import DISPATCHED, DISPATCHED_STATUSES, OTHER, SCHEDULED, SKIPPED, Present, event_of, is_plain
from .schema import PLAN, Schema

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
# What type and class of a row come to, in six digits: a class; a type of the run without a class (from `_TYPES`
# on); or a type that the run does not know.
_TYPES, _UNKNOWN_FOLLOWUP, _UNKNOWN = 900_000, 999_998, 999_999
# A row in one number, from the right: event (7 digits), whether it is regular (1), class or type (6), reason (3),
# status (1), and a 1. A status of 4 is a dispatched row that was sent lately.
_REGULAR_PLACE, _CLASS_PLACE, _REASON_PLACE, _STATUS_PLACE = 10**7, 10**8, 10**14, 10**17
_PACKED_DIGITS = 19
_SENT_LATELY = 4
_MOST_DIGITS = 18


class ScheduleReader:
    """Reads the present rows of one file; makes its lookup tables in the connection's temporary database.

    since: the ordinal of the first day whose e-mails may have follow-ups (section 8).
    """

    def __init__(
        self, connection: apsw.Connection, schema: Schema, classes: Classes, send_time: str, since: int
    ) -> None:
        self._connection = connection
        self._classes = classes
        self._send_time = send_time
        self._since = iso(max(since, FIRST))
        self._type_of = self._types_by_code()
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
        many("INSERT INTO run_reason VALUES (?, ?)", [(n, i * _REASON_PLACE) for i, n in enumerate(SKIP_REASONS) if n])
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

    def _types_by_code(self) -> NDArray[np.int32]:
        """Return the type number for each value of the six digits, -1 for a type that the run does not know."""
        classes = self._classes
        types = np.full(_UNKNOWN + 1, -1, np.int32)
        types[: len(classes)] = classes.type_number
        types[_TYPES : _TYPES + len(classes.types)] = np.arange(len(classes.types))
        return types

    def _statement(self) -> str:
        """Return the columns but for the ids; see `_by_block` for what comes out.

        The fixed types, which are nearly all rows, cost no look-up: their class is known from the type's name.
        """
        c = self._column
        actual = c("actual_send_datetime")
        status = (
            f"CASE s.status WHEN 'pre-scheduled' THEN {SCHEDULED * _STATUS_PLACE} "
            f"WHEN 'skipped' THEN {SKIPPED * _STATUS_PLACE} "
            f"ELSE CASE WHEN s.status IN ({_quoted(DISPATCHED_STATUSES)}) THEN "
            f"CASE WHEN s.status IN ('sent', 'delivered') AND "
            f"({actual} >= '{self._since}' OR s.scheduled_send_date >= '{self._since}') "
            f"THEN {_SENT_LATELY * _STATUS_PLACE} ELSE {DISPATCHED * _STATUS_PLACE} END "
            f"ELSE {OTHER * _STATUS_PLACE} END END"
        )
        reason = (
            f"CASE WHEN {c('skip_reason')} IS NULL THEN 0 ELSE "
            f"coalesce((SELECT number FROM run_reason WHERE name = {c('skip_reason')}), {999 * _REASON_PLACE}) END"
        )
        # What is no date comes out as a number that no date is, or with other than seven digits.
        year, month, day = c("event_year"), c("event_month"), c("event_day")
        event = (
            f"CASE WHEN {month} BETWEEN 1 AND 12 AND {day} BETWEEN 1 AND 31 AND {year} BETWEEN 1 AND 9999 "
            f"THEN {year} * 372 + {month} * 31 + {day} ELSE 0 END"
        )
        packed = (
            f"{10 * _STATUS_PLACE} + {status} + {reason} + {event} + "
            f"CASE s.email_type {self._fixed()} ELSE {self._other()} END"
        )
        date = f"CASE WHEN octet_length(s.scheduled_send_date) = 10 THEN s.scheduled_send_date ELSE '{_NO_DATE}' END"
        return f"count(*), {blocks.text(packed)}, {blocks.text(date)}"

    def _fixed(self) -> str:
        """Return the branches for the fixed types: class or type, and whether the row is regular, as one number."""
        c, classes = self._column, self._classes
        branches = ""
        for cls, name in enumerate(FIXED_TYPES):
            without = (_TYPES + int(classes.type_number[cls])) * _CLASS_PLACE
            template = str(classes.email_template[cls]).replace("'", "''")
            branches += (
                f"WHEN '{name}' THEN CASE WHEN {c('campaign_instance_id')} IS NULL "
                f"THEN {cls * _CLASS_PLACE} + {_REGULAR_PLACE} * ("
                f"{c('scheduled_send_time')} IS '{self._send_time}' AND {c('metadata')} IS NULL "
                f"AND {c('priority')} IS {classes.priorities[cls]} AND {c('email_template')} IS '{template}' "
                f"AND {c('sms_template')} IS NULL) ELSE {without} END "
            )
        return branches

    def _other(self) -> str:
        """Return the same number for all other types, by looking up class and type."""
        c = self._column
        cls = (
            f"(SELECT k.number * {_CLASS_PLACE} + {_REGULAR_PLACE} * ("
            f"{c('scheduled_send_time')} IS '{self._send_time}' AND {c('metadata')} IS NULL "
            f"AND {c('priority')} IS k.priority AND {c('email_template')} IS k.email_template "
            f"AND {c('sms_template')} IS k.sms_template) FROM run_class k "
            f"WHERE k.instance = {c('campaign_instance_id')} AND k.email_type = s.email_type)"
        )
        known = f"(SELECT (number + {_TYPES}) * {_CLASS_PLACE} FROM run_type WHERE name = s.email_type)"
        # All texts that begin with the prefix lie between it and the prefix with its last character raised.
        after = FOLLOWUP_PREFIX[:-1] + chr(ord(FOLLOWUP_PREFIX[-1]) + 1)
        unknown = (
            f"CASE WHEN s.email_type >= '{FOLLOWUP_PREFIX}' AND s.email_type < '{after}' "
            f"THEN {_UNKNOWN_FOLLOWUP * _CLASS_PLACE} ELSE {_UNKNOWN * _CLASS_PLACE} END"
        )
        return f"coalesce({cls}, {known}, {unknown})"

    def read(self, chunk: Range) -> Present:
        """Return the rows of a chunk's contacts (and of contacts missing between them)."""
        if not self._usable:
            return self._of_rows([])
        try:
            return self._by_block(chunk)
        except MisalignedError:
            return self._by_value(chunk)

    def _ids(self, chunk: Range) -> tuple[str, int, int]:
        """Return the SQL of the blocks of row and contact ids, and the digits of both; 0 where each has a block."""
        execute = self._connection.execute
        # Two statements: together they would read the whole table.
        [(lowest,)], [(highest,)] = execute(f"SELECT min(id) FROM {PLAN}"), execute(f"SELECT max(id) FROM {PLAN}")
        high = chunk.high
        if high is None:
            [(last,)] = execute(f"SELECT max(contact_id) FROM {PLAN} WHERE {chunk.where('contact_id')}")
            high = chunk.low + 1 if last is None else int(last) + 1
        id_digits, contact_digits = len(str(highest or 0)), len(str(high - chunk.low))
        if (lowest or 0) < 0 or id_digits + contact_digits > _MOST_DIGITS:
            return f"{blocks.number('s.id')}, {blocks.number('s.contact_id - ?1')}", 0, 0
        # Both in one number: writing numbers is a good part of what this costs.
        both = 10 ** (id_digits + contact_digits)
        return blocks.text(f"{both} + (s.contact_id - ?1) * {10**id_digits} + s.id"), id_digits, contact_digits

    def _by_block(self, chunk: Range) -> Present:
        ids_sql, id_digits, contact_digits = self._ids(chunk)
        [(count, packed, date, *ids)] = self._connection.execute(
            f"SELECT {self._sql}, {ids_sql} FROM {PLAN} s WHERE {chunk.where('s.contact_id')}", (chunk.low,)
        )
        if id_digits:
            both = blocks.Block(ids[0], count, 1 + contact_digits + id_digits)
            row_id, clean = both.number(1 + contact_digits, 1 + contact_digits + id_digits)
            contact, also_clean = both.number(0, 1 + contact_digits)
            contact -= 10**contact_digits
            if not (clean.all() and also_clean.all()) or (contact < 0).any():
                raise MisalignedError
        else:
            row_id, contact = (blocks.numbers(block, count) for block in ids)
        dates, plain = blocks.Block(date, count, 10).dates()
        if not plain.all():
            self._read_odd_dates(dates, row_id, np.flatnonzero(~plain))
        return self._unpacked(blocks.Block(packed, count, _PACKED_DIGITS), row_id, contact + chunk.low, dates, plain)

    def _unpacked(
        self,
        packed: blocks.Block,
        row_id: NDArray[np.int64],
        contact_id: NDArray[np.int64],
        dates: Ordinals,
        plain: NDArray[np.bool_],
    ) -> Present:
        status = packed.column(1) - np.uint8(48)
        reason, code = packed.number(2, 5)[0], packed.number(5, 11)[0]
        event, clean = packed.number(12, _PACKED_DIGITS)
        if not clean.all():
            raise MisalignedError
        sent_lately = status == _SENT_LATELY
        types = self._type_of[code]
        followups = np.array([name.startswith(FOLLOWUP_PREFIX) for name in self._classes.types] + [False], np.bool_)
        return Present(
            row_id=row_id,
            contact_id=contact_id,
            kind=np.where(sent_lately, DISPATCHED, status).astype(np.int8),
            type_number=types,
            cls=np.where(code < _TYPES, code, -1).astype(np.int32),
            date=dates,
            reason=np.where(reason == 999, -1, reason).astype(np.int16),
            event=np.where(event > 0, event - 32, -1).astype(np.int32),
            regular=packed.column(11) == ord("1"),
            followup=followups[types] | (code == _UNKNOWN_FOLLOWUP),
            plain_date=plain,
            sent_lately=sent_lately,
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
        columns = ("id", "contact_id", "status", "email_type", "scheduled_send_date", "actual_send_datetime", *_CONTENT)
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
            event=np.array([event_of(row) for row in rows], np.int32),
            regular=np.array([self._regular(row, c) for row, c in zip(rows, cls, strict=True)], np.bool_),
            followup=np.array([str(row["email_type"]).startswith(FOLLOWUP_PREFIX) for row in rows], np.bool_),
            plain_date=np.array([is_plain(row["scheduled_send_date"]) for row in rows], np.bool_),
            sent_lately=np.array([self._is_sent_lately(row) for row in rows], np.bool_),
        )

    def _is_sent_lately(self, row: dict[str, Any]) -> bool:
        """Return whether a row may have a follow-up; texts are compared as SQLite compares them."""
        times = (row["actual_send_datetime"], row["scheduled_send_date"])
        late = any(isinstance(t, bytes) or (isinstance(t, str) and t >= self._since) for t in times)
        return row["status"] in {"sent", "delivered"} and late

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


def _quoted(texts: Sequence[str]) -> str:
    """Return texts of our own as a list in SQL."""
    return ", ".join(f"'{text}'" for text in texts)
