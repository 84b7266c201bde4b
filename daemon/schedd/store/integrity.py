"""Advice on what SQLite's checks report (`schedproto.sqlite_files` runs them)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .errors import REINDEX_HINT

_OF_AN_INDEX = re.compile(
    r"row \S+ missing from index |wrong # of entries in index |row \S+ values differ from index |"
    r"rowid not at end-of-record for row "
)


def remedy(faults: Sequence[str], otherwise: str) -> str:
    """Return the hint for faults: an index can be rebuilt from its table, other damage cannot."""
    return REINDEX_HINT if faults and all(map(_OF_AN_INDEX.match, faults)) else otherwise
