"""The engine's pieces, each against a slow and obvious way to get the same."""

from __future__ import annotations

import datetime as dt
import json
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedd.engine import calendar, states
from schedd.engine.balance import Balance, MovableRows
from schedd.engine.coercions import contact_date
from schedd.engine.configuration import Configuration, ConfigurationError, Layer, build, parse_toml
from schedd.engine.contacts import (
    People,
    Reason,
    email_reason,
    zip_state,
)
from schedd.engine.difference import difference
from schedd.engine.hashing import email_hash, mix64
from schedd.engine.packing import pack_keys
from schedd.engine.run import make_classes
from schedd.engine.windows import Windows
from schedd.store.blocks import Block
from tests.support.paths import ROOT
from tests.support.plans import GOLDEN

DATES = st.dates(dt.date(1900, 1, 1), dt.date(2200, 12, 31))


def test_hash_vectors() -> None:
    """mix64 and h are those of the published vectors."""
    vectors = json.loads((GOLDEN / "vectors.json").read_text())
    for value, expected in vectors["mix64"]:
        assert int(mix64(np.array([value], np.uint64))[0]) == expected
    for vector in vectors["h"]:
        found = email_hash(np.array([vector["contact_id"]]), vector["salt"], vector["year"])
        assert int(found[0]) == vector["h"]
        assert int(found[0]) % 7 == vector["h_mod_7"]


def test_calendar_covers_every_day() -> None:
    """Every day from year 1 to 9999 equals numpy's calendar and converts back."""
    days = np.arange(calendar.FIRST, calendar.LAST + 1, dtype=np.int32)
    years, months, day = calendar.parts(days)
    as_date = days.astype("datetime64[D]")
    assert (as_date.astype("datetime64[Y]").astype(int) + 1970 == years).all()
    assert (as_date.astype("datetime64[M]").astype(int) % 12 + 1 == months).all()
    assert (calendar.ordinal_of_parts(years, months, day) == days).all()


@given(DATES, st.integers(1900, 2200))
def test_anniversary(born: dt.date, year: int) -> None:
    """Same month and day; 29 February becomes 28 February in a common year."""
    try:
        expected = born.replace(year=year)
    except ValueError:
        expected = dt.date(year, 2, 28)
    ordinal = np.array([calendar.ordinal(born)], np.int32)
    day = calendar.yearday_in(ordinal, calendar.year_of(ordinal))
    assert calendar.to_date(int(calendar.anniversary(np.array([year]), day)[0])) == expected


@given(st.text(alphabet="0123456789- T", min_size=10, max_size=10))
def test_dates_as_columns_and_alone(text: str) -> None:
    """A date in a block is read as the same text alone is, and as the standard library reads it."""
    column, clean = Block(text.encode(), 1, 10).dates()
    alone, readable = contact_date(text, ["YYYY-MM-DD"])
    invalid = not readable
    try:
        expected = (
            calendar.ordinal(dt.datetime.strptime(text, "%Y-%m-%d").date())
            if "T" not in text
            else None
        )
    except ValueError:
        expected = None
    if (
        expected is not None
        and text.count("-") == 2
        and " " not in text
        and text[4] == text[7] == "-"
    ):
        assert clean[0]
        assert int(column[0]) == alone == expected
        assert not invalid
    else:
        assert not clean[0]


@given(
    st.lists(st.text(alphabet="0123456789 /:x", min_size=18, max_size=18), max_size=20),
    st.integers(0, 17),
    st.data(),
)
def test_numbers_in_blocks(texts: list[str], start: int, data: st.DataObject) -> None:
    """Any part of the texts of a block is read as the number that it writes, or said to be none."""
    end = data.draw(st.integers(start + 1, 18))
    values, clean = Block("".join(texts).encode(), len(texts), 18).number(start, end)
    for text, value, good in zip(texts, values.tolist(), clean.tolist(), strict=True):
        part = text[start:end]
        assert good == part.isdigit()
        assert not good or value == int(part)
    blank = Block("".join(texts).encode(), len(texts), 18).blank()
    assert len(blank) == len(texts)


