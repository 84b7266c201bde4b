"""Anniversary e-mails and the post-window e-mails they leave behind (rules, sections 4 to 6)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from . import calendar, windows
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

#: A dispatched row handles an event when its date lies in [event - 180, event + 60] (section 4).
HANDLED_BEFORE, HANDLED_AFTER = 180, 60
#: A post-window e-mail may go out this many days after its event (section 6).
POST_WINDOW_SLACK = 30


def catch_up(as_of: int, hashes: NDArray[np.uint64], latest: Ordinals, spread: int) -> Ordinals:
    """Return the day on which an e-mail whose ideal date has passed goes out (section 5)."""
    slots = (hashes % np.uint64(spread)).astype(np.int64)
    return np.minimum(as_of + (slots - as_of) % spread, latest).astype(np.int32)


@dataclass
class Event:
    """One event for some contacts: `who` ascending and unique; dates of the same length."""

    who: NDArray[np.int32]
    event: Ordinals
    #: the date that is judged: the candidate of the next event, the ideal date of the previous one
    date: Ordinals
    latest: Ordinals

    def take(self, chosen: NDArray[np.bool_]) -> Event:
        """Return the events of the contacts chosen."""
        return Event(self.who[chosen], self.event[chosen], self.date[chosen], self.latest[chosen])


@dataclass
class Judged:
    """What became of the events of one type: the next ones that yield a row, and those a window swallowed.

    kinds: what excludes the date of each of `following` (`windows`), 0 for nothing.
    swallowed: events whose e-mail fell into a window that ends (section 6).
    """

    cls: int
    following: Event
    kinds: NDArray[np.int8]
    swallowed: list[Event]


class Anniversaries:
    """Sections 5 and 6 for one run: the date, the configuration and its windows."""

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
        self.aep_event, self.aep_previous = self._aep_events(year)

    def _aep_events(self, year: int) -> tuple[int, int]:
        """Return the next AEP event whose latest date is not past, and the one before it."""
        days = [calendar.MONTH_START[month - 1] + day - 1 for month, day in self.configuration.aep_days]
        years = np.repeat(np.arange(year - 3, year + 3), len(days))
        events = np.unique(calendar.anniversary(years, np.tile(days, 6)))
        first = int(np.searchsorted(events, self.as_of - self.configuration.aep_slack_days))
        return int(events[first]), int(events[first - 1])

    def _candidates(
        self, people: People, who: NDArray[np.int32], event: Ordinals, before: int, slack: int, salt: Salt
    ) -> Event:
        """Return the next event with its candidate date, for those contacts for whom it yields one."""
        ideal = event - before
        latest = event + slack
        usable = (latest >= self.as_of) & (ideal <= latest)
        who, event, ideal, latest = who[usable], event[usable], ideal[usable], latest[usable]
        date = ideal.astype(np.int32)
        late = np.flatnonzero(ideal < self.as_of)
        if len(late):
            hashes = email_hash(people.ids[who[late]], int(salt), calendar.year_of(event[late]))
            date[late] = catch_up(self.as_of, hashes, latest[late], self.configuration.catch_up_spread_days)
        return Event(who, event.astype(np.int32), date, latest.astype(np.int32))

    def _birthday(self, people: People, who: NDArray[np.int32]) -> tuple[Event, Event]:
        before = self.configuration.birthday_days_before
        who = who[people.birth_day[who] >= 0]
        day = people.birth_day[who]
        slack = -1 if before else 0
        following = self._candidates(people, who, self.next_day[day], before, slack, Salt.BIRTHDAY)
        previous = self.previous_day[day]
        return following, Event(who, previous, previous - np.int32(before), previous)

    def _effective_date(self, people: People, who: NDArray[np.int32]) -> tuple[Event, Event]:
        before = self.configuration.effective_date_days_before
        first = self.configuration.effective_date_first_anniversary
        who = who[people.effective_day[who] >= 0]
        count = self.next_year[people.effective_day[who]] - people.effective_year[who]
        who, count = who[count >= first], count[count >= first]
        slack = -1 if before else 0
        event = self.next_day[people.effective_day[who]]
        following = self._candidates(people, who, event, before, slack, Salt.EFFECTIVE_DATE)
        who = who[count - 1 >= first]
        previous = self.previous_day[people.effective_day[who]]
        return following, Event(who, previous, previous - np.int32(before), previous)

    def _aep(self, people: People) -> tuple[Event, Event]:
        who = np.arange(len(people), dtype=np.int32)
        event = np.full(len(people), self.aep_event, np.int32)
        following = self._candidates(people, who, event, 0, self.configuration.aep_slack_days, Salt.AEP)
        previous = np.full(len(people), self.aep_previous, np.int32)
        return following, Event(who, previous, previous, previous)

    def passed(self, people: People) -> NDArray[np.bool_]:
        """Return who gets more than AEP e-mails (`exclude_failed_underwriting`)."""
        if self.configuration.exclude_failed_underwriting:
            return ~people.failed_underwriting
        return np.ones(len(people), np.bool_)

    def events(self, cls: int, people: People) -> tuple[Event, Event]:
        """Return the next events of a type with their candidates, and the previous ones with their ideal dates."""
        if cls == AEP:
            return self._aep(people)
        others = np.flatnonzero(self.passed(people)).astype(np.int32)
        return self._birthday(people, others) if cls == BIRTHDAY else self._effective_date(people, others)

    def judge(self, cls: int, people: People, history: History, number: int) -> Judged:
        """Return what becomes of the events of a type; `number`: its type number in `history`."""
        upcoming, past = self.events(cls, people)
        following = self.open(upcoming, people, history, number)
        kinds = self.windows.excluded(people, following.who, following.date)
        swallowed: list[Event] = []
        if self.configuration.enable_post_window:
            passed = self.passed(people)
            swallowed.append(following.take((kinds > windows.YEAR_ROUND) & passed[following.who]))
            # Only contacts of states with windows can have lost the previous e-mail to one.
            candidates = past.take(self.windows.has_windows[people.state[past.who]] & passed[past.who])
            previous = self.open(candidates, people, history, number)
            before = self.windows.excluded(people, previous.who, previous.date)
            swallowed.append(previous.take(before > windows.YEAR_ROUND))
        return Judged(cls, following, kinds, swallowed)

    def plan(self, people: People, history: History, numbers: dict[int, int]) -> Rows:
        """Return the rows of sections 5 and 6. `numbers`: fixed class -> type number in `history`."""
        parts: list[Rows] = []
        swallowed: list[Event] = []
        for cls in (AEP, BIRTHDAY, EFFECTIVE_DATE):
            judged = self.judge(cls, people, history, numbers[cls])
            following = judged.following
            reasons = exclusion_reason(people.state[following.who], judged.kinds)
            parts.append(make_rows(following.who, cls, following.date, following.event, following.latest, reasons))
            swallowed += judged.swallowed
        if swallowed:
            parts.append(self._post_windows(people, history, swallowed, numbers[POST_WINDOW]))
        return Rows.concatenate(parts)

    def days_after(self, people: People, event: Event) -> Event:
        """Return the day after the window end of each swallowed e-mail; those without an end are left out."""
        ends = self.windows.ends(people, event.who, event.date)
        usable = ends != NONE
        day = (ends[usable] + 1).astype(np.int32)
        return Event(event.who[usable], day, day, day)

    def _post_windows(self, people: People, history: History, swallowed: list[Event], number: int) -> Rows:
        """Return one post-window row for each day after a window that swallowed an e-mail (section 6)."""
        pairs = []
        for event in swallowed:
            after = self.days_after(people, event)
            found = self.open(after.take(after.event >= self.as_of), people, history, number)
            pairs.append((found.who.astype(np.int64) << 32) | found.event)
        unique = np.unique(np.concatenate(pairs))
        day = (unique & 0xFFFFFFFF).astype(np.int32)
        return make_rows(unique >> 32, POST_WINDOW, day, day, day + POST_WINDOW_SLACK)

    @staticmethod
    def open(event: Event, people: People, history: History, number: int) -> Event:
        """Return those events that no dispatched row of the type handles (section 4)."""
        rows = np.flatnonzero((history.type_number == number) & (history.date != NONE))
        if not len(rows) or not len(event.who):
            return event
        place = np.full(len(people), -1, np.int32)
        place[event.who] = np.arange(len(event.who), dtype=np.int32)
        at = place[history.who[rows]]
        rows, at = rows[at >= 0], at[at >= 0]
        days = history.date[rows].astype(np.int64) - event.event[at]
        handled = np.zeros(len(event.who), np.bool_)
        handled[at[(days >= -HANDLED_BEFORE) & (days <= HANDLED_AFTER)]] = True
        return event.take(~handled)
