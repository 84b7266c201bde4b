"""The plan of an organization for a date and overrides: all sections in order.

A run must compute the same plan.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, NamedTuple

from .anniversaries import plan_anniversaries
from .balance import cap, smooth
from .campaigns import active_campaigns, plan_campaign, triggers_ignored
from .configuration import Configuration, Limits, configure, limits
from .followups import plan_followup
from .frequency import limit_contact, one_per_key
from .organization import read_organization
from .records import HistoryRow, Organization, Warnings
from .rows import Row
from .windows import Windows

COLUMNS = (
    "contact_id",
    "email_type",
    "scheduled_send_date",
    "status",
    "skip_reason",
    "priority",
    "campaign_instance_id",
    "email_template",
    "sms_template",
    "event_year",
    "event_month",
    "event_day",
    "parent_id",
)


class PlanRow(NamedTuple):
    """One row as it stands in `email_schedules`; `parent_id` is the one in its metadata."""

    contact_id: int
    email_type: str
    scheduled_send_date: str
    status: str
    skip_reason: str | None
    priority: int | None
    campaign_instance_id: int | None
    email_template: str | None
    sms_template: str | None
    event_year: int | None
    event_month: int | None
    event_day: int | None
    parent_id: int | None

    @property
    def key(self) -> tuple[int, str, str]:
        """Return the part of the row that must be unique."""
        return self.contact_id, self.email_type, self.scheduled_send_date


@dataclass
class Plan:
    """The result of a run.

    The numbers are None if the plan was read from a file, which does not have them.

    issues: (contact_id, reason), in order.
    keys_held: rows left out because a row with a void status has their key (section 11).
    keys_dispatched: rows left out because a dispatched row has their key (section 10).
    """

    as_of: date | None
    rows: list[PlanRow]
    issues: list[tuple[int, str]]
    limit: int | None = None
    duplicates_dropped: int | None = None
    keys_held: int | None = None
    keys_dispatched: int | None = None
    moved_by_smoothing: int | None = None
    moved_by_cap: int | None = None
    triggers_ignored: int | None = None
    warnings: Warnings = field(default_factory=Warnings)
    #: The rows with all that the rules know of them, in the order of `rows`.
    details: list[Row] = field(default_factory=list)
    #: The rows left out for their keys.
    left_out: list[Row] = field(default_factory=list)


def plan_row(row: Row) -> PlanRow:
    """Return a row as it is written."""
    return PlanRow(
        contact_id=row.contact_id,
        email_type=row.email_type,
        scheduled_send_date=row.day.isoformat(),
        status=row.status,
        skip_reason=row.skip_reason,
        priority=row.priority,
        campaign_instance_id=row.campaign_instance_id,
        email_template=row.email_template,
        sms_template=row.sms_template,
        event_year=row.event.year,
        event_month=row.event.month,
        event_day=row.event.day,
        parent_id=row.parent_id,
    )


def plan(
    connection: sqlite3.Connection, as_of: date, overrides: dict[str, Any] | None = None
) -> Plan:
    """Return the plan of an organization; the connection is only read.

    Raises `UnusableOrganizationError`.
    """
    configuration = configure(overrides or {})
    organization = read_organization(connection, as_of, configuration)
    day_limits = limits(configuration, organization.total)
    windows = {contact.id: Windows(contact, configuration) for contact in organization.contacts}
    dispatched = {
        contact_id: [row for row in rows if row.dispatched]
        for contact_id, rows in organization.history.items()
    }
    rows = _candidates(organization, windows, dispatched, as_of, configuration)
    per_day = Counter(row.day for row in organization.dispatched if row.day is not None)
    result = Plan(
        as_of,
        [],
        sorted(organization.issues),
        limit=day_limits.limit,
        warnings=organization.warnings,
    )
    result.moved_by_smoothing = smooth(rows, windows, day_limits, as_of, configuration)
    result.moved_by_cap = cap(rows, windows, per_day, day_limits)
    result.triggers_ignored = triggers_ignored(organization, as_of)
    for contact_rows in _by_contact(rows).values():
        limit_contact(contact_rows, dispatched.get(contact_rows[0].contact_id, []), configuration)
    _settle_keys(rows, organization, result)
    return result


def _candidates(
    organization: Organization,
    windows: dict[int, Windows],
    dispatched: dict[int | None, list[HistoryRow]],
    as_of: date,
    configuration: Configuration,
) -> list[Row]:
    """Return the rows of sections 5 to 8."""
    campaigns = active_campaigns(organization, as_of)
    audiences = [
        _by_contact(organization.campaign_rows.get(one.instance.id, [])) for one in campaigns
    ]
    rows: list[Row] = []
    for contact in organization.contacts:
        own, sent = windows[contact.id], dispatched.get(contact.id, [])
        rows += plan_anniversaries(contact, sent, own, as_of, configuration)
        for campaign, audience in zip(campaigns, audiences, strict=True):
            rows += plan_campaign(
                campaign, contact, audience.get(contact.id, []), sent, own, as_of, configuration
            )
        followup = plan_followup(contact, organization, own, as_of, configuration)
        if followup is not None:
            rows.append(followup)
    return rows


def _by_contact(rows: Sequence[Any]) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = {}
    for row in rows:
        found.setdefault(row.contact_id, []).append(row)
    return found


def _settle_keys(rows: list[Row], organization: Organization, result: Plan) -> None:
    """Leave out rows that conflict with another row (end of section 10, section 11)."""
    unique = one_per_key(rows)
    history = [row for one in organization.history.values() for row in one]
    # A dispatched row has the key of the type that it counts as, and the one that it has in the
    # table.
    compared = {(row.contact_id, row.email_type, row.day) for row in history if row.dispatched}
    written = {(row.contact_id, row.written_type, row.day) for row in history if row.dispatched}
    held = {(row.contact_id, row.written_type, row.day) for row in history if row.void}

    of_dispatched = [row for row in unique if _lower(row.key) in compared or row.key in written]
    others = [row for row in unique if _lower(row.key) not in compared and row.key not in written]
    of_void = [row for row in others if row.key in held]
    result.duplicates_dropped = len(rows) - len(unique)
    result.keys_dispatched, result.keys_held = len(of_dispatched), len(of_void)
    result.left_out = [*of_dispatched, *of_void]
    result.details = sorted((row for row in others if row.key not in held), key=lambda row: row.key)
    result.rows = [plan_row(row) for row in result.details]


def _lower(key: tuple[int, str, date]) -> tuple[int, str, date]:
    return key[0], key[1].lower(), key[2]


def limits_of(overrides: dict[str, Any], total: int) -> Limits:
    """Return the daily limits of an organization of `total` contacts under these overrides."""
    return limits(configure(overrides), total)
