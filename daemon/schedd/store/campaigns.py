"""Reading of campaigns, targets and engagement (rules, sections 7 and 8).

If tables or columns are missing, the organization does not use the feature (docs/DATABASE.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import apsw
import numpy as np
from numpy.typing import NDArray

from schedd.engine.calendar import NONE, iso
from schedd.engine.campaigns import WAITING, Targets
from schedd.engine.coercions import cached, integer_of, is_blank, text_of, trimmed
from schedd.engine.findings import Findings
from schedd.engine.followups import Engagement, Parents, says_yes
from schedd.engine.run import Run

from .contacts import Range
from .followups import ParentValues
from .odd_values import OddValues
from .schema import PLAN, READ_TABLES, Schema

Row = dict[str, Any]


def campaign_tables(connection: apsw.Connection, schema: Schema) -> tuple[list[Row], list[Row]]:
    """Return the rows of `campaign_types` and `campaign_instances`, by existing columns."""
    tables: list[list[Row]] = []
    for table, needed in (
        ("campaign_types", ["name"]),
        ("campaign_instances", ["id", "campaign_type"]),
    ):
        if not schema.has(table, *needed):
            tables.append([])
            continue
        columns = [c for c in READ_TABLES[table] if c in schema.columns[table] and c != "metadata"]
        rows = OddValues(connection).rows(f"{table}{schema.table_order(table)}", columns)
        # The bytes of a BLOB count as a text (rules, section 0).
        tables.append(
            [
                {
                    c: text_of(v) if isinstance(v, bytes) else v
                    for c, v in zip(columns, row, strict=True)
                }
                for row in rows
            ]
        )
    types, instances = tables
    return types, instances


def no_targets() -> Targets:
    """Return the targets of a file without campaigns."""
    empty = np.zeros(0, np.int32)
    return Targets(empty, empty, empty, np.zeros(0, np.bool_))


class CampaignReader:
    """Reader of targets, parents and engagement of one file for one run.

    since: the ordinal of the first day that counts for section 8.   findings: values that could not
    be read.

        reader = CampaignReader(connection, read_schema(connection), run, since)
        targets = reader.targets(Range(1, 32_769), people.ids, first=True)
    """

    def __init__(self, connection: apsw.Connection, schema: Schema, run: Run, since: int) -> None:
        self._schema, self._run, self._since = schema, run, since
        self._values = OddValues(connection)
        self._instances = np.array([instance.id for instance in run.instances], np.int64)
        self._spread = {instance.id for instance in run.instances if instance.spread is not None}
        self._active = set(self._instances.tolist())
        self._date = cached(run.dates.read)
        self._waiting = cached(lambda status: status is None or trimmed(status).lower() in WAITING)
        self.findings = Findings()

    def targets(self, chunk: Range, people: NDArray[np.int64], *, first: bool) -> Targets:
        """Return the targets of a chunk's eligible contacts in the active instances.

        people: the ids of the eligible contacts, ascending.   first: whether the chunk is the first
        one, which reports the rows that are in no chunk.
        """
        table = "contact_campaigns"
        if not len(self._instances) or not self._schema.has(
            table, "contact_id", "campaign_instance_id"
        ):
            return no_targets()
        names = [
            name if self._schema.has(table, name) else "NULL" for name in ("trigger_date", "status")
        ]
        rows = self._rows(table, chunk, ["campaign_instance_id", *names], "", first=first)
        rows = [row for row in self._with_instances(rows) if row[2] in self._active]
        if not rows:
            return no_targets()
        _, contacts, numbers, triggers, statuses = zip(*rows, strict=True)
        days = np.array([day for day, _ in map(self._date, triggers)], np.int32)
        self._note_missing_triggers(
            [rows[index] for index in np.flatnonzero(days == NONE).tolist()]
        )
        contact_index, there = _indices(people, contacts)
        instances = np.searchsorted(self._instances, np.array(numbers, np.int64))
        return Targets(
            contact_index=contact_index[there],
            instance=instances[there].astype(np.int32),
            trigger=days[there],
            waiting=np.array(list(map(self._waiting, statuses)), np.bool_)[there],
        )

    def _with_instances(self, rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        """Return targets with their instance ids as integers, without those that are unreadable."""
        if _all_numbers(rows, 2):
            return rows
        found = []
        for row in rows:
            instance = integer_of(row[2])
            if instance is None:
                self.findings.add(
                    "unreadable_integer",
                    "contact_campaigns",
                    "campaign_instance_id",
                    row[0],
                    row[2],
                )
            else:
                found.append((*row[:2], instance, *row[3:]))
        return found

    def _note_missing_triggers(self, rows: list[tuple[Any, ...]]) -> None:
        """Add findings for targets of active instances that are ignored for lack of a date."""
        for row_id, _, instance, trigger, _ in rows:
            if instance not in self._spread:
                code = "missing_date" if self._date(trigger)[1] else "unreadable_date"
                self.findings.add(code, "contact_campaigns", "trigger_date", row_id, trigger)

    def parents(
        self, row_ids: NDArray[np.int64], contact_ids: NDArray[np.int64], people: NDArray[np.int64]
    ) -> tuple[Parents, list[ParentValues]]:
        """Return the rows with these ids that may have a follow-up, and the columns it copies."""
        types = set(self._run.parent_types)
        names = (
            "actual_send_datetime",
            "scheduled_send_date",
            "email_type",
            "priority",
            "campaign_instance_id",
        )
        columns = [f"s.{name}" if self._schema.has(PLAN, name) else "NULL" for name in names]
        rows = self._values.by_id(PLAN, row_ids, columns) if types else []
        contact_index, there = _indices(people, contact_ids.tolist() if rows else [])
        chosen: list[int] = []
        sent: list[int] = []
        values: list[ParentValues] = []
        for index in np.flatnonzero(there).tolist():
            actual, date, email_type, priority, instance = rows[index]
            if self._run.canonical_type(email_type) not in types:
                continue
            day, readable = self._date(actual)
            if not readable:
                self.findings.add(
                    "unreadable_date", PLAN, "actual_send_datetime", int(row_ids[index]), actual
                )
            if day == NONE:
                day = self._date(date)[0]
            number = integer_of(priority)
            chosen.append(index)
            sent.append(day)
            # A priority that cannot be read counts as absent (docs/DATABASE.md, "Defaults").
            values.append(
                ParentValues(
                    text_of(email_type), 10 if number is None else number, integer_of(instance)
                )
            )
        parents = Parents(
            contact_index=contact_index[chosen] if chosen else np.zeros(0, np.int32),
            row_id=row_ids[chosen] if chosen else np.zeros(0, np.int64),
            sent=np.array(sent, np.int32),
        )
        return parents, values

    def engagement(self, chunk: Range, people: NDArray[np.int64], *, first: bool) -> Engagement:
        """Return the recent clicks and eligibility answers of a chunk's eligible contacts."""
        clicks: list[Any] = []
        answers: list[Any] = []
        if self._schema.has("tracking_clicks", "contact_id", "clicked_at"):
            lately = f" AND {self._lately('clicked_at')}"
            clicks = self._rows("tracking_clicks", chunk, ["clicked_at"], lately, first=first)
        if self._schema.has("contact_events", "contact_id", "event_type", "created_at"):
            metadata = "metadata" if self._schema.has("contact_events", "metadata") else "NULL"
            answered = "CAST(event_type AS TEXT) = 'eligibility_answered'"
            lately = f" AND {answered} AND {self._lately('created_at')}"
            answers = self._rows(
                "contact_events", chunk, ["created_at", metadata], lately, first=first
            )
        click_contact, click_there = _indices(people, [row[1] for row in clicks])
        answer_contact, answer_there = _indices(people, [row[1] for row in answers])
        click_days = [self._engaged_on("tracking_clicks", "clicked_at", row) for row in clicks]
        answer_days = [self._engaged_on("contact_events", "created_at", row) for row in answers]
        return Engagement(
            click_contact=click_contact[click_there],
            click_day=np.array(click_days, np.int32)[click_there],
            answer_contact=answer_contact[answer_there],
            answer_day=np.array(answer_days, np.int32)[answer_there],
            answer_yes=np.array([says_yes(row[3]) for row in answers], np.bool_)[answer_there],
        )

    def _engaged_on(self, table: str, column: str, row: Sequence[Any]) -> int:
        day, readable = self._date(row[2])
        if not readable:
            self.findings.add("unreadable_date", table, column, row[0], row[2])
        return int(day)

    def _lately(self, column: str) -> str:
        """Return the SQL of whether a date can be recent; one in another format always can."""
        since = iso(max(self._since, -719_000))
        return f"({column} COLLATE BINARY >= '{since}' OR substr({column}, 5, 1) <> '-')"

    def _rows(
        self, table: str, chunk: Range, columns: Sequence[str], condition: str, *, first: bool
    ) -> list[tuple[Any, ...]]:
        """Return (row id, contact id, then the columns) of a chunk's rows, for ids of any type."""
        columns = [self._schema.row_id(table), "contact_id", *columns]
        order = self._schema.table_order(table)
        usual, odd = _contact_conditions(chunk, self._schema.affinity(table, "contact_id"))
        # Two searches of an index on the contact; as one condition they would scan the table for
        # each chunk.
        rows = self._values.rows(f"{table} WHERE {odd}{condition}", columns)
        rows.sort(key=lambda row: row[0] or 0)
        if usual is not None:
            rows = self._values.rows(f"{table} WHERE {usual}{condition}{order}", columns) + rows
        if _all_numbers(rows, 1):
            return rows
        found = []
        for row_id, value, *rest in rows:
            contact = integer_of(value)
            if contact is None:
                if first and not is_blank(value):
                    self.findings.add("unreadable_contact_id", table, "contact_id", row_id, value)
            elif contact >= chunk.low and (chunk.high is None or contact < chunk.high):
                found.append((row_id, contact, *rest))
        return found


