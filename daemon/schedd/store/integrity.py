"""Whether a file is sound: its pages, its rows, and its indexes against their tables.

`PRAGMA quick_check` does not compare indexes with tables; `integrity_check` does, at about six
times the time. What both report of values (a NULL in a NOT NULL column, a violated CHECK) is not
damage: other programs wrote them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import apsw

from .errors import REINDEX_HINT
from .tables import quoted, texts

#: How many findings are looked at.
_FINDINGS = 100
_OF_AN_INDEX = re.compile(
    r"row \S+ missing from index |wrong # of entries in index |row \S+ values differ from index |"
    r"rowid not at end-of-record for row "
)
_OF_VALUES = re.compile(
    r"NULL value in |CHECK constraint failed in |(TEXT|NUMERIC|INT|REAL|BLOB|non-\w+) value in "
)


def findings(connection: apsw.Connection, *, indexes: bool) -> list[str]:
    """Return what is wrong with a file, empty if it is sound.

    Raises `apsw.Error` where it cannot be read at all.

    indexes: whether each index is compared with its table.
    """
    check = "integrity_check" if indexes else "quick_check"
    try:
        found = _run(connection, f"PRAGMA {check}({_FINDINGS})")
    except apsw.SQLError:
        # Some table needs a function or collation that only its application has: one table at a
        # time, without it.
        found = []
        for name in _tables(connection):
            try:
                found += _run(connection, f"PRAGMA {check}({quoted(name)})")
            except apsw.SQLError:
                continue
    return found


def _run(connection: apsw.Connection, sql: str) -> list[str]:
    """Return the lines of a check that tell of damage."""
    rows = [str(text) for (text,) in connection.execute(sql)]
    lines = [line for text in rows if text != "ok" for line in text.strip().splitlines()]
    return [line for line in lines if not line.startswith("***") and not _OF_VALUES.match(line)]


def _tables(connection: apsw.Connection) -> list[str]:
    sql = "SELECT CAST(name AS BLOB) FROM main.sqlite_schema WHERE type = 'table' AND rootpage > 0"
    return [str(name) for (name,) in texts(connection, sql)]


def remedy(found: Sequence[str], otherwise: str) -> str:
    """Return what to do about findings: an index can be made again from its table."""
    return REINDEX_HINT if found and all(map(_OF_AN_INDEX.match, found)) else otherwise


def table_findings(connection: apsw.Connection, table: str) -> list[str]:
    """Return what is wrong with one table and its indexes, each compared with the table."""
    return _run(connection, f"PRAGMA integrity_check({quoted(table)})")
