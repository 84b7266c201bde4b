"""The declaration of a table: kind, key, columns, indexes, triggers, conflict clauses.

Nearly all of it comes from pragmas. Conflict clauses have no pragma; they are found among the
tokens of the table's SQL.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import apsw

TABLE, VIEW, VIRTUAL = "table", "view", "virtual table"

# One token of SQL: a comment, a quoted text or name, a word or number, or one other character.
_TOKEN = re.compile(
    r"""
    --[^\n]* | /\*.*?(?:\*/|\Z)
    | '(?:[^']|'')*' | "(?:[^"]|"")*" | `(?:[^`]|``)*` | \[[^\]]*\]
    | [\w$]+ | \S
    """,
    re.VERBOSE | re.DOTALL,
)
_RESOLUTIONS = {"REPLACE", "IGNORE"}


def encoding_of(connection: apsw.Connection) -> str:
    """Return the encoding of the file's texts, by a name that Python knows as well."""
    return str(connection.execute("PRAGMA main.encoding").get)


def texts(
    connection: apsw.Connection, sql: str, bindings: Sequence[Any] = ()
) -> list[tuple[Any, ...]]:
    """Return the rows of a query that casts its texts to BLOB, with the BLOBs decoded.

    Bytes that are not valid text become U+FFFD. SQLite accepts any bytes in texts, names and SQL,
    but apsw raises `UnicodeDecodeError` if it reads invalid ones as text. So each text of another
    program's file is read by this function or by `odd_values`.

        texts(connection, "SELECT CAST(name AS BLOB), rootpage FROM main.sqlite_schema")
        # [("contacts", 2)]
    """
    encoding = encoding_of(connection)
    rows = connection.execute(sql, tuple(bindings)).fetchall()
    return [
        tuple(v.decode(encoding, "replace") if isinstance(v, bytes) else v for v in row)
        for row in rows
    ]


def quoted(name: str) -> str:
    """Return an identifier quoted for SQL."""
    return '"' + name.replace('"', '""') + '"'


@dataclass(frozen=True)
class Column:
    """A column.

    name: lower-case.   default: its SQL, None without one.   key_position: in the primary key, from
    1; 0 outside of it.   generated: computed by SQLite.
    """

    name: str
    type: str
    not_null: bool
    default: str | None
    key_position: int
    generated: bool

    @property
    def affinity(self) -> str:
        """Return the affinity of the declared type."""
        return affinity_of(self.type)


def affinity_of(declared: str) -> str:
    """Return the affinity of a declared type (SQLite, "Datatypes", section 3.1)."""
    kind = declared.upper()
    if "INT" in kind:
        return "INTEGER"
    if any(part in kind for part in ("CHAR", "CLOB", "TEXT")):
        return "TEXT"
    if not kind or "BLOB" in kind:
        return "BLOB"
    return "REAL" if any(part in kind for part in ("REAL", "FLOA", "DOUB")) else "NUMERIC"


@dataclass(frozen=True)
class Index:
    """An index.

    origin: `c` (CREATE INDEX), `u` (UNIQUE) or `pk`.   columns: lower-case, None for an expression
    or the rowid.   collations: upper-case.
    """

    name: str
    unique: bool
    origin: str
    partial: bool
    columns: tuple[str | None, ...]
    collations: tuple[str, ...]
    descending: bool

    def is_on(self, columns: tuple[str, ...]) -> bool:
        """Return whether the index has all rows, by exactly these columns, ascending."""
        return self.columns == columns and not self.partial and not self.descending

    @property
    def is_plain(self) -> bool:
        """Return whether the index compares texts byte by byte."""
        return all(collation == "BINARY" for collation in self.collations)


@dataclass(frozen=True)
class Table:
    """A table or view. name: as spelt in the file.   triggers: name -> SQL.

    Example:

        plan = read_table(connection, "email_schedules")
        plan.key  # for example ("id",)
    """

    name: str
    kind: str
    sql: str
    without_rowid: bool
    strict: bool
    columns: dict[str, Column]
    indexes: tuple[Index, ...]
    triggers: dict[str, str]

    @property
    def key(self) -> tuple[str, ...]:
        """Return the columns of the primary key, in their order."""
        parts = sorted(
            (column.key_position, column.name)
            for column in self.columns.values()
            if column.key_position
        )
        return tuple(name for _, name in parts)

    @property
    def rowid_alias(self) -> str | None:
        """Return the column that is an alias of the rowid, if there is one.

        `INTEGER PRIMARY KEY DESC` is not an alias (a documented quirk). Such a key has an index of
        its own, by which it is recognized.
        """
        if self.kind != TABLE or self.without_rowid or len(self.key) != 1:
            return None
        column = self.columns[self.key[0]]
        if column.type.upper() != "INTEGER" or any(index.origin == "pk" for index in self.indexes):
            return None
        return column.name

    def is_ordered_by(self, name: str) -> bool:
        """Return whether the table is stored in the ascending order of an integer column."""
        keys = [index for index in self.indexes if index.origin == "pk"]
        in_key = (
            self.without_rowid
            and self.key == (name,)
            and not any(index.descending for index in keys)
        )
        return in_key or self.rowid_alias == name

    def is_unique(self, name: str) -> bool:
        """Return whether the values of a column are unique."""
        unique = any(
            index.unique and index.columns == (name,) and not index.partial
            for index in self.indexes
        )
        return unique or self.rowid_alias == name or (self.without_rowid and self.key == (name,))

    def why_not_rowid(self, name: str) -> str:
        """Return why a column is not an alias of the rowid, as a predicate for a message."""
        column = self.columns[name]
        if self.key != (name,):
            return "is not the primary key"
        if column.type.upper() != "INTEGER":
            return f"is a primary key of the type {column.type or 'none'}, not INTEGER"
        if self.without_rowid:
            return "belongs to a WITHOUT ROWID table"
        return "is declared INTEGER PRIMARY KEY DESC, which is not an alias of the rowid"

    def conflict_clause(self) -> str | None:
        """Return the table's first constraint with ON CONFLICT REPLACE or IGNORE, None without."""
        return conflict_clause(self.sql)


