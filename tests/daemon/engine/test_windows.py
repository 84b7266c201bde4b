"""Exclusion windows for columns against a day-by-day reading of section 3."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schedd.engine import calendar
from schedd.engine.calendar import NONE
from schedd.engine.configuration import Configuration, Layer, build
from schedd.engine.windows import KIND_NUMBER, Windows
from tests.support.window_rules import (
    DAYS,
    STATES,
    Person,
    configurations,
    ordinals,
    people_of,
)

DAY = dt.timedelta(days=1)


def _day_in(date: dt.date, year: int) -> dt.date:
    try:
        return date.replace(year=year)
    except ValueError:
        return dt.date(year, 2, 28)


def slow_windows(
    configuration: Configuration, person: Person, day: dt.date
) -> list[tuple[str, dt.date, dt.date]]:
    """Return (kind, first day, last day) of what contains a day.

    The first and last day of the calendar: no limit.
    """
    found = []
    for rule in configuration.rules.get(person.state, ()):
        first = dt.date.min if rule.from_date is None else calendar.to_date(rule.from_date)
        last = dt.date.max if rule.until_date is None else calendar.to_date(rule.until_date)
        if not first <= day <= last:
            continue
        date = person.birth if rule.kind == "birthday_window" else person.effective
        if rule.kind == "year_round":
            found.append((rule.kind, first, last))
        elif date is None:
            if configuration.missing_dates == "exclude":
                found.append(("missing_date", first, last))
        elif isinstance(date, str):
            if configuration.unreadable_dates == "exclude":
                found.append(("unreadable_date", first, last))
        else:
            for year in range(max(day.year - 1, 1), min(day.year + 1, 9999) + 1):
                if isinstance(person.birth, dt.date):
                    age = year - person.birth.year
                    if rule.min_age is not None and age < rule.min_age:
                        continue
                    if rule.max_age is not None and age > rule.max_age:
                        continue
                base = _day_in(date, year)
                base = base.replace(day=1) if rule.month_start else base
                extension = (
                    configuration.pre_window_days
                    if rule.pre_window_days is None
                    else rule.pre_window_days
                )
                start, end = (
                    calendar.ordinal(base) - rule.before - extension,
                    calendar.ordinal(base) + rule.after,
                )
                if start <= calendar.ordinal(day) <= end:
                    start, end = (
                        max(start, calendar.ordinal(first)),
                        min(end, calendar.ordinal(last)),
                    )
                    found.append((rule.kind, calendar.to_date(start), calendar.to_date(end)))
    return found


def slow_kind(configuration: Configuration, person: Person, day: dt.date) -> int:
    return min(
        (KIND_NUMBER[kind] for kind, _, _ in slow_windows(configuration, person, day)), default=0
    )


def slow_end(configuration: Configuration, person: Person, day: dt.date) -> dt.date | None:
    """Return the last day before the first free one.

    None where there is none until far beyond every rule's dates.
    """
    while day.year < 2140:
        day += DAY
        if not slow_kind(configuration, person, day):
            return day - DAY
    return None


DATES = st.one_of(
    st.dates(dt.date(1920, 1, 1), dt.date(2026, 1, 1)),
    st.just(dt.date(1956, 2, 29)),
    st.none(),
    st.just("?"),
)
PERSONS = st.builds(Person, st.sampled_from(STATES), DATES, DATES)
PAIRS = st.lists(st.tuples(PERSONS, DAYS), min_size=1, max_size=6)


@given(configurations(), PAIRS)
@settings(deadline=None, max_examples=100)
def test_excluded(configuration: Configuration, pairs: list[tuple[Person, dt.date]]) -> None:
    """Each date is excluded by the kind that the rules' own words name first."""
    people, contact_index = people_of([person for person, _ in pairs]), np.arange(len(pairs))
    found = Windows.of(configuration).excluded(
        people, contact_index, ordinals([day for _, day in pairs])
    )
    assert found.tolist() == [slow_kind(configuration, person, day) for person, day in pairs]


@given(configurations(), PAIRS)
@settings(deadline=None, max_examples=100)
def test_containing(configuration: Configuration, pairs: list[tuple[Person, dt.date]]) -> None:
    """The listed windows contain the date and end where their rule does."""
    windows, people = Windows.of(configuration), people_of([person for person, _ in pairs])

    def shown(first: dt.date, last: dt.date) -> tuple[int | None, int | None]:
        return (
            None if first == dt.date.min else calendar.ordinal(first),
            None if last == dt.date.max else calendar.ordinal(last),
        )

    for contact_index, (person, day) in enumerate(pairs):
        spans = windows.containing(people, contact_index, calendar.ordinal(day))
        found = {(span.kind, span.start, span.end) for span in spans}
        expected = {
            (KIND_NUMBER[k], *shown(a, b)) for k, a, b in slow_windows(configuration, person, day)
        }
        if (KIND_NUMBER["year_round"], None, None) in expected:
            assert (KIND_NUMBER["year_round"], None, None) in found
        assert found == expected
        for span in spans:
            assert (span.base is None) == (span.kind not in {2, 3})


