"""The planned row, what the sender already has of a contact, and the catch-up (rules, sections 4 and 5)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

from .dates import ordinal, shift
from .organization import HistoryRow

PRE_SCHEDULED, SKIPPED = "pre-scheduled", "skipped"
FOLLOWUP_PREFIX = "followup_"


@dataclass
class Row:
    """One row of the plan, and what later sections need of it: `latest`, `h`, `respects_windows`."""

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
    #: Which of the contact's candidates of one campaign instance it is, in the order of `contact_campaigns`.
    turn: int = 0
    parent_id: int | None = None
    parent_type: str | None = None
    respects_windows: bool = True

    @property
    def planned(self) -> bool:
        """Whether the row is to be sent."""
        return self.status == PRE_SCHEDULED

    @property
    def followup(self) -> bool:
        """Whether the row is a follow-up, which sections 9 and 10 leave alone."""
        return self.email_type.startswith(FOLLOWUP_PREFIX)

    @property
    def instance_order(self) -> int:
        """The campaign instance for orders: none counts as 0."""
        return self.campaign_instance_id if self.campaign_instance_id is not None else 0

    @property
    def key(self) -> tuple[int, str, date]:
        """What must be unique in `email_schedules`."""
        return self.contact_id, self.email_type, self.day

    def skip(self, reason: str) -> None:
        """Turn the row into one that is not sent."""
        self.status, self.skip_reason = SKIPPED, reason


def handled(dispatched: list[HistoryRow], email_type: str, event: date) -> bool:
    """Return whether a dispatched row of the contact answers the event (section 4; not for campaigns)."""
    first, last = shift(event, -180), shift(event, 60)
    return any(row.email_type == email_type and row.day is not None and first <= row.day <= last for row in dispatched)


def candidate_date(ideal: date, latest: date, as_of: date, h: int, spread_days: int) -> date | None:
    """Return the day of an email, caught up if its ideal day has passed; None if there is none (section 5)."""
    if latest < as_of or ideal > latest:
        return None
    if ideal >= as_of:
        return ideal
    day = as_of
    while ordinal(day) % spread_days != h % spread_days:
        day += timedelta(days=1)
    return min(day, latest)
