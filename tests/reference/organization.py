"""Reader of one organization's file: tables -> records.

Missing tables and columns mean that the feature is not used. What cannot be read is kept in
`warnings`. Knows no date of today but the one it is given, and plans nothing.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from datetime import date
from typing import Any, TypeVar

from . import values
from .configuration import Configuration
from .contacts import read_contact
from .records import (
    ANNIVERSARY_TYPES,
    KNOWN_STATUSES,
    OWN,
    CampaignInstance,
    CampaignRow,
    CampaignType,
    HistoryRow,
    Organization,
    Warnings,
)
from .targets import listed_carriers, listed_states
from .values import UnreadableError, Value

T = TypeVar("T")


class UnusableOrganizationError(ValueError):
    """A file that no plan can be made for: no `contacts`, or a required column is missing."""


def read_organization(
    connection: sqlite3.Connection, as_of: date, configuration: Configuration
) -> Organization:
    """Read a file. Raises `UnusableOrganizationError`."""
    before = connection.text_factory
    connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
    try:
        return _Reader(connection, as_of, configuration).read()
    finally:
        connection.text_factory = before


class _Row:
    """One row of a table: reads its columns and warns of what it cannot read."""

    def __init__(self, table: str, content: dict[str, Value], warnings: Warnings) -> None:
        self.table = table
        self.content = content
        self.warnings = warnings
        row_id = content.get("id")
        self.id = row_id if isinstance(row_id, int) else None
        self.unreadable: dict[str, Value] = {}

    def get(self, column: str) -> Value:
        return self.content.get(column)

    def text(self, column: str) -> str | None:
        return values.text(self.get(column))

    def warn(self, code: str, column: str, value: Value) -> None:
        self.warnings.add(code, self.table, column, self.id, value)

    def read(self, code: str, column: str, reader: Callable[[Value], T | None]) -> T | None:
        """Return what a column says; None if it is absent or, with a warning, unreadable."""
        try:
            return reader(self.get(column))
        except UnreadableError:
            self.unreadable[column] = self.get(column)
            self.warn(code, column, self.get(column))
            return None

    def boolean(self, column: str, *, default: bool) -> bool:
        found = self.read("unreadable_boolean", column, values.boolean)
        return default if found is None else found

    def number(self, column: str, default: int) -> int:
        found = self.read("unreadable_number", column, values.integer)
        return default if found is None else found

    def contact_id(self) -> int | None:
        return self.read("unreadable_contact_id", "contact_id", values.integer)


class _Reader:
    """Reads the tables of one file."""

    def __init__(
        self, connection: sqlite3.Connection, as_of: date, configuration: Configuration
    ) -> None:
        self.connection = connection
        self.as_of = as_of
        self.configuration = configuration
        self.result = Organization()

    def read(self) -> Organization:
        _require(self.connection, "contacts", ("id", "email", "zip_code"))
        for row in self.rows("contacts"):
            self.contact(row)
        for row in self.rows("campaign_types"):
            self.campaign_type(row)
        for row in self.rows("campaign_instances"):
            self.instance(row)
        for row in self.rows("contact_campaigns"):
            self.campaign_row(row)
        for row in self.rows("email_schedules"):
            self.history_row(row)
        self.engagement()
        self.warn_of_types()
        self.warn_of_campaigns()
        self.result.contacts.sort(key=lambda contact: contact.id)
        self.result.issues.sort()
        return self.result

    def rows(self, table: str) -> list[_Row]:
        """Return all rows, none where the table is missing; column names in lower case."""
        columns = _columns(self.connection, table)
        if not columns:
            return []
        try:
            found = self.connection.execute(f'SELECT * FROM "{table}" ORDER BY rowid').fetchall()
        except sqlite3.OperationalError:  # a view, or a table without rowid
            found = self.connection.execute(f'SELECT * FROM "{table}"').fetchall()
        return [
            _Row(table, dict(zip(columns, row, strict=True)), self.result.warnings) for row in found
        ]

    def day(self, row: _Row, column: str) -> date | None:
        return row.read(
            "unreadable_date", column, lambda value: values.day(value, self.configuration.zone)
        )

    def contact(self, row: _Row) -> None:
        self.result.total += 1
        if row.id is None:
            raise UnusableOrganizationError("contacts.id is not an integer")
        contact, issues = read_contact(
            row.id, row.content, self.as_of, self.configuration, row.warn
        )
        self.result.issues += [(row.id, issue) for issue in issues]
        if contact is not None:
            self.result.contacts.append(contact)

    def campaign_type(self, row: _Row) -> None:
        name = row.text("name")
        if name is None or name in self.result.campaign_types:
            return
        self.result.campaign_types[name] = CampaignType(
            name=name,
            respect_exclusion_windows=row.boolean("respect_exclusion_windows", default=True),
            enable_followups=row.boolean("enable_followups", default=True),
            days_before_event=row.number("days_before_event", 0),
            target_all_contacts=row.boolean("target_all_contacts", default=False),
            priority=row.number("priority", 10),
            active=row.boolean("active", default=True),
            spread_evenly=row.boolean("spread_evenly", default=False),
            skip_failed_underwriting=row.boolean("skip_failed_underwriting", default=False),
            unreadable=row.unreadable,
        )

    def instance(self, row: _Row) -> None:
        instance_id = row.read("unreadable_number", "id", values.integer)
        campaign_type = row.text("campaign_type")
        if instance_id is None or campaign_type is None:
            return
        self.result.campaign_instances.append(
            CampaignInstance(
                id=instance_id,
                campaign_type=campaign_type,
                email_template=row.text("email_template"),
                sms_template=row.text("sms_template"),
                active_start_date=self.day(row, "active_start_date"),
                active_end_date=self.day(row, "active_end_date"),
                spread_start_date=self.day(row, "spread_start_date"),
                spread_end_date=self.day(row, "spread_end_date"),
                target_states=row.read("unknown_state", "target_states", listed_states),
                target_carriers=listed_carriers(row.get("target_carriers")),
                unreadable=row.unreadable,
            )
        )

    def campaign_row(self, row: _Row) -> None:
        contact_id = row.contact_id()
        instance_id = row.read("unreadable_number", "campaign_instance_id", values.integer)
        if contact_id is None or instance_id is None:
            return
        # NULL is pending; a blank status is not.
        status = "pending" if row.get("status") is None else values.word(row.get("status"))
        self.result.campaign_rows[instance_id].append(
            CampaignRow(
                contact_id, self.day(row, "trigger_date"), status in {"pending", "scheduled"}
            )
        )

    def history_row(self, row: _Row) -> None:
        if row.get("status") in OWN:
            return
        status = values.word(row.get("status"))
        void = status in self.configuration.void_statuses
        if not void and status not in KNOWN_STATUSES:
            row.warn("unknown_status", "status", row.get("status"))
        written_type = row.text("email_type") or ""
        lower = written_type.lower()
        found = HistoryRow(
            id=row.id if row.id is not None else 0,
            contact_id=row.contact_id(),
            email_type=self.configuration.aliases.get(lower, lower),
            written_type=written_type,
            day=self.day(row, "scheduled_send_date"),
            event=_event_date(row),
            status=status,
            void=void,
            priority=row.number("priority", 10),
            campaign_instance_id=row.read(
                "unreadable_number", "campaign_instance_id", values.integer
            ),
            actual_day=self.day(row, "actual_send_datetime"),
        )
        self.result.history[found.contact_id].append(found)

    def engagement(self) -> None:
        for row in self.rows("tracking_clicks"):
            contact_id, clicked = row.contact_id(), self.day(row, "clicked_at")
            if contact_id is not None and clicked is not None:
                self.result.clicks[contact_id].append(clicked)
        for row in self.rows("contact_events"):
            contact_id, created = row.contact_id(), self.day(row, "created_at")
            answered = row.text("event_type") == "eligibility_answered"
            if contact_id is not None and created is not None and answered:
                self.result.answers[contact_id].append((created, has_yes(row.get("metadata"))))

    def warn_of_types(self) -> None:
        known = {*ANNIVERSARY_TYPES, "post_window"}
        known |= {kind.email_type.lower() for kind in self.result.campaign_types.values()}
        for row in self.result.dispatched:
            if row.email_type not in known and not row.followup:
                where = ("unknown_type", "email_schedules", "email_type")
                self.result.warnings.add(*where, row.id, row.written_type)

    def warn_of_campaigns(self) -> None:
        """Name the instances that are not planned for an unreadable value, and the value."""
        for instance in self.result.campaign_instances:
            kind = self.result.campaign_types.get(instance.campaign_type)
            for table, unreadable in (
                ("campaign_instances", instance.unreadable),
                ("campaign_types", kind.unreadable if kind is not None else {}),
            ):
                for column, value in unreadable.items():
                    self.result.warnings.add(
                        "campaign_not_planned", table, column, instance.id, value
                    )


def _columns(connection: sqlite3.Connection, table: str) -> list[str]:
    return [str(row[1]).lower() for row in connection.execute(f'PRAGMA table_info("{table}")')]


def _require(connection: sqlite3.Connection, table: str, wanted: tuple[str, ...]) -> None:
    columns = _columns(connection, table)
    if not columns:
        raise UnusableOrganizationError(f"no table {table}")
    missing = [name for name in wanted if name not in columns]
    if missing:
        raise UnusableOrganizationError(f"{table} has no column {', '.join(missing)}")


def _event_date(row: _Row) -> date | None:
    """Return the event date of a row of `email_schedules`, if three INTEGERs make a real date."""
    year, month, day = (row.get(f"event_{part}") for part in ("year", "month", "day"))
    if not (isinstance(year, int) and isinstance(month, int) and isinstance(day, int)):
        return None
    try:
        return values.real_date(year, month, day)
    except UnreadableError:
        return None


def has_yes(metadata: Value) -> bool:
    """Return whether an answer's metadata reports a medical condition or a yes (section 8)."""
    try:
        content: Any = json.loads(values.text(metadata) or "null")
    except ValueError:
        return False
    if not isinstance(content, dict):
        return False
    count = content.get("main_questions_yes_count")
    counted = isinstance(count, int | float) and not isinstance(count, bool) and count > 0
    return content.get("has_medical_conditions") is True or counted
