"""Tables of synthetic data -> an SQL script."""

from __future__ import annotations

from dataclasses import dataclass, field

from .values import Value


class RawText(bytes):
    """TEXT of these bytes, which need not be valid UTF-8."""


def literal(value: Value) -> str:
    """Return a value as SQL writes it."""
    if value is None:
        return "NULL"
    if isinstance(value, RawText):
        return f"CAST(x'{value.hex()}' AS TEXT)"
    if isinstance(value, str) and "\0" in value:
        return literal(RawText(value.encode()))
    if isinstance(value, bytes):
        return f"x'{value.hex()}'"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return repr(value)


@dataclass
class Table:
    """One table: its columns with their declarations, and rows."""

    name: str
    columns: dict[str, str]
    rows: list[dict[str, Value]] = field(default_factory=list)
    #: What follows the columns: constraints.
    constraints: str = ""

    def add(self, **row: Value) -> None:
        """Add a row.

        Values of columns that the table has not are left out, missing ones are NULL.
        """
        self.rows.append({name: row.get(name) for name in self.columns})

    def script(self) -> str:
        """Return the statements that make the table."""
        declarations = [f"{name} {declared}".strip() for name, declared in self.columns.items()]
        if self.constraints:
            declarations.append(self.constraints)
        lines = [f"CREATE TABLE {self.name} ({', '.join(declarations)});"]
        for row in self.rows:
            lines.append(
                f"INSERT INTO {self.name} VALUES "
                f"({', '.join(literal(value) for value in row.values())});"
            )
        return "\n".join(lines) + "\n"


def without(table: Table, names: set[str]) -> Table:
    """Return the table without some of its columns."""
    columns = {name: declared for name, declared in table.columns.items() if name not in names}
    rows = [{name: value for name, value in row.items() if name in columns} for row in table.rows]
    return Table(table.name, columns, rows, table.constraints)
