"""The SQL that reduces a row of `email_schedules` to numbers that can be compared with a new plan.

What a row says besides its key becomes one number: its status, its skip reason, its class
(`rows.RowClasses`) or type, its event date, and whether everything else is as a row of that class
would have it. Texts are compared as bytes: the columns may have collations that this program does
not know.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import apsw
import numpy as np
from numpy.typing import NDArray

from schedd.engine.calendar import FIRST, iso
from schedd.engine.configuration import Configuration
from schedd.engine.rows import FIXED_TYPES, FOLLOWUP_PREFIX, SKIP_REASONS, RowClasses
from schedd.engine.run import Run

from .existing import (
    DISPATCHED,
    KNOWN_STATUSES,
    ODD,
    PARENT_STATUSES,
    SCHEDULED,
    SENT_LATELY,
    SKIPPED,
    VOID,
)
from .odd_values import octets
from .schema import PLAN, Schema

# Type and class of a row in six digits: a class; from `TYPES` on a type of the run without a class;
# a type that is known but not planned by this run; or anything else, which has to be looked at.
TYPES, NOT_PLANNED, UNKNOWN = 900_000, 999_998, 999_999
OTHER_REASON = 999
# A row in one number, from the right: event (7 digits), whether it is regular (1), class or type
# (6), reason (3), status (1), and a 1.
_REGULAR_UNIT, _CLASS_UNIT, _REASON_UNIT, _STATUS_UNIT = 10**7, 10**8, 10**14, 10**17
PACKED_DIGITS, EVENT_LIMIT = 19, _REGULAR_UNIT
NO_DATE = "0000-00-00"


def quoted_texts(texts: Iterable[str]) -> str:
    """Return texts as a list of SQL literals."""
    return ", ".join("'" + text.replace("'", "''") + "'" for text in texts)


@dataclass
class Parts:
    """The parts of the numbers of some rows. event: 0 for none."""

    status: NDArray[Any]
    reason: NDArray[np.int64]
    code: NDArray[np.int64]
    regular: NDArray[np.bool_]
    event: NDArray[np.int64]


def unpacked(without_event: NDArray[np.int64], event: NDArray[np.int64]) -> Parts:
    """Return the parts of numbers that came without their events."""
    return Parts(
        status=without_event // _STATUS_UNIT % 10,
        reason=without_event // _REASON_UNIT % 1000,
        code=without_event // _CLASS_UNIT % 1_000_000,
        regular=without_event // _REGULAR_UNIT % 10 == 1,
        event=event,
    )


class PlanSql:
    """The statement for one run and one file.

    Makes its look-up tables in the connection's temporary database.

    since: the ordinal of the first day whose e-mails may have follow-ups (section 8).
    """

    def __init__(self, connection: apsw.Connection, schema: Schema, run: Run, since: int) -> None:
        self._classes: RowClasses = run.classes
        self._configuration: Configuration = run.configuration
        self._columns = schema.columns.get(PLAN, frozenset())
        names = ("event_year", "event_month", "event_day", "campaign_instance_id")
        self._affinity = {name: schema.affinity(PLAN, name) for name in names}
        self._since = iso(max(since, FIRST))
        self._date_octets = octets(connection, len(NO_DATE))
        # A type with an alias is another one in the history: of its rows the name is looked at.
        known = {
            name for name in run.campaign_names if name.lower() not in run.configuration.aliases
        }
        not_planned = sorted(known - set(run.classes.types))
        self._make_lookups(connection, not_planned)

    def _make_lookups(self, connection: apsw.Connection, not_planned: Sequence[str]) -> None:
        classes = self._classes
        connection.execute(
            "CREATE TEMP TABLE run_type(name TEXT PRIMARY KEY, number INTEGER) WITHOUT ROWID;"
            "CREATE TEMP TABLE run_reason(name TEXT PRIMARY KEY, number INTEGER) WITHOUT ROWID;"
            "CREATE TEMP TABLE run_class(instance INTEGER PRIMARY KEY, number INTEGER, email_type TEXT, "
            "priority INTEGER, email_template TEXT, sms_template TEXT)"
        )
        types = [(name, TYPES + number) for number, name in enumerate(classes.types)]
        types += [(name, NOT_PLANNED) for name in not_planned]
        connection.executemany("INSERT INTO run_type VALUES (?, ?)", types)
        reasons = [
            (name, number * _REASON_UNIT) for number, name in enumerate(SKIP_REASONS) if name
        ]
        connection.executemany("INSERT INTO run_reason VALUES (?, ?)", reasons)
        connection.executemany(
            "INSERT INTO run_class VALUES (?, ?, ?, ?, ?, ?)",
            [
                (
                    int(classes.instance[row_class]),
                    row_class,
                    classes.types[classes.type_number[row_class]],
                    classes.priorities[row_class],
                    classes.email_template[row_class],
                    classes.sms_template[row_class],
                )
                for row_class in range(len(FIXED_TYPES), len(classes))
            ],
        )

    def column(self, name: str) -> str:
        """Return the SQL of a column, NULL where the table does not have it."""
        return f"s.{name}" if name in self._columns else "NULL"

    def _text(self, name: str) -> str:
        return f"{self.column(name)} COLLATE BINARY"

    def packed(self) -> str:
        """Return the SQL of the number."""
        return f"{self.without_event()} + {self.event()}"

    def without_event(self) -> str:
        """Return the SQL of the number without the event date, which can spoil it where its columns hold odd values."""
        status = self._text("status")
        return (
            f"{10 * _STATUS_UNIT} + CASE {status} WHEN 'pre-scheduled' THEN {SCHEDULED * _STATUS_UNIT} "
            f"WHEN 'skipped' THEN {SKIPPED * _STATUS_UNIT} ELSE {self._other_status()} END + {self._reason()} + "
            f"CASE {self._text('email_type')} {self._fixed()} ELSE {self._other_type()} END"
        )

    def date(self) -> str:
        """Return the SQL of the send date as ten characters.

        What does not have ten comes out as `NO_DATE`.

        A BLOB, which sorts behind the empty one, is never stored as a planned row's date is.
        """
        date = self.column("scheduled_send_date")
        plain = f"octet_length({date}) = {self._date_octets} AND {date} < x''"
        return f"CASE WHEN {plain} THEN {date} ELSE '{NO_DATE}' END"

    def _other_status(self) -> str:
        """Return the SQL of a status that is not the plan's.

        Spellings that are not the usual ones are `ODD`.
        """
        status, void = self._text("status"), set(self._configuration.void_statuses)
        sent = quoted_texts(sorted(PARENT_STATUSES - void))
        known = quoted_texts(sorted(KNOWN_STATUSES - void))
        return (
            f"CASE WHEN {status} IN ({known}) THEN "
            f"CASE WHEN {status} IN ({sent}) AND {self._maybe_lately()} THEN {SENT_LATELY * _STATUS_UNIT} "
            f"ELSE {DISPATCHED * _STATUS_UNIT} END "
            f"WHEN {status} IN ({quoted_texts(sorted(void))}) THEN {VOID * _STATUS_UNIT} ELSE {ODD * _STATUS_UNIT} END"
        )

    def _maybe_lately(self) -> str:
        """Return the SQL of whether a sent row may be young enough for a follow-up.

        Unix times always may.
        """
        actual, date = self._text("actual_send_datetime"), self._text("scheduled_send_date")
        return (
            f"({actual} >= '{self._since}' OR {date} >= '{self._since}' "
            f"OR substr({date}, 5, 1) <> '-' OR substr({actual}, 5, 1) <> '-')"
        )

    def _reason(self) -> str:
        reason = self._text("skip_reason")
        return (
            f"CASE WHEN {reason} IS NULL THEN 0 ELSE "
            f"coalesce((SELECT number FROM run_reason WHERE name = {reason}), {OTHER_REASON * _REASON_UNIT}) END"
        )

    def event(self) -> str:
        """Return the SQL of the event date.

        What is not one comes out as 0 or as no whole number of seven digits.

        Columns that hold numbers as TEXT or REAL are read as the numbers that they stand for, so
        that a plan row is compared by what it says.
        """
        names = ("event_year", "event_month", "event_day")
        if not set(names) <= self._columns:
            return "0"
        numbers, stored = [], ""
        for name in names:
            column, affinity = self.column(name), self._affinity[name]
            number = f"CAST({column} AS INTEGER)"
            if affinity == "TEXT":
                stored += f" AND {column} = CAST({number} AS TEXT)"
            elif affinity == "REAL":
                stored += f" AND {column} = {number}"
            elif affinity != "INTEGER":
                stored += f" AND typeof({column}) = 'integer'"
            numbers.append(number if affinity in {"TEXT", "REAL"} else column)
        year, month, day = numbers
        return (
            f"CASE WHEN {month} BETWEEN 1 AND 12 AND {day} BETWEEN 1 AND 31 AND {year} BETWEEN 1 AND 9999{stored} "
            f"THEN {year} * 372 + {month} * 31 + {day} ELSE 0 END"
        )

    def _fixed(self) -> str:
        """Return the branches for the fixed types: class or type, and whether the row is regular.

        They are nearly all rows, and cost no look-up.
        """
        classes, branches = self._classes, ""
        for row_class, name in enumerate(FIXED_TYPES):
            without = (TYPES + int(classes.type_number[row_class])) * _CLASS_UNIT
            template = str(classes.email_template[row_class]).replace("'", "''")
            regular = self._regular(str(classes.priorities[row_class]), f"'{template}'", "NULL")
            branches += (
                f"WHEN '{name}' THEN CASE WHEN {self.column('campaign_instance_id')} IS NULL "
                f"THEN {row_class * _CLASS_UNIT} + {_REGULAR_UNIT} * ({regular}) ELSE {without} END "
            )
        return branches

    def _other_type(self) -> str:
        """Return the same for all other types, by looking up class and type."""
        instance, email_type = self.column("campaign_instance_id"), self._text("email_type")
        regular = self._regular("k.priority", "k.email_template", "k.sms_template")
        row_class = (
            f"(SELECT k.number * {_CLASS_UNIT} + {_REGULAR_UNIT} * ({regular}) FROM run_class k "
            f"WHERE k.instance = {instance} AND k.email_type = {email_type}{self._exact_instance()})"
        )
        # Of a campaign's instance id that is not stored as a number it takes a look whether it is
        # an active one's.
        known = (
            f"CASE WHEN typeof({instance}) IN ('integer', 'null') "
            f"OR substr({email_type}, 1, {len(FOLLOWUP_PREFIX)}) = '{FOLLOWUP_PREFIX}' "
            f"THEN (SELECT number * {_CLASS_UNIT} FROM run_type WHERE name = {email_type}) END"
        )
        return f"coalesce({row_class}, {known}, {UNKNOWN * _CLASS_UNIT})"

    def _exact_instance(self) -> str:
        """Return the SQL of whether an instance id equal to a number is written as the column stores the number."""
        instance, affinity = (
            self.column("campaign_instance_id"),
            self._affinity["campaign_instance_id"],
        )
        # A comparison with a number takes `3.0` and `3e0` for 3.
        conditions = {
            "TEXT": f" AND {instance} = CAST(k.instance AS TEXT)",
            "BLOB": f" AND typeof({instance}) = 'integer'",
        }
        return conditions.get(affinity, "")

    def _regular(self, priority: str, email_template: str, sms_template: str) -> str:
        return (
            f"{self._text('scheduled_send_time')} IS '{self._configuration.send_time}' "
            f"AND {self.column('metadata')} IS NULL AND {self.column('priority')} IS {priority} "
            f"AND {self._text('email_template')} IS {email_template} "
            f"AND {self._text('sms_template')} IS {sms_template}"
        )
