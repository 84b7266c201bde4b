"""Findings on the states of contacts: no rule, or rules that differ from the newest preset."""

from __future__ import annotations

from collections.abc import Iterator

from schedd.engine.presets import PRESETS, differences
from schedd.engine.rules import in_words
from schedproto.checks import CheckFinding

from .context import Inspection, finding, plural
from .people import People

#: The newest table of state rules.
NEWEST = "2026"
#: Maximum number of states that a message names.
_NAMED = 10


def state_findings(inspection: Inspection, people: People) -> Iterator[CheckFinding]:
    """Yield states of eligible contacts without a rule, or with other rules than the preset."""
    rules = inspection.configuration.rules
    without = {state: count for state, count in people.states.items() if not rules.get(state)}
    if without:
        yield finding(
            "state_without_rule",
            f"{plural(sum(without.values()), 'eligible contact')} in "
            f"{plural(len(without), 'state')} without an exclusion rule: {_listed(without)}.",
            table="contacts",
            column="zip_code",
            count=sum(without.values()),
            counts=without,
        )
    preset = PRESETS[NEWEST]
    differing = {found.state: found for found in differences(rules, preset.rules)}
    there = {state: count for state, count in people.states.items() if state in differing}
    if there:
        examples = [(state, in_words(differing[state].other_rules)) for state in list(there)[:5]]
        yield finding(
            "preset_differs",
            f"The rules for {plural(sum(there.values()), 'eligible contact')} in "
            f"{plural(len(there), 'state')} differ "
            f'from the preset "{NEWEST}": {_listed(there)}. The examples are rules of the preset.',
            table="contacts",
            column="zip_code",
            name=NEWEST,
            count=sum(there.values()),
            counts=there,
            examples=examples,
        )


def _listed(counts: dict[str, int]) -> str:
    parts = [f"{state} {count:,}" for state, count in list(counts.items())[:_NAMED]]
    return ", ".join(parts) + (f" and {len(counts) - _NAMED} more" if len(counts) > _NAMED else "")
