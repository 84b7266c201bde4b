"""Values of `email_schedules` that are evaluated one by one.

These are the spellings, types and dates that the SQL for columns does not know. Both ways follow
the same rules (sections 0 and 4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import apsw
import numpy as np
from numpy.typing import NDArray

from schedd.engine.calendar import NONE
from schedd.engine.coercions import cached, integer_of, text_of, trimmed
from schedd.engine.findings import Findings
from schedd.engine.rows import FIXED_TYPES, FOLLOWUP_PREFIX
from schedd.engine.run import Run

from .existing import (
    DISPATCHED,
    KNOWN_STATUSES,
    PARENT_STATUSES,
    SCHEDULED,
    SKIPPED,
    VOID,
    ExistingRows,
)
from .odd_values import OddValues, paired
from .packing import NO_EVENT, unpack_events
from .schema import PLAN, Schema

_EVENT = ("event_year", "event_month", "event_day")
#: The contact id of rows whose contact id cannot be read; no program gives out such an id.
NOBODY = -(1 << 62) - 1_000_003


@dataclass
class Orphans:
    """Rows that belong to no contact.

    plan: row ids of those of the existing plan.   days: send dates of the dispatched ones, which
    fill their days, too.   ahead: the run's date or a later one -> e-mails of the existing plan.
    """

    plan: list[int]
    days: list[int]
    ahead: dict[int, int] = field(default_factory=dict)


class RowEvaluator:
    """Evaluates single rows for one run and one file.

    findings: what could not be read or is not known.
    """

    def __init__(self, connection: apsw.Connection, schema: Schema, run: Run) -> None:
        self._run = run
        self._values = OddValues(connection)
        self._columns = schema.columns.get(PLAN, frozenset())
        #: whether the event date is never stored as INTEGER
        self._text_events = any(schema.affinity(PLAN, name) in {"TEXT", "REAL"} for name in _EVENT)
        self.findings = Findings()

        classes = run.classes
        numbers = {name: index for index, name in enumerate(classes.types)}
        self._exact = numbers
        self._folded = {name.lower(): int(classes.folded[index]) for name, index in numbers.items()}
        self._classes: dict[tuple[int | None, int], int] = {
            (int(classes.instance[row_class]), int(run.folded_types[row_class])): row_class
            for row_class in range(len(FIXED_TYPES), len(classes))
        }
        self._known = run.known_types
        self._canonical = cached(run.canonical_type)
        self._date = cached(run.dates.read)
        self._status_kind = cached(self._evaluate_status)

    # Single columns -------------------------------------------------------------------------------

    def _evaluate_status(self, value: Any) -> tuple[int, str]:
        """Return the kind of rows with a status, and the status trimmed and in lower case."""
        if isinstance(value, str) and value in {"pre-scheduled", "skipped"}:
            return (SCHEDULED if value == "pre-scheduled" else SKIPPED), value
        name = trimmed(value).lower()
        return (VOID if name in self._run.configuration.void_statuses else DISPATCHED), name

    def kind_of(self, row_id: int, value: Any) -> tuple[int, bool]:
        """Return the kind of rows with a status, and whether they may have follow-ups.

        Notes unknown statuses in `findings`.
        """
        kind, name = self._status_kind(value)
        if kind == DISPATCHED and name not in KNOWN_STATUSES:
            self.findings.add(
                "unknown_status", PLAN, "status", row_id, value, "NULL" if value is None else name
            )
        return kind, kind == DISPATCHED and name in PARENT_STATUSES

    def type_of(self, row_id: int, value: Any) -> tuple[int, bool]:
        """Return the folded number of a dispatched row's type, and whether it is a follow-up.

        The number is -1 for a type that this run does not plan. Notes types that nothing in the
        rules knows in `findings`.
        """
        name = self._canonical(value)
        if name not in self._known:
            self.findings.add("unknown_type", PLAN, "email_type", row_id, value, name)
        return self._folded.get(name, -1), name.startswith(FOLLOWUP_PREFIX)

    def contact_of(self, row_id: int, value: Any) -> int:
        """Return the contact id of a row, `NOBODY` for one that cannot be read, which is noted."""
        contact = value if isinstance(value, int) else integer_of(value)
        if contact is None:
            self.findings.add("unreadable_contact_id", PLAN, "contact_id", row_id, value)
        return NOBODY if contact is None else contact

    def _written_type(self, value: Any) -> int:
        """Return the number of a type as it is written, -1 for none of this run."""
        return self._exact.get(text_of(value), -1)

    def class_of(self, row_id: int, number: int, value: Any) -> int:
        """Return the class of a dispatched row of a type and a campaign instance, -1 for none."""
        if number < 0:
            return -1
        if value is None:
            fixed = self._run.folded_types[: len(FIXED_TYPES)].tolist()
            return fixed.index(number) if number in fixed else -1
        instance = integer_of(value)
        if instance is None and number not in self._run.folded_types[: len(FIXED_TYPES)]:
            self.findings.add("unreadable_integer", PLAN, "campaign_instance_id", row_id, value)
        return self._classes.get((instance, number), -1)

    # Columns of rows that the SQL left open -------------------------------------------------------

    def resolve(self, rows: ExistingRows, odd: NDArray[Any], odd_status: NDArray[np.bool_]) -> None:
        """Fill in, in place, kind, type and class of rows with an unusual spelling.

        odd: indices of the rows.   odd_status: which of all rows have a status to evaluate.
        """
        names = [self._source(name) for name in ("status", "email_type", "campaign_instance_id")]
        for index, (status, email_type, instance) in paired(
            odd.tolist(), self._of(rows.row_id[odd], names)
        ):
            row_id = int(rows.row_id[index])
            if odd_status[index]:
                kind, parent = self.kind_of(row_id, status)
                rows.kind[index], rows.sent_lately[index] = kind, parent
            rows.type_number[index] = rows.written_type[index] = self._written_type(email_type)
            if rows.kind[index] == DISPATCHED:
                number, followup = self.type_of(row_id, email_type)
                rows.type_number[index], rows.followup[index] = number, followup
                rows.row_class[index] = self.class_of(row_id, number, instance)

    def read_dates(self, rows: ExistingRows, odd: NDArray[Any]) -> None:
        """Fill in, in place, the send dates that are not written as a planned row's."""
        column = self._source("scheduled_send_date")
        for index, (value,) in paired(odd.tolist(), self._of(rows.row_id[odd], [column])):
            rows.date[index] = self._day(int(rows.row_id[index]), int(rows.kind[index]), value)

    def _day(self, row_id: int, kind: int, value: Any) -> int:
        day, readable = self._date(value)
        if kind == DISPATCHED and (not readable or day == NONE):
            self.findings.add("unreadable_date", PLAN, "scheduled_send_date", row_id, value)
        return int(day)

    def orphans(self, row_ids: NDArray[np.int64]) -> Orphans:
        """Return the rows with these ids, whose contacts are not known."""
        found = Orphans([], [])
        names = [self._source(name) for name in ("status", "scheduled_send_date")]
        for row_id, (status, date) in paired(row_ids.tolist(), self._of(row_ids, names)):
            kind, _ = self.kind_of(row_id, status)
            if kind in {SCHEDULED, SKIPPED}:
                found.plan.append(row_id)
                day = self._day(row_id, kind, date)
                if kind == SCHEDULED and day >= self._run.as_of:
                    found.ahead[day] = found.ahead.get(day, 0) + 1
            elif kind == DISPATCHED:
                day = self._day(row_id, kind, date)
                found.days += [day] if day != NONE else []
        return found

    def _source(self, name: str) -> str:
        return f"s.{name}" if name in self._columns else "NULL"

    def _of(self, row_ids: NDArray[np.int64], names: Sequence[str]) -> Any:
        return self._values.by_id(PLAN, row_ids, names)

    def set_own_dates(self, rows: ExistingRows) -> None:
        """Fill in, in place, the own dates: the event date, or else the send date (section 4)."""
        rows.own_date = rows.date
        dispatched = np.flatnonzero(rows.kind == DISPATCHED)
        dispatched = dispatched[rows.event[dispatched] != NO_EVENT]
        if self._text_events or not len(dispatched):
            return
        days = unpack_events(rows.event[dispatched])
        rows.own_date = rows.date.copy()
        rows.own_date[dispatched] = np.where(days != NONE, days, rows.date[dispatched])
