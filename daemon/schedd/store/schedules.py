"""The rows of `email_schedules` of one chunk as columns.

The existing plan, the history, and who holds keys.

One pass over the chunk's rows yields all three. `schedule_sql` reduces each row to numbers inside
SQLite; `schedule_values` looks at those rows one by one that are not written as the SQL expects.
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
from .schedule_sql import (
    EVENT_LIMIT,
    OTHER_REASON,
    PACKED_DIGITS,
    TYPES,
    UNKNOWN,
    Parts,
    PlanSql,
    unpacked,
)
from .schedule_values import Orphans, RowJudge
from .schema import PLAN, Schema

_MAX_DIGITS = 18
#: Columns without which no row can be read.
NEEDED = frozenset(("id", "contact_id", "email_type", "scheduled_send_date", "status"))


class ScheduleReader:
    """Reads the existing rows of one file.

    `outside`: the rows whose contact id is not stored as a number.

    since: the ordinal of the first day whose e-mails may have follow-ups (section 8).
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
        self._evaluate = RowJudge(connection, schema, run)
        self._ranges = schema.affinity(PLAN, "contact_id") in {"INTEGER", "NUMERIC", "BLOB"}
        self._type_of = self._types_by_code()
        #: types that an alias gives another name: of their dispatched rows the name is looked at
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
        """What could not be read or is not known, in the chunks read so far."""
        return self._evaluate.findings

    def _types_by_code(self) -> NDArray[np.int32]:
        """Return the type number for each value of the six digits, -1 for a type that the run does not plan."""
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
            blocks.Block(b"", 0, PACKED_DIGITS), blocks.Block(b"", 0, 10), ids, ids, dates > 0
        )

    def _where(self, chunk: Range) -> str:
        """Return the SQL condition of the rows of a chunk whose contact id is stored as a number."""
        where = chunk.where("s.contact_id")
        return where if self._outside.converted else f"{where} AND typeof(s.contact_id) = 'integer'"

    def _ids(self, chunk: Range) -> tuple[str, int, int]:
        """Return the SQL of the blocks of row and contact ids, and the digits of both.

        0 where each has a block.
        """
        execute = self._connection.execute
        # Two statements: together they would read the whole table.
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
        # Both in one number: writing numbers is a good part of what this costs.
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
            blocks.Block(packed, count, PACKED_DIGITS),
            blocks.Block(date, count, 10),
            row_id,
            contact + chunk.low,
            exact,
        )

    def _by_row_id(
        self, row_ids: NDArray[np.int64], contact_ids: NDArray[np.int64], exact: NDArray[np.bool_]
    ) -> ExistingRows:
        """Return rows whose contacts are known already."""
        [(count, packed, date, ids)] = self._connection.execute(
            f"SELECT {self._columns}, {blocks.number('s.id')} "
            f"FROM carray(?) AS wanted CROSS JOIN {PLAN} s ON s.id = wanted.value",
            (apsw.carray(np.ascontiguousarray(row_ids)),),
        )
        if not np.array_equal(blocks.numbers(ids, count), row_ids):
            raise MisalignedError
        texts = blocks.Block(packed, count, PACKED_DIGITS), blocks.Block(date, count, 10)
        return self._unpacked(*texts, row_ids, contact_ids, exact)

    def _values_of(self, chunk: Range) -> ExistingRows:
        """Return the rows of a chunk one of which has a value that no block can hold."""
        found = self._values.rows(
            f"{PLAN} s WHERE {self._where(chunk)}", ["s.id", "s.contact_id", *self._odd_columns]
        )
        row_id = np.array([row[0] for row in found], np.int64)
        contacts = [self._evaluate.contact_of(row[0], row[1]) for row in found]
        exact = np.array([isinstance(row[1], int) for row in found], np.bool_)
        values = [row[2:] for row in found]
        return self._by_value(values, row_id, np.array(contacts, np.int64), exact)

    def _values_by_row_id(
        self, row_ids: NDArray[np.int64], contact_ids: NDArray[np.int64], exact: NDArray[np.bool_]
    ) -> ExistingRows:
        """Return the same of rows whose contacts are known already."""
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
            event[index] = (
                event_value if isinstance(event_value, int) and event_value < EVENT_LIMIT else 0
            )
            day = plain_day(date) if isinstance(date, str) and len(date) == 10 else None
            days[index] = NONE if day is None else day
        return self._rows(unpacked(packed, event), days, days != NONE, row_id, contact_id, exact)

    def _unpacked(
        self,
        packed: blocks.Block,
        date: blocks.Block,
        row_id: NDArray[np.int64],
        contact_id: NDArray[np.int64],
        exact: NDArray[np.bool_],
    ) -> ExistingRows:
        event, clean = packed.number(12, PACKED_DIGITS)
        if not clean.all():
            raise MisalignedError
        parts = Parts(
            status=packed.column(1) - np.uint8(48),
            reason=packed.number(2, 5)[0],
            code=packed.number(5, 11)[0],
            regular=packed.column(11) == ord("1"),
            event=event,
        )
        days, plain = date.dates()
        return self._rows(parts, days, plain, row_id, contact_id, exact)

    def _rows(
        self,
        parts: Parts,
        days: Ordinals,
        plain: NDArray[np.bool_],
        row_id: NDArray[np.int64],
        contact_id: NDArray[np.int64],
        exact: NDArray[np.bool_],
    ) -> ExistingRows:
        """Return rows.

        plain: where the send date is written as a planned row's is, so that `days` has it.
        """
        status, code, event = parts.status, parts.code, parts.event
        types = self._type_of[code]
        lately = status == SENT_LATELY
        odd_status = status == ODD
        rows = ExistingRows(
            row_id=row_id,
            contact_id=contact_id,
            kind=np.where(lately | odd_status, DISPATCHED, status).astype(np.int8),
            type_number=types,
            written_type=types.copy(),
            row_class=np.where(code < TYPES, code, -1).astype(np.int32),
            date=days,
            own_date=days,
            reason=np.where(parts.reason == OTHER_REASON, -1, parts.reason).astype(np.int16),
            event=np.where(event > 0, event - 32, -1).astype(np.int32),
            regular=parts.regular,
            followup=self._followups[types],
            exact_key=plain & exact,
            sent_lately=lately,
        )
        # Nearly all rows are the plan's; what follows looks at the others alone.
        others = np.flatnonzero(status > SKIPPED)
        dispatched = rows.kind[others] == DISPATCHED
        odd = (
            odd_status[others]
            | (code[others] == UNKNOWN)
            | (dispatched & self._aliased[types[others]])
        )
        self._fold(rows, others[dispatched & ~odd])
        self._evaluate.resolve(rows, others[odd], odd_status)
        if not plain.all():
            self._evaluate.read_dates(rows, np.flatnonzero(~plain))
        self._evaluate.set_own_dates(rows)
        return rows

    def _fold(self, rows: ExistingRows, chosen: NDArray[Any]) -> None:
        """Give dispatched rows the folded number of their type (section 4)."""
        usable = chosen[rows.type_number[chosen] >= 0]
        rows.type_number[usable] = self._run.classes.folded[rows.type_number[usable]]

    def orphans(self, first: int) -> Orphans:
        """Return the rows of no chunk.

        Their contact id cannot be read or is below `first`, the lowest contact's.

        Those behind the last contact belong to the last chunk, which is open.
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
                self._evaluate.contact_of(row_id, contact)
        return self._evaluate.orphans(row_ids)
