"""Checks of single configuration values.

Each takes a value and its key, and returns the typed value or raises `ConfigurationError`.

Every message names the key, the value found and what is accepted.
"""

from __future__ import annotations

import datetime as dt
import difflib
import re
import zoneinfo
from collections.abc import Callable, Iterable, Mapping
from typing import Any

#: Days are counted from here (`calendar`, which this module does not import: the daemon listens
#: without numpy).
EPOCH = dt.date(1970, 1, 1)

Check = Callable[[Any, str], Any]


class ConfigurationError(ValueError):
    """A configuration that is not fully understood; the run does not start."""


def _fail(key: str, value: Any, accepted: str) -> ConfigurationError:
    return ConfigurationError(f"invalid {key} = {value!r:.60}: expected {accepted}")


def known_keys(table: Mapping[str, Any], known: Iterable[str], key: str) -> None:
    """Raise for the first key of a table that is not known, with the nearest known one."""
    known = sorted(known)
    for name in table:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, 1)
            meant = f"; did you mean {near[0]!r}?" if near else f"; known keys: {', '.join(known)}"
            raise ConfigurationError(f"unknown key {f'{key}.{name}' if key else name!r}{meant}")


def table(value: Any, key: str) -> Mapping[str, Any]:
    """Accept a table."""
    if not isinstance(value, Mapping):
        raise _fail(key, value, "a table")
    return value


def array(value: Any, key: str) -> list[Any]:
    """Accept an array."""
    if not isinstance(value, list):
        raise _fail(key, value, "an array")
    return value


