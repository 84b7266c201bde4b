"""Single values of SQLite of any type, with any bytes (rules, section 0).

The binding for SQLite decodes a TEXT while it reads and raises for bytes that are not valid UTF-8.
Rows with such a text are read again, with texts cast to bytes and marked as texts, and decoded with
U+FFFD for invalid bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import apsw
import numpy as np
from numpy.typing import NDArray

from schedd.engine.coercions import text_of
from schedproto import ErrorCode, SchedulerError

from .tables import encoding_of

#: Maximum number of a column's values that are kept from chunk to chunk. A column with more hardly
#: repeats them.
MAX_LEARNED = 10_000


def typed(expression: str) -> str:
    """Return the SQL of two columns: whether the value is a text, and the value or its bytes."""
    is_text = f"typeof({expression}) = 'text'"
    return f"{is_text}, CASE WHEN {is_text} THEN CAST({expression} AS BLOB) ELSE {expression} END"


def paired(numbers: Sequence[int], rows: Sequence[Any]) -> Iterator[tuple[int, Any]]:
    """Yield numbers with the rows that were read for them.

    Raises `SchedulerError` if there are not as many: then reading by key does not find what reading
    the table has found, so the file is damaged.
    """
    if len(numbers) != len(rows):
        raise SchedulerError(
            ErrorCode.DATABASE_DAMAGED,
            f"the file is damaged: of {len(numbers):,} rows, {len(rows):,} are found by their key",
            hint="Restore it from a backup. `PRAGMA integrity_check` in the sqlite3 shell shows "
            "the damage. Nothing was changed.",
        )
    return zip(numbers, rows, strict=True)


def octets(connection: apsw.Connection, characters: int) -> int:
    """Return the number of bytes of an ASCII text in the file."""
    return characters if encoding_of(connection) == "UTF-8" else 2 * characters


class OddValues:
    """Reads rows value by value.

    Example:

        reader = OddValues(connection)
        reader.rows("contacts WHERE id = 7", ["email", "zip_code"])
        # [["ann@example.org", 2139]]
    """

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._encoding = encoding_of(connection)

    def rows(
        self, source: str, expressions: Sequence[str], bindings: Sequence[Any] = ()
    ) -> list[Any]:
        """Return rows of Python values: int, float, bytes (BLOB), str (TEXT) or None.

        source: the SQL after FROM.
        """
        try:
            return self._connection.execute(
                f"SELECT {', '.join(expressions)} FROM {source}", tuple(bindings)
            ).fetchall()
        except UnicodeDecodeError:
            return self._decoded(source, expressions, bindings)

    def by_id(
        self, table: str, row_ids: NDArray[np.int64], expressions: Sequence[str]
    ) -> list[Any]:
        """Return the values of the rows of a table with these ids, in the order of `row_ids`.

        The expressions refer to the table as `s`.
        """
        if not len(row_ids):
            return []
        source = f"carray(?) AS wanted CROSS JOIN {table} s ON s.id = wanted.value"
        return self.rows(source, expressions, (apsw.carray(np.ascontiguousarray(row_ids)),))

    def _decoded(
        self, source: str, expressions: Sequence[str], bindings: Sequence[Any]
    ) -> list[Any]:
        """Return the rows of a result that has an invalid TEXT."""
        columns = ", ".join(map(typed, expressions))
        result = []
        for row in self._connection.execute(f"SELECT {columns} FROM {source}", tuple(bindings)):
            values = iter(row)
            result.append(
                [
                    value.decode(self._encoding, "replace") if is_text else value
                    for is_text, value in zip(values, values, strict=True)
                ]
            )
        return result


@dataclass
class Learned:
    """The values of a column that a run has read so far, kept from chunk to chunk.

    rows: (whether the value is a text, the value or the text's bytes, its number).
    names: the meaning of the numbers, for evaluations that need it.
    """

    rows: list[tuple[int, Any, int]] = field(default_factory=list)
    names: list[str] = field(default_factory=list)


class Dictionary:
    """Numbers for the distinct values of a column, for use inside SQL.

    Each value is evaluated once. The numbers are kept in a temporary table of the connection, and
    in `learned`.   evaluate: returns the number of a value.

    Example:

        statuses = Dictionary(connection, "run_status", "status", number_of_status, Learned())
        statuses.learn("contacts WHERE id < 1000")
        connection.execute(f"SELECT {statuses.number(-1)} FROM contacts WHERE id < 1000")
    """

    def __init__(
        self,
        connection: apsw.Connection,
        name: str,
        expression: str,
        evaluate: Callable[[Any], int],
        learned: Learned,
    ) -> None:
        self._connection = connection
        self._name = name
        self._expression = expression
        self._evaluate = evaluate
        self._learned = learned

        # Columns without types convert nothing, so that 1 and '1' stay different values.
        connection.execute(
            f"CREATE TEMP TABLE {name}(id INTEGER PRIMARY KEY, value UNIQUE, number INTEGER)"
        )
        connection.executemany(
            f"INSERT OR IGNORE INTO {name}(value, number) "
            "VALUES (CASE ?1 WHEN 1 THEN CAST(?2 AS TEXT) ELSE ?2 END, ?3)",
            learned.rows,
        )

    def number(self, unknown: int) -> str:
        """Return the SQL of a value's number; `unknown` for NULL and values not learned yet."""
        known = f"SELECT number FROM {self._name} WHERE value = {self._expression}"
        return f"coalesce(({known}), {unknown})"

    def learn(self, source: str, bindings: Sequence[Any] = ()) -> None:
        """Evaluate the values of some rows. source: the SQL after FROM."""
        self._connection.execute(
            f"INSERT OR IGNORE INTO {self._name}(value) "
            f"SELECT DISTINCT +{self._expression} COLLATE BINARY FROM {source}",
            tuple(bindings),
        )
        sql = f"SELECT id, {typed('value')} FROM {self._name} WHERE number IS NULL"
        new: list[Any] = self._connection.execute(sql).fetchall()
        encoding = encoding_of(self._connection)
        for row_id, is_text, value in new:
            number = self._evaluate(value.decode(encoding, "replace") if is_text else value)
            self._connection.execute(
                f"UPDATE {self._name} SET number = ? WHERE id = ?", (number, row_id)
            )
            if len(self._learned.rows) < MAX_LEARNED:
                self._learned.rows.append((is_text, value, number))


def email_types(connection: apsw.Connection, row_ids: NDArray[np.int64]) -> list[str]:
    """Return the e-mail types of the rows of `email_schedules` with these ids, as texts."""
    rows = OddValues(connection).by_id("email_schedules", row_ids, ["s.email_type"])
    return [text_of(name) for (name,) in rows]
