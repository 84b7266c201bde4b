"""Exclusion windows (rules, section 3): is a date excluded for a contact, by what, and until when.

Works on vectors of (contact, date) pairs. Only pairs of states that have rules cost anything, and only dates that
are absent or unreadable, rules that apply for a time and rules with ages cost more than a plain window.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import calendar
from .calendar import MONTH_START, YEARDAY_MONTH, Ordinals
from .configuration import EXCLUDE, IGNORE, KINDS, Configuration, WindowRule
from .contacts import People
from .states import STATE_INDEX, STATES

#: Kinds of exclusion, in the order in which the first that applies is named (section 5); 0 is "not excluded".
YEAR_ROUND, BIRTHDAY, EFFECTIVE, UNREADABLE, MISSING = 1, 2, 3, 4, 5
KIND_NUMBER = {name: number for number, name in enumerate(KINDS, start=1)}

#: A chain of windows that is unbroken after this many days of unchanging rules never ends: leap years come at
#: least every 8 years, so a gap that comes at all comes sooner.
ENDLESS_DAYS = 4000

#: The end of what has no end; later than every date.
_FOREVER = np.int32(2**31 - 1)
#: More than any kind, so that the smallest kind found is the first.
_NO_KIND = 127


def is_endless(kinds: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which kinds of exclusion have no end (section 3)."""
    endless: NDArray[np.bool_] = (kinds == YEAR_ROUND) | (kinds >= UNREADABLE)
    return endless


@dataclass(frozen=True)
class _Slot:
    """The n-th window rule of every state, as columns by state number; kind 0 where it has fewer."""

    kind: NDArray[np.int8]
    before: NDArray[np.int32]
    after: NDArray[np.int32]
    month_start: NDArray[np.bool_]


@dataclass(frozen=True)
class Span:
    """A window of one contact, both ends included, and the anniversary it is counted from.

    Kinds without an end have neither days nor an anniversary.
    """

    kind: int
    start: int | None
    end: int | None
    base: int | None


