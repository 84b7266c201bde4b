"""Reads the rows of `email_schedules` of one chunk as columns.

One pass over the rows yields the existing plan, the history and the key conflicts. `schedule_sql`
reduces each row to a number inside SQLite, and `packing` unpacks it; `schedule_values` evaluates
one by one the rows that are not written as the SQL expects.
"""

from __future__ import annotations

from typing import Any

import apsw
import numpy as np
from numpy.typing import NDArray

from schedd.engine.calendar import NONE, Ordinals
from schedd.engine.coercions import plain_day
from schedd.engine.findings import Findings
from schedd.engine.rows import FOLLOWUP_PREFIX
from schedd.engine.run import Run

from . import blocks
from .blocks import MisalignedError
from .contacts import Range
from .existing import DISPATCHED, ODD, SENT_LATELY, SKIPPED, ExistingRows
from .odd_values import OddValues
from .outside_rows import OutsideRows
from .packing import (
    EVENT_LIMIT,
    NO_EVENT,
    OTHER_REASON,
    ROW_DIGITS,
    TYPES,
    UNKNOWN,
    RowFields,
    unpack_row_texts,
    unpack_rows,
)
from .schedule_sql import PlanSql
from .schedule_values import Orphans, RowEvaluator
from .schema import PLAN, Schema

_MAX_DIGITS = 18
#: Columns without which no row can be read.
NEEDED = frozenset(("id", "contact_id", "email_type", "scheduled_send_date", "status"))


