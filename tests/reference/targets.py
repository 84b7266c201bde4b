"""Lists of states and carriers in campaign instances (rules, section 7)."""

from __future__ import annotations

import json
import re

from . import values
from .states import state_codes
from .values import UnreadableError, Value


def listed_states(value: Value) -> frozenset[str] | None:
    """Return the codes of the states, None for everyone.

    Raises `UnreadableError` for what is not a state.
    """
    names = _listed(value)
    if names is None:
        return None
    if not names <= state_codes().keys():
        raise UnreadableError(value)
    return frozenset(state_codes()[name] for name in names)


def listed_carriers(value: Value) -> frozenset[str] | None:
    """Return the carriers in lower case, None for everyone."""
    return _listed(value)


def _listed(value: Value) -> frozenset[str] | None:
    """Return the entries, trimmed and in lower case; None where the value means everyone."""
    if values.word(value) in {"", "all"}:
        return None
    content = values.trimmed(value)
    entries = _json_texts(content)
    if entries is None:
        entries = re.split("[,;]", content)
    return frozenset(values.word(entry) for entry in entries) - {""}


def _json_texts(content: str) -> list[str] | None:
    """Return the texts of a JSON array of texts, None where the content is something else."""
    try:
        found = json.loads(content)
    except ValueError:
        return None
    return found if isinstance(found, list) and all(isinstance(one, str) for one in found) else None
