"""Exclusion rules of states (rules, section 3): checks, the written form, and sentences."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from . import validators
from .states import STATE_INDEX
from .validators import ConfigurationError

#: Kinds of exclusion, in the order in which the first that applies is named (section 5).
KINDS = (
    "year_round",
    "birthday_window",
    "effective_date_window",
    "unreadable_date",
    "missing_date",
)
#: The kinds that a rule can have; the others say that a rule's date cannot be read or is absent.
RULE_KINDS = KINDS[:3]

#: The days that `from` and `until` can be; a rule without an end leaves `until` out.
FIRST_DAY, LAST_DAY = dt.date(1900, 1, 1), dt.date(2199, 12, 31)
MAX_AGE = 150


@dataclass(frozen=True)
class WindowRule:
    """One exclusion rule of a state; `before` counts without the pre-window extension.

    from_date, until_date: ordinals of the first and last day that the rule can exclude.   min_age,
    max_age: the birthdays (year of the window less year of birth) that its windows are limited to.

    >>> in_words((WindowRule("birthday_window", before=30, after=60),))
    '30 days before to 60 days after the birthday'
    """

    kind: str
    before: int = 0
    after: int = 0
    month_start: bool = False
    pre_window_days: int | None = None
    from_date: int | None = None
    until_date: int | None = None
    min_age: int | None = None
    max_age: int | None = None


Rules = Mapping[str, tuple[WindowRule, ...]]

_day = validators.day(FIRST_DAY, LAST_DAY)
#: key in TOML -> (field, check)
_DATED: dict[str, tuple[str, validators.Check]] = {
    "from": ("from_date", _day),
    "until": ("until_date", _day),
}
_WINDOW: dict[str, tuple[str, validators.Check]] = {
    "before": ("before", validators.integer(0, 366)),
    "after": ("after", validators.integer(0, 366)),
    "month_start": ("month_start", validators.boolean),
    "pre_window_days": ("pre_window_days", validators.integer(0, 120)),
    **_DATED,
    "min_age": ("min_age", validators.integer(0, MAX_AGE)),
    "max_age": ("max_age", validators.integer(0, MAX_AGE)),
}


def first_day(iso: str) -> int:
    """Return a `from_date`."""
    return int(_day(iso, "from"))


def _iso(ordinal: int) -> str:
    return (validators.EPOCH + dt.timedelta(days=ordinal)).isoformat()


def _rule(value: Any, key: str) -> WindowRule:
    table = validators.table(value, key)
    kind = validators.choice(RULE_KINDS)(table.get("kind"), f"{key}.kind")
    accepted = _DATED if kind == "year_round" else _WINDOW
    validators.known_keys(table, ("kind", *accepted), key)
    if kind != "year_round":
        for needed in ("before", "after"):
            if needed not in table:
                raise ConfigurationError(f"{key} lacks the key {needed!r} (days, 0 to 366)")
    fields = {}
    for name, item in table.items():
        if name != "kind":
            field, check = accepted[name]
            fields[field] = check(item, f"{key}.{name}")
    rule = WindowRule(kind, **fields)
    for low, high in (("from", "until"), ("min_age", "max_age")):
        if low in table and high in table and fields[_WINDOW[low][0]] > fields[_WINDOW[high][0]]:
            raise ConfigurationError(
                f"{key}.{low} = {table[low]} is after {key}.{high} = {table[high]}"
            )
    return rule


def checked(value: Any, key: str) -> dict[str, tuple[WindowRule, ...]]:
    """Accept a table of states with an array of rules each; raises `ConfigurationError`."""
    result = {}
    for state, rules in validators.table(value, key).items():
        state_key = f"{key}.{state}"
        if state not in STATE_INDEX:
            raise ConfigurationError(f"{state_key}: {state!r} is not a state's two-letter code")
        items = validators.array(rules, state_key)
        result[state] = tuple(
            _rule(rule, f"{state_key}[{number}]") for number, rule in enumerate(items)
        )
    return result


def written(rule: WindowRule) -> dict[str, Any]:
    """Return a rule in the shape in which it is given."""
    result: dict[str, Any] = {"kind": rule.kind}
    if rule.kind != "year_round":
        result |= {"before": rule.before, "after": rule.after}
    if rule.month_start:
        result["month_start"] = True
    for name in ("pre_window_days", "min_age", "max_age"):
        if getattr(rule, name) is not None:
            result[name] = getattr(rule, name)
    for name, (field, _) in _DATED.items():
        if getattr(rule, field) is not None:
            result[name] = _iso(getattr(rule, field))
    return result


def in_words(rules: tuple[WindowRule, ...]) -> str:
    """Return the rules of a state in words."""
    return "; ".join(map(_in_words, rules)) if rules else "no rule"


def _in_words(rule: WindowRule) -> str:
    if rule.kind == "year_round":
        text = "year-round"
    else:
        of = "birthday" if rule.kind == "birthday_window" else "effective date"
        if rule.month_start:
            of = f"first of the month of the {of}"
        text = f"{rule.before} days before to {rule.after} days after the {of}"
    if rule.pre_window_days is not None:
        text += f", {rule.pre_window_days} more days before"
    if rule.min_age is not None:
        text += f", from age {rule.min_age}"
    if rule.max_age is not None:
        text += f", to age {rule.max_age}"
    if rule.from_date is not None:
        text += f", from {_iso(rule.from_date)}"
    if rule.until_date is not None:
        text += f", until {_iso(rule.until_date)}"
    return text
