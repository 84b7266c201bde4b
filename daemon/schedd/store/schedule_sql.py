"""The SQL that reduces a row of `email_schedules` to one number (`packing.RowFields`).

The number says what the row says besides its key: its status, its skip reason, its class
(`rows.RowClasses`) or type, its event date, and whether everything else is as in a new row of that
class. So comparing an existing row with a planned one is comparing integers, and SQLite returns
two short texts a row instead of twelve values. Texts are compared as bytes: the columns may have
collations that this program does not know.

Rows whose status, type or date have an unusual spelling get a field that says so; `schedule_values`
evaluates them one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import apsw

from schedd.engine.calendar import FIRST, iso
from schedd.engine.configuration import Configuration
from schedd.engine.rows import FIXED_TYPES, FOLLOWUP_PREFIX, SKIP_REASONS, RowClasses
from schedd.engine.run import Run

from . import packing
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
from .packing import (
    CODE,
    NO_EVENT,
    NOT_PLANNED,
    OTHER_REASON,
    REASON,
    REGULAR,
    STATUS,
    TYPES,
    UNKNOWN,
)
from .schema import PLAN, Schema

NO_DATE = "0000-00-00"


def quoted_texts(texts: Iterable[str]) -> str:
    """Return texts as a list of SQL literals."""
    return ", ".join("'" + text.replace("'", "''") + "'" for text in texts)


class PlanSql:
    """The SQL for one run and one file.

    Makes its look-up tables in the connection's temporary database. In the SQL, the table of
    existing rows is `s`.

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
        # A type with an alias is another one in the history, so its rows are evaluated in Python.
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
            "CREATE TEMP TABLE run_class(instance INTEGER PRIMARY KEY, number INTEGER, "
            "email_type TEXT, priority INTEGER, email_template TEXT, sms_template TEXT)"
        )
        types = [(name, TYPES + number) for number, name in enumerate(classes.types)]
        types += [(name, NOT_PLANNED) for name in not_planned]
        connection.executemany("INSERT INTO run_type VALUES (?, ?)", types)
        reasons = [
            (name, REASON.weighted(number)) for number, name in enumerate(SKIP_REASONS) if name
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
        """Return the SQL of a column, NULL if the table does not have it."""
        return f"s.{name}" if name in self._columns else "NULL"

    def _text(self, name: str) -> str:
        return f"{self.column(name)} COLLATE BINARY"

    def packed(self) -> str:
        """Return the SQL of the complete number."""
        return f"{self.without_event()} + {self.event()}"

    def without_event(self) -> str:
        """Return the SQL of the number without the event date.

        Odd values in the columns of the event date can damage the complete number, not this one.
        """
        status = (
            f"CASE {self._text('status')} "
            f"WHEN 'pre-scheduled' THEN {STATUS.weighted(SCHEDULED)} "
            f"WHEN 'skipped' THEN {STATUS.weighted(SKIPPED)} ELSE {self._other_status()} END"
        )
        code = f"CASE {self._text('email_type')} {self._fixed()} ELSE {self._other_type()} END"
        return packing.row_sql(status, self._reason(), code)

    def date(self) -> str:
        """Return the SQL of the send date as ten characters, `NO_DATE` for a date of other length.

        A BLOB counts as such a date: a planned row's date is never stored as one. BLOBs sort after
        all texts, beginning with the empty BLOB.
        """
        date = self.column("scheduled_send_date")
        plain = f"octet_length({date}) = {self._date_octets} AND {date} < x''"
        return f"CASE WHEN {plain} THEN {date} ELSE '{NO_DATE}' END"

    def _other_status(self) -> str:
        """Return the SQL of a status that is not the plan's; an unusual spelling is `ODD`."""
        status, void = self._text("status"), set(self._configuration.void_statuses)
        sent = quoted_texts(sorted(PARENT_STATUSES - void))
        known = quoted_texts(sorted(KNOWN_STATUSES - void))
        return (
            f"CASE WHEN {status} IN ({known}) THEN "
            f"CASE WHEN {status} IN ({sent}) AND {self._maybe_lately()} "
            f"THEN {STATUS.weighted(SENT_LATELY)} ELSE {STATUS.weighted(DISPATCHED)} END "
            f"WHEN {status} IN ({quoted_texts(sorted(void))}) THEN {STATUS.weighted(VOID)} "
            f"ELSE {STATUS.weighted(ODD)} END"
        )

    def _maybe_lately(self) -> str:
        """Return the SQL of whether a sent row may be young enough for a follow-up.

        Dates in another format, such as unix times, always may: Python reads them later.
        """
        actual, date = self._text("actual_send_datetime"), self._text("scheduled_send_date")
        return (
            f"({actual} >= '{self._since}' OR {date} >= '{self._since}' "
            f"OR substr({date}, 5, 1) <> '-' OR substr({actual}, 5, 1) <> '-')"
        )

    def _reason(self) -> str:
        reason = self._text("skip_reason")
        number = f"(SELECT number FROM run_reason WHERE name = {reason})"
        return (
            f"CASE WHEN {reason} IS NULL THEN 0 "
            f"ELSE coalesce({number}, {REASON.weighted(OTHER_REASON)}) END"
        )

    def event(self) -> str:
        """Return the SQL of the packed event date, `NO_EVENT` for none.

        Columns of type TEXT or REAL are read as the numbers that they hold, so that a row of the
        plan is compared by what it says. In a column of any type, a REAL that passes the test for
        a date yields a number with a fraction, which `packing.unpack_row_texts` notices.
        """
        names = ("event_year", "event_month", "event_day")
        if not set(names) <= self._columns:
            return str(NO_EVENT)
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
            f"CASE WHEN {month} BETWEEN 1 AND 12 AND {day} BETWEEN 1 AND 31 "
            f"AND {year} BETWEEN 1 AND 9999{stored} "
            f"THEN {packing.event_sql(year, month, day)} ELSE {NO_EVENT} END"
        )

    def _fixed(self) -> str:
        """Return the branches for the fixed types: `CODE` and `REGULAR`.

        Nearly all rows have a fixed type, and these branches need no look-up.
        """
        classes, branches = self._classes, ""
        for row_class, name in enumerate(FIXED_TYPES):
            without = CODE.weighted(TYPES + int(classes.type_number[row_class]))
            template = str(classes.email_template[row_class]).replace("'", "''")
            regular = self._regular(str(classes.priorities[row_class]), f"'{template}'", "NULL")
            branches += (
                f"WHEN '{name}' THEN CASE WHEN {self.column('campaign_instance_id')} IS NULL "
                f"THEN {CODE.weighted(row_class)} + {REGULAR.sql(regular)} ELSE {without} END "
            )
        return branches

    def _other_type(self) -> str:
        """Return the same for all other types, by looking up class and type."""
        instance, email_type = self.column("campaign_instance_id"), self._text("email_type")
        regular = self._regular("k.priority", "k.email_template", "k.sms_template")
        row_class = (
            f"(SELECT {CODE.sql('k.number')} + {REGULAR.sql(regular)} FROM run_class k "
            f"WHERE k.instance = {instance} AND k.email_type = {email_type}"
            f"{self._exact_instance()})"
        )
        # An instance id that is not stored as a number may still be an active instance's, which
        # only Python can tell.
        known = (
            f"CASE WHEN typeof({instance}) IN ('integer', 'null') "
            f"OR substr({email_type}, 1, {len(FOLLOWUP_PREFIX)}) = '{FOLLOWUP_PREFIX}' "
            f"THEN (SELECT {CODE.sql('number')} FROM run_type WHERE name = {email_type}) END"
        )
        return f"coalesce({row_class}, {known}, {CODE.weighted(UNKNOWN)})"

    def _exact_instance(self) -> str:
        """Return the SQL of whether an instance id is stored as its column stores numbers."""
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
