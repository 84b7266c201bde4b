"""Guesses of the known e-mail type that another name stands for. Pure functions."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from schedd.engine.rows import CAMPAIGN_PREFIX

#: Other words for the fixed types, as agencies write them.
_SYNONYMS = {
    "bday": "birthday",
    "birth_date": "birthday",
    "annual_enrollment": "aep",
    "open_enrollment": "aep",
    "anniversary": "effective_date",
    "policy_anniversary": "effective_date",
    "exclusion_window": "post_window",
    "after_window": "post_window",
}
#: Minimum similarity of a misspelt name.
_SIMILAR = 0.88


def _words(name: str) -> tuple[str, ...]:
    return tuple(re.findall(r"[a-z0-9]+", name.lower()))


def _contains(words: tuple[str, ...], part: tuple[str, ...]) -> bool:
    return any(
        words[start : start + len(part)] == part for start in range(len(words) - len(part) + 1)
    )


def suggested_type(name: str, known: Iterable[str]) -> str | None:
    """Return the known type that a name probably stands for, None if there is no clear one.

    It is the one with the most words that the name contains, else one of similar spelling.
    known: types in lower case.

    >>> suggested_type("scheduled_rate_increase", ["birthday", "campaign_rate_increase"])
    'campaign_rate_increase'
    """
    words = _words(name)
    parts: dict[tuple[str, ...], str] = {}
    for target in sorted(known):
        parts[_words(target)] = target
        parts.setdefault(_words(target.removeprefix(CAMPAIGN_PREFIX)), target)
    for synonym, target in _SYNONYMS.items():
        parts.setdefault(_words(synonym), target)

    found = {target: len(part) for part, target in parts.items() if part and _contains(words, part)}
    longest = [target for target, length in found.items() if length == max(found.values())]
    if longest:
        return longest[0] if len(longest) == 1 else None
    spelt = {"_".join(part): target for part, target in parts.items()}
    near = difflib.get_close_matches("_".join(words), sorted(spelt), 2, _SIMILAR)
    return spelt[near[0]] if len({spelt[one] for one in near}) == 1 else None
