"""Organizations of a few rows, for examples that can be worked out by hand."""

from __future__ import annotations

import sqlite3
from datetime import date
from typing import Any

from tests.reference.plan import plan

SCHEMA = """
CREATE TABLE contacts (id INTEGER PRIMARY KEY, email, zip_code, birth_date, effective_date,
  failed_underwriting);
CREATE TABLE email_schedules (id INTEGER PRIMARY KEY, contact_id, email_type, scheduled_send_date,
  status, priority,
  campaign_instance_id, actual_send_datetime, event_year, event_month, event_day);
"""
LOOSE = {"balance": {"daily_cap_percent": 100.0}, "frequency": {"max_emails_per_period": 99}}


def planned(script, as_of, overrides=LOOSE):
    """Plan an organization; rows as {(contact, type): [(date, reason or None)]}."""
    connection = sqlite3.connect(":memory:")
    connection.executescript(SCHEMA + script)
    found: dict[tuple[int, str], list[Any]] = {}
    for row in plan(connection, date.fromisoformat(as_of), overrides).rows:
        found.setdefault((row.contact_id, row.email_type), []).append(
            (row.scheduled_send_date, row.skip_reason)
        )
    return found


def sent(
    email_type,
    day,
    *,
    event=None,
    status="sent",
    contact_id=1,
    instance="NULL",
    actual="NULL",
    row_id="NULL",
):
    """Return a row of history as SQL.

    `event` is the event date, `contact_id`, `instance` and `actual` are SQL.
    """
    year, month, of_month = event.split("-") if event else ("NULL", "NULL", "NULL")
    numbers = f"{year}, {month.lstrip('0')}, {of_month.lstrip('0')}"
    values = (
        f"{row_id}, {contact_id}, '{email_type}', {day!r}, {status!r}, 10, {instance}, "
        f"{actual}, {numbers}"
    )
    return f"INSERT INTO email_schedules VALUES ({values});"


def of_type(found, email_type):
    """Return the rows of contact 1 of one type."""
    return found.get((1, email_type), [])


def contact(script_id=1, zip_code="73301", birth="NULL", effective="NULL", failed=0):
    return (
        f"INSERT INTO contacts VALUES ({script_id}, 'a@b.org', '{zip_code}', {birth}, "
        f"{effective}, {failed});"
    )
