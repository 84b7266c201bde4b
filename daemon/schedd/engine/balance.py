"""Load balancing (rules, section 9): smoothing of effective-date e-mails, and the daily cap.

The only step that needs the rows of all contacts together. It changes dates in place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import calendar
from .calendar import NONE, Ordinals
from .configuration import BalanceLimits
from .contacts import People
from .hashing import email_hash
from .rows import EFFECTIVE_DATE, RowClasses
from .windows import Windows

# How the sort key of the cap is packed: priority rank, latest date, and as much of the hash as
# fits. Whatever is cut off here is compared when keys are equal (`_Cascade._break_ties`).
_RANK_BITS, _LATEST_BITS, _HASH_BITS = 14, 18, 32
#: Days from the run's date that fit into a 16-bit integer.
_MAX_NARROW = 1 << 15


@dataclass
class MovableRows:
    """The pre-scheduled rows of all contacts, follow-ups aside; columns as in `rows.Rows`.

    `contact_index` counts through all chunks' people, in the order of `Balance.people`.
    """

    contact_index: NDArray[np.int32]
    row_class: NDArray[np.int32]
    date: Ordinals
    event: Ordinals
    latest: Ordinals

    def __len__(self) -> int:
        return len(self.contact_index)


@dataclass
class Move:
    """The effect of the daily cap on a watched row on one day.

    target: the day it moved to, `NONE` if there is none.   count: all rows of the day.   room: how
    many movable ones may stay.   rank: the row's position in their order.
    """

    row: int
    day: int
    target: int
    count: int
    room: int
    rank: int


class Balance:
    """Section 9 for one run: call `smooth`, then `cap`; both change `rows.date` in place.

    watched: rows whose moves are noted in `moves`, for explanations.

        balance = Balance(as_of, limits, 5, run.windows, run.classes, people, rows)
        smoothed = balance.smooth()
        moved = balance.cap(fixed={})
    """

    def __init__(
        self,
        as_of: int,
        limits: BalanceLimits,
        smoothing_window: int,
        rules: Windows,
        classes: RowClasses,
        people: People,
        rows: MovableRows,
    ) -> None:
        self.as_of = as_of
        self.limits = limits
        self.smoothing_window = smoothing_window
        self.windows = rules
        self.classes = classes
        self.people = people
        self.rows = rows
        self.watched = np.zeros(0, np.int64)
        self.moves: list[Move] = []
        #: whether exclusion windows limit each row; computed when first needed
        self._bound: NDArray[np.bool_] | None = None

    def _hashes(self, chosen: NDArray[Any]) -> NDArray[np.uint64]:
        rows = self.rows
        years = calendar.year_of(rows.event[chosen])
        return email_hash(
            self.people.ids[rows.contact_index[chosen]],
            self.classes.salt[rows.row_class[chosen]],
            years,
        )

    def smooth(self) -> int:
        """Spread crowded effective-date days; returns how many rows moved."""
        rows = self.rows
        of_type = np.flatnonzero(rows.row_class == EFFECTIVE_DATE)
        if not len(of_type) or self.smoothing_window == 1:
            return 0
        offsets = rows.date[of_type] - self.as_of
        crowded = np.bincount(offsets) > self.limits.soft
        chosen = of_type[crowded[offsets]]
        if not len(chosen):
            return 0
        width = self.smoothing_window
        shift = (self._hashes(chosen) % np.uint64(width)).astype(np.int32) - (width - 1) // 2
        date = rows.date[chosen] + shift
        good = (shift != 0) & (date >= self.as_of) & (date <= rows.latest[chosen])
        chosen, date = chosen[good], date[good]
        free = self.windows.excluded(self.people, rows.contact_index[chosen], date) == 0
        rows.date[chosen[free]] = date[free]
        return int(free.sum())

    def cap(self, fixed: dict[int, int]) -> int:
        """Move rows off the days above the limit; `fixed`: ordinal -> rows that cannot move.

        Returns how often a row was moved.
        """
        if not len(self.rows):
            return 0
        counts = np.bincount(self.rows.date - self.as_of)
        taken = np.zeros(len(counts), np.int64)
        for day, number in fixed.items():
            if 0 <= day - self.as_of < len(taken):
                taken[day - self.as_of] = number
        if not (counts + taken > self.limits.limit).any():
            return 0
        return _Cascade(self, fixed).run()

    def sort_keys(self, chosen: NDArray[Any]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        """Return the packed key of (priority, latest, h) of each row, and the complete h."""
        rows = self.rows
        hashes = self._hashes(chosen)
        rank = np.minimum(
            self.classes.priority_rank[rows.row_class[chosen]], (1 << _RANK_BITS) - 1
        ).astype(np.uint64)
        latest = np.minimum(rows.latest[chosen] - self.as_of, (1 << _LATEST_BITS) - 1).astype(
            np.uint64
        )
        key = (rank << np.uint64(_LATEST_BITS + _HASH_BITS)) | (latest << np.uint64(_HASH_BITS))
        return key | (hashes >> np.uint64(64 - _HASH_BITS)), hashes

    def next_date(self, chosen: NDArray[Any], day: int) -> Ordinals:
        """Return the first date after `day` on which each row may go out.

        `NONE` if there is none.
        """
        rows = self.rows
        date = np.full(len(chosen), day + 1, np.int32)
        if self._bound is None:
            limited = self.windows.has_windows | self.windows.year_round
            self._bound = (
                limited[self.people.state][rows.contact_index]
                & self.classes.respects[rows.row_class]
            )
        bound = np.flatnonzero(self._bound[chosen])
        kinds = self.windows.excluded(self.people, rows.contact_index[chosen[bound]], date[bound])
        inside = bound[kinds > 0]
        ends = self.windows.ends(self.people, rows.contact_index[chosen[inside]], date[inside])
        date[inside] = np.where(ends == NONE, NONE, ends + 1)
        date[date > rows.latest[chosen]] = NONE
        return date


def _distinct(dates: Ordinals) -> list[int]:
    """Return the different dates, ascending."""
    if not len(dates):
        return []
    first = int(dates.min())
    return (np.flatnonzero(np.bincount(dates - first)) + first).tolist()


@dataclass
class _Queue:
    """Rows in the order of the cap: row numbers with their packed keys and complete hashes."""

    rows: NDArray[np.int64]
    keys: NDArray[np.uint64]
    hashes: NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.rows)

    def part(self, chosen: NDArray[Any] | slice) -> _Queue:
        return _Queue(self.rows[chosen], self.keys[chosen], self.hashes[chosen])


class _Cascade:
    """The walk over the days of the cap (section 9).

    What is above the cap on a day moves to later days, which may overflow in turn, so the days go
    in ascending order and each is handled once. A large organization moves the same rows over
    weeks, so the cost of a step must depend on the rows that arrive, not on sorting all of them:

    - The order (priority, latest, h, contact, instance) does not depend on the day. A queue that
      is sorted once stays sorted in all its parts, and a day only merges its queues.
    - Only a day that overflows sorts its own rows. On the other days no order is needed.
    - A row's date is written where it comes to rest, not on every day that it passes.

    `arrived` has the queues of later days by offset from the run's date. It is also why the walk
    continues after the last day that has planned rows.
    """

    def __init__(self, balance: Balance, fixed: dict[int, int]) -> None:
        self.balance = balance
        self.fixed = fixed
        offsets = balance.rows.date - balance.as_of
        # numpy sorts 16-bit integers by radix, in linear time.
        narrow = int(offsets.max()) < _MAX_NARROW
        sortable = offsets.astype(np.int16) if narrow else offsets
        #: rows by day; those of the day with offset n are `order[bounds[n] : bounds[n + 1]]`
        self.order = np.argsort(sortable, kind="stable").astype(np.int32)
        self.bounds = np.concatenate([[0], np.cumsum(np.bincount(offsets))])
        self.arrived: dict[int, list[_Queue]] = {}

    def run(self) -> int:
        """Walk over all days; return how often a row was moved."""
        limits, moves = self.balance.limits, 0
        offset, last = 0, len(self.bounds) - 2
        while offset <= last or self.arrived:
            day = self.balance.as_of + offset
            planned_today = self._planned_on(offset)
            arrived = self.arrived.pop(offset, [])
            fixed = self.fixed.get(day, 0)
            if fixed + len(planned_today) + sum(map(len, arrived)) > limits.limit:
                room = max(0, limits.cap - fixed)
                moves += self._overflow(day, planned_today, arrived, room)
            else:
                for queue in arrived:
                    self.balance.rows.date[queue.rows] = day
            offset += 1
        return moves

    def _planned_on(self, offset: int) -> NDArray[np.int64]:
        """Return the rows that were planned for a day before any moved."""
        if offset + 1 >= len(self.bounds):
            return np.zeros(0, np.int64)
        return self.order[self.bounds[offset] : self.bounds[offset + 1]].astype(np.int64)

    def _overflow(
        self, day: int, planned_today: NDArray[np.int64], arrived: list[_Queue], room: int
    ) -> int:
        """Keep the first `room` rows of a day and move the others; return how many moved."""
        queue = self._queue_of(planned_today, arrived)
        rest = queue.part(slice(room, None))
        date = self.balance.next_date(rest.rows, day)
        if len(self.balance.watched):
            self._note(day, len(queue), room, rest, date)

        moves = date != NONE
        self.balance.rows.date[queue.rows[:room]] = day
        self.balance.rows.date[rest.rows[~moves]] = day
        for target in _distinct(date[moves]):
            chosen = np.flatnonzero(date == target)
            # Usually all rows go to the next day, and then nothing needs to be copied.
            part = rest if len(chosen) == len(rest) else rest.part(chosen)
            self.arrived.setdefault(target - self.balance.as_of, []).append(part)
        return int(moves.sum())

    def _queue_of(self, planned_today: NDArray[np.int64], arrived: list[_Queue]) -> _Queue:
        """Return all movable rows of a day in their order."""
        queue = self._sorted(_Queue(planned_today, *self.balance.sort_keys(planned_today)))
        # The small ones first, so that the largest is merged, and thus copied, once.
        for part in sorted(arrived, key=len):
            queue = self._merged(part, queue)
        return queue

    def _note(self, day: int, count: int, room: int, rest: _Queue, date: Ordinals) -> None:
        """Remember the moves of watched rows."""
        fixed = self.fixed.get(day, 0)
        for index in np.flatnonzero(np.isin(rest.rows, self.balance.watched)).tolist():
            row, target = int(rest.rows[index]), int(date[index])
            self.balance.moves.append(Move(row, day, target, count + fixed, room, room + index))

    def _sorted(self, queue: _Queue) -> _Queue:
        return self._break_ties(queue.part(np.argsort(queue.keys, kind="stable")))

    def _merged(self, one: _Queue, other: _Queue) -> _Queue:
        """Return two sorted queues as one: the rows of the smaller are inserted into the larger."""
        small, large = (one, other) if len(one) < len(other) else (other, one)
        at = np.searchsorted(large.keys, small.keys)
        return self._break_ties(
            _Queue(
                np.insert(large.rows, at, small.rows),
                np.insert(large.keys, at, small.keys),
                np.insert(large.hashes, at, small.hashes),
            )
        )

    def _break_ties(self, queue: _Queue) -> _Queue:
        """Put rows with equal packed keys into their exact order, in place."""
        equal = np.flatnonzero(queue.keys[1:] == queue.keys[:-1])
        if not len(equal):
            return queue
        tied_at = np.union1d(equal, equal + 1)
        tied = queue.part(tied_at)
        rows, classes = self.balance.rows, self.balance.classes
        row_class = rows.row_class[tied.rows]
        order = np.lexsort(
            (
                # Two targets of one contact in one instance can be equal in all that the rules
                # name; then the order of the table decides.
                tied.rows,
                classes.instance[row_class],
                self.balance.people.ids[rows.contact_index[tied.rows]],
                tied.hashes,
                rows.latest[tied.rows],
                classes.priority_rank[row_class],
                tied.keys,
            )
        )
        queue.rows[tied_at] = tied.rows[order]
        queue.hashes[tied_at] = tied.hashes[order]
        return queue