def _all_numbers(rows: list[tuple[Any, ...]], column: int) -> bool:
    """Return whether a column of some rows has only integers."""
    return {type(row[column]) for row in rows} <= {int}


def _contact_conditions(chunk: Range, affinity: str) -> tuple[str | None, str]:
    """Return the SQL conditions of a chunk's rows with usual contact ids, and of odd ones.

    The second condition may select rows of other chunks, too. The first is None if the second
    selects all rows.
    """
    within = chunk.where("contact_id")
    if affinity in {"INTEGER", "NUMERIC"}:
        # The text of a number is stored as the number. Other texts sort after all numbers.
        return within, "contact_id >= ''"
    if affinity == "BLOB":
        return f"{within} AND typeof(contact_id) = 'integer'", "typeof(contact_id) <> 'integer'"
    high = "" if chunk.high is None else f" AND CAST(contact_id AS INTEGER) < {chunk.high}"
    plain = (
        "octet_length(contact_id) < 19 "
        "AND contact_id GLOB '[0-9]*' AND contact_id NOT GLOB '*[^0-9]*'"
    )
    return None, f"((CAST(contact_id AS INTEGER) >= {chunk.low}{high}) OR NOT ({plain}))"


def _indices(
    ids: NDArray[np.int64], wanted: Sequence[int]
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Return the index of each wanted contact in `ids` (ascending), and which are in it."""
    contact = np.array(wanted, np.int64)
    index = np.searchsorted(ids, contact).astype(np.int32)
    there = index < len(ids)
    there[there] = ids[index[there]] == contact[there]
    return index, there