class Windows:
    """The exclusion rules of a configuration, ready for columns.

    unreadable_dates, missing_dates: whether a rule excludes every date of a contact whose date cannot be read or is
    absent (`exclude`) or has no windows (`ignore`).
    """

    def __init__(
        self,
        rules: Mapping[str, tuple[WindowRule, ...]],
        pre_window_days: int,
        unreadable_dates: str = EXCLUDE,
        missing_dates: str = IGNORE,
    ) -> None:
        self._closed_by_unreadable = unreadable_dates == EXCLUDE
        self._closed_by_missing = missing_dates == EXCLUDE
        self.year_round = np.zeros(len(STATES), np.bool_)
        windows: dict[int, list[WindowRule]] = {}
        for state, items in rules.items():
            number = STATE_INDEX[state]
            self.year_round[number] = any(rule.kind == "year_round" for rule in items)
            windows[number] = sorted(
                (rule for rule in items if rule.kind != "year_round"), key=lambda rule: KIND_NUMBER[rule.kind]
            )
        self._slots = [
            self._slot({n: items[i] for n, items in windows.items() if i < len(items)}, pre_window_days)
            for i in range(max(map(len, windows.values()), default=0))
        ]
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

    @staticmethod
    def _slot(rules: Mapping[int, WindowRule], pre_window_days: int) -> _Slot:
        size = len(STATES)
        slot = _Slot(
            np.zeros(size, np.int8),
            np.zeros(size, np.int32),
            np.zeros(size, np.int32),
            np.zeros(size, np.bool_),
        )
        for state, rule in rules.items():
            extension = pre_window_days if rule.pre_window_days is None else rule.pre_window_days
            slot.kind[state] = KIND_NUMBER[rule.kind]
            slot.before[state] = rule.before + extension
            slot.after[state] = rule.after
            slot.month_start[state] = rule.month_start
        return slot

    def excluded(self, people: People, who: NDArray[Any], dates: Ordinals) -> NDArray[np.int8]:
        """Return what excludes each date for each contact `who` (indices into `people`); 0 for nothing."""
        states = people.state[who]
        kinds: NDArray[np.int8] = self.year_round[states].astype(np.int8)
        rows = np.flatnonzero(self.has_windows[states] & (kinds == 0))
        if len(rows):
            kinds[rows] = self._containing(people, who[rows], dates[rows])[0]
        return kinds

    def always(self, people: People, who: NDArray[Any] | None = None) -> NDArray[np.bool_]:
        """Return for which contacts (all, or those of the indices `who`) a rule excludes every date."""
        chosen = np.arange(len(people)) if who is None else who
        states = people.state[chosen]
        result: NDArray[np.bool_] = self.year_round[states]
        for slot in self._slots:
            rows = np.flatnonzero(slot.kind[states] > 0)
            result[rows] |= self._closed(people, chosen[rows], slot.kind[states[rows]]) > 0
        return result

    def _closed(self, people: People, who: NDArray[Any], rule_kinds: NDArray[np.int8]) -> NDArray[np.int8]:
        """Return the kind that closes every date because of the date that a rule of each kind counts from, or 0."""
        birthday = rule_kinds == BIRTHDAY
        absent = np.where(birthday, people.birth_day[who], people.effective_day[who]) < 0
        unreadable = np.where(birthday, people.unreadable_birth[who], people.unreadable_effective[who])
        closed = np.where(
            unreadable, UNREADABLE * self._closed_by_unreadable, np.where(absent, MISSING * self._closed_by_missing, 0)
        )
        return closed.astype(np.int8)

    def _containing(self, people: People, who: NDArray[Any], dates: Ordinals) -> tuple[NDArray[np.int8], Ordinals]:
        """Return the first kind of window that contains each date, and the latest end of those that do."""
        states = people.state[who]
        years = calendar.year_of(dates)
        kinds = np.full(len(who), _NO_KIND, np.int8)
        ends = np.full(len(who), calendar.NONE, np.int32)
        for slot in self._slots:
            slot_kind = slot.kind[states]
            days = np.where(slot_kind == BIRTHDAY, people.birth_day[who], people.effective_day[who]).astype(np.int32)
            used = slot_kind > 0
            rows = np.flatnonzero(used & (days >= 0))
            if len(rows) < np.count_nonzero(used):
                others = np.flatnonzero(used & (days < 0))
                closed = self._closed(people, who[others], slot_kind[others])
                shut, closed = others[closed > 0], closed[closed > 0]
                kinds[shut] = np.minimum(kinds[shut], closed)
                ends[shut] = _FOREVER
            if not len(rows):
                continue
            state, day, date = states[rows], days[rows], dates[rows]
            day = np.where(slot.month_start[state], MONTH_START[YEARDAY_MONTH[day]], day)
            before, after = slot.before[state], slot.after[state]
            for shift in (-1, 0, 1):
                # Years 0 and 10000 have no real dates; no window is anchored there.
                year = years[rows] + shift
                base = calendar.anniversary(np.clip(year, 0, 10000), day)
                inside = (date >= base - before) & (date <= base + after) & (year >= 1) & (year <= 9999)
                hit = rows[inside]
                kinds[hit] = np.minimum(kinds[hit], slot_kind[hit])
                ends[hit] = np.maximum(ends[hit], base[inside] + after[inside])
        kinds[kinds == _NO_KIND] = 0
        return kinds, ends

    def containing(self, people: People, who: int, date: int) -> list[Span]:
        """Return the windows of one contact that contain a date; those of kinds without an end have no days."""
        state = int(people.state[who])
        spans = [Span(YEAR_ROUND, None, None, None)] if self.year_round[state] else []
        year = int(calendar.year_of(np.array([date]))[0])
        for slot in self._slots:
            kind = int(slot.kind[state])
            if not kind:
                continue
            day = int((people.birth_day if kind == BIRTHDAY else people.effective_day)[who])
            if day < 0:
                closed = int(self._closed(people, np.array([who]), slot.kind[[state]])[0])
                spans += [Span(closed, None, None, None)] if closed else []
                continue
            if slot.month_start[state]:
                day = int(MONTH_START[YEARDAY_MONTH[day]])
            for anchor in (year - 1, year, year + 1):
                if not 1 <= anchor <= 9999:
                    continue
                base = int(calendar.anniversary(np.array([anchor]), np.array([day]))[0])
                start, end = base - int(slot.before[state]), base + int(slot.after[state])
                if start <= date <= end:
                    spans.append(Span(kind, start, end, base))
        return spans

    def ends(self, people: People, who: NDArray[Any], dates: Ordinals) -> Ordinals:
        """Return the window end of each excluded date; `calendar.NONE` where it has none (section 3).

        The pairs must be excluded, by whatever kind.
        """
        result = np.full(len(who), calendar.NONE, np.int32)
        rows = np.flatnonzero(~self.always(people, who))
        day = dates[rows]
        last = np.full(len(rows), calendar.NONE, np.int32)
        while len(rows):
            kinds, ends = self._containing(people, who[rows], day)
            open_ = kinds > 0
            result[rows[~open_]] = last[~open_]
            going = open_ & (ends < calendar.LAST) & (ends - dates[rows] < ENDLESS_DAYS)
            rows, last = rows[going], ends[going]
            day = (last + 1).astype(np.int32)
        return result
