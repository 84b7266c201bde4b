"""Data of `schedctl explain`: the reasons for which a contact gets an e-mail or does not."""

from __future__ import annotations

import msgspec


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One step of an event into the plan, or out of it.

    rule: the section of docs/RULES.md.   kind: `event`, `ideal`, `caught_up`, `excluded`,
    `smoothed`, `capped`, `stayed`, `same_day_conflict`, `frequency_limit`, `handled`, `none`, ...
    (an open set).
    date: the e-mail's date after the step, where it has one.   text: a sentence.
    """

    rule: str
    kind: str
    text: str
    date: str | None = None


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """An exclusion window that contains the date in question; both ends included.

    base: the anniversary (moved to the first of its month if the rule says so) from which it is
    counted.
    """

    kind: str
    state: str
    start: str | None = None
    end: str | None = None
    base: str | None = None


class EventExplanation(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a contact.

    status: `pre-scheduled`, `skipped`, or None if the plan has no row for it.

    The dates are those of its e-mail: ideal, caught_up and so on are None if that step did not
    happen.
    """

    email_type: str
    campaign_instance_id: int | None = None
    event_date: str | None = None
    ideal_date: str | None = None
    latest_date: str | None = None
    caught_up_date: str | None = None
    smoothed_date: str | None = None
    capped_date: str | None = None
    send_date: str | None = None
    status: str | None = None
    skip_reason: str | None = None
    windows: list[Window] = []
    steps: list[Step] = []


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """The explanation of one contact's e-mails.

    found: whether the contact exists.   eligible, reason: section 1.   state: that of its ZIP code.
    """

    contact_id: int
    found: bool = True
    eligible: bool = False
    reason: str | None = None
    issues: list[str] = []
    state: str | None = None
    birth_date: str | None = None
    effective_date: str | None = None
    events: list[EventExplanation] = []