def conflict_clause(sql: str) -> str | None:
    """Return the first constraint with ON CONFLICT REPLACE or IGNORE in a table's SQL."""
    tokens = [m for m in _TOKEN.finditer(sql) if not m.group().startswith(("--", "/*"))]
    start, depth = 0, 0
    for number, token in enumerate(tokens):
        text = token.group()
        depth += {"(": 1, ")": -1}.get(text, 0)
        if (text == "(" and depth == 1) or (text == "," and depth == 1):
            start = number + 1
        words = [t.group().upper() for t in tokens[number : number + 3]]
        if words[:2] == ["ON", "CONFLICT"] and words[2:] and words[2].strip('"`[]') in _RESOLUTIONS:
            return " ".join(sql[tokens[start].start() : tokens[number + 2].end()].split())
    return None


def read_table(connection: apsw.Connection, name: str) -> Table | None:
    """Return a table or view of the main database, None if there is none of this name.

    Raises `apsw.SQLError`.
    """
    rows = texts(
        connection,
        """
        SELECT CAST(name AS BLOB), type, rootpage, CAST(sql AS BLOB)
        FROM main.sqlite_schema
        WHERE type IN ('table', 'view') AND lower(name) = lower(?)
        """,
        (name,),
    )
    if not rows:
        return None
    stored, kind, root, sql = rows[0]
    if kind == "table" and not root:
        kind = VIRTUAL
    flags = connection.execute(
        "SELECT wr, strict FROM pragma_table_list(?) WHERE schema = 'main'", (stored,)
    ).fetchone() or (0, 0)
    return Table(
        name=str(stored),
        kind=str(kind),
        sql=str(sql or ""),
        without_rowid=bool(flags[0]),
        strict=bool(flags[1]),
        columns=_columns(connection, stored),
        indexes=_indexes(connection, stored) if kind == TABLE else (),
        triggers=_triggers(connection, str(stored)),
    )


def _triggers(connection: apsw.Connection, table: str) -> dict[str, str]:
    sql = """
        SELECT CAST(name AS BLOB), CAST(sql AS BLOB)
        FROM main.sqlite_schema
        WHERE type = 'trigger' AND lower(tbl_name) = lower(?)
    """
    return {str(name): str(text) for name, text in texts(connection, sql, (table,))}


def _columns(connection: apsw.Connection, table: str) -> dict[str, Column]:
    rows = texts(
        connection,
        """
        SELECT
            CAST(lower(name) AS BLOB), CAST(type AS BLOB), "notnull",
            CAST(dflt_value AS BLOB), pk, hidden
        FROM pragma_table_xinfo(?, 'main')
        """,
        (table,),
    )
    return {
        str(name): Column(
            name=str(name),
            type=str(kind or ""),
            not_null=bool(not_null),
            default=None if str(default or "NULL").strip().upper() == "NULL" else str(default),
            key_position=int(position),
            generated=hidden in {2, 3},
        )
        for name, kind, not_null, default, position, hidden in rows
    }


def _indexes(connection: apsw.Connection, table: str) -> tuple[Index, ...]:
    listed = texts(
        connection,
        """
        SELECT seq, CAST(name AS BLOB), "unique", origin, partial
        FROM pragma_index_list(?, 'main')
        """,
        (table,),
    )
    found = []
    for number, name, unique, origin, partial in listed:
        parts = texts(
            connection,
            """
            SELECT
                CASE WHEN x.cid >= 0 THEN CAST(lower(x.name) AS BLOB) END,
                CAST(upper(x.coll) AS BLOB),
                x.desc
            FROM pragma_index_list(?, 'main') l CROSS JOIN pragma_index_xinfo(l.name, 'main') x
            WHERE l.seq = ? AND x.key = 1
            ORDER BY x.seqno
            """,
            (table, number),
        )
        found.append(
            Index(
                name=str(name),
                unique=bool(unique),
                origin=str(origin),
                partial=bool(partial),
                columns=tuple(None if column is None else str(column) for column, _, _ in parts),
                collations=tuple(str(collation) for _, collation, _ in parts),
                descending=any(descending for _, _, descending in parts),
            )
        )
    return tuple(found)
