"""Exclusion windows (rules, section 3): is a date excluded for a contact, by what, and until when.

Works on vectors of (contact, date) pairs. Only pairs of states that have rules cost anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import calendar
from .calendar import MONTH_START, YEARDAY_MONTH, Ordinals
from .configuration import KINDS, WindowRule
from .contacts import People
from .states import STATE_INDEX, STATES

#: Kinds of exclusion, in the order in which the first that applies is named (section 5); 0 is "not excluded".
YEAR_ROUND, BIRTHDAY, EFFECTIVE = 1, 2, 3
KIND_NUMBER = {name: number for number, name in enumerate(KINDS, start=1)}

#: A chain of windows that is unbroken after so many days never ends: leap years come at least every 8 years,
#: so a gap that comes at all comes sooner.
ENDLESS_DAYS = 4000


@dataclass(frozen=True)
class _Slot:
    """The n-th window rule of every state, as columns by state number; kind 0 where it has fewer."""

    kind: NDArray[np.int8]
    before: NDArray[np.int32]
    after: NDArray[np.int32]
    month_start: NDArray[np.bool_]


@dataclass(frozen=True)
class Span:
    """A window of one contact, both ends included, and the anniversary it is counted from; year-round has none."""

    kind: int
    start: int | None
    end: int | None
    base: int | None


class Windows:
    """The exclusion rules of a configuration, ready for columns."""

    def __init__(self, rules: Mapping[str, tuple[WindowRule, ...]], pre_window_days: int) -> None:
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

    @staticmethod
    def _slot(rules: dict[int, WindowRule], pre_window_days: int) -> _Slot:
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

    def _containing(self, people: People, who: NDArray[Any], dates: Ordinals) -> tuple[NDArray[np.int8], Ordinals]:
        """Return the first kind of window that contains each date, and the latest end of those that do."""
        states = people.state[who]
        years = calendar.year_of(dates)
        kinds = np.zeros(len(who), np.int8)
        ends = np.full(len(who), calendar.NONE, np.int32)
        for slot in self._slots:
            slot_kind = slot.kind[states]
            days = np.where(slot_kind == BIRTHDAY, people.birth_day[who], people.effective_day[who]).astype(np.int32)
            rows = np.flatnonzero((slot_kind > 0) & (days >= 0))
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
                kinds[hit] = np.where(kinds[hit] == 0, slot_kind[hit], kinds[hit])
                ends[hit] = np.maximum(ends[hit], base[inside] + after[inside])
        return kinds, ends

    def containing(self, people: People, who: int, date: int) -> list[Span]:
        """Return the windows of one contact that contain a date, those of year-round rules without days."""
        state = int(people.state[who])
        spans = [Span(YEAR_ROUND, None, None, None)] if self.year_round[state] else []
        year = int(calendar.year_of(np.array([date]))[0])
        for slot in self._slots:
            kind = int(slot.kind[state])
            day = int((people.birth_day if kind == BIRTHDAY else people.effective_day)[who])
            if not kind or day < 0:
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

        The pairs must be excluded by a window, not year-round.
        """
        result = np.full(len(who), calendar.NONE, np.int32)
        rows, day = np.arange(len(who)), dates
        last = np.full(len(who), calendar.NONE, np.int32)
        while len(rows):
            kinds, ends = self._containing(people, who[rows], day)
            open_ = kinds > 0
            result[rows[~open_]] = last[~open_]
            going = open_ & (ends - dates[rows] < ENDLESS_DAYS) & (ends < calendar.LAST)
            rows, last = rows[going], ends[going]
            day = (last + 1).astype(np.int32)
        return result