class ScheduleReader:
    """Reads the existing rows of one file.

    since: the ordinal of the first day whose e-mails may have follow-ups (section 8).
    outside: the rows whose contact id is not stored as a number.

        reader = ScheduleReader(connection, read_schema(connection), run, since, outside)
        existing = reader.read(Range(1, 32_769))
    """

    def __init__(
        self,
        connection: apsw.Connection,
        schema: Schema,
        run: Run,
        since: int,
        outside: OutsideRows,
    ) -> None:
        self._connection, self._run, self._outside = connection, run, outside
        self._values = OddValues(connection)
        self._usable = schema.columns.get(PLAN, frozenset()) >= NEEDED
        self._evaluator = RowEvaluator(connection, schema, run)
        self._ranges = schema.affinity(PLAN, "contact_id") in {"INTEGER", "NUMERIC", "BLOB"}
        self._type_of = self._types_by_code()
        #: types that an alias gives another name: their dispatched rows are evaluated in Python
        self._aliased = np.array(
            [name.lower() in run.configuration.aliases for name in run.classes.types] + [False],
            np.bool_,
        )
        self._followups = np.array(
            [n.startswith(FOLLOWUP_PREFIX) for n in run.classes.types] + [False], np.bool_
        )
        if self._usable:
            self._sql = PlanSql(connection, schema, run, since)
            self._columns = (
                f"count(*), {blocks.text(self._sql.packed())}, {blocks.text(self._sql.date())}"
            )
            self._odd_columns = [
                self._sql.without_event(),
                self._sql.event(),
                "s.scheduled_send_date",
            ]

    @property
    def findings(self) -> Findings:
        """Return the values that could not be read or are not known, in the chunks read so far."""
        return self._evaluator.findings

    def _types_by_code(self) -> NDArray[np.int32]:
        """Return the type number for each value of `CODE`, -1 for a type that is not planned."""
        classes = self._run.classes
        types = np.full(UNKNOWN + 1, -1, np.int32)
        types[: len(classes)] = classes.type_number
        types[TYPES : TYPES + len(classes.types)] = np.arange(len(classes.types))
        return types

    def read(self, chunk: Range) -> ExistingRows:
        """Return the rows of a chunk's contacts (and of contacts missing between them)."""
        if not self._usable:
            return self._empty()
        parts = []
        if self._ranges:
            try:
                parts.append(self._by_block(chunk))
            except MisalignedError:
                parts.append(self._values_of(chunk))
        row_ids, contact_ids, exact = self._outside.of(chunk)
        if len(row_ids):
            try:
                parts.append(self._by_row_id(row_ids, contact_ids, exact))
            except MisalignedError:
                parts.append(self._values_by_row_id(row_ids, contact_ids, exact))
        return ExistingRows.concatenate(parts) if parts else self._empty()

    def _empty(self) -> ExistingRows:
        ids = np.zeros(0, np.int64)
        dates = np.zeros(0, np.int32)
        return self._unpacked(
            blocks.Block(b"", 0, ROW_DIGITS), blocks.Block(b"", 0, 10), ids, ids, dates > 0
        )

    def _where(self, chunk: Range) -> str:
        """Return the SQL condition of a chunk's rows whose contact id is stored as a number."""
        where = chunk.where("s.contact_id")
        return where if self._outside.converted else f"{where} AND typeof(s.contact_id) = 'integer'"

    def _ids(self, chunk: Range) -> tuple[str, int, int]:
        """Return the SQL of the blocks of row and contact ids, and the digits of both.

        Both are usually in one block, as one number. If that had too many digits, each has a block
        of its own, and the digits are 0.
        """
        execute = self._connection.execute
        # Two statements: one with both would read the entire table.
        [(lowest,)], [(highest,)] = (
            execute(f"SELECT min(id) FROM {PLAN}"),
            execute(f"SELECT max(id) FROM {PLAN}"),
        )
        high = chunk.high
        if high is None:
            [(last,)] = execute(
                f"SELECT max(s.contact_id) FROM {PLAN} s WHERE {self._where(chunk)}"
            )
            if not isinstance(last, int | None):
                raise MisalignedError
            high = chunk.low + 1 if last is None else last + 1
        id_digits, contact_digits = len(str(highest or 0)), len(str(high - chunk.low))
        if (lowest or 0) < 0 or id_digits + contact_digits > _MAX_DIGITS:
            return f"{blocks.number('s.id')}, {blocks.number('s.contact_id - ?1')}", 0, 0
        # Both in one number: SQLite spends much of its time on writing numbers.
        both = 10 ** (id_digits + contact_digits)
        return (
            blocks.text(f"{both} + (s.contact_id - ?1) * {10**id_digits} + s.id"),
            id_digits,
            contact_digits,
        )

    def _by_block(self, chunk: Range) -> ExistingRows:
        ids_sql, id_digits, contact_digits = self._ids(chunk)
        [(count, packed, date, *ids)] = self._connection.execute(
            f"SELECT {self._columns}, {ids_sql} FROM {PLAN} s WHERE {self._where(chunk)}",
            (chunk.low,),
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
        exact = np.ones(count, np.bool_)
        return self._unpacked(
            blocks.Block(packed, count, ROW_DIGITS),
            blocks.Block(date, count, 10),
            row_id,
            contact + chunk.low,
            exact,
        )

    def _by_row_id(
        self, row_ids: NDArray[np.int64], contact_ids: NDArray[np.int64], exact: NDArray[np.bool_]
    ) -> ExistingRows:
        """Return rows whose contacts are already known."""
        [(count, packed, date, ids)] = self._connection.execute(
            f"SELECT {self._columns}, {blocks.number('s.id')} "
            f"FROM carray(?) AS wanted CROSS JOIN {PLAN} s ON s.id = wanted.value",
            (apsw.carray(np.ascontiguousarray(row_ids)),),
        )
        if not np.array_equal(blocks.numbers(ids, count), row_ids):
            raise MisalignedError
        texts = blocks.Block(packed, count, ROW_DIGITS), blocks.Block(date, count, 10)
        return self._unpacked(*texts, row_ids, contact_ids, exact)

    def _values_of(self, chunk: Range) -> ExistingRows:
        """Return the rows of a chunk that has a value which no block can hold."""
        found = self._values.rows(
            f"{PLAN} s WHERE {self._where(chunk)}", ["s.id", "s.contact_id", *self._odd_columns]
        )
        row_id = np.array([row[0] for row in found], np.int64)
        contacts = [self._evaluator.contact_of(row[0], row[1]) for row in found]
        exact = np.array([isinstance(row[1], int) for row in found], np.bool_)
        values = [row[2:] for row in found]
        return self._by_value(values, row_id, np.array(contacts, np.int64), exact)

    def _values_by_row_id(
        self, row_ids: NDArray[np.int64], contact_ids: NDArray[np.int64], exact: NDArray[np.bool_]
    ) -> ExistingRows:
        """Return the same of rows whose contacts are already known."""
        return self._by_value(
            self._values.by_id(PLAN, row_ids, self._odd_columns), row_ids, contact_ids, exact
        )

    def _by_value(
        self,
        found: list[Any],
        row_id: NDArray[np.int64],
        contact_id: NDArray[np.int64],
        exact: NDArray[np.bool_],
    ) -> ExistingRows:
        packed, event = np.zeros(len(found), np.int64), np.zeros(len(found), np.int64)
        days = np.full(len(found), NONE, np.int32)
        for index, (number, event_value, date) in enumerate(found):
            packed[index] = number
            readable = isinstance(event_value, int) and event_value < EVENT_LIMIT
            event[index] = event_value if readable else NO_EVENT
            day = plain_day(date) if isinstance(date, str) and len(date) == 10 else None
            days[index] = NONE if day is None else day
        return self._rows(unpack_rows(packed, event), days, days != NONE, row_id, contact_id, exact)

    def _unpacked(
        self,
        packed: blocks.Block,
        date: blocks.Block,
        row_id: NDArray[np.int64],
        contact_id: NDArray[np.int64],
        exact: NDArray[np.bool_],
    ) -> ExistingRows:
        fields = unpack_row_texts(packed)
        days, plain = date.dates()
        return self._rows(fields, days, plain, row_id, contact_id, exact)

    def _rows(
        self,
        fields: RowFields,
        days: Ordinals,
        plain: NDArray[np.bool_],
        row_id: NDArray[np.int64],
        contact_id: NDArray[np.int64],
        exact: NDArray[np.bool_],
    ) -> ExistingRows:
        """Return rows.

        plain: whether the send date is written as a planned row's is, so that `days` has it.
        exact: whether the contact id is stored as a planned row's is.
        """
        types = self._type_of[fields.code]
        lately = fields.status == SENT_LATELY
        odd_status = fields.status == ODD
        rows = ExistingRows(
            row_id=row_id,
            contact_id=contact_id,
            kind=np.where(lately | odd_status, DISPATCHED, fields.status).astype(np.int8),
            type_number=types,
            written_type=types.copy(),
            row_class=np.where(fields.code < TYPES, fields.code, -1).astype(np.int32),
            date=days,
            own_date=days,
            reason=np.where(fields.reason == OTHER_REASON, -1, fields.reason).astype(np.int16),
            event=fields.event.astype(np.int32),
            regular=fields.regular,
            followup=self._followups[types],
            exact_key=plain & exact,
            sent_lately=lately,
        )
        self._evaluate_others(rows, np.flatnonzero(fields.status > SKIPPED), fields, odd_status)
        if not plain.all():
            self._evaluator.read_dates(rows, np.flatnonzero(~plain))
        self._evaluator.set_own_dates(rows)
        return rows

    def _evaluate_others(
        self,
        rows: ExistingRows,
        others: NDArray[np.intp],
        fields: RowFields,
        odd_status: NDArray[np.bool_],
    ) -> None:
        """Complete, in place, the rows that are not the plan's: few of all rows.

        others: their indices.   odd_status: whether the status of each row is evaluated in Python.
        """
        dispatched = rows.kind[others] == DISPATCHED
        aliased = self._aliased[rows.type_number[others]]
        odd = odd_status[others] | (fields.code[others] == UNKNOWN) | (dispatched & aliased)
        self._fold(rows, others[dispatched & ~odd])
        self._evaluator.resolve(rows, others[odd], odd_status)

    def _fold(self, rows: ExistingRows, chosen: NDArray[Any]) -> None:
        """Give dispatched rows the folded number of their type (section 4)."""
        usable = chosen[rows.type_number[chosen] >= 0]
        rows.type_number[usable] = self._run.classes.folded[rows.type_number[usable]]

    def orphans(self, first: int) -> Orphans:
        """Return the rows of no chunk: their contact id cannot be read or is below `first`.

        first: the lowest contact id. Rows above the highest one are in the last chunk, which has no
        upper end.
        """
        if not self._usable:
            return Orphans([], [])
        row_ids = self._outside.before(first)
        if self._ranges:
            numbers = "" if self._outside.converted else " AND typeof(contact_id) = 'integer'"
            below = self._connection.execute(
                f"SELECT id, contact_id FROM {PLAN} WHERE contact_id < {first}{numbers}"
            )
            rows: list[Any] = below.fetchall()
            row_ids = np.concatenate([row_ids, np.array([row_id for row_id, _ in rows], np.int64)])
            for row_id, contact in rows:
                self._evaluator.contact_of(row_id, contact)
        return self._evaluator.orphans(row_ids)
