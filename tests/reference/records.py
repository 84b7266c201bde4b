"""Records of what a run reads from an organization's file."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import date

from .contacts import Contact
from .values import Value

SENT = {"sent", "delivered", "opened", "clicked"}
OWN = {"pre-scheduled", "skipped"}
KNOWN_STATUSES = {
    *("scheduled", "queued", "processing", "accepted", "sent", "delivered", "deferred"),
    *("opened", "clicked", "bounced", "complained", "unsubscribed"),
}
ANNIVERSARY_TYPES = ("birthday", "effective_date", "aep")
CAMPAIGN_PREFIX, FOLLOWUP_PREFIX = "campaign_", "followup_"


class Warnings(dict[tuple[str, str, str], list[tuple[int | None, Value]]]):
    """(code, table, column) -> (row id, value) of each value that could not be read."""

    def add(self, code: str, table: str, column: str, row_id: int | None, value: Value) -> None:
        """Add one value."""
        self.setdefault((code, table, column), []).append((row_id, value))


@dataclass(frozen=True)
class CampaignType:
    """A row of `campaign_types`; its defaults where a column is absent, NULL or unreadable."""

    name: str
    respect_exclusion_windows: bool
    enable_followups: bool
    days_before_event: int
    target_all_contacts: bool
    priority: int
    active: bool
    spread_evenly: bool
    skip_failed_underwriting: bool
    #: Column -> value of what is set and cannot be read.
    unreadable: dict[str, Value]

    @property
    def email_type(self) -> str:
        """The email type of its rows."""
        return f"{CAMPAIGN_PREFIX}{self.name}"

    @property
    def may_be_followed(self) -> bool:
        """Return whether its rows may be parents of follow-ups; not if that cannot be read."""
        return self.enable_followups and "enable_followups" not in self.unreadable


@dataclass(frozen=True)
class CampaignInstance:
    """A row of `campaign_instances`.

    None where a date is absent or unreadable, or where a target is everyone.
    """

    id: int
    campaign_type: str
    email_template: str | None
    sms_template: str | None
    active_start_date: date | None
    active_end_date: date | None
    spread_start_date: date | None
    spread_end_date: date | None
    target_states: frozenset[str] | None
    target_carriers: frozenset[str] | None
    unreadable: dict[str, Value]


@dataclass(frozen=True)
class CampaignRow:
    """A row of `contact_campaigns`."""

    contact_id: int
    trigger_date: date | None
    in_audience: bool


@dataclass(frozen=True)
class HistoryRow:
    """A row of `email_schedules` that is not of the current plan.

    email_type: in lower case, after the aliases; `written_type`: as it is in the table.
    contact_id: None if it cannot be read.   event: the event date, if it is stored and real.
    """

    id: int
    contact_id: int | None
    email_type: str
    written_type: str
    day: date | None
    event: date | None
    status: str
    void: bool
    priority: int
    campaign_instance_id: int | None
    actual_day: date | None

    @property
    def dispatched(self) -> bool:
        """Return whether the row belongs to the sender and counts as history (section 4)."""
        return not self.void

    @property
    def own_date(self) -> date | None:
        """The date by which it is decided which event the row belongs to."""
        return self.event or self.day

    @property
    def sent_on(self) -> date | None:
        """The day it was sent on (section 8)."""
        return self.actual_day or self.day

    @property
    def followup(self) -> bool:
        """Return whether the row is a follow-up."""
        return self.email_type.startswith(FOLLOWUP_PREFIX)


@dataclass
class Organization:
    """Everything a run reads.

    `total` counts all contacts; the other tables are keyed by contact or instance.
    """

    total: int = 0
    contacts: list[Contact] = field(default_factory=list)
    issues: list[tuple[int, str]] = field(default_factory=list)
    campaign_types: dict[str, CampaignType] = field(default_factory=dict)
    campaign_instances: list[CampaignInstance] = field(default_factory=list)
    #: instance -> its rows in the order of the table (by rowid)
    campaign_rows: dict[int, list[CampaignRow]] = field(default_factory=lambda: defaultdict(list))
    #: contact -> its rows; None holds the rows whose contact cannot be read
    history: dict[int | None, list[HistoryRow]] = field(default_factory=lambda: defaultdict(list))
    clicks: dict[int, list[date]] = field(default_factory=lambda: defaultdict(list))
    #: contact -> (day, whether it has a yes) of its answers to the eligibility questions
    answers: dict[int, list[tuple[date, bool]]] = field(default_factory=lambda: defaultdict(list))
    warnings: Warnings = field(default_factory=Warnings)

    @property
    def dispatched(self) -> list[HistoryRow]:
        """All dispatched rows."""
        return [row for rows in self.history.values() for row in rows if row.dispatched]
