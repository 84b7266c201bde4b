"""Campaign emails (rules, section 7)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from . import hashing
from .configuration import Configuration
from .contacts import Contact
from .dates import beyond_calendar, shift
from .records import CampaignInstance, CampaignRow, CampaignType, HistoryRow, Organization
from .rows import Row, campaign_handled, candidate_date
from .windows import Windows

SLACK_DAYS = 30


@dataclass(frozen=True)
class Campaign:
    """An active instance with its type."""

    type: CampaignType
    instance: CampaignInstance

    @property
    def email_type(self) -> str:
        """The email type of its rows."""
        return self.type.email_type

    @property
    def spread(self) -> tuple[date, date] | None:
        """First and last day of an even spread; None if contacts have trigger dates."""
        first, last = self.instance.spread_start_date, self.instance.spread_end_date
        return (
            (first, last)
            if self.type.spread_evenly and first is not None and last is not None
            else None
        )

    def targets(self, contact: Contact, configuration: Configuration) -> bool:
        """Return whether states, carriers and underwriting let the contact in."""
        skip_failed = (
            self.type.skip_failed_underwriting or configuration.exclude_failed_underwriting
        )
        if contact.failed_underwriting and skip_failed:
            return False
        states, carriers = self.instance.target_states, self.instance.target_carriers
        return (states is None or contact.state in states) and (
            carriers is None or contact.carrier in carriers
        )

    def trigger_dates(self, rows: list[CampaignRow]) -> list[date | None]:
        """Return one entry per candidate of a contact with these rows, in their order.

        None in a spread.
        """
        if self.spread is not None:
            in_audience = self.type.target_all_contacts or any(row.in_audience for row in rows)
            return [None] if in_audience else []
        usable = [row for row in rows if row.trigger_date is not None]
        if not self.type.target_all_contacts:
            usable = [row for row in usable if row.in_audience]
        elif not usable and self.instance.active_start_date is not None:
            return [self.instance.active_start_date]
        # Each different date once, in the order of the table.
        return list(dict.fromkeys(row.trigger_date for row in usable))


def active_campaigns(organization: Organization, as_of: date) -> list[Campaign]:
    """Return the active instances in order of id."""
    found = []
    for instance in sorted(organization.campaign_instances, key=lambda one: one.id):
        kind = organization.campaign_types.get(instance.campaign_type)
        start, end = instance.active_start_date, instance.active_end_date
        running = (start is None or start <= as_of) and (end is None or as_of <= end)
        readable = kind is not None and not kind.unreadable and not instance.unreadable
        if kind is not None and readable and kind.active and running:
            found.append(Campaign(kind, instance))
    return found


def triggers_ignored(organization: Organization, as_of: date) -> int:
    """Return the number of rows of `contact_campaigns` of active instances without a date."""
    return sum(
        row.trigger_date is None
        for campaign in active_campaigns(organization, as_of)
        if campaign.spread is None
        for row in organization.campaign_rows.get(campaign.instance.id, [])
    )


def plan_campaign(
    campaign: Campaign,
    contact: Contact,
    campaign_rows: list[CampaignRow],
    dispatched: list[HistoryRow],
    windows: Windows,
    as_of: date,
    configuration: Configuration,
) -> list[Row]:
    """Return the rows of one instance for one contact."""
    if not campaign.targets(contact, configuration):
        return []
    if campaign_handled(dispatched, campaign.email_type, campaign.instance.id):
        return []
    rows = []
    for turn, trigger in enumerate(campaign.trigger_dates(campaign_rows)):
        row = _candidate(campaign, contact, trigger, as_of, configuration)
        if row is None:
            continue
        row.turn = turn
        if row.respects_windows:
            reason = windows.reason(row.day)
            if reason is not None:
                row.skip(reason)
        rows.append(row)
    return rows


def _candidate(
    campaign: Campaign,
    contact: Contact,
    trigger: date | None,
    as_of: date,
    configuration: Configuration,
) -> Row | None:
    salt = hashing.CAMPAIGN + campaign.instance.id
    if campaign.spread is not None:
        event, latest = campaign.spread
        if event > latest:
            return None  # a range without a day
        h = hashing.h(contact.id, salt, event.year)
        ideal = shift(event, h % ((latest - event).days + 1))
    else:
        assert trigger is not None
        event, before = trigger, campaign.type.days_before_event
        if beyond_calendar(event, -before):
            return None
        h = hashing.h(contact.id, salt, event.year)
        ideal = shift(event, -before)
        latest = shift(event, -1) if before > 0 else shift(ideal, SLACK_DAYS)
    if campaign.instance.active_end_date is not None:
        latest = min(latest, campaign.instance.active_end_date)
    day = candidate_date(ideal, latest, as_of, h, configuration.catch_up_spread_days)
    if day is None:
        return None
    return Row(
        contact_id=contact.id,
        email_type=campaign.email_type,
        day=day,
        priority=campaign.type.priority,
        event=event,
        latest=latest,
        h=h,
        campaign_instance_id=campaign.instance.id,
        email_template=campaign.instance.email_template,
        sms_template=campaign.instance.sms_template,
        respects_windows=campaign.type.respect_exclusion_windows,
    )
