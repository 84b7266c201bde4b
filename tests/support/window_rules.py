"""Contacts and rules of exclusion windows, drawn at random for the engine's tests."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from schedd.engine import calendar
from schedd.engine.configuration import Configuration, Layer, build
from schedd.engine.contacts import People
from schedd.engine.states import STATE_INDEX

STATES = ("CA", "NV", "MO", "TX", "NY")


@dataclass(frozen=True)
class Person:
    """A contact as section 3 sees it; None: absent, "?": unreadable."""

    state: str
    birth: dt.date | str | None
    effective: dt.date | str | None


def people_of(persons: list[Person]) -> People:
    def dates(name: str) -> list[dt.date | str | None]:
        return [getattr(person, name) for person in persons]

    def yeardays(values: list[Any]) -> np.ndarray:
        days = [
            calendar.MONTH_START[d.month - 1] + d.day - 1 if isinstance(d, dt.date) else -1
            for d in values
        ]
        return np.array(days, np.int16)

    def years(values: list[Any]) -> np.ndarray:
        return np.array([d.year if isinstance(d, dt.date) else 0 for d in values], np.int16)

    size = len(persons)
    return People(
        ids=np.arange(size, dtype=np.int64),
        state=np.array([STATE_INDEX[person.state] for person in persons], np.int8),
        birth_day=yeardays(dates("birth")),
        effective_day=yeardays(dates("effective")),
        effective_year=years(dates("effective")),
        birth_year=years(dates("birth")),
        unreadable_birth=np.array([isinstance(d, str) for d in dates("birth")]),
        unreadable_effective=np.array([isinstance(d, str) for d in dates("effective")]),
        failed_underwriting=np.zeros(size, np.bool_),
        carrier=np.full(size, -1, np.int32),
    )


def ordinals(days: list[dt.date]) -> np.ndarray:
    return np.array([calendar.ordinal(day) for day in days], np.int32)


DAYS = st.dates(dt.date(2018, 1, 1), dt.date(2036, 12, 31))
LIMITS = st.fixed_dictionaries({}, optional={"from": DAYS.map(str), "until": DAYS.map(str)}).filter(
    lambda limits: limits.get("from", "") <= limits.get("until", "9")
)
AGES = st.fixed_dictionaries(
    {}, optional={"min_age": st.integers(0, 100), "max_age": st.integers(0, 100)}
).filter(lambda ages: ages.get("min_age", 0) <= ages.get("max_age", 999))
LENGTHS = st.one_of(st.integers(0, 60), st.integers(150, 366))


@st.composite
def rules(draw: st.DrawFn) -> dict[str, Any]:
    limits = draw(st.one_of(st.just({}), LIMITS))
    if draw(st.integers(0, 5)) == 0:
        return {"kind": "year_round", **limits}
    rule: dict[str, Any] = {
        "kind": draw(st.sampled_from(["birthday_window", "effective_date_window"])),
        "before": draw(LENGTHS),
        "after": draw(LENGTHS),
        **limits,
        **draw(st.one_of(st.just({}), AGES)),
    }
    if draw(st.booleans()):
        rule["pre_window_days"] = draw(st.sampled_from([0, 1, 30, 120]))
    if draw(st.booleans()):
        rule["month_start"] = True
    return rule


@st.composite
def configurations(draw: st.DrawFn) -> Configuration:
    exclusion: dict[str, Any] = {
        "rules": {
            state: draw(st.lists(rules(), max_size=3))
            for state in draw(st.lists(st.sampled_from(STATES)))
        },
        "pre_window_days": draw(st.sampled_from([0, 60, 120])),
        "unreadable_dates": draw(st.sampled_from(["exclude", "exclude", "ignore"])),
        "missing_dates": draw(st.sampled_from(["exclude", "ignore"])),
    }
    return build(Layer("test", {"exclusion": exclusion}))
