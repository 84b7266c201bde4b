"""One organization's file -> plain records (the tables that the rules read, and section 1 for contacts).

Missing tables and columns mean that the feature is not used; NULL and unreadable values take the column's
default. Knows no date of today but the one it is given, and plans nothing.
"""

from __future__ import annotations

import functools
import json
import re
import sqlite3
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import zipcodes

from . import values
from .values import Value

DISPATCHED = {"scheduled", "processing", "sent", "delivered"}
SENT = {"sent", "delivered"}
OWN = {"pre-scheduled", "skipped"}


class UnusableOrganizationError(ValueError):
    """A file that no plan can be made for: no `contacts`, or a required column is missing."""


@dataclass(frozen=True)
class Contact:
    """An eligible contact. `carrier` is trimmed and lower-case."""

    id: int
    state: str
    birth_date: date | None
    effective_date: date | None
    failed_underwriting: bool
    carrier: str | None


@dataclass(frozen=True)
class CampaignType:
    """A row of `campaign_types`."""

    name: str
    respect_exclusion_windows: bool
    enable_followups: bool
    days_before_event: int
    target_all_contacts: bool
    priority: int
    active: bool
    spread_evenly: bool
    skip_failed_underwriting: bool


@dataclass(frozen=True)
class CampaignInstance:
    """A row of `campaign_instances`; None where a date is absent or unreadable."""

    id: int
    campaign_type: str
    email_template: str | None
    sms_template: str | None
    active_start_date: date | None
    active_end_date: date | None
    spread_start_date: date | None
    spread_end_date: date | None
    target_states: str | None
    target_carriers: str | None


@dataclass(frozen=True)
class CampaignRow:
    """A row of `contact_campaigns`."""

    contact_id: int
    trigger_date: date | None
    status: str


@dataclass(frozen=True)
class HistoryRow:
    """A row of `email_schedules` that is not the scheduler's own (any status but pre-scheduled and skipped)."""

    id: int
    contact_id: int
    email_type: str
    day: date | None
    status: str
    priority: int
    campaign_instance_id: int | None
    actual_day: date | None

    @property
    def dispatched(self) -> bool:
        """Whether the row belongs to the sender and counts as history (section 4)."""
        return self.status in DISPATCHED

    @property
    def sent_on(self) -> date | None:
        """The day it was sent on (section 8)."""
        return self.actual_day or self.day


@dataclass
class Organization:
    """Everything a run reads. `total` counts all contacts; the other tables are keyed by contact or instance."""

    total: int = 0
    contacts: list[Contact] = field(default_factory=list)
    issues: list[tuple[int, str]] = field(default_factory=list)
    campaign_types: dict[str, CampaignType] = field(default_factory=dict)
    campaign_instances: list[CampaignInstance] = field(default_factory=list)
    #: instance -> its rows in the order of the table (by rowid)
    campaign_rows: dict[int, list[CampaignRow]] = field(default_factory=lambda: defaultdict(list))
    history: dict[int, list[HistoryRow]] = field(default_factory=lambda: defaultdict(list))
    clicks: dict[int, list[date]] = field(default_factory=lambda: defaultdict(list))
    #: contact -> (day, whether it has a yes) of its answers to the eligibility questions
    answers: dict[int, list[tuple[date, bool]]] = field(default_factory=lambda: defaultdict(list))


@functools.cache
def zip_states() -> dict[str, str]:
    """Return ZIP -> state of the package `zipcodes`, all its entries."""
    return {entry["zip_code"]: entry["state"] for entry in zipcodes.list_all()}  # type: ignore[no-untyped-call]


def read_organization(connection: sqlite3.Connection, as_of: date) -> Organization:
    """Read a file. Raises `UnusableOrganizationError`."""
    result = Organization()
    contacts = _rows(connection, "contacts", order="id")
    _require(connection, "contacts", ("id", "email", "zip_code"))
    result.total = len(contacts)
    for row in contacts:
        _read_contact(row, as_of, result)
    for row in _rows(connection, "campaign_types"):
        _read_type(row, result)
    for row in _rows(connection, "campaign_instances", order="id"):
        _read_instance(row, result)
    for row in _rows(connection, "contact_campaigns"):
        instance, contact = row.get("campaign_instance_id"), row.get("contact_id")
        if isinstance(instance, int) and isinstance(contact, int):
            status = values.text(row.get("status"))
            entry = CampaignRow(contact, values.day(row.get("trigger_date")), "pending" if status is None else status)
            result.campaign_rows[instance].append(entry)
    for row in _rows(connection, "email_schedules", order="id"):
        _read_history(row, result)
    _read_engagement(connection, result)
    return result


def _columns(connection: sqlite3.Connection, table: str) -> list[str]:
    return [str(row[1]).lower() for row in connection.execute(f'PRAGMA table_info("{table}")')]


def _require(connection: sqlite3.Connection, table: str, wanted: tuple[str, ...]) -> None:
    columns = _columns(connection, table)
    if not columns:
        raise UnusableOrganizationError(f"no table {table}")
    missing = [name for name in wanted if name not in columns]
    if missing:
        raise UnusableOrganizationError(f"{table} has no column {', '.join(missing)}")


def _rows(connection: sqlite3.Connection, table: str, order: str = "rowid") -> list[dict[str, Value]]:
    """Return all rows as column (lower-case) -> value; none where the table is missing."""
    columns = _columns(connection, table)
    if not columns:
        return []
    by = order if order in columns or order == "rowid" else "rowid"
    return [
        dict(zip(columns, row, strict=True)) for row in connection.execute(f'SELECT * FROM "{table}" ORDER BY {by}')
    ]


