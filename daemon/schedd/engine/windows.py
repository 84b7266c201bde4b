"""Exclusion windows (rules, section 3): is a date excluded for a contact, by what, and until when.

Works on vectors of (contact, date) pairs. Only pairs of states that have rules cost anything, and
only dates that are absent or unreadable, rules that apply for a time and rules with ages cost more
than a plain window.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import calendar
from .calendar import MONTH_START, NONE, YEARDAY_MONTH, Ordinals
from .configuration import EXCLUDE, IGNORE, Configuration
from .contacts import People
from .rules import KINDS, Rules, WindowRule
from .states import STATE_INDEX, STATES

#: Kinds of exclusion, in the order in which the first that applies is named (section 5); 0 is "not
#: excluded".
YEAR_ROUND, BIRTHDAY, EFFECTIVE, UNREADABLE, MISSING = 1, 2, 3, 4, 5
KIND_NUMBER = {name: number for number, name in enumerate(KINDS, start=1)}

#: A chain of windows that is unbroken after this many days of unchanging rules never ends: leap
#: years come at least every 8 years, so a gap that comes at all comes sooner.
ENDLESS_DAYS = 4000

#: The end of what has no end; later than every date.
_FOREVER = np.int32(2**31 - 1)
#: Less and more than any difference of years.
_NO_MIN_AGE, _NO_MAX_AGE = -20_000, 20_000
#: More than any kind, so that the smallest kind found is the first.
_NO_KIND = 127


@dataclass
class _Slot:
    """The n-th rule of every state, as columns by state number; kind 0 if it has fewer.

    first, last: the days of `from` and `until`, `NONE` and `_FOREVER` without.   limited: where
    there are such days.
    dated, aged, fixed: whether a rule of the slot has days, has ages, or is year-round.
    """

    kind: NDArray[np.int8]
    before: NDArray[np.int32]
    after: NDArray[np.int32]
    month_start: NDArray[np.bool_]
    first: NDArray[np.int32]
    last: NDArray[np.int32]
    min_age: NDArray[np.int32]
    max_age: NDArray[np.int32]
    limited: NDArray[np.bool_]
    dated: bool = False
    aged: bool = False
    fixed: bool = False

    @classmethod
    def of(cls, rules: Mapping[int, WindowRule], pre_window_days: int) -> _Slot:
        """Return the columns of one rule for each state number."""
        size = len(STATES)
        slot = cls(
            kind=np.zeros(size, np.int8),
            before=np.zeros(size, np.int32),
            after=np.zeros(size, np.int32),
            month_start=np.zeros(size, np.bool_),
            first=np.full(size, NONE, np.int32),
            last=np.full(size, _FOREVER, np.int32),
            min_age=np.full(size, _NO_MIN_AGE, np.int32),
            max_age=np.full(size, _NO_MAX_AGE, np.int32),
            limited=np.zeros(size, np.bool_),
        )
        for state, rule in rules.items():
            slot._set(state, rule, pre_window_days)
        return slot

    def _set(self, state: int, rule: WindowRule, pre_window_days: int) -> None:
        extension = pre_window_days if rule.pre_window_days is None else rule.pre_window_days
        self.kind[state] = KIND_NUMBER[rule.kind]
        self.before[state] = rule.before + extension
        self.after[state] = rule.after
        self.month_start[state] = rule.month_start
        self.fixed |= rule.kind == "year_round"
        if rule.from_date is not None:
            self.first[state] = rule.from_date
        if rule.until_date is not None:
            self.last[state] = rule.until_date
        if rule.from_date is not None or rule.until_date is not None:
            self.dated = self.limited[state] = True
        if rule.min_age is not None:
            self.min_age[state] = rule.min_age
        if rule.max_age is not None:
            self.max_age[state] = rule.max_age
        self.aged |= rule.min_age is not None or rule.max_age is not None

    def days(
        self, people: People, contact_index: NDArray[Any], kinds: NDArray[np.int8]
    ) -> NDArray[np.int32]:
        """Return the yearday that a rule of each kind counts from; -1 if there is none."""
        days: NDArray[np.int32] = np.where(
            kinds == BIRTHDAY, people.birth_day[contact_index], people.effective_day[contact_index]
        ).astype(np.int32)
        if self.fixed:
            days[kinds == YEAR_ROUND] = -1
        return days


@dataclass(frozen=True)
class Span:
    """A window of one contact, both ends included, and the anniversary it is counted from.

    Kinds that exclude every date have no anniversary, and no days but those of the rule's `from`
    and `until`.
    """

    kind: int
    start: int | None
    end: int | None
    base: int | None


class Windows:
    """The exclusion rules of a configuration, ready for columns.

    unreadable_dates, missing_dates: whether a rule excludes every date of a contact whose date
    cannot be read or is absent (`exclude`) or has no windows (`ignore`).

        windows = Windows.of(configuration)
        kinds = windows.excluded(people, np.array([0]), np.array([calendar.ordinal(date)]))
        kinds[0]  # 0 if the first contact may get an e-mail on that date
    """

    def __init__(
        self,
        rules: Rules,
        pre_window_days: int,
        unreadable_dates: str = EXCLUDE,
        missing_dates: str = IGNORE,
    ) -> None:
        self._closed_by_unreadable = unreadable_dates == EXCLUDE
        self._closed_by_missing = missing_dates == EXCLUDE
        #: states that exclude every date of everyone
        self.year_round = np.zeros(len(STATES), np.bool_)
        windows: dict[int, list[WindowRule]] = {}
        for state, items in rules.items():
            number = STATE_INDEX[state]
            self.year_round[number] = any(_is_plain_year_round(rule) for rule in items)
            windows[number] = [rule for rule in items if not _is_plain_year_round(rule)]
        self._slots = [
            _Slot.of(
                {n: items[i] for n, items in windows.items() if i < len(items)}, pre_window_days
            )
            for i in range(max(map(len, windows.values()), default=0))
        ]
        #: states with other rules
        self.has_windows = np.zeros(len(STATES), np.bool_)
        for slot in self._slots:
            self.has_windows |= slot.kind > 0

    @classmethod
    def of(cls, configuration: Configuration) -> Windows:
        """Return the windows of a configuration."""
        return cls(
            configuration.rules,
            configuration.pre_window_days,
            configuration.unreadable_dates,
            configuration.missing_dates,
        )

    def excluded(
        self, people: People, contact_index: NDArray[Any], dates: Ordinals
    ) -> NDArray[np.int8]:
        """Return what excludes each date for each contact `contact_index` (indices into `people`).

        0 for nothing.
        """
        states = people.state[contact_index]
        kinds: NDArray[np.int8] = self.year_round[states].astype(np.int8)
        rows = np.flatnonzero(self.has_windows[states] & (kinds == 0))
        if len(rows):
            kinds[rows] = self._containing(people, contact_index[rows], dates[rows])[0]
        return kinds

    def always(
        self, people: People, contact_index: NDArray[Any] | None = None
    ) -> NDArray[np.bool_]:
        """Return for which contacts a rule excludes every date.

        contact_index: indices of the contacts; by default, all.
        """
        chosen = np.arange(len(people)) if contact_index is None else contact_index
        states = people.state[chosen]
        result: NDArray[np.bool_] = self.year_round[states]
        for slot in self._slots:
            rows = np.flatnonzero((slot.kind[states] > 0) & ~slot.limited[states])
            kinds = slot.kind[states[rows]]
            absent = slot.days(people, chosen[rows], kinds) < 0
            rows, kinds = rows[absent], kinds[absent]
            result[rows] |= self._closed(people, chosen[rows], kinds) > 0
        return result

    def _closed(
        self, people: People, contact_index: NDArray[Any], rule_kinds: NDArray[np.int8]
    ) -> NDArray[np.int8]:
        """Return the kind of exclusion of rules that are year-round or whose date is absent.

        0 for no exclusion.
        """
        unreadable = np.where(
            rule_kinds == BIRTHDAY,
            people.unreadable_birth[contact_index],
            people.unreadable_effective[contact_index],
        )
        closed = np.where(
            unreadable, UNREADABLE * self._closed_by_unreadable, MISSING * self._closed_by_missing
        )
        return np.where(rule_kinds == YEAR_ROUND, YEAR_ROUND, closed).astype(np.int8)

    def _containing(
        self, people: People, contact_index: NDArray[Any], dates: Ordinals
    ) -> tuple[NDArray[np.int8], Ordinals]:
        """Return the first kind of the windows that contain each date, and their latest end.

        Windows without an end have the end `_FOREVER`; `year_round` states are not considered.
        """
        states = people.state[contact_index]
        years = calendar.year_of(dates)
        kinds = np.full(len(contact_index), _NO_KIND, np.int8)
        ends = np.full(len(contact_index), NONE, np.int32)
        for slot in self._slots:
            slot_kinds = slot.kind[states]
            days = slot.days(people, contact_index, slot_kinds)
            used = slot_kinds > 0
            if slot.dated:
                used &= (dates >= slot.first[states]) & (dates <= slot.last[states])
            rows = np.flatnonzero(used & (days >= 0))
            if len(rows) < np.count_nonzero(used):
                others = np.flatnonzero(used & (days < 0))
                closed = self._closed(people, contact_index[others], slot_kinds[others])
                hit, closed = others[closed > 0], closed[closed > 0]
                kinds[hit] = np.minimum(kinds[hit], closed)
                ends[hit] = np.maximum(ends[hit], slot.last[states[hit]])
            if len(rows):
                born = (
                    people.birth_year[contact_index[rows]].astype(np.int32) if slot.aged else None
                )
                hit, latest = _in_windows(
                    slot, states[rows], days[rows], dates[rows], years[rows], born
                )
                hit = rows[hit]
                kinds[hit] = np.minimum(kinds[hit], slot_kinds[hit])
                # A row that two windows contain is here twice: the later one, which ends later,
                # counts.
                ends[hit] = np.maximum(ends[hit], latest)
        kinds[kinds == _NO_KIND] = 0
        return kinds, ends

    def containing(self, people: People, contact_index: int, date: int) -> list[Span]:
        """Return the windows of one contact that contain a date."""
        state = int(people.state[contact_index])
        spans = [Span(YEAR_ROUND, None, None, None)] if self.year_round[state] else []
        chosen = np.array([contact_index])
        for slot in self._slots:
            kind = slot.kind[[state]]
            first, last = int(slot.first[state]), int(slot.last[state])
            if not kind[0] or not first <= date <= last:
                continue
            day = int(slot.days(people, chosen, kind)[0])
            if day >= 0:
                spans += self._spans(slot, people, contact_index, day, date)
                continue
            closed = int(self._closed(people, chosen, kind)[0])
            if closed:
                start = None if first == NONE else first
                spans.append(Span(closed, start, None if last == _FOREVER else last, None))
        return spans

    def _spans(
        self, slot: _Slot, people: People, contact_index: int, day: int, date: int
    ) -> list[Span]:
        """Return the windows of one rule that contain a date on which it applies."""
        state, born = int(people.state[contact_index]), int(people.birth_year[contact_index])
        if slot.month_start[state]:
            day = int(MONTH_START[YEARDAY_MONTH[day]])
        year = int(calendar.year_of(np.array([date]))[0])
        spans = []
        for anchor in (year - 1, year, year + 1):
            of_age = not born or slot.min_age[state] <= anchor - born <= slot.max_age[state]
            if not 1 <= anchor <= 9999 or (slot.aged and not of_age):
                continue
            base = int(calendar.anniversary(np.array([anchor]), np.array([day]))[0])
            start, end = base - int(slot.before[state]), base + int(slot.after[state])
            if start <= date <= end:
                start, end = max(start, int(slot.first[state])), min(end, int(slot.last[state]))
                spans.append(Span(int(slot.kind[state]), start, end, base))
        return spans

    def ends(self, people: People, contact_index: NDArray[Any], dates: Ordinals) -> Ordinals:
        """Return the window end of each excluded date.

        `calendar.NONE` if it has none (section 3).

        The pairs must be excluded, by whatever kind.
        """
        result = np.full(len(contact_index), NONE, np.int32)
        rows = np.flatnonzero(~self.always(people, contact_index))
        day = dates[rows]
        settled = np.maximum(self._settled(people, contact_index), dates)
        last = np.full(len(rows), NONE, np.int32)
        while len(rows):
            kinds, ends = self._containing(people, contact_index[rows], day)
            open_ = kinds > 0
            result[rows[~open_]] = last[~open_]
            going = open_ & (ends < calendar.LAST) & (ends - settled[rows] < ENDLESS_DAYS)
            rows, last = rows[going], ends[going]
            day = (last + 1).astype(np.int32)
        return result

    def _settled(self, people: People, contact_index: NDArray[Any]) -> Ordinals:
        """Return the day from which on each contact's rules no longer change.

        `NONE` if they never do.
        """
        states = people.state[contact_index]
        result = np.full(len(contact_index), NONE, np.int32)
        for slot in self._slots:
            if slot.dated:
                last = np.where(slot.last == _FOREVER, NONE, slot.last)
                result = np.maximum(result, np.maximum(slot.first, last)[states])
            if slot.aged:
                oldest = np.where(slot.max_age == _NO_MAX_AGE, slot.min_age, slot.max_age)[states]
                born = people.birth_year[contact_index].astype(np.int32)
                # A window reaches into the years before and after its own.
                changed = calendar.JANUARY_1[np.clip(born + oldest + 2, 0, 10000)]
                result = np.where(born > 0, np.maximum(result, changed), result)
        return result.astype(np.int32)


def _is_plain_year_round(rule: WindowRule) -> bool:
    return rule.kind == "year_round" and rule.from_date is None and rule.until_date is None


def _in_windows(
    slot: _Slot,
    states: NDArray[np.int8],
    days: NDArray[np.int32],
    dates: Ordinals,
    years: NDArray[np.int32],
    born: NDArray[np.int32] | None,
) -> tuple[NDArray[np.int64], Ordinals]:
    """Return the pairs whose date is in a window of the slot's rule, and the window's end.

    They are in the order of the years.

    born: years of birth, where the slot has ages; 0 for unknown, to which every age applies.
    """
    days = np.where(slot.month_start[states], MONTH_START[YEARDAY_MONTH[days]], days)
    before, after = slot.before[states], slot.after[states]
    at_edge = bool(years.min() <= 1 or years.max() >= 9999)
    hits, ends = [], []
    for shift in (-1, 0, 1):
        year = years + shift
        # Years 0 and 10000 have no real dates; no window is anchored there.
        base = calendar.anniversary(np.clip(year, 0, 10000) if at_edge else year, days)
        end = base + after
        inside = (dates >= base - before) & (dates <= end)
        if at_edge:
            inside &= (year >= 1) & (year <= 9999)
        if born is not None:
            age = year - born
            inside &= (born == 0) | ((age >= slot.min_age[states]) & (age <= slot.max_age[states]))
        hit = np.flatnonzero(inside)
        hits.append(hit)
        ends.append(np.minimum(end[hit], slot.last[states[hit]]) if slot.dated else end[hit])
    return np.concatenate(hits), np.concatenate(ends)
