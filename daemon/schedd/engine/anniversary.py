"""Anniversary e-mails and the post-window e-mails they leave behind (rules, sections 4 to 6)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from . import calendar
from .calendar import NONE, Ordinals
from .configuration import Configuration
from .contacts import People
from .hashing import Salt, email_hash
from .rows import (
    AEP,
    BIRTHDAY,
    EFFECTIVE_DATE,
    POST_WINDOW,
    History,
    Rows,
    exclusion_reason,
    make_rows,
)
from .windows import Windows

#: A dispatched post-window row handles the events that are at most this many days from its own date
#: (section 4).
POST_WINDOW_NEAR = 30
#: A post-window e-mail may go out this many days after its event (section 6).
POST_WINDOW_SLACK = 30


def catch_up(as_of: int, hashes: NDArray[np.uint64], latest: Ordinals, spread: int) -> Ordinals:
    """Return the day on which an e-mail whose ideal date has passed goes out (section 5)."""
    slots = (hashes % np.uint64(spread)).astype(np.int64)
    return np.minimum(as_of + (slots - as_of) % spread, latest).astype(np.int32)


@dataclass
class Event:
    """One event for some contacts: `contact_index` ascending and unique.

    Dates of the same length.
    """

    contact_index: NDArray[np.int32]
    event: Ordinals
    #: the date to test: the candidate of the next event, the ideal date of the previous one
    date: Ordinals
    latest: Ordinals

    def take(self, chosen: NDArray[np.bool_]) -> Event:
        """Return the events of the contacts chosen."""
        return Event(
            self.contact_index[chosen], self.event[chosen], self.date[chosen], self.latest[chosen]
        )


@dataclass
class EventOutcome:
    """The outcome of the events of one type: those that yield a row, and those that are excluded.

    kinds: what excludes the date of each of `following` (`windows`), 0 for nothing.
    excluded_events: events whose e-mail fell into a window that ends (section 6).
    """

    row_class: int
    following: Event
    kinds: NDArray[np.int8]
    excluded_events: list[Event]


class Anniversaries:
    """Sections 5 and 6 for one run: the date, the configuration and its windows.

    Example:

        rows = run.anniversaries.plan(people, history, numbers)
    """

    def __init__(self, as_of: int, configuration: Configuration, rules: Windows) -> None:
        self.as_of = as_of
        self.configuration = configuration
        self.windows = rules
        year = int(calendar.year_of(np.array([as_of]))[0])
        days = np.arange(366)
        this_year = calendar.anniversary(np.full(366, year), days)
        later = this_year < as_of
        #: by yearday: the year of the next anniversary on or after `as_of`, and the day
        self.next_year = (year + later).astype(np.int32)
        self.next_day = calendar.anniversary(self.next_year, days)
        self.previous_day = calendar.anniversary(self.next_year - 1, days)
        self.aep_event, self.aep_latest, self.aep_previous = self._next_aep(year)

    def _aep_days(self, first_year: int, last_year: int) -> Ordinals:
        """Return the configured AEP days of some years, ascending."""
        days = [
            calendar.MONTH_START[month - 1] + day - 1 for month, day in self.configuration.aep_days
        ]
        years = np.arange(max(first_year, 1), min(last_year, 9999) + 1)
        return np.unique(
            calendar.anniversary(np.repeat(years, len(days)), np.tile(days, len(years)))
        )

    def _next_aep(self, year: int) -> tuple[int, int, int]:
        """Return the next AEP event (section 5), its latest date, and the event before it."""
        events = self._aep_days(year - 3, year + 3)
        # An e-mail never waits for the next AEP day, so that two days do not overlap.
        latest = np.minimum(events[:-1] + self.configuration.aep_slack_days, events[1:] - 1)
        first = int(np.searchsorted(latest, self.as_of))
        return int(events[first]), int(latest[first]), int(events[first - 1])

    def _candidates(
        self,
        people: People,
        contact_index: NDArray[np.int32],
        event: Ordinals,
        ideal: Ordinals,
        latest: Ordinals,
        salt: Salt,
    ) -> Event:
        """Return those events that have a candidate date (section 5), with that date."""
        usable = (latest >= self.as_of) & (ideal <= latest)
        contact_index, event, ideal, latest = (
            contact_index[usable],
            event[usable],
            ideal[usable],
            latest[usable],
        )
        date = ideal.astype(np.int32)
        late = np.flatnonzero(ideal < self.as_of)
        if len(late):
            hashes = email_hash(
                people.ids[contact_index[late]], int(salt), calendar.year_of(event[late])
            )
            date[late] = catch_up(
                self.as_of, hashes, latest[late], self.configuration.catch_up_spread_days
            )
        return Event(contact_index, event.astype(np.int32), date, latest.astype(np.int32))

    def _birthday(self, people: People, contact_index: NDArray[np.int32]) -> tuple[Event, Event]:
        before = self.configuration.birthday_days_before
        contact_index = contact_index[people.birth_day[contact_index] >= 0]
        day = people.birth_day[contact_index]
        slack = -1 if before else 0
        event = self.next_day[day]
        following = self._candidates(
            people, contact_index, event, event - before, event + slack, Salt.BIRTHDAY
        )
        previous = self.previous_day[day]
        return following, Event(contact_index, previous, previous - np.int32(before), previous)

    def _effective_date(
        self, people: People, contact_index: NDArray[np.int32]
    ) -> tuple[Event, Event]:
        before = self.configuration.effective_date_days_before
        first = self.configuration.effective_date_first_anniversary
        contact_index = contact_index[people.effective_day[contact_index] >= 0]
        count = (
            self.next_year[people.effective_day[contact_index]]
            - people.effective_year[contact_index]
        )
        contact_index, count = contact_index[count >= first], count[count >= first]
        slack = -1 if before else 0
        event = self.next_day[people.effective_day[contact_index]]
        following = self._candidates(
            people, contact_index, event, event - before, event + slack, Salt.EFFECTIVE_DATE
        )
        contact_index = contact_index[count - 1 >= first]
        previous = self.previous_day[people.effective_day[contact_index]]
        return following, Event(contact_index, previous, previous - np.int32(before), previous)

    def _aep(self, people: People) -> tuple[Event, Event]:
        contact_index = np.arange(len(people), dtype=np.int32)
        event = np.full(len(people), self.aep_event, np.int32)
        latest = np.full(len(people), self.aep_latest, np.int32)
        following = self._candidates(people, contact_index, event, event, latest, Salt.AEP)
        previous = np.full(len(people), self.aep_previous, np.int32)
        return following, Event(contact_index, previous, previous, previous)

    def eligible_for_all(self, people: People) -> NDArray[np.bool_]:
        """Return which contacts get more than AEP e-mails (`exclude_failed_underwriting`)."""
        if self.configuration.exclude_failed_underwriting:
            return ~people.failed_underwriting
        return np.ones(len(people), np.bool_)

    def events(self, row_class: int, people: People) -> tuple[Event, Event]:
        """Return the next events of a type with candidate dates, the previous with ideal dates."""
        if row_class == AEP:
            return self._aep(people)
        others = np.flatnonzero(self.eligible_for_all(people)).astype(np.int32)
        return (
            self._birthday(people, others)
            if row_class == BIRTHDAY
            else self._effective_date(people, others)
        )

    def evaluate(
        self, row_class: int, people: People, history: History, number: int
    ) -> EventOutcome:
        """Return the outcome of the events of a type; `number`: its type number in `history`."""
        upcoming, past = self.events(row_class, people)
        following = self.unhandled(row_class, upcoming, people, history, number)
        kinds = self.windows.excluded(people, following.contact_index, following.date)
        excluded_events: list[Event] = []
        if self.configuration.enable_post_window:
            # Only windows that end lead to a post-window e-mail.
            usable = self.eligible_for_all(people) & ~self.windows.always(people)
            excluded_events.append(following.take((kinds > 0) & usable[following.contact_index]))
            # Only contacts of states with windows can have lost the previous e-mail to one.
            candidates = past.take(
                (self.windows.has_windows[people.state] & usable)[past.contact_index]
            )
            previous = self.unhandled(row_class, candidates, people, history, number)
            before = self.windows.excluded(people, previous.contact_index, previous.date)
            excluded_events.append(previous.take(before > 0))
        return EventOutcome(row_class, following, kinds, excluded_events)

    def plan(self, people: People, history: History, numbers: dict[int, int]) -> Rows:
        """Return the rows of sections 5 and 6.

        `numbers`: fixed class -> type number in `history`.
        """
        parts: list[Rows] = []
        excluded_events: list[Event] = []
        for row_class in (AEP, BIRTHDAY, EFFECTIVE_DATE):
            outcome = self.evaluate(row_class, people, history, numbers[row_class])
            following = outcome.following
            reasons = exclusion_reason(people.state[following.contact_index], outcome.kinds)
            parts.append(
                make_rows(
                    following.contact_index,
                    row_class,
                    following.date,
                    following.event,
                    following.latest,
                    reasons,
                )
            )
            excluded_events += outcome.excluded_events
        if excluded_events:
            parts.append(self._post_windows(people, history, excluded_events, numbers[POST_WINDOW]))
        return Rows.concatenate(parts)

    def days_after(self, people: People, event: Event) -> Event:
        """Return the day after the window end of each excluded e-mail.

        Those without an end are left out.
        """
        ends = self.windows.ends(people, event.contact_index, event.date)
        usable = ends != NONE
        day = (ends[usable] + 1).astype(np.int32)
        return Event(event.contact_index[usable], day, day, day)

    def post_window_events(
        self, people: People, history: History, after: Event, number: int
    ) -> Event:
        """Return the post-window events that can still go out and are not handled.

        after: as `days_after` returns them, each contact at most once.
        """
        due = after.take(after.event + POST_WINDOW_SLACK >= self.as_of)
        found = self.unhandled(POST_WINDOW, due, people, history, number)
        latest = found.event + np.int32(POST_WINDOW_SLACK)
        return self._candidates(
            people, found.contact_index, found.event, found.event, latest, Salt.POST_WINDOW
        )

    def _post_windows(
        self, people: People, history: History, excluded_events: list[Event], number: int
    ) -> Rows:
        """Return one row for each day after a window that excluded an e-mail (section 6)."""
        found = [
            self.post_window_events(people, history, self.days_after(people, event), number)
            for event in excluded_events
        ]
        contact_index = np.concatenate([event.contact_index for event in found])
        event, date, latest = (
            np.concatenate([getattr(part, name) for part in found])
            for name in ("event", "date", "latest")
        )
        # Equal days of one contact give one row.
        _, first = np.unique((contact_index.astype(np.int64) << 32) + event, return_index=True)
        contact_index, event, date, latest = (
            contact_index[first],
            event[first],
            date[first],
            latest[first],
        )
        kinds = self.windows.excluded(people, contact_index, date)
        return make_rows(
            contact_index,
            POST_WINDOW,
            date,
            event,
            latest,
            exclusion_reason(people.state[contact_index], kinds),
        )

    def unhandled(
        self, row_class: int, event: Event, people: People, history: History, number: int
    ) -> Event:
        """Return those events that no dispatched row of the type handles (section 4)."""
        rows = np.flatnonzero(history.type_number == number)
        if not len(rows) or not len(event.contact_index):
            return event
        index = np.full(len(people), -1, np.int32)
        index[event.contact_index] = np.arange(len(event.contact_index), dtype=np.int32)
        at = index[history.contact_index[rows]]
        rows, at = rows[at >= 0], at[at >= 0]
        own, days = history.own_date[rows], event.event[at]
        dated = own != NONE
        hit = ~dated
        if row_class == POST_WINDOW:
            hit[dated] = np.abs(own[dated].astype(np.int64) - days[dated]) <= POST_WINDOW_NEAR
        else:
            hit[dated] = (
                self._nearest(row_class, people, history.contact_index[rows[dated]], own[dated])
                == days[dated]
            )
        handled = np.zeros(len(event.contact_index), np.bool_)
        handled[at[hit]] = True
        return event.take(~handled)

    def _nearest(
        self, row_class: int, people: People, contact_index: NDArray[np.int32], own: Ordinals
    ) -> Ordinals:
        """Return the event of a type that is nearest to each own date.

        Halfway, the earlier one (section 4).
        """
        if not len(own):
            return own
        years = calendar.year_of(own)
        if row_class == AEP:
            days = self._aep_days(int(years.min()) - 1, int(years.max()) + 1)
            right = np.searchsorted(days, own).clip(1, len(days) - 1)
            left, right = days[right - 1], days[right]
            earlier: Ordinals = np.where(own - left <= right - own, left, right)
            return earlier
        day = (people.birth_day if row_class == BIRTHDAY else people.effective_day)[contact_index]
        nearest: Ordinals = calendar.anniversary(np.maximum(years - 1, 1), day)
        for shift in (0, 1):
            other = calendar.anniversary(np.minimum(years + shift, 9999), day)
            nearest = np.where(np.abs(other - own) < np.abs(nearest - own), other, nearest)
        return nearest