def text(value: Any, key: str) -> str:
    """Accept a text that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise _fail(key, value, "a string")
    return value


def boolean(value: Any, key: str) -> bool:
    """Accept true or false."""
    if not isinstance(value, bool):
        raise _fail(key, value, "true or false")
    return value


def integer(low: int, high: int) -> Check:
    """Return the check for a whole number from `low` to `high`."""

    def check(value: Any, key: str) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise _fail(key, value, f"a whole number from {low} to {high}")
        return value

    return check


def odd_integer(low: int, high: int) -> Check:
    """Return the check for an odd whole number from `low` to `high`."""
    inner = integer(low, high)

    def check(value: Any, key: str) -> int:
        try:
            number: int = inner(value, key)
        except ConfigurationError:
            number = 0
        if number % 2 == 0:
            raise _fail(key, value, f"an odd whole number from {low} to {high}")
        return number

    return check


def hundredths(low: int, high: int) -> Check:
    """Return the check for a number with two decimals.

    The result is in hundredths, `low` to `high`.
    """

    def check(value: Any, key: str) -> int:
        accepted = f"a number from {low / 100:g} to {high / 100:g} with at most two decimals"
        if (
            not isinstance(value, int | float)
            or isinstance(value, bool)
            or not low <= value * 100 <= high
        ):
            raise _fail(key, value, accepted)
        number = round(value * 100)
        if abs(number - value * 100) > 1e-6:
            raise _fail(key, value, accepted)
        return number

    return check


def choice(options: tuple[str, ...]) -> Check:
    """Return the check for one of some texts."""

    def check(value: Any, key: str) -> str:
        if not isinstance(value, str) or value not in options:
            raise _fail(key, value, "one of " + ", ".join(options))
        return value

    return check


def choices(options: tuple[str, ...]) -> Check:
    """Return the check for an array of one or more of some texts, each once.

    Their order is kept.
    """
    accepted = "an array of one or more of " + ", ".join(options) + ", each once"

    def check(value: Any, key: str) -> tuple[str, ...]:
        if (
            not isinstance(value, list)
            or not value
            or len({str(item) for item in value}) < len(value)
        ):
            raise _fail(key, value, accepted)
        for item in value:
            if not isinstance(item, str) or item not in options:
                raise _fail(key, item, accepted)
        return tuple(value)

    return check


_EDGES = re.compile(r"\A[\s\0\ufeff\u200b]+|[\s\0\ufeff\u200b]+\Z")


def name(value: Any, key: str) -> str:
    """Accept a string that is not blank; returns it trimmed (section 0) and in lower case."""
    result = _EDGES.sub("", value).lower() if isinstance(value, str) else ""
    if not result:
        raise _fail(key, value, "a string that is not blank")
    return result


def names(what: str, without: tuple[str, ...] = ()) -> Check:
    """Return the check for an array of names (`name`), which may be empty.

    `without` are not accepted.
    """
    accepted = f"an array of {what}" + (f" other than {' and '.join(without)}" if without else "")

    def check(value: Any, key: str) -> tuple[str, ...]:
        if not isinstance(value, list):
            raise _fail(key, value, accepted)
        found = dict.fromkeys(name(item, f"{key}[{number}]") for number, item in enumerate(value))
        for item in found:
            if item in without:
                raise _fail(key, item, accepted)
        return tuple(found)

    return check


def aliases(value: Any, key: str) -> dict[str, str]:
    """Accept a table of names (`name`), each key once."""
    result: dict[str, str] = {}
    for alias, meant in table(value, key).items():
        known = name(alias, f"{key}: the key {alias!r:.60}")
        if known in result:
            raise ConfigurationError(
                f"{key} has the key {known!r} twice; keys are case-insensitive"
            )
        result[known] = name(meant, f"{key}.{known}")
    return result


def no_chains(aliases: Mapping[str, str], key: str) -> None:
    """Raise for an alias that stands for another alias: each must name its final type."""
    for alias, meant in aliases.items():
        if meant in aliases:
            raise ConfigurationError(
                f"{key}.{alias} = {meant!r} is itself an alias (of {aliases[meant]!r}); "
                "use the final type"
            )


def timezone(value: Any, key: str) -> str:
    """Accept the name of a time zone."""
    accepted = "the name of a time zone, for example America/Chicago"
    if not isinstance(value, str):
        raise _fail(key, value, accepted)
    try:
        zoneinfo.ZoneInfo(value)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise _fail(key, value, accepted) from None
    return value


def time_of_day(value: Any, key: str) -> str:
    """Accept `HH:MM:SS`."""
    accepted = 'a time of day "HH:MM:SS"'
    if isinstance(value, str) and re.fullmatch(r"[0-9]{2}:[0-9]{2}:[0-9]{2}", value):
        try:
            dt.time.fromisoformat(value)
        except ValueError:
            raise _fail(key, value, accepted) from None
        return value
    raise _fail(key, value, accepted)


def day(first: dt.date, last: dt.date) -> Check:
    """Return the check for a day "YYYY-MM-DD" (or a date of TOML); the result is its ordinal."""
    accepted = f'a day "YYYY-MM-DD" from {first} to {last}; omit it for no limit'

    def check(value: Any, key: str) -> int:
        found = value if isinstance(value, dt.date) and not isinstance(value, dt.datetime) else None
        if isinstance(value, str) and re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
            try:
                found = dt.date.fromisoformat(value)
            except ValueError:
                found = None
        if found is None or not first <= found <= last:
            raise _fail(key, value, accepted)
        return (found - EPOCH).days

    return check


def month_days(value: Any, key: str) -> tuple[tuple[int, int], ...]:
    """Accept an array of one or more days "MM-DD".

    Returns (month, day) pairs in calendar order, each once.
    """
    accepted = 'an array of one or more days "MM-DD"'
    if not isinstance(value, list) or not value:
        raise _fail(key, value, accepted)
    days = set()
    for item in value:
        if not isinstance(item, str) or not re.fullmatch(r"[0-9]{2}-[0-9]{2}", item):
            raise _fail(key, item, accepted)
        try:
            day = dt.date.fromisoformat(f"2000-{item}")
        except ValueError:
            raise _fail(key, item, accepted) from None
        days.add((day.month, day.day))
    return tuple(sorted(days))
