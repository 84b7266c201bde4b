"""Tables of state rules by name (`exclusion.preset`; rules, section 13), each rule with its source.

Not legal advice: the sources are public pages, read as the entries say. The table "2026" is in no
state shorter than the default one; if sources disagree, it has the longer window. Counsel has to
confirm every entry.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .rules import WindowRule, first_day

DEFAULT = "default"
TO_BE_CONFIRMED = "to be confirmed by counsel"

_BIRTHDAY, _EFFECTIVE = "birthday_window", "effective_date_window"
_YEAR_ROUND = (WindowRule("year_round"),)

DEFAULT_RULES: dict[str, tuple[WindowRule, ...]] = {
    "CA": (WindowRule(_BIRTHDAY, 30, 60),),
    "ID": (WindowRule(_BIRTHDAY, 0, 63),),
    "KY": (WindowRule(_BIRTHDAY, 0, 60),),
    "MD": (WindowRule(_BIRTHDAY, 0, 30),),
    "NV": (WindowRule(_BIRTHDAY, 0, 60, month_start=True),),
    "OK": (WindowRule(_BIRTHDAY, 0, 60),),
    "OR": (WindowRule(_BIRTHDAY, 0, 31),),
    "VA": (WindowRule(_BIRTHDAY, 0, 30),),
    "MO": (WindowRule(_EFFECTIVE, 30, 33),),
    **dict.fromkeys(("CT", "MA", "NY", "WA"), _YEAR_ROUND),
}


@dataclass(frozen=True)
class Entry:
    """The rules of one state and their sources.

    effect: `YYYY-MM-DD`, the day the law or rule took effect, None if no source gave one.
    """

    rules: tuple[WindowRule, ...]
    source: str
    effect: str | None = None
    note: str = TO_BE_CONFIRMED


@dataclass(frozen=True)
class Preset:
    """A table of state rules.

    open_points: states without a rule here for which something was found, and what.

    >>> PRESETS["2026"].rules["CA"] == DEFAULT_RULES["CA"]
    True
    """

    name: str
    entries: Mapping[str, Entry]
    open_points: Mapping[str, str] = field(default_factory=dict)

    @property
    def rules(self) -> dict[str, tuple[WindowRule, ...]]:
        """The rules alone, by state."""
        return {state: entry.rules for state, entry in self.entries.items()}


@dataclass(frozen=True)
class RuleDifference:
    """A state whose rules differ in two tables; no rules: the table does not have the state."""

    state: str
    rules: tuple[WindowRule, ...]
    other_rules: tuple[WindowRule, ...]


def differences(
    rules: Mapping[str, tuple[WindowRule, ...]], other: Mapping[str, tuple[WindowRule, ...]]
) -> tuple[RuleDifference, ...]:
    """Return the states whose rules differ in two tables, in the order of their codes."""
    pairs = (
        (state, rules.get(state, ()), other.get(state, ())) for state in sorted({*rules, *other})
    )
    return tuple(RuleDifference(*pair) for pair in pairs if set(pair[1]) != set(pair[2]))


def _since(effect: str, *, before: int = 0, after: int) -> tuple[WindowRule, ...]:
    """Return a birthday window that excludes no day before the rule took effect."""
    return (WindowRule(_BIRTHDAY, before, after, from_date=first_day(effect)),)


def _noted(note: str) -> str:
    return f"{note}; {TO_BE_CONFIRMED}"


_ENTRIES_2026 = {
    "CA": Entry(
        (WindowRule(_BIRTHDAY, 30, 60),),
        "SB 407 of 2019, Insurance Code 10192.11 (legiscan.com, senior65.com); "
        "30 days before: amacbrokers.com",
        "2020-07-01",
        _noted(
            "the law counts 60 days from the birthday; "
            "insurers take applications from 30 days before"
        ),
    ),
    "CT": Entry(
        _YEAR_ROUND,
        "guaranteed issue at any time (medicareresources.org, medigapwindow.com)",
    ),
    "ID": Entry(
        (WindowRule(_BIRTHDAY, 0, 63),),
        "SB 1143 of 2021, IDAPA 18.04.10 (doi.idaho.gov)",
        "2022-03-01",
    ),
    "IL": Entry(
        (WindowRule(_BIRTHDAY, 0, 45, min_age=65, max_age=75),),
        "SB 147, 215 ILCS 5/363; P.A. 103-747 adds affiliates (smsteam.net, billtrack50.com)",
        "2022-01-01",
        _noted("ages 65 to 75, same insurer or an affiliate"),
    ),
    "IN": Entry(
        _since("2026-01-01", after=60),
        "HEA 1226 of 2025 (newhorizonsmktg.com, help.ihealthagents.com, boonecountydailynews.com)",
        "2026-01-01",
        _noted("from age 65; applied to all ages here. One page (senior65.com) says 30 days"),
    ),
    "KY": Entry(
        (WindowRule(_BIRTHDAY, 30, 60),),
        "HB 345 of 2023 (einpresswire.com, healthnews.com, medicarehelper.net)",
        "2024-01-01",
        _noted("some pages count from 30 days before, most from the birthday"),
    ),
    "LA": Entry(
        (WindowRule(_BIRTHDAY, 0, 63),),
        "RS 22:1112 (copy at self-law.org)",
        None,
        _noted(
            "same insurer or an affiliate; older pages say 45 days, or 30 days before to 63 after"
        ),
    ),
    "MA": Entry(
        _YEAR_ROUND,
        "yearly period from 1 February to 31 March; "
        "insurers keep it open all year (medicareresources.org)",
        None,
        _noted("year-round by the insurers' choice"),
    ),
    "MD": Entry(
        (WindowRule(_BIRTHDAY, 0, 30),),
        "HB 247 of 2022, Insurance 15-909 (b) (6), COMAR 31.10.06.06 "
        "(app.legiplex.com, regulations.justia.com)",
        "2023-07-01",
    ),
    "ME": Entry(
        _YEAR_ROUND,
        "change to the same or lesser benefits at any time, without a gap of over 90 days "
        "(maine.gov/pfr/insurance)",
        None,
        _noted("treated like WA; Plan A is guaranteed issue in one month of the year, too"),
    ),
    "MO": Entry(
        (WindowRule(_EFFECTIVE, 30, 33),),
        "anniversary rule (medicareresources.org, medicare-365.com)",
        None,
        _noted("sources say 30 days after the anniversary; the longer built-in window is kept"),
    ),
    "NV": Entry(
        (WindowRule(_BIRTHDAY, 0, 60, month_start=True),),
        "AB 250 of 2021, NRS 687B.352 (casetext.com, healthbenefits.net)",
        "2022-01-01",
        _noted("at least 60 days from the first day of the birth month"),
    ),
    "NY": Entry(
        _YEAR_ROUND,
        "guaranteed issue at any time (medicareresources.org, medigapwindow.com)",
    ),
    "OK": Entry(
        (WindowRule(_BIRTHDAY, 0, 60),),
        "OAC 365:10-5-129 (oid.ok.gov, medicarefaq.com)",
    ),
    "OR": Entry(
        (WindowRule(_BIRTHDAY, 0, 31),),
        "rule of the Insurance Division, OAR 836-052 (oregonlive.com, amacbrokers.com)",
        "2013-01-01",
        _noted("sources say 30 days from the birthday; the longer built-in window is kept"),
    ),
    "UT": Entry(
        _since("2025-05-07", after=60),
        "Utah Code 31A-22-620 (le.utah.gov, medicarenationwide.com)",
        "2025-05-07",
        _noted("same insurer"),
    ),
    "VA": Entry(
        # Without a first day: the default table has a rule for the time before.
        (WindowRule(_BIRTHDAY, 0, 60),),
        "HB 2100 and SB 1199 of 2025 (billtrack50.com, legiscan.com)",
        "2025-07-01",
        _noted("at least 60 days from the birthday"),
    ),
    "WA": Entry(
        _YEAR_ROUND,
        "RCW 48.66.045: replacement of a policy at any time (codes.findlaw.com)",
    ),
    "WY": Entry(
        _since("2025-06-04", after=63),
        "Insurance Regulation chapter 35, Bulletin 06-2025 (resourcepro.com)",
        "2025-06-04",
    ),
}

_OPEN_2026 = {
    "DE": "SB 71 of 2025 (30 days before to 30 after the birthday) was introduced; "
    "not found to be enacted",
    "MN": "Laws 2025, First Special Session, chapter 4, article 5: guaranteed issue rules "
    "from 2026-08-01 that are not counted from a birthday; a bill of 2026 would repeal them",
    "NM": "bills of 2025 and 2026 (60 days from the first day of the birth month); "
    "not found to be enacted",
    "RI": "27-18.2-3: guaranteed issue in the yearly enrollment period, "
    "which is not counted from a birthday",
    "VT": "8 V.S.A. 4051 forbids medical underwriting in rates; "
    "pages disagree about enrollment at any time",
}

PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            DEFAULT,
            {
                state: Entry(rules, "the table of docs/RULES.md, section 3")
                for state, rules in DEFAULT_RULES.items()
            },
        ),
        Preset("2026", _ENTRIES_2026, _OPEN_2026),
    )
}
