"""Sections of the rules on examples small enough to work out by hand."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.reference.configuration import Configuration, configure, limits
from tests.reference.contacts import Contact
from tests.reference.dates import anniversary, ordinal
from tests.reference.examples import LOOSE, contact, of_type, planned
from tests.reference.hashing import h
from tests.reference.invariants import excluded_kinds
from tests.reference.rows import candidate_date
from tests.reference.windows import Windows


def test_anniversary_of_leap_day():
    """29 February is kept in leap years and becomes 28 February in common ones."""
    assert [anniversary(date(1948, 2, 29), year) for year in (2027, 2028, 2100)] == [
        date(2027, 2, 28),
        date(2028, 2, 29),
        date(2100, 2, 28),
    ]


def test_ordinal():
    """Days count from 1970-01-01."""
    assert (ordinal(date(1970, 1, 1)), ordinal(date(2026, 11, 23))) == (0, 20780)


@given(
    st.dates(date(2020, 1, 1), date(2040, 1, 1)),
    st.integers(0, 2**64 - 1),
    st.integers(1, 60),
    st.integers(0, 90),
)
def test_catch_up(as_of, value, spread, slack):
    """A caught-up day is within reach, stable over days, and a hash slot or the last day."""
    latest = date.fromordinal(as_of.toordinal() + slack)
    day = candidate_date(
        as_of.replace(day=1) if as_of.day > 1 else date(2019, 1, 1), latest, as_of, value, spread
    )
    assert day is not None
    assert as_of <= day <= min(latest, date.fromordinal(as_of.toordinal() + spread - 1))
    assert day == latest or ordinal(day) % spread == value % spread
    if day > as_of:
        tomorrow = date.fromordinal(as_of.toordinal() + 1)
        assert candidate_date(date(2019, 1, 1), latest, tomorrow, value, spread) == day


@pytest.mark.parametrize(
    ("as_of", "expected"),
    [
        ("2026-11-23", {(1, "birthday"): [("2026-12-01", None)]}),
        ("2026-12-14", {(1, "birthday"): [("2026-12-14", None)]}),
        ("2026-12-15", {}),  # the day itself is too late, and the next one is today's
        ("2026-12-16", {(1, "birthday"): [("2027-12-01", None)]}),
    ],
)
def test_birthday_dates(as_of, expected):
    """Fourteen days before, caught up until the day before, then next year's."""
    found = planned(contact(birth="'1950-12-15'"), as_of)
    assert {key: value for key, value in found.items() if key[1] != "aep"} == expected


def test_first_anniversary():
    """An effective date has its first email a year later, or as many as are configured."""
    script = contact(effective="'2026-03-01'")
    overrides = LOOSE | {"anniversary": {"effective_date_first_anniversary": 2}}
    assert planned(script, "2026-11-23")[1, "effective_date"] == [("2027-01-30", None)]
    assert (1, "effective_date") not in planned(script, "2026-11-23", overrides)
    assert (1, "effective_date") not in planned(script, "2026-01-05")


def test_window_and_post_window():
    """California: 30 + 60 days before to 60 after a birthday.

    The day after is the post-window email's.
    """
    found = planned(contact(zip_code="90210", birth="'1950-12-15'"), "2026-11-23")
    assert found[1, "birthday"] == [("2026-12-01", "exclusion:CA:birthday_window")]
    assert found[1, "post_window"] == [("2027-02-14", None)]


def test_post_window_of_the_previous_birthday():
    """After the birthday the window still hides its email.

    The post-window email stays until its day.
    """
    script = contact(zip_code="90210", birth="'1950-12-15'")
    both = [
        ("2027-02-14", None),
        ("2028-02-14", None),
    ]  # after this birthday's window and after the next one's
    assert planned(script, "2027-02-14")[1, "post_window"] == both


