"""Birthday, effective-date, AEP and post-window emails of one contact (rules, sections 5 and 6)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

from . import hashing
from .configuration import Configuration
from .dates import anniversary, days_of_year, next_anniversary, shift
from .organization import Contact, HistoryRow
from .rows import Row, candidate_date, handled
from .windows import Windows

POST_WINDOW_SLACK_DAYS = 30


@dataclass(frozen=True)
class Kind:
    """One anniversary type: how its dates follow from its event."""

    email_type: str
    salt: int
    priority: int
    days_before: int
    #: None: the last day is the day before the event (the event itself where `days_before` is 0)
    slack_days: int | None = None

    def ideal(self, event: date) -> date:
        """Return the day the email should go out on."""
        return shift(event, -self.days_before)

    def latest(self, event: date) -> date:
        """Return the last day on which it still may."""
        if self.slack_days is not None:
            return shift(event, self.slack_days)
        return shift(event, -1) if self.days_before > 0 else event


@dataclass(frozen=True)
class Events:
    """The next event of a kind and the one before it."""

    kind: Kind
    next: date | None
    previous: date | None


def events_of(contact: Contact, as_of: date, configuration: Configuration) -> list[Events]:
    """Return the events of all kinds that the contact has."""
    found = []
    if contact.birth_date is not None:
        kind = Kind("birthday", hashing.BIRTHDAY, 10, configuration.birthday_days_before)
        following = next_anniversary(contact.birth_date, as_of)
        found.append(Events(kind, following, anniversary(contact.birth_date, following.year - 1)))
    if contact.effective_date is not None:
        kind = Kind("effective_date", hashing.EFFECTIVE_DATE, 20, configuration.effective_date_days_before)
        following = next_anniversary(contact.effective_date, as_of)
        first_year = contact.effective_date.year + configuration.effective_date_first_anniversary
        pair = [
            event if event.year >= first_year else None
            for event in (following, anniversary(contact.effective_date, following.year - 1))
        ]
        found.append(Events(kind, pair[0], pair[1]))
    found.append(_aep_events(as_of, configuration))
    return found


def _aep_events(as_of: date, configuration: Configuration) -> Events:
    kind = Kind("aep", hashing.AEP, 30, 0, configuration.aep_slack_days)
    days = sorted(
        {
            days_of_year(month, day, year)
            for year in range(as_of.year - 2, as_of.year + 2)
            for month, day in configuration.month_days()
        }
    )
    following = min(day for day in days if kind.latest(day) >= as_of)
    return Events(kind, following, max(day for day in days if day < following))


def plan_anniversaries(
    contact: Contact, dispatched: list[HistoryRow], windows: Windows, as_of: date, configuration: Configuration
) -> list[Row]:
    """Return the rows of sections 5 and 6 of one contact."""
    only_aep = configuration.exclude_failed_underwriting and contact.failed_underwriting
    rows: list[Row] = []
    swallowed: list[date] = []
    for events in events_of(contact, as_of, configuration):
        kind = events.kind
        if only_aep and kind.email_type != "aep":
            continue
        if events.next is not None and not handled(dispatched, kind.email_type, events.next):
            row = _row(contact, kind, events.next, as_of, configuration)
            if row is not None:
                rows.append(row)
                swallowed.append(row.day)
        if events.previous is not None and not handled(dispatched, kind.email_type, events.previous):
            swallowed.append(kind.ideal(events.previous))
    for row in rows:
        reason = windows.reason(row.day)
        if reason is not None:
            row.skip(reason)
    if configuration.enable_post_window and not only_aep:
        rows += _post_windows(contact, swallowed, dispatched, windows, as_of, configuration)
    return rows


def _row(contact: Contact, kind: Kind, event: date, as_of: date, configuration: Configuration) -> Row | None:
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
    days = set()
    for day in swallowed:
        if windows.year_round or windows.reason(day) is None:
            continue
        end = windows.end(day)
        if end is not None:
            days.add(end + timedelta(days=1))
    return [
        Row(
            contact_id=contact.id,
            email_type="post_window",
            day=day,
            priority=40,
            event=day,
            latest=shift(day, POST_WINDOW_SLACK_DAYS),
            h=hashing.h(contact.id, hashing.POST_WINDOW, day.year),
            email_template=configuration.template("post_window"),
        )
        for day in sorted(days)
        if day >= as_of and not handled(dispatched, "post_window", day)
    ]
