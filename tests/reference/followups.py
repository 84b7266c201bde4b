"""Follow-ups of what was sent (rules, section 8), for one contact."""

from __future__ import annotations

from datetime import date

from .configuration import Configuration
from .contacts import Contact
from .dates import shift
from .records import ANNIVERSARY_TYPES, SENT, CampaignType, HistoryRow, Organization
from .rows import Row
from .windows import Windows

PARENT_TYPES = {*ANNIVERSARY_TYPES, "post_window"}


def plan_followup(
    contact: Contact,
    organization: Organization,
    windows: Windows,
    as_of: date,
    configuration: Configuration,
) -> Row | None:
    """Return the contact's follow-up, if it gets one."""
    if not configuration.followup_enable:
        return None
    history = organization.history.get(contact.id, [])
    parent = latest_parent(history, organization.campaign_types, as_of, configuration)
    if parent is None or parent.sent_on is None:
        return None
    sent_on = parent.sent_on
    followed = any(
        row.dispatched and row.followup and row.day is not None and row.day >= sent_on
        for row in history
    )
    if followed:
        return None
    email_type = followup_type(organization, contact.id, sent_on)
    day = max(shift(sent_on, configuration.followup_delay_days), as_of)
    row = Row(
        contact_id=contact.id,
        email_type=email_type,
        day=day,
        priority=parent.priority,
        event=sent_on,
        latest=day,
        campaign_instance_id=parent.campaign_instance_id,
        email_template=configuration.template(email_type),
        parent_id=parent.id,
        parent_type=parent.written_type,
    )
    reason = windows.reason(day)
    if reason is not None:
        row.skip(reason)
    return row


def latest_parent(
    history: list[HistoryRow],
    types: dict[str, CampaignType],
    as_of: date,
    configuration: Configuration,
) -> HistoryRow | None:
    """Return the row that a follow-up would follow.

    It has the largest send date, then the largest row id.
    """
    oldest = shift(as_of, -configuration.followup_lookback_days)
    parents = [
        (row.sent_on, row.id, row)
        for row in history
        if row.dispatched
        and row.status in SENT
        and _may_be_followed(row.email_type, types)
        and row.sent_on is not None
        and oldest <= row.sent_on <= as_of
    ]
    return max(parents, key=lambda found: found[:2])[2] if parents else None


def _may_be_followed(email_type: str, types: dict[str, CampaignType]) -> bool:
    return email_type in PARENT_TYPES or any(
        kind.email_type.lower() == email_type and kind.may_be_followed for kind in types.values()
    )


def followup_type(organization: Organization, contact_id: int, since: date) -> str:
    """Return the first type that applies, by the engagement dated `since` or later."""
    answers = [yes for day, yes in organization.answers.get(contact_id, []) if day >= since]
    if any(answers):
        return "followup_4_hq_with_yes"
    if answers:
        return "followup_3_hq_no_yes"
    if any(day >= since for day in organization.clicks.get(contact_id, [])):
        return "followup_2_clicked_no_hq"
    return "followup_1_cold"