# Contacts (section 1) ------------------------------------------------------------------------------------


def _read_contact(row: dict[str, Value], as_of: date, result: Organization) -> None:
    contact_id = row["id"]
    if not isinstance(contact_id, int):
        raise UnusableOrganizationError("contacts.id is not a whole number")
    state = zip_states().get(normal_zip(row["zip_code"]) or "")
    problem = _status_problem(row.get("status")) or email_problem(row["email"])
    if problem is None and values.blank(row["zip_code"]):
        problem = "missing_zip"
    if problem is None and state is None:
        problem = "unknown_zip"
    if problem is not None or state is None:
        result.issues.append((contact_id, problem or "unknown_zip"))
        return
    birth_date = values.day(row.get("birth_date"))
    if birth_date is not None and birth_date > as_of:
        birth_date = None
    effective_date = values.day(row.get("effective_date"))
    if birth_date is None and not values.blank(row.get("birth_date")):
        result.issues.append((contact_id, "invalid_birth_date"))
    if effective_date is None and not values.blank(row.get("effective_date")):
        result.issues.append((contact_id, "invalid_effective_date"))
    # Where a table has both columns, `carrier` wins, whatever is in it.
    carrier = values.text(row["carrier"] if "carrier" in row else row.get("current_carrier"))
    result.contacts.append(
        Contact(
            id=contact_id,
            state=state,
            birth_date=birth_date,
            effective_date=effective_date,
            failed_underwriting=values.truth(row.get("failed_underwriting"), default=False),
            carrier=carrier.strip().lower() if carrier is not None else None,
        )
    )


def _status_problem(value: Value) -> str | None:
    status = values.text(value)
    return None if not status or status.lower() == "active" else "suppressed"


def email_problem(value: Value) -> str | None:
    """Return why an address cannot be used, or None."""
    if values.blank(value):
        return "missing_email"
    address = (values.text(value) or "").strip()
    local, _, domain = address.partition("@")
    # "A dot inside the part after it (not first, not last)": at least one dot that is neither.
    good = address.count("@") == 1 and local != "" and "." in domain[1:-1]
    if not good or any(character.isspace() for character in address):
        return "invalid_email"
    return None


def normal_zip(value: Value) -> str | None:
    """Return the five digits of a ZIP, or None where the value is no ZIP."""
    if isinstance(value, int):
        return f"{value:05d}" if 0 <= value <= 99_999 else None
    found = re.fullmatch(r"([0-9]{5})(?:-[0-9]{4})?", (values.text(value) or "").strip())
    return found[1] if found else None


# Campaigns, history, engagement --------------------------------------------------------------------------


def _read_type(row: dict[str, Value], result: Organization) -> None:
    name = values.text(row.get("name"))
    if name is None or name in result.campaign_types:
        return
    result.campaign_types[name] = CampaignType(
        name=name,
        respect_exclusion_windows=values.truth(row.get("respect_exclusion_windows"), default=True),
        enable_followups=values.truth(row.get("enable_followups"), default=True),
        days_before_event=values.whole_number(row.get("days_before_event"), 0),
        target_all_contacts=values.truth(row.get("target_all_contacts"), default=False),
        priority=values.whole_number(row.get("priority"), 10),
        active=values.truth(row.get("active"), default=True),
        spread_evenly=values.truth(row.get("spread_evenly"), default=False),
        skip_failed_underwriting=values.truth(row.get("skip_failed_underwriting"), default=False),
    )


def _read_instance(row: dict[str, Value], result: Organization) -> None:
    instance_id, campaign_type = row.get("id"), values.text(row.get("campaign_type"))
    if not isinstance(instance_id, int) or campaign_type is None:
        return
    result.campaign_instances.append(
        CampaignInstance(
            id=instance_id,
            campaign_type=campaign_type,
            email_template=values.text(row.get("email_template")),
            sms_template=values.text(row.get("sms_template")),
            active_start_date=values.day(row.get("active_start_date")),
            active_end_date=values.day(row.get("active_end_date")),
            spread_start_date=values.day(row.get("spread_start_date")),
            spread_end_date=values.day(row.get("spread_end_date")),
            target_states=values.text(row.get("target_states")),
            target_carriers=values.text(row.get("target_carriers")),
        )
    )


def _read_history(row: dict[str, Value], result: Organization) -> None:
    status = values.text(row.get("status")) or ""
    row_id, contact_id, instance = row.get("id"), row.get("contact_id"), row.get("campaign_instance_id")
    if status in OWN or not isinstance(contact_id, int):
        return
    result.history[contact_id].append(
        HistoryRow(
            id=row_id if isinstance(row_id, int) else 0,
            contact_id=contact_id,
            email_type=values.text(row.get("email_type")) or "",
            day=values.day(row.get("scheduled_send_date")),
            status=status,
            priority=values.whole_number(row.get("priority"), 10),
            campaign_instance_id=instance if isinstance(instance, int) else None,
            actual_day=values.day(row.get("actual_send_datetime")),
        )
    )


def _read_engagement(connection: sqlite3.Connection, result: Organization) -> None:
    for row in _rows(connection, "tracking_clicks"):
        contact, clicked = row.get("contact_id"), values.day(row.get("clicked_at"))
        if isinstance(contact, int) and clicked is not None:
            result.clicks[contact].append(clicked)
    for row in _rows(connection, "contact_events"):
        contact, created = row.get("contact_id"), values.day(row.get("created_at"))
        if isinstance(contact, int) and created is not None and row.get("event_type") == "eligibility_answered":
            result.answers[contact].append((created, has_yes(row.get("metadata"))))


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
