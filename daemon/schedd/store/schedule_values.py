"""Rows of `email_schedules` judged one by one: spellings, types and dates that the SQL for columns does not know.

Both ways follow the same rules (sections 0 and 4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import apsw
import numpy as np
from numpy.typing import NDArray

from schedd.engine.calendar import NONE
from schedd.engine.findings import Findings
from schedd.engine.rows import FIXED_TYPES, FOLLOWUP_PREFIX, SKIP_REASONS
from schedd.engine.run import Run
from schedd.engine.values import cached, integer_of, plain_day, text_of, trimmed

from .existing import (
    DISPATCHED,
    KNOWN_STATUSES,
    PARENT_STATUSES,
    SCHEDULED,
    SKIPPED,
    VOID,
    ExistingRows,
    event_day,
    event_number,
)
from .odd_values import OddValues
from .schema import PLAN, Schema

_EVENT = ("event_year", "event_month", "event_day")
_COLUMNS = (
    *("id", "contact_id", "status", "email_type", "scheduled_send_date", "actual_send_datetime"),
    *("campaign_instance_id", "skip_reason", "scheduled_send_time", "metadata", "priority"),
    *("email_template", "sms_template", *_EVENT),
)
#: The contact id of rows that belong to nobody; no program gives out such an id.
NOBODY = -(1 << 62) - 1_000_003


@dataclass
class Orphans:
    """Rows of nobody. plan: row ids of the plan's.   days: ordinals of dispatched ones; they, too, fill their day."""

    plan: list[int]
    days: list[int]