def test_post_window_is_caught_up():
    """For 30 days a post-window email that was due while nothing was sent keeps its slot.

    After them it is gone.
    """
    script = contact(zip_code="90210", birth="'1950-12-15'")
    slot = next(
        day for day in range(20869, 20876) if day % 7 == h(1, 4, 2027) % 7
    )  # from 2027-02-20 on
    for as_of in ("2027-02-20", date.fromordinal(slot + 719163).isoformat()):
        first, _ = planned(script, as_of)[1, "post_window"]
        assert ordinal(date.fromisoformat(first[0])) == slot
    assert planned(script, "2027-03-16")[1, "post_window"][0] == (
        "2027-03-16",
        None,
    )  # the last day
    assert planned(script, "2027-03-17")[1, "post_window"] == [("2028-02-14", None)]


def test_post_window_in_a_later_window():
    """Caught up into a later window, a post-window email is skipped, and another one follows it."""
    rules = [{"kind": "birthday_window", "before": 14, "after": 0, "pre_window_days": 0}]
    rules.append({"kind": "effective_date_window", "before": 0, "after": 9, "pre_window_days": 0})
    overrides = LOOSE | {"exclusion": {"rules": {"TX": rules}}}
    script = contact(
        birth="'1950-12-15'", effective="'2026-12-18'"
    )  # windows until 15th, and 18th to 27th
    found = planned(script, "2026-12-18", overrides)
    assert of_type(found, "post_window")[0][1] == "exclusion:TX:effective_date_window"


@pytest.mark.parametrize("rule", ["year_round", "unreadable", "missing"])
def test_no_post_window_without_an_end(rule):
    """A rule that excludes every date leaves no day after the window."""
    rules = [{"kind": "birthday_window", "before": 30, "after": 60}]
    rules.append({"kind": "year_round" if rule == "year_round" else "effective_date_window"})
    overrides = LOOSE | {"exclusion": {"rules": {"TX": rules}, "missing_dates": "exclude"}}
    script = contact(birth="'1950-12-15'", effective="'soon'" if rule == "unreadable" else "NULL")
    found = planned(script, "2026-11-23", overrides)
    assert not of_type(found, "post_window")
    (birthday,) = of_type(found, "birthday")
    assert (
        birthday[1] == f"exclusion:TX:{'year_round' if rule == 'year_round' else 'birthday_window'}"
    )


@pytest.mark.parametrize(
    ("birth", "exclusion", "reason"),
    [
        ("'12/15/1950'", {}, "exclusion:CA:unreadable_date"),
        ("'2030-01-01'", {}, "exclusion:CA:unreadable_date"),
        ("'12/15/1950'", {"unreadable_dates": "ignore"}, None),
        ("NULL", {}, None),
        ("' '", {}, None),
        ("NULL", {"missing_dates": "exclude"}, "exclusion:CA:missing_date"),
        ("'12/15/1950'", {"missing_dates": "exclude", "unreadable_dates": "ignore"}, None),
    ],
)
def test_unreadable_and_missing_dates(birth, exclusion, reason):
    """An unreadable birth date excludes every date; a missing one if configured."""
    script = contact(zip_code="90210", birth=birth) + contact(2, birth=birth)
    found = planned(script, "2026-11-23", LOOSE | {"exclusion": exclusion})
    assert found == {(1, "aep"): [("2027-09-15", reason)], (2, "aep"): [("2027-09-15", None)]}


def test_failed_underwriting():
    """If the organization wants it, contacts that failed underwriting get AEP e-mails only.

    Unreadable counts as true.
    """
    for failed in ("'unknown'", "' Yes'", 1):
        script = contact(birth="'1950-12-15'", effective="'2020-03-01'", failed=failed)
        overrides = LOOSE | {"anniversary": {"exclude_failed_underwriting": True}}
        assert {email_type for _, email_type in planned(script, "2026-11-23", overrides)} == {"aep"}
    overrides = LOOSE | {"anniversary": {"exclude_failed_underwriting": True}}
    assert {email_type for _, email_type in planned(script, "2026-11-23", overrides)} == {"aep"}
    assert len(planned(script, "2026-11-23")) == 3


def test_endless_windows_have_no_day_after():
    """Windows that cover the whole year between them have no end, like a year-round rule."""
    rules = [{"kind": "birthday_window", "before": 100, "after": 100, "pre_window_days": 0}]
    rules.append(
        {"kind": "effective_date_window", "before": 120, "after": 120, "pre_window_days": 0}
    )
    overrides = LOOSE | {"exclusion": {"rules": {"TX": rules}}}
    found = planned(
        contact(birth="'1950-01-10'", effective="'2000-07-10'"), "2026-11-23", overrides
    )
    assert (1, "post_window") not in found
    assert found[1, "birthday"] == [("2026-12-27", "exclusion:TX:birthday_window")]


