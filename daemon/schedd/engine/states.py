"""The states' codes and numbers (rules, section 1), without the table of ZIP codes and what it takes to use that."""

from __future__ import annotations

from .zipdata import STATES as _STATES

#: State codes; the index is the state's number everywhere in the engine.
STATES: tuple[str, ...] = tuple(_STATES.split())
STATE_INDEX: dict[str, int] = {state: index for index, state in enumerate(STATES)}
