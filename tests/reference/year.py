"""A year of daily runs with a sender, with outages of either (rules, section 12, point 5)."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

from .configuration import Configuration, configure
from .contacts import Contact
from .dates import every_day, shift
from .frequency import FREQUENCY, SAME_DAY
from .invariants import belongs, is_aep_day, is_base, latest_aep
from .organization import read_organization
from .plan import Plan, plan
from .records import ANNIVERSARY_TYPES
from .rows import POST_WINDOW_SLACK_DAYS, Row

#: Makes the plan of a day in the file and returns it.
Planner = Callable[[sqlite3.Connection, date, dict[str, Any]], Plan]

_COLUMNS = {
    "skip_reason": "TEXT",
    "priority": "INTEGER",
    "campaign_instance_id": "INTEGER",
    "email_template": "TEXT",
    "sms_template": "TEXT",
    "event_year": "INTEGER",
    "event_month": "INTEGER",
    "event_day": "INTEGER",
    "actual_send_datetime": "TEXT",
}

#: What makes emails one event's: a campaign's contact and instance, a follow-up's parent, else the
#: event date.
Event = tuple[Any, ...]


@dataclass
class Year:
    """The emails sent, and of each event what the plans said of it on the way.

    working_days: on which the planner ran and everything due was sent.
    delayed: contacts of whom an email was skipped for another one, or every contact after an
    outage; such an email may be caught up in a window, and its post-window email is dropped with
    its event (section 6 looks at the ideal date of the previous event).
    """

    sent: list[tuple[date, Event]] = field(default_factory=list)
    planned: dict[Event, date] = field(default_factory=dict)
    skipped: set[Event] = field(default_factory=set)
    working_days: set[date] = field(default_factory=set)
    delayed: set[int] = field(default_factory=set)
    outage: bool = False


def event_of(row: Row) -> Event:
    """Return what makes two rows emails of one event."""
    if row.followup:
        return row.contact_id, "followup", row.parent_id
    if row.campaign_instance_id is not None:
        return row.contact_id, row.email_type, row.campaign_instance_id
    return row.contact_id, row.email_type, row.event


def write_plan(connection: sqlite3.Connection, as_of: date, overrides: dict[str, Any]) -> Plan:
    """Plan with the reference and replace the old plan in the file (section 11)."""
    found = plan(connection, as_of, overrides)
    connection.execute("DELETE FROM email_schedules WHERE status IN ('pre-scheduled', 'skipped')")
    columns = [name for name in found.rows[0]._fields if name != "parent_id"] if found.rows else []
    if columns:
        connection.executemany(
            f"INSERT INTO email_schedules ({', '.join(columns)}, scheduled_send_time) "
            f"VALUES ({', '.join('?' * len(columns))}, '08:30:00')",
            [row[:-1] for row in found.rows],
        )
    return found


def prepare(connection: sqlite3.Connection) -> None:
    """Make the table of the plan, or complete it."""
    connection.execute(
        "CREATE TABLE IF NOT EXISTS email_schedules (id INTEGER PRIMARY KEY, contact_id INTEGER "
        "NOT NULL, "
        "email_type TEXT NOT NULL, scheduled_send_date TEXT NOT NULL, scheduled_send_time TEXT "
        "NOT NULL, "
        "status TEXT NOT NULL)"
    )
    present = {row[1] for row in connection.execute("PRAGMA table_info(email_schedules)")}
    for name, declared in _COLUMNS.items():
        if name not in present:
            connection.execute(f"ALTER TABLE email_schedules ADD COLUMN {name} {declared}")


def run_year(
    connection: sqlite3.Connection,
    first: date,
    overrides: dict[str, Any],
    *,
    days: int = 366,
    outages: Collection[date] = (),
    sender_outages: Collection[date] = (),
    planner: Planner = write_plan,
) -> Year:
    """Run every day from `first` on that is not an outage; after each run, all that is due is sent.

    On `sender_outages` a plan is made and nothing is sent. An email of today is handed to the
    sender and moved on from one status to the next on the following working days. The planner's
    plan must have `details`.
    """
    prepare(connection)
    year = Year(outage=bool(outages or sender_outages))
    for day in (first + timedelta(days=n) for n in range(days)):
        if day in outages:
            continue
        found = planner(connection, day, overrides)
        sending = day not in sender_outages
        if sending:
            year.working_days.add(day)
        year.skipped.update(event_of(row) for row in found.left_out)
        for row in found.details:
            event = event_of(row)
            if not row.planned:
                year.skipped.add(event)
                if row.skip_reason in (SAME_DAY, FREQUENCY):
                    year.delayed.add(row.contact_id)
                continue
            year.planned[event] = max(row.latest, year.planned.get(event, row.latest))
            if row.day <= day and sending:
                year.sent.append((day, event))
        if sending:
            _send(connection, day)
    return year


#: Status -> what the sender makes of it on the next working day; by row id where there are several.
_MOVES = {
    "delivered": ("opened", "delivered", "complained"),
    "sent": ("delivered", "bounced", " Opened"),
    "processing": ("sent", "Sent", "deferred"),
    "scheduled": ("processing", "accepted", "queued"),
}


def _send(connection: sqlite3.Connection, day: date) -> None:
    for status, following in _MOVES.items():
        connection.execute(
            "UPDATE email_schedules SET status = CASE id % 3 WHEN 0 THEN ? WHEN 1 THEN ? ELSE ? "
            "END WHERE status = ?",
            (*following, status),
        )
    unix = int(datetime(day.year, day.month, day.day, 18, tzinfo=UTC).timestamp())
    connection.execute(
        "UPDATE email_schedules SET status = CASE id % 3 WHEN 0 THEN 'sent' WHEN 1 THEN "
        "'scheduled' ELSE 'processing' END, "
        "actual_send_datetime = CASE id % 2 WHEN 0 THEN ? ELSE ? END "
        "WHERE status = 'pre-scheduled' AND scheduled_send_date <= ?",
        (f"{day.isoformat()}T14:30:00Z", unix, day.isoformat()),
    )


def faults(year: Year) -> list[str]:
    """Return a sentence for each event that was e-mailed twice, or not without a reason.

    What may prevent it: a plan skipped it or another row held its key; nobody worked on its latest
    day; a newer email took the follow-up's turn; of two post-window events within 30 days one
    answers for both; the email that a window swallowed was caught up after the window, so that no
    post-window email was needed, or was itself delayed.
    """
    times = Counter(event for _, event in year.sent)
    found = [f"{event} was sent {count} times" for event, count in times.items() if count > 1]
    for event, latest in year.planned.items():
        prevented = (
            event in year.skipped or latest not in year.working_days or event[1] == "followup"
        )
        if event not in times and not prevented and not _post_window_settled(event, year):
            found.append(f"{event} was planned until {latest} and never sent")
    return found


def _post_window_settled(event: Event, year: Year) -> bool:
    """Return whether another email answered for a post-window email or made it needless."""
    contact_id, email_type, of = event
    if email_type != "post_window":
        return False
    return (
        year.outage
        or contact_id in year.delayed
        or any(
            sent[0] == contact_id
            and (
                (sent[1] == email_type and abs((sent[2] - of).days) <= POST_WINDOW_SLACK_DAYS)
                or (sent[1] in ANNIVERSARY_TYPES and 0 <= (day - of).days <= POST_WINDOW_SLACK_DAYS)
            )
            for day, sent in year.sent
        )
    )


def forgotten(
    connection: sqlite3.Connection, first: date, overrides: dict[str, Any], year: Year
) -> list[str]:
    """Return a sentence for each anniversary of the year that was not planned, sent or skipped.

    Found day by day, not by the plans. `connection` is the file after the year.
    """
    configuration = configure(overrides)
    organization = read_organization(connection, first, configuration)
    found = []
    for contact in organization.contacts:
        dispatched = [row for row in organization.history.get(contact.id, []) if row.dispatched]
        for event in every_day(first, shift(max(year.working_days), 1)):
            for email_type, latest in _anniversaries(contact, event, configuration):
                known = (contact.id, email_type, event) in year.skipped or any(
                    belongs(row, email_type, event, contact, configuration) for row in dispatched
                )
                if latest in year.working_days and not known:
                    found.append(f"contact {contact.id}: {email_type} of {event} was forgotten")
    return found


def _anniversaries(
    contact: Contact, day: date, configuration: Configuration
) -> list[tuple[str, date]]:
    """Return (email type, latest day) of the contact's events on a day."""
    found = []
    failed = contact.failed_underwriting and configuration.exclude_failed_underwriting
    if contact.birth_date and is_base(day, contact.birth_date, month_start=False) and not failed:
        found.append(("birthday", shift(day, -min(1, configuration.birthday_days_before))))
    if (
        contact.effective_date
        and is_base(day, contact.effective_date, month_start=False)
        and not failed
    ):
        years = day.year - contact.effective_date.year
        if years >= configuration.effective_date_first_anniversary:
            found.append(
                ("effective_date", shift(day, -min(1, configuration.effective_date_days_before)))
            )
    if is_aep_day(day, configuration):
        found.append(("aep", latest_aep(day, configuration)))
    return found