@given(
    st.dates(date(1930, 1, 1), date(2020, 1, 1)),
    st.dates(date(2024, 1, 1), date(2033, 1, 1)),
    st.sampled_from(["CA", "NV", "MO", "OR", "ID"]),
)
def test_windows_two_ways(of, day, state):
    """Windows by year equal a day-by-day search; a free day follows each window."""
    person, configuration = Contact(1, state, of, of, False, None), Configuration()
    windows = Windows(person, configuration)
    kinds = excluded_kinds(person, day, configuration)
    assert windows.reason(day) == (f"exclusion:{state}:{min(kinds)}" if kinds else None)
    if kinds:
        end = windows.end(day)
        assert end is not None
        assert end >= day
        assert windows.reason(end)
        assert windows.reason(date.fromordinal(end.toordinal() + 1)) is None


@pytest.mark.parametrize(
    ("total", "percent", "expected"),
    [
        (60, None, (12, 3, 14)),
        (1, None, (1, 1, 1)),
        (9_999, None, (1999, 50, 2398)),
        (10_000, None, (1000, 200, 1200)),
        (100_000, None, (7000, 500, 8400)),
        (499_999, None, (34_999, 500, 41_998)),
        (500_000, None, (25_000, 1000, 30_000)),
        (300, 2.5, (7, 2, 8)),
        (1000, 33.3, (333, 50, 399)),  # exact: no binary fraction of 33.3
        (100_000, 0.29, (290, 87, 348)),  # 0.29 * 100 is below 29 in binary
        (10, 0.01, (1, 1, 1)),
    ],
)
def test_limits(total, percent, expected):
    """Cap, soft limit and limit by size and configuration, in exact arithmetic."""
    configuration = configure(
        {} if percent is None else {"balance": {"daily_cap_percent": percent}}
    )
    found = limits(configuration, total)
    assert (found.cap, found.soft, found.limit) == expected


def test_unknown_keys_are_refused():
    """A table or key that section 13 has not is an error."""
    unknown: list[dict[str, Any]] = [{"balanc": {}}, {"balance": {"cap": 1}}]
    for overrides in unknown:
        with pytest.raises(ValueError, match="unknown"):
            configure(overrides)


def test_two_contacts_on_a_day_for_one():
    """With one e-mail a day, the smaller (priority, latest, h) stays, the other moves."""
    script = contact(1, birth="'1950-12-15'") + contact(2, birth="'1960-12-15'")
    found = planned(script, "2026-11-23", {"balance": {"daily_cap_percent": 0.01}})
    first = min((1, 2), key=lambda one: h(one, 1, 2026))
    assert found[first, "birthday"] == [("2026-12-01", None)]
    assert found[3 - first, "birthday"] == [("2026-12-02", None)]


def test_frequency_limit():
    """Of more emails in 30 days than allowed the least important is skipped.

    30 days apart is not too near.
    """
    script = contact(birth="'1950-12-15'", effective="'2020-01-10'")  # 1 and 11 December
    one = LOOSE | {"frequency": {"max_emails_per_period": 1}}
    assert planned(script, "2026-11-23", one)[1, "effective_date"] == [
        ("2026-12-11", "frequency_limit")
    ]
    shorter = LOOSE | {"frequency": {"max_emails_per_period": 1, "period_days": 10}}
    assert planned(script, "2026-11-23", shorter)[1, "effective_date"] == [("2026-12-11", None)]


def test_same_day():
    """Two emails on one day: the less important one is skipped."""
    script = contact(birth="'1950-12-15'", effective="'2020-12-31'")  # both 1 December
    script += (
        "INSERT INTO contacts (id) VALUES (2), (3);"  # not eligible, but there: the day holds three
    )
    assert planned(script, "2026-11-23")[1, "effective_date"] == [
        ("2026-12-01", "same_day_conflict")
    ]