@pytest.mark.parametrize("width", [1, 5, 8, 10, 16])
def test_blank_texts(width: int) -> None:
    """Only texts of blanks alone are blank."""
    texts = [" " * width, "x" * width, " " * (width - 1) + "x", "x" + " " * (width - 1)]
    assert Block("".join(texts).encode(), 4, width).blank().tolist() == [True, False, False, False]


@pytest.mark.parametrize(
    ("value", "ordinal", "invalid"),
    [
        (None, None, False),
        ("", None, False),
        ("   ", None, False),
        ("2024-02-29", dt.date(2024, 2, 29), False),
        ("2023-02-29", None, True),
        ("1948-02-29 10:11", dt.date(1948, 2, 29), False),
        ("1948-02-29T00:00:00", dt.date(1948, 2, 29), False),
        ("1948-02-29x", None, True),
        ("not a date", None, True),
        (19480229, None, True),
        ("0000-01-01", None, True),
        ("२०२४-०१-०१", None, True),
    ],
)
def test_odd_dates(value: object, ordinal: dt.date | None, invalid: bool) -> None:
    """Blank is absent, a time part is ignored, any other text is invalid."""
    expected = int(calendar.NONE) if ordinal is None else calendar.ordinal(ordinal)
    assert contact_date(value, ["YYYY-MM-DD"]) == (expected, not invalid)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, Reason.MISSING_EMAIL),
        ("  ", Reason.MISSING_EMAIL),
        (" ok@example.org ", Reason.OK),
        ("@x.org", Reason.INVALID_EMAIL),
        ("a@.org", Reason.INVALID_EMAIL),
        ("a@org.", Reason.INVALID_EMAIL),
        ("a@org", Reason.INVALID_EMAIL),
        ("a b@c.org", Reason.INVALID_EMAIL),
        ("a@b@c.org", Reason.INVALID_EMAIL),
        ("a\u00a0b@c.org", Reason.INVALID_EMAIL),
        ("ü@example.org", Reason.OK),
        (5, Reason.INVALID_EMAIL),
    ],
)
def test_emails(value: object, reason: Reason) -> None:
    """One @ with something before it, a dot inside the part after it, no white space."""
    assert email_reason(value) == reason


@pytest.mark.parametrize(
    ("value", "reason", "state"),
    [
        ("90210", Reason.OK, "CA"),
        (" 90210 ", Reason.OK, "CA"),
        ("90210-1234", Reason.OK, "CA"),
        ("90210-12", Reason.UNKNOWN_ZIP, None),
        (501, Reason.OK, "NY"),
        ("501", Reason.OK, "NY"),
        (90210, Reason.OK, "CA"),
        (90210.0, Reason.OK, "CA"),
        ("90210.0", Reason.OK, "CA"),
        ("'00501", Reason.OK, "NY"),
        ('="00501"', Reason.OK, "NY"),
        ("902101234", Reason.OK, "CA"),
        ("5011234", Reason.UNKNOWN_ZIP, None),
        ("90210 1234", Reason.OK, "CA"),
        ("90210.5", Reason.UNKNOWN_ZIP, None),
        ("\ufeff90210\u200b\0", Reason.OK, "CA"),
        (-501, Reason.UNKNOWN_ZIP, None),
        ("99999", Reason.UNKNOWN_ZIP, None),
        ("", Reason.MISSING_ZIP, None),
        (None, Reason.MISSING_ZIP, None),
        ("٩٠٢١٠", Reason.UNKNOWN_ZIP, None),
    ],
)
def test_zips(value: object, reason: Reason, state: str | None) -> None:
    """A ZIP may be short, long, a number or wrapped by a spreadsheet (section 1).

    Other forms are unknown.
    """
    found, number = zip_state(value)
    assert found == reason
    assert (states.STATES[number] if number >= 0 else None) == state


