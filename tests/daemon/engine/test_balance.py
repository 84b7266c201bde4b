"""The daily cap of load balancing, against a slow reading of the rules."""

from __future__ import annotations

import dataclasses
import datetime as dt

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from schedd.engine import calendar
from schedd.engine.balance import Balance, MovableRows
from schedd.engine.configuration import Configuration
from schedd.engine.hashing import email_hash
from schedd.engine.run import make_classes
from schedd.engine.windows import Windows
from tests.support.window_rules import Person, people_of


@given(st.data())
def test_cap_cascade(data: st.DataObject) -> None:
    """The cascade moves the same rows as the rules' own words do, day by day."""
    size = data.draw(st.integers(1, 40))
    as_of = calendar.ordinal(dt.date(2026, 11, 23))
    columns = [
        (data.draw(st.integers(0, 3)), data.draw(st.integers(0, 6)), data.draw(st.integers(0, 8)))
        for _ in range(size)
    ]
    cap = data.draw(st.integers(1, 8))
    fixed = {
        as_of + day: n
        for day, n in data.draw(st.dictionaries(st.integers(0, 8), st.integers(0, 9))).items()
    }
    configuration = Configuration()
    classes = make_classes(configuration, [])
    windows = Windows({}, 0)
    person = Person("TX", dt.date(1950, 1, 1), dt.date(2015, 1, 1))
    people = dataclasses.replace(people_of([person] * size), ids=np.arange(1, size + 1))
    date = np.array([as_of + day for _, day, _ in columns], np.int32)
    rows = MovableRows(
        np.arange(size, dtype=np.int32),
        np.array([row_class for row_class, _, _ in columns], np.int32),
        date.copy(),
        date.copy(),
        date + np.array([slack for _, _, slack in columns], np.int32),
    )
    from schedd.engine.configuration import BalanceLimits

    limits = BalanceLimits(cap, 10**6, cap * 12 // 10)
    Balance(as_of, limits, 5, windows, classes, people, rows).cap(fixed)

    years = calendar.year_of(rows.event)
    hashes = email_hash(people.ids, classes.salt[rows.row_class], years)
    order = {
        i: (
            int(classes.priority_rank[rows.row_class[i]]),
            int(rows.latest[i]),
            int(hashes[i]),
            i + 1,
        )
        for i in range(size)
    }
    days = {i: int(date[i]) for i in range(size)}
    day = as_of
    while day <= max(days.values()):
        here = [i for i in range(size) if days[i] == day]
        if fixed.get(day, 0) + len(here) > limits.limit:
            for i in sorted(here, key=order.__getitem__)[max(0, cap - fixed.get(day, 0)) :]:
                if day + 1 <= int(rows.latest[i]):
                    days[i] = day + 1
        day += 1
    assert rows.date.tolist() == [days[i] for i in range(size)]
