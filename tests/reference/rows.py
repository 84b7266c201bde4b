"""The planned row, handled events, and the catch-up (rules, sections 4 and 5)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta

from .dates import ordinal
from .records import FOLLOWUP_PREFIX, HistoryRow

PRE_SCHEDULED, SKIPPED = "pre-scheduled", "skipped"
POST_WINDOW_SLACK_DAYS = 30

#: year -> the events of one kind in that year, of one contact
EventsOfYear = Callable[[int], list[date]]


@dataclass
class Row:
    """One row of the plan, and what later sections need of it.

    `latest`, `h`, `respects_windows`.
    """

    contact_id: int
    email_type: str
    day: date
    priority: int
    event: date
    latest: date
    h: int = 0
    status: str = PRE_SCHEDULED
    skip_reason: str | None = None
    campaign_instance_id: int | None = None
    email_template: str | None = None
    sms_template: str | None = None
    #: Which of the contact's candidates of one campaign instance it is, in the order of
    #: `contact_campaigns`.
    turn: int = 0
    parent_id: int | None = None
    parent_type: str | None = None
    respects_windows: bool = True

    @property
    def planned(self) -> bool:
        """Return whether the row is to be sent."""
        return self.status == PRE_SCHEDULED

    @property
    def followup(self) -> bool:
        """Return whether the row is a follow-up, which sections 9 and 10 do not change."""
        return self.email_type.startswith(FOLLOWUP_PREFIX)

    @property
    def instance_order(self) -> int:
        """The campaign instance for orders: none counts as 0."""
        return self.campaign_instance_id if self.campaign_instance_id is not None else 0

    @property
    def key(self) -> tuple[int, str, date]:
        """Return the part of the row that must be unique in `email_schedules`."""
        return self.contact_id, self.email_type, self.day

    def skip(self, reason: str) -> None:
        """Turn the row into one that is not sent."""
        self.status, self.skip_reason = SKIPPED, reason


def nearest_event(day: date, of_year: EventsOfYear) -> date:
    """Return the event nearest to a day; halfway between two, the earlier one."""
    years = range(max(date.min.year, day.year - 1), min(date.max.year, day.year + 1) + 1)
    return min(
        (event for year in years for event in of_year(year)),
        key=lambda event: (abs(event - day), event),
    )


def yearly_handled(
    dispatched: list[HistoryRow], email_type: str, event: date, of_year: EventsOfYear
) -> bool:
    """Return whether a dispatched row belongs to a birthday, effective_date or aep event."""
    return any(
        row.email_type == email_type
        and (row.own_date is None or nearest_event(row.own_date, of_year) == event)
        for row in dispatched
    )


def post_window_handled(dispatched: list[HistoryRow], event: date) -> bool:
    """Return whether a dispatched row of the contact belongs to a post_window event."""
    return any(
        row.email_type == "post_window"
        and (row.own_date is None or abs((row.own_date - event).days) <= POST_WINDOW_SLACK_DAYS)
        for row in dispatched
    )


def campaign_handled(dispatched: list[HistoryRow], email_type: str, instance_id: int) -> bool:
    """Return whether a dispatched row of the contact is of the campaign's type and instance."""
    return any(
        row.email_type == email_type.lower()
        and (row.own_date is None or row.campaign_instance_id == instance_id)
        for row in dispatched
    )


def candidate_date(ideal: date, latest: date, as_of: date, h: int, spread_days: int) -> date | None:
    """Return the day of an email, caught up if its ideal day has passed.

    None if there is none (section 5).
    """
    if latest < as_of or ideal > latest:
        return None
    if ideal >= as_of:
        return ideal
    day = as_of
    while ordinal(day) % spread_days != h % spread_days:
        day += timedelta(days=1)
    return min(day, latest)
