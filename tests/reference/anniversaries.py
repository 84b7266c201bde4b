"""Birthday, effective-date, AEP and post-window emails of one contact (rules, sections 5 and 6)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial

from . import hashing
from .configuration import Configuration
from .contacts import Contact
from .dates import anniversary, days_of_year, next_anniversary, shift
from .records import HistoryRow
from .rows import (
    POST_WINDOW_SLACK_DAYS,
    EventsOfYear,
    Row,
    candidate_date,
    post_window_handled,
    yearly_handled,
)
from .windows import Windows


@dataclass(frozen=True)
class Kind:
    """One anniversary type of a contact: its events, and how its dates follow from an event."""

    email_type: str
    salt: int
    priority: int
    days_before: int
    of_year: EventsOfYear
    #: None: the last day is the day before the event (the event itself where `days_before` is 0)
    slack_days: int | None = None

    def ideal(self, event: date) -> date:
        """Return the day the email should go out on."""
        return shift(event, -self.days_before)

    def latest(self, event: date) -> date:
        """Return the last day on which it still may."""
        if self.slack_days is not None:
            following = min(
                day
                for year in (event.year, event.year + 1)
                for day in self.of_year(year)
                if day > event
            )
            return min(shift(event, self.slack_days), shift(following, -1))
        return shift(event, -1) if self.days_before > 0 else event

    def handled(self, dispatched: list[HistoryRow], event: date) -> bool:
        """Return whether the sender has an email of the event already."""
        return yearly_handled(dispatched, self.email_type, event, self.of_year)


@dataclass(frozen=True)
class Events:
    """The next event of a kind and the one before it."""

    kind: Kind
    next: date | None
    previous: date | None


def _anniversaries(of: date, year: int) -> list[date]:
    return [anniversary(of, year)]


def _aep_days(month_days: Iterable[tuple[int, int]], year: int) -> list[date]:
    return sorted({days_of_year(month, day, year) for month, day in month_days})


def birthday_kind(contact: Contact, configuration: Configuration) -> Kind | None:
    """Return the contact's birthdays."""
    if contact.birth_date is None:
        return None
    of_year = partial(_anniversaries, contact.birth_date)
    return Kind("birthday", hashing.BIRTHDAY, 10, configuration.birthday_days_before, of_year)


def effective_date_kind(contact: Contact, configuration: Configuration) -> Kind | None:
    """Return the anniversaries of the contact's effective date."""
    if contact.effective_date is None:
        return None
    of_year = partial(_anniversaries, contact.effective_date)
    return Kind(
        "effective_date",
        hashing.EFFECTIVE_DATE,
        20,
        configuration.effective_date_days_before,
        of_year,
    )


def aep_kind(configuration: Configuration) -> Kind:
    """Return the AEP days."""
    of_year = partial(_aep_days, configuration.month_days())
    return Kind("aep", hashing.AEP, 30, 0, of_year, configuration.aep_slack_days)


def events_of(contact: Contact, as_of: date, configuration: Configuration) -> list[Events]:
    """Return the events of all kinds that the contact has."""
    found = []
    birthday = birthday_kind(contact, configuration)
    if birthday is not None and contact.birth_date is not None:
        following = next_anniversary(contact.birth_date, as_of)
        found.append(
            Events(birthday, following, anniversary(contact.birth_date, following.year - 1))
        )

    effective = effective_date_kind(contact, configuration)
    if effective is not None and contact.effective_date is not None:
        following = next_anniversary(contact.effective_date, as_of)
        first_year = contact.effective_date.year + configuration.effective_date_first_anniversary
        pair = [
            event if event.year >= first_year else None
            for event in (following, anniversary(contact.effective_date, following.year - 1))
        ]
        found.append(Events(effective, pair[0], pair[1]))

    aep = aep_kind(configuration)
    days = [day for year in range(as_of.year - 2, as_of.year + 2) for day in aep.of_year(year)]
    following = min(day for day in days if aep.latest(day) >= as_of)
    found.append(Events(aep, following, max(day for day in days if day < following)))
    return found


def plan_anniversaries(
    contact: Contact,
    dispatched: list[HistoryRow],
    windows: Windows,
    as_of: date,
    configuration: Configuration,
) -> list[Row]:
    """Return the rows of sections 5 and 6 of one contact."""
    only_aep = configuration.exclude_failed_underwriting and contact.failed_underwriting
    rows: list[Row] = []
    swallowed: list[date] = []
    for events in events_of(contact, as_of, configuration):
        kind = events.kind
        if only_aep and kind.email_type != "aep":
            continue
        if events.next is not None and not kind.handled(dispatched, events.next):
            row = _row(contact, kind, events.next, as_of, configuration)
            if row is not None:
                rows.append(row)
                swallowed.append(row.day)
        if events.previous is not None and not kind.handled(dispatched, events.previous):
            swallowed.append(kind.ideal(events.previous))
    for row in rows:
        reason = windows.reason(row.day)
        if reason is not None:
            row.skip(reason)
    if configuration.enable_post_window and not only_aep:
        rows += _post_windows(contact, swallowed, dispatched, windows, as_of, configuration)
    return rows


def _row(
    contact: Contact, kind: Kind, event: date, as_of: date, configuration: Configuration
) -> Row | None:
    h = hashing.h(contact.id, kind.salt, event.year)
    latest = kind.latest(event)
    day = candidate_date(kind.ideal(event), latest, as_of, h, configuration.catch_up_spread_days)
    if day is None:
        return None
    return Row(
        contact_id=contact.id,
        email_type=kind.email_type,
        day=day,
        priority=kind.priority,
        event=event,
        latest=latest,
        h=h,
        email_template=configuration.template(kind.email_type),
    )


def _post_windows(
    contact: Contact,
    swallowed: list[date],
    dispatched: list[HistoryRow],
    windows: Windows,
    as_of: date,
    configuration: Configuration,
) -> list[Row]:
    """Return one row for each different day after the windows that hold these days."""
    if windows.endless:
        return []
    events = set()
    for day in swallowed:
        end = windows.end(day) if windows.reason(day) is not None else None
        if end is not None:
            events.add(end + timedelta(days=1))

    rows = []
    for event in sorted(events):
        row = _post_window(contact, event, as_of, configuration)
        if row is None or post_window_handled(dispatched, event):
            continue
        reason = windows.reason(row.day)
        if reason is not None:
            row.skip(reason)
        rows.append(row)
    return rows


def _post_window(
    contact: Contact, event: date, as_of: date, configuration: Configuration
) -> Row | None:
    h = hashing.h(contact.id, hashing.POST_WINDOW, event.year)
    latest = shift(event, POST_WINDOW_SLACK_DAYS)
    day = candidate_date(event, latest, as_of, h, configuration.catch_up_spread_days)
    if day is None:
        return None
    return Row(
        contact_id=contact.id,
        email_type="post_window",
        day=day,
        priority=40,
        event=event,
        latest=latest,
        h=h,
        email_template=configuration.template("post_window"),
    )