def test_zip_table_is_current() -> None:
    """The generated table is what the generator makes of the package that the rules name."""
    import importlib.util

    root = ROOT
    spec = importlib.util.spec_from_file_location(
        "make_zip_table", root / "tools" / "make_zip_table.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.TARGET.read_text() == module.render()


def _slow_excluded(
    configuration: Configuration, state: str, birth: dt.date, effective: dt.date, day: dt.date
) -> str:
    """Section 3 word by word, for one contact and day."""

    def in_year(date: dt.date, year: int) -> dt.date:
        try:
            return date.replace(year=year)
        except ValueError:
            return dt.date(year, 2, 28)

    rules = configuration.rules.get(state, ())
    if any(rule.kind == "year_round" for rule in rules):
        return "year_round"
    for kind, date in (("birthday_window", birth), ("effective_date_window", effective)):
        for rule in rules:
            if rule.kind != kind:
                continue
            extension = (
                configuration.pre_window_days
                if rule.pre_window_days is None
                else rule.pre_window_days
            )
            for year in (day.year - 1, day.year, day.year + 1):
                base = in_year(date, year)
                base = base.replace(day=1) if rule.month_start else base
                if -(rule.before + extension) <= (day - base).days <= rule.after:
                    return kind
    return ""


def _person(state: str, birth: dt.date, effective: dt.date) -> People:
    def yearday(date: dt.date) -> int:
        return calendar.MONTH_START[date.month - 1] + date.day - 1

    return People(
        ids=np.array([7]),
        state=np.array([states.STATE_INDEX[state]], np.int8),
        birth_day=np.array([yearday(birth)], np.int16),
        effective_day=np.array([yearday(effective)], np.int16),
        effective_year=np.array([effective.year], np.int16),
        birth_year=np.array([birth.year], np.int16),
        unreadable_birth=np.array([False]),
        unreadable_effective=np.array([False]),
        failed_underwriting=np.array([False]),
        carrier=np.array([-1], np.int32),
    )


RULE = st.one_of(
    st.fixed_dictionaries(
        {
            "kind": st.sampled_from(["birthday_window", "effective_date_window"]),
            "before": st.integers(0, 120),
            "after": st.integers(0, 120),
        },
        optional={"month_start": st.booleans(), "pre_window_days": st.integers(0, 60)},
    ),
    st.just({"kind": "year_round"}),
)


@given(
    st.lists(RULE, max_size=3),
    st.sampled_from(["CA", "NV", "MO", "TX", "NY", "ID"]),
    DATES,
    DATES,
    st.dates(dt.date(2023, 1, 1), dt.date(2030, 1, 1)),
)
def test_windows(
    rules: list[dict[str, object]], state: str, birth: dt.date, effective: dt.date, day: dt.date
) -> None:
    """Exclusion and window end, for columns, are those of the rules read word by word."""
    values = {"exclusion": {"rules": {state: rules}}} if rules else {}
    configuration = build(Layer("test", values))
    windows = Windows(configuration.rules, configuration.pre_window_days)
    people, contact_index = _person(state, birth, effective), np.array([0])
    expected = _slow_excluded(configuration, state, birth, effective, day)
    kinds = ("", "year_round", "birthday_window", "effective_date_window")
    assert (
        kinds[
            int(
                windows.excluded(
                    people, contact_index, np.array([calendar.ordinal(day)], np.int32)
                )[0]
            )
        ]
        == expected
    )
    if expected in {"", "year_round"}:
        return
    found = windows.ends(people, contact_index, np.array([calendar.ordinal(day)], np.int32))[0]
    last = day
    while _slow_excluded(configuration, state, birth, effective, last + dt.timedelta(days=1)):
        last += dt.timedelta(days=1)
        if (last - day).days > 4500:
            assert found == calendar.NONE
            return
    assert calendar.to_date(int(found)) == last


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
    people = _person("TX", dt.date(1950, 1, 1), dt.date(2015, 1, 1))
    people = People(
        **{name: np.repeat(getattr(people, name), size) for name in vars(people) if name != "ids"},
        ids=np.arange(1, size + 1),
    )
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


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3), st.integers(-3, 3)), unique=True),
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3), st.integers(-3, 3)), unique=True),
    st.randoms(),
)
def test_difference(
    planned: list[tuple[int, int, int]], present: list[tuple[int, int, int]], random: Random
) -> None:
    """Inserts, updates and deletes turn the existing rows into the planned ones."""
    planned.sort()

    def keys(rows: list[tuple[int, int, int]]) -> np.ndarray:
        return pack_keys(*(np.array([row[i] for row in rows], np.int64) for i in range(3)))

    want = {key: random.randrange(2) for key in planned}
    have = {key: random.randrange(2) for key in present}
    change = difference(
        keys(planned),
        np.array([want[k] for k in planned], np.int64),
        keys(present),
        np.array([have[k] for k in present]),
    )
    after = dict(have)
    for index in change.delete.tolist():
        del after[present[index]]
    for new, old in zip(change.update.tolist(), change.updated.tolist(), strict=True):
        assert planned[new] == present[old]
        after[present[old]] = want[planned[new]]
    for index in change.insert.tolist():
        assert planned[index] not in have
        after[planned[index]] = want[planned[index]]
    assert after == want
    assert change.unchanged == sum(1 for key in want if have.get(key) == want[key])


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"anniversry": {}}, ["anniversry", "did you mean 'anniversary'"]),
        (
            {"anniversary": {"birthday_days_before": 181}},
            ["anniversary.birthday_days_before", "0 to 180"],
        ),
        (
            {"anniversary": {"birthday_days_before": "14"}},
            ["anniversary.birthday_days_before", "whole number"],
        ),
        ({"anniversary": {"birthday_days_before": True}}, ["whole number"]),
        ({"anniversary": {"aep_days": []}}, ["anniversary.aep_days", "MM-DD"]),
        ({"anniversary": {"aep_days": ["02-30"]}}, ["02-30"]),
        ({"balance": {"smoothing_window_days": 4}}, ["odd"]),
        ({"balance": {"daily_cap_percent": 0.001}}, ["0.01 to 100"]),
        ({"balance": {"daily_cap_percent": 1.234}}, ["two decimals"]),
        ({"exclusion": {"rules": {"XX": []}}}, ["exclusion.rules.XX"]),
        ({"exclusion": {"rules": {"CA": [{"kind": "never"}]}}}, ["exclusion.rules.CA[0].kind"]),
        ({"exclusion": {"rules": {"CA": [{"kind": "birthday_window", "before": 1}]}}}, ["'after'"]),
        (
            {"exclusion": {"rules": {"CA": [{"kind": "year_round", "before": 1}]}}},
            ["exclusion.rules.CA[0].before"],
        ),
        ({"timezone": "Mars/Olympus"}, ["timezone", "Mars/Olympus"]),
        ({"send_time": "8:30"}, ["HH:MM:SS"]),
        ({"templates": {"birthday": 5}}, ["templates.birthday"]),
        ({"frequency": 3}, ["frequency", "a table"]),
    ],
)
def test_configuration_errors(values: dict[str, object], words: list[str]) -> None:
    """An unknown key, wrong type or value is named with its location and what is accepted."""
    with pytest.raises(ConfigurationError) as caught:
        build(Layer("the file x.toml", values))
    for word in ["the file x.toml", *words]:
        assert word in str(caught.value)