@given(configurations(), PAIRS)
@settings(deadline=None, max_examples=20)
def test_ends(configuration: Configuration, pairs: list[tuple[Person, dt.date]]) -> None:
    """The window end is the last day before the first free one, or there is none."""
    windows = Windows.of(configuration)
    pairs = [(person, day) for person, day in pairs if slow_kind(configuration, person, day)]
    people, days = people_of([person for person, _ in pairs]), ordinals([day for _, day in pairs])
    found = windows.ends(people, np.arange(len(pairs)), days)
    for end, (person, day) in zip(found.tolist(), pairs, strict=True):
        expected = slow_end(configuration, person, day)
        assert (None if end == NONE else calendar.to_date(end)) == expected


@given(configurations(), PAIRS)
@settings(deadline=None, max_examples=100)
def test_always(configuration: Configuration, pairs: list[tuple[Person, dt.date]]) -> None:
    """An unlimited year-round rule excludes every date and has no window end."""
    persons = [person for person, _ in pairs]
    windows, people = Windows.of(configuration), people_of(persons)

    def expected(person: Person) -> bool:
        found = slow_windows(configuration, person, dt.date(2026, 11, 23))
        return any((first, last) == (dt.date.min, dt.date.max) for _, first, last in found)

    found = windows.always(people)
    assert found.tolist() == [expected(person) for person in persons]
    order = np.arange(len(persons))[::-1]
    assert windows.always(people, order).tolist() == found[::-1].tolist()
    days = ordinals([day for _, day in pairs])
    assert (windows.excluded(people, np.flatnonzero(found), days[found]) > 0).all()
    assert (windows.ends(people, np.flatnonzero(found), days[found]) == NONE).all()


def _with(rules: list[dict[str, Any]], **exclusion: Any) -> Configuration:
    return build(Layer("test", {"exclusion": {"rules": {"TX": rules}, **exclusion}}))


WHOLE_YEAR = {"kind": "birthday_window", "before": 183, "after": 183, "pre_window_days": 0}


@pytest.mark.parametrize(
    ("rules", "end"),
    [
        ([WHOLE_YEAR], None),
        # Eleven years without a gap, longer than any chain that leap years make, and then an end.
        ([{**WHOLE_YEAR, "min_age": 65, "max_age": 90}], dt.date(2041, 5, 10) + 183 * DAY),
        ([{**WHOLE_YEAR, "until": "2060-03-01"}], dt.date(2060, 3, 1)),
        ([{"kind": "year_round", "until": "2150-03-01"}], dt.date(2150, 3, 1)),
        (
            [
                {"kind": "year_round", "until": "2030-03-01"},
                {"kind": "year_round", "from": "2030-03-02"},
            ],
            None,
        ),
        (
            [
                {"kind": "year_round", "until": "2030-03-01"},
                {"kind": "year_round", "from": "2030-03-03"},
            ],
            dt.date(2030, 3, 1),
        ),
    ],
)
def test_long_chains(rules: list[dict[str, Any]], end: dt.date | None) -> None:
    """Windows that follow each other for decades have the end that they have."""
    people = people_of([Person("TX", dt.date(1951, 5, 10), None)])
    found = Windows.of(_with(rules)).ends(people, np.array([0]), ordinals([dt.date(2026, 5, 1)]))[0]
    assert (None if found == NONE else calendar.to_date(int(found))) == end


def test_ages_in_doubt() -> None:
    """A rule with ages applies to a contact whose birth date is absent: in doubt no e-mail."""
    rule = {"kind": "effective_date_window", "before": 0, "after": 10, "min_age": 65, "max_age": 75}
    effective = dt.date(2015, 6, 1)
    births = [
        None,
        "?",
        dt.date(1961, 12, 31),
        dt.date(1962, 1, 1),
        dt.date(1951, 1, 1),
        dt.date(1950, 12, 31),
    ]
    people = people_of([Person("TX", birth, effective) for birth in births])
    days = ordinals([dt.date(2026, 6, 5)] * len(births))
    found = Windows.of(_with([rule], pre_window_days=0)).excluded(
        people, np.arange(len(births)), days
    )
    assert found.tolist() == [3, 3, 3, 0, 3, 0]


def test_edges_of_the_calendar() -> None:
    """In the first and last year windows have anchors only in existing years."""
    rule = {"kind": "birthday_window", "before": 20, "after": 20}
    people = people_of(
        [Person("TX", dt.date(1950, 1, 5), None), Person("TX", dt.date(1950, 12, 30), None)]
    )
    windows = Windows.of(_with([rule], pre_window_days=0))
    days = [dt.date(1, 1, 3), dt.date(1, 1, 3), dt.date(9999, 12, 31), dt.date(9999, 12, 31)]
    contact_index = np.array([0, 1, 0, 1])
    assert windows.excluded(people, contact_index, ordinals(days)).tolist() == [2, 0, 0, 2]
    assert windows.ends(people, contact_index[[0, 3]], ordinals([days[0], days[3]])).tolist() == [
        calendar.ordinal(dt.date(1, 1, 25)),
        NONE,
    ]