class RowJudge:
    """Judges single rows for one run and one file. findings: what could not be read or is not known."""

    def __init__(self, connection: apsw.Connection, schema: Schema, run: Run, since: int) -> None:
        self._connection, self._run, self._since = connection, run, since
        self._values = OddValues(connection)
        self._columns = schema.columns.get(PLAN, frozenset())
        self._text_events = all(schema.affinity(PLAN, name) in {"TEXT", "REAL"} for name in _EVENT)
        self.findings = Findings()

        classes = run.classes
        numbers = {name: index for index, name in enumerate(classes.types)}
        self._exact = numbers
        self._folded = {name.lower(): int(classes.folded[index]) for name, index in numbers.items()}
        self._classes: dict[tuple[int | None, int], int] = {
            (int(classes.instance[cls]), int(run.folded_types[cls])): cls
            for cls in range(len(FIXED_TYPES), len(classes))
        }
        self._known = run.known_types
        self._canonical = cached(run.canonical_type)
        self._date = cached(run.dates.read)
        self._status_kind = cached(self._judge_status)

    # Single columns ------------------------------------------------------------------------------------------

    def _judge_status(self, value: Any) -> tuple[int, str]:
        """Return what a status makes of its row, and the status trimmed and in lower case."""
        if isinstance(value, str) and value in {"pre-scheduled", "skipped"}:
            return (SCHEDULED if value == "pre-scheduled" else SKIPPED), value
        name = trimmed(value).lower()
        return (VOID if name in self._run.configuration.void_statuses else DISPATCHED), name

    def kind_of(self, row_id: int, value: Any) -> tuple[int, bool]:
        """Return what a status makes of its row, and whether rows with it may have follow-ups; notes unknown ones."""
        kind, name = self._status_kind(value)
        if kind == DISPATCHED and name not in KNOWN_STATUSES:
            self.findings.add("unknown_status", PLAN, "status", row_id, value, "NULL" if value is None else name)
        return kind, kind == DISPATCHED and name in PARENT_STATUSES

    def type_of(self, row_id: int, value: Any) -> tuple[int, bool]:
        """Return the folded number of a dispatched row's type, -1 for none of this run, and whether it is a follow-up.

        Notes types that nothing in the rules knows.
        """
        name = self._canonical(value)
        if name not in self._known:
            self.findings.add("unknown_type", PLAN, "email_type", row_id, value, name)
        return self._folded.get(name, -1), name.startswith(FOLLOWUP_PREFIX)

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

    # Columns of rows that the SQL left open ------------------------------------------------------------------

    def resolve(self, rows: ExistingRows, odd: NDArray[Any], odd_status: NDArray[np.bool_]) -> None:
        """Fill in, in place, status, type and class of those rows whose spelling is not the usual one.

        odd: indices of the rows; odd_status: which of all rows have a status that has to be looked at.
        """
        names = [self._source(name) for name in ("status", "email_type", "campaign_instance_id")]
        for index, (status, email_type, instance) in zip(odd.tolist(), self._of(rows.row_id[odd], names), strict=True):
            row_id = int(rows.row_id[index])
            if odd_status[index]:
                kind, parent = self.kind_of(row_id, status)
                rows.kind[index], rows.sent_lately[index] = kind, parent
            if rows.kind[index] == DISPATCHED:
                number, followup = self.type_of(row_id, email_type)
                rows.type_number[index], rows.followup[index] = number, followup
                rows.cls[index] = self.class_of(row_id, number, instance)

    def read_dates(self, rows: ExistingRows, odd: NDArray[Any]) -> None:
        """Fill in, in place, the send dates that are not plainly a day."""
        column = self._source("scheduled_send_date")
        for index, (value,) in zip(odd.tolist(), self._of(rows.row_id[odd], [column]), strict=True):
            rows.date[index] = self._day(int(rows.row_id[index]), int(rows.kind[index]), value)

    def _day(self, row_id: int, kind: int, value: Any) -> int:
        day, readable = self._date(value)
        if kind == DISPATCHED and (not readable or day == NONE):
            self.findings.add("unreadable_date", PLAN, "scheduled_send_date", row_id, value)
        return int(day)

    def orphans(self, row_ids: NDArray[np.int64]) -> Orphans:
        """Return what the rows with these ids are, whose contact is not known."""
        found = Orphans([], [])
        names = [self._source(name) for name in ("status", "scheduled_send_date")]
        for row_id, (status, date) in zip(row_ids.tolist(), self._of(row_ids, names), strict=True):
            kind, _ = self.kind_of(row_id, status)
            if kind in {SCHEDULED, SKIPPED}:
                found.plan.append(row_id)
            elif kind == DISPATCHED:
                day = self._day(row_id, kind, date)
                found.days += [day] if day != NONE else []
        return found

    def _source(self, name: str) -> str:
        return f"s.{name}" if name in self._columns else "NULL"

    def _of(self, row_ids: NDArray[np.int64], names: Sequence[str]) -> Any:
        return self._values.by_id(PLAN, row_ids, names)

    # Whole rows ----------------------------------------------------------------------------------------------

    def rows(self, where: str) -> ExistingRows:
        """Return the rows of a chunk with values that no block can hold; `where`: the SQL condition."""
        found = [
            dict(zip(_COLUMNS, row, strict=True))
            for row in self._values.rows(f"{PLAN} s WHERE {where}", list(map(self._source, _COLUMNS)))
        ]
        judged = [self._judge(row) for row in found]

        def column(name: str, kind: type[np.generic]) -> NDArray[Any]:
            return np.array([row[name] for row in judged], kind)

        rows = ExistingRows(
            row_id=column("id", np.int64),
            contact_id=column("contact_id", np.int64),
            kind=column("kind", np.int8),
            type_number=column("type_number", np.int32),
            cls=column("cls", np.int32),
            date=column("date", np.int32),
            own_date=np.zeros(len(judged), np.int32),
            reason=column("reason", np.int16),
            event=column("event", np.int32),
            regular=column("regular", np.bool_),
            followup=column("followup", np.bool_),
            exact_key=column("exact_key", np.bool_),
            sent_lately=column("sent_lately", np.bool_),
        )
        self.set_own_dates(rows)
        return rows

    def set_own_dates(self, rows: ExistingRows) -> None:
        """Fill in, in place, the own dates: the event date if there is one, else the send date (section 4)."""
        if self._text_events:
            rows.own_date = rows.date
            return
        days = event_day(rows.event)
        rows.own_date = np.where(days != NONE, days, rows.date)

    def _judge(self, row: dict[str, Any]) -> dict[str, Any]:
        row_id, email_type, instance = int(row["id"]), row["email_type"], row["campaign_instance_id"]
        kind, parent = self.kind_of(row_id, row["status"])
        if kind == DISPATCHED:
            number, followup = self.type_of(row_id, email_type)
            cls = self.class_of(row_id, number, instance)
        else:
            number = self._exact.get(email_type, -1) if isinstance(email_type, str) else -1
            followup = text_of(email_type).startswith(FOLLOWUP_PREFIX)
            cls = self._plan_class(number, instance)
        date = row["scheduled_send_date"]
        reason = row["skip_reason"]
        return {
            "id": row_id,
            # A contact id that cannot be read belongs to nobody.
            "contact_id": row["contact_id"] if isinstance(row["contact_id"], int) else NOBODY,
            "kind": kind,
            "type_number": number,
            "cls": cls,
            "date": self._day(row_id, kind, date),
            "reason": SKIP_REASONS.index(reason or "") if reason is None or reason in SKIP_REASONS[1:] else -1,
            "event": self._event(row),
            "regular": self._regular(row, cls),
            "followup": followup,
            "exact_key": isinstance(date, str) and len(date) == 10 and plain_day(date) is not None,
            "sent_lately": parent and self._is_lately(row),
        }

    def _plan_class(self, number: int, instance: Any) -> int:
        """Return the class whose type and instance a plan row has as they are written, -1 for none."""
        classes = self._run.classes
        for cls in np.flatnonzero(classes.type_number == number).tolist():
            if (instance is None) if cls < len(FIXED_TYPES) else (instance == int(classes.instance[cls])):
                return int(cls)
        return -1

    def _event(self, row: dict[str, Any]) -> int:
        parts = [row[name] for name in _EVENT]
        if self._text_events:
            parts = [integer_of(part) for part in parts]
        if not all(isinstance(part, int) for part in parts):
            return -1
        year, month, day = parts
        real = 1 <= year <= 9999 and 1 <= month <= 12 and 1 <= day <= 31
        return int(event_number(year, month, day)) if real else -1

    def _is_lately(self, row: dict[str, Any]) -> bool:
        """Return whether a sent row may be young enough for a follow-up; section 8 decides it exactly."""
        days = [self._date(row[name])[0] for name in ("actual_send_datetime", "scheduled_send_date")]
        return any(day == NONE or day >= self._since for day in days)

    def _regular(self, row: dict[str, Any], cls: int) -> bool:
        """Return whether a row says what every row of its class says."""
        classes = self._run.classes
        return (
            cls >= 0
            and row["scheduled_send_time"] == self._run.configuration.send_time
            and row["metadata"] is None
            and row["priority"] == classes.priorities[cls]
            and row["email_template"] == classes.email_template[cls]
            and row["sms_template"] == classes.sms_template[cls]
        )
