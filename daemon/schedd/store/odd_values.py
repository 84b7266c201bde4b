"""Values out of SQLite one by one, whatever their type and bytes (rules, section 0).

The binding for SQLite decodes a TEXT while it reads and raises for bytes that are not valid UTF-8.
Rows with such a text are read again as bytes, next to a mark of which are texts, and decoded with
U+FFFD for what is not valid.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import apsw
import numpy as np
from numpy.typing import NDArray

from schedd.engine.coercions import text_of

#: Values of a column that are kept from chunk to chunk; a column that has more is hardly worth a
#: dictionary.
MAX_LEARNED = 10_000


def typed(expression: str) -> str:
    """Return the SQL of two columns.

    Whether the value is a text, and the value, of a text its bytes.
    """
    return (
        f"typeof({expression}) = 'text', "
        f"CASE typeof({expression}) WHEN 'text' THEN CAST({expression} AS BLOB) ELSE {expression} END"
    )


def encoding_of(connection: apsw.Connection) -> str:
    """Return the encoding of the file's texts, by a name that Python knows, too."""
    return str(connection.execute("PRAGMA main.encoding").get)


def octets(connection: apsw.Connection, characters: int) -> int:
    """Return how many bytes a text of ASCII characters has in the file."""
    return characters if encoding_of(connection) == "UTF-8" else 2 * characters


class OddValues:
    """Reads rows value by value.

    >>> reader = OddValues(connection)
    >>> reader.rows("contacts WHERE id = 7", ["email", "zip_code"])
    [['ann@example.org', 2139]]
    """

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._encoding = encoding_of(connection)

    def rows(
        self, source: str, expressions: Sequence[str], bindings: Sequence[Any] = ()
    ) -> list[Any]:
        """Return rows of Python values: int, float, bytes (of a BLOB), None, and str of a TEXT.

        source: what follows FROM.
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
        """Return the same of the rows of a table with these ids, in their order.

        In `expressions` the table is `s`.
        """
        if not len(row_ids):
            return []
        source = f"carray(?) AS wanted CROSS JOIN {table} s ON s.id = wanted.value"
        return self.rows(source, expressions, (apsw.carray(np.ascontiguousarray(row_ids)),))

    def _decoded(
        self, source: str, expressions: Sequence[str], bindings: Sequence[Any]
    ) -> list[Any]:
        """Return the rows, one of which has a TEXT that is not valid."""
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
    """The different values of a column that were met so far, kept from chunk to chunk.

    rows: whether the value is a text, the value, of a text its bytes, and its number.
    names: what the numbers stand for, where the judge needs to know.
    """

    rows: list[tuple[int, Any, int]] = field(default_factory=list)
    names: list[str] = field(default_factory=list)


class Dictionary:
    """Numbers for the different values of a column, for use inside SQL.

    Values are judged once each.

    judge: value -> number. The numbers live in a temporary table of the connection, and in
    `learned`.
    """

    def __init__(
        self,
        connection: apsw.Connection,
        name: str,
        expression: str,
        judge: Callable[[Any], int],
        learned: Learned,
    ) -> None:
        self._connection, self._name, self._expression, self._evaluate = (
            connection,
            name,
            expression,
            judge,
        )
        self._learned = learned
        # Without types, so that a value is compared as what it is.
        connection.execute(
            f"CREATE TEMP TABLE {name}(id INTEGER PRIMARY KEY, value UNIQUE, number INTEGER)"
        )
        connection.executemany(
            f"INSERT OR IGNORE INTO {name}(value, number) "
            "VALUES (CASE ?1 WHEN 1 THEN CAST(?2 AS TEXT) ELSE ?2 END, ?3)",
            learned.rows,
        )

    def number(self, unknown: int) -> str:
        """Return the SQL of a value's number.

        `unknown` for a value that was not learned yet and for NULL.
        """
        return f"coalesce((SELECT number FROM {self._name} WHERE value = {self._expression}), {unknown})"

    def learn(self, source: str, bindings: Sequence[Any] = ()) -> None:
        """Give the values of some rows their numbers. source: what follows FROM."""
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
