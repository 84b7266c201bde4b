"""Findings on rows of the sender: unknown statuses and types, unreadable dates and contact ids."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

from schedd.engine.calendar import NONE
from schedd.engine.coercions import integer_of, is_blank, trimmed
from schedd.store.existing import KNOWN_STATUSES
from schedd.store.schedules import NEEDED
from schedd.store.schema import PLAN, Schema
from schedproto.checks import ERROR, WARNING, CheckFinding

from .aliases import suggested_type
from .context import Group, Inspection, finding, largest_first, plural

#: The SQL of a row that is not the scheduler's own.
_FOREIGN = "(status IS NULL OR status COLLATE BINARY NOT IN ('pre-scheduled', 'skipped'))"
_EVENT = ("event_year", "event_month", "event_day")


def history_findings(inspection: Inspection) -> Iterator[CheckFinding]:
    """Yield the findings on rows of the sender."""
    schema = inspection.schema
    if not schema.columns.get(PLAN, frozenset()) >= NEEDED:
        return
    statuses, types = _statuses_and_types(inspection)
    yield from _unknown_statuses(statuses)
    yield from _unknown_types(inspection, types)
    yield from _unreadable_dates(inspection)
    yield from contact_ids(inspection, PLAN, _FOREIGN)


def _is_void(inspection: Inspection, status: Any) -> bool:
    return trimmed(status).lower() in inspection.configuration.void_statuses


def _statuses_and_types(inspection: Inspection) -> tuple[dict[str, Group], dict[str, Group]]:
    """Return rows with unknown statuses by status, and dispatched rows by canonical type."""
    statuses: dict[str, Group] = {}
    types: dict[str, Group] = {}
    for status, email_type, count, row_id in inspection.distinct(
        PLAN, ["status", "email_type"], _FOREIGN
    ):
        if _is_void(inspection, status):
            continue
        name = trimmed(status).lower()
        if name not in KNOWN_STATUSES:
            statuses.setdefault("NULL" if status is None else name, Group()).add(
                count, row_id, status
            )
        types.setdefault(inspection.run.canonical_type(email_type), Group()).add(
            count, row_id, email_type
        )
    return statuses, types


def _unknown_statuses(statuses: dict[str, Group]) -> Iterator[CheckFinding]:
    for name, group in largest_first(statuses).items():
        yield finding(
            "unknown_status",
            f"{plural(group.count, 'row')} of {PLAN} with the status {name!r}, which the rules "
            "do not know; they count as sent.",
            fix=f"If they were never sent, add {name!r} to history.void_statuses.",
            table=PLAN,
            column="status",
            name=name,
            count=group.count,
            examples=group.examples,
        )


def _unknown_types(inspection: Inspection, types: dict[str, Group]) -> Iterator[CheckFinding]:
    known = inspection.run.known_types
    unknown = {name: group for name, group in types.items() if name not in known}
    configured = inspection.configuration.aliases
    likely = {
        name: meant
        for name in unknown
        if name and (meant := suggested_type(name, known - {*configured}))
    }
    settings = {"history": {"aliases": {**configured, **likely}}}
    for name, group in largest_first(unknown).items():
        meant = likely.get(name)
        rows = f"{plural(group.count, 'sent row')} of {PLAN}"
        many = f"{rows} with the e-mail type {name!r}, which no rule knows"
        fields: dict[str, Any] = {
            "table": PLAN,
            "column": "email_type",
            "name": name,
            "count": group.count,
            "examples": group.examples,
        }
        if meant is not None:
            yield finding(
                "unknown_type",
                f"{many}; if it is another name of {meant!r}, these e-mails go out a second time.",
                fix=f"Add {name} = {meant!r} to history.aliases, if it means that.",
                settings=settings,
                **fields,
            )
        else:
            yield finding(
                "unknown_type", f"{many}; they only fill their day.", severity=WARNING, **fields
            )


def _unreadable_dates(inspection: Inspection) -> Iterator[CheckFinding]:
    """Yield dispatched rows with an unreadable send date, with and without an event date."""
    events = [name for name in _EVENT if name in inspection.schema.columns[PLAN]]
    events = list(_EVENT) if len(events) == len(_EVENT) else []
    column = "scheduled_send_date"
    where = f"{_FOREIGN} AND {column} COLLATE BINARY IS NOT date({column})"
    dated, undated = Group(), Group()
    for value, status, *event, count, row_id in inspection.distinct(
        PLAN, [column, "status", *events], where
    ):
        if _is_void(inspection, status):
            continue
        day, readable = inspection.run.dates.read(value)
        if not readable or day == NONE:
            (dated if _is_event(event) else undated).add(count, row_id, value)
    for group, severity, what in (
        (
            undated,
            ERROR,
            "and they have no event date, so their contacts get no e-mail of this type at all",
        ),
        (dated, WARNING, "so they count for no day"),
    ):
        if group.count:
            yield finding(
                "unreadable_date",
                f"{plural(group.count, 'row')} of the sender with a send date that cannot be "
                f"read, {what}.",
                fix="Write the dates as YYYY-MM-DD in the application.",
                severity=severity,
                table=PLAN,
                column=column,
                name="without event date" if severity == ERROR else "with event date",
                count=group.count,
                examples=group.examples,
            )


def _is_event(parts: list[Any]) -> bool:
    """Return whether an event date is stored as numbers and is a real day (rules, section 4)."""
    if len(parts) < 3 or not all(isinstance(part, int) for part in parts):
        return False
    try:
        dt.date(*parts)
    except (ValueError, OverflowError):
        return False
    return True


# Contact ids, of any table ------------------------------------------------------------------------


def contact_ids(inspection: Inspection, table: str, where: str = "1") -> Iterator[CheckFinding]:
    """Yield contact ids that cannot be read, are not stored as numbers, or have no contact."""
    texts, unreadable = Group(), Group()
    for value, count, row_id in inspection.distinct(
        table, ["contact_id"], f"{where} AND typeof(contact_id) <> 'integer'"
    ):
        if integer_of(value) is not None:
            texts.add(count, row_id, value)
        elif table == PLAN or not is_blank(value):
            unreadable.add(count, row_id, value)
    if unreadable.count:
        yield finding(
            "unreadable_contact_id",
            f"{plural(unreadable.count, 'row')} of {table} with a contact id that cannot be "
            "read; they match no "
            "contact" + (", so their e-mails can go out a second time." if table == PLAN else "."),
            severity=ERROR if table == PLAN else WARNING,
            table=table,
            column="contact_id",
            count=unreadable.count,
            examples=unreadable.examples,
        )
    if texts.count:
        yield finding(
            "text_contact_id",
            f"{plural(texts.count, 'row')} of {table} with a contact id that is not stored as a "
            "whole number; they are matched by its value.",
            table=table,
            column="contact_id",
            count=texts.count,
            examples=texts.examples,
        )
    yield from _orphans(inspection, table, where)


def _orphans(inspection: Inspection, table: str, where: str) -> Iterator[CheckFinding]:
    """Yield rows whose contact does not exist.

    The contact's id is compared as a number, whatever the column's type.
    """
    number = "contact_id" if _is_number(inspection.schema, table) else "CAST(contact_id AS INTEGER)"
    digits = "(typeof(contact_id) = 'integer' OR CAST(contact_id AS TEXT) GLOB '[0-9]*')"
    lost = f"{where} AND {digits} AND NOT EXISTS (SELECT 1 FROM contacts c WHERE c.id = {number})"
    count = int(inspection.connection.execute(f"SELECT count(*) FROM {table} WHERE {lost}").get)
    if count:
        examples = inspection.values.rows(
            f"{table} WHERE {lost} LIMIT 5", [inspection.row_id(table), "contact_id"]
        )
        yield finding(
            "orphan_rows",
            f"{plural(count, 'row')} of {table} {'belongs' if count == 1 else 'belong'} to "
            f"contacts that do not exist; {'it is' if count == 1 else 'they are'} ignored.",
            table=table,
            column="contact_id",
            count=count,
            examples=examples,
        )


def _is_number(schema: Schema, table: str) -> bool:
    return schema.affinity(table, "contact_id") in {"INTEGER", "NUMERIC"}