def test_configuration_layers() -> None:
    """Later layers win key by key; a state's rules are replaced as a whole."""
    first = parse_toml(
        "[anniversary]\nbirthday_days_before = 3\n[exclusion.rules]\nCA = []\nTX = [{ kind = "
        '"year_round" }]',
        "first",
    )
    second = parse_toml(
        '[anniversary]\naep_slack_days = 4\n[exclusion.rules]\nTX = []\n[templates]\naep = "x"',
        "second",
    )
    configuration = build(first, second)
    assert (configuration.birthday_days_before, configuration.aep_slack_days) == (3, 4)
    assert configuration.rules["CA"] == configuration.rules["TX"] == ()
    assert configuration.rules["NV"][0].month_start
    assert configuration.template("aep") == "x"
    assert configuration.template("birthday") == "birthday"


@pytest.mark.parametrize(
    ("total", "cap", "soft", "limit"),
    [
        (1, 1, 1, 1),
        (60, 12, 3, 14),
        (9_999, 1_999, 50, 2_398),
        (10_000, 1_000, 200, 1_200),
        (100_000, 7_000, 500, 8_400),
        (500_000, 25_000, 1_000, 30_000),
    ],
)
def test_profiles(total: int, cap: int, soft: int, limit: int) -> None:
    """Cap, soft limit and limit follow the organization's size, in exact arithmetic."""
    found = Configuration().limits(total)
    assert (found.cap, found.soft, found.limit) == (cap, soft, limit)
