"""The context that all parts of a check share: file, configuration, run, and findings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import apsw

from schedd.engine.configuration import Configuration
from schedd.engine.findings import MAX_EXAMPLES, shown
from schedd.engine.run import Run
from schedd.store.campaigns import campaign_tables
from schedd.store.odd_values import OddValues
from schedd.store.schema import Schema
from schedd.store.tables import quoted
from schedproto.checks import CheckFinding

from .codes import CODES

#: Maximum number of patterns or forms of a column that are reported; the rest are combined.
MAX_NAMES = 8
OTHER = "other"

Example = tuple[int | str, Any]


@dataclass
class Group:
    """Rows that one finding reports. examples: (row id, value), in the order of their addition."""

    count: int = 0
    examples: list[Example] = field(default_factory=list)

    def add(self, count: int, row_id: int | None, value: Any) -> None:
        """Add rows with one value. row_id: of one of them, None if the table has no row ids."""
        self.count += count
        self.examples.append(("?" if row_id is None else row_id, value))


@dataclass
class Inspection:
    """One check.

    as_of: the ordinal of the run's date.   accept_statuses: statuses that a suggestion activates.
    """

    connection: apsw.Connection
    schema: Schema
    configuration: Configuration
    as_of: int
    accept_statuses: tuple[str, ...] = ()
    #: rows of `contacts`
    contacts: int = 0

    @cached_property
    def values(self) -> OddValues:
        """The reader of single values."""
        return OddValues(self.connection)

    @cached_property
    def run(self) -> Run:
        """The run on this file and date, without its plan."""
        types, instances = campaign_tables(self.connection, self.schema)
        return Run(self.as_of, self.configuration, types, instances)

    def row_id(self, table: str) -> str:
        """Return the SQL of a table's row id, NULL if it has none."""
        return self.schema.row_id(table)

    def distinct(
        self, table: str, columns: Sequence[str], where: str = "1"
    ) -> list[tuple[Any, ...]]:
        """Return the distinct values of columns, each with its number of rows and lowest row id.

        A row of the result is a list of the values, the number and the id.
        """
        names = [quoted(name) for name in columns]
        # Compared as bytes: a column may have a collation that this program does not know.
        groups = ", ".join(f"{name} COLLATE BINARY" for name in names)
        source = f"{table} WHERE {where} GROUP BY {groups}"
        return self.values.rows(source, [*names, "count(*)", f"min({self.row_id(table)})"])

    def few(self, count: int) -> bool:
        """Return whether a number of contacts is at most 20, or at most 1 % of all of them."""
        return count <= max(20, self.contacts // 100)


def finding(
    code: str,
    message: str,
    *,
    fix: str = "",
    severity: str = "",
    examples: Iterable[Example] = (),
    **fields: Any,
) -> CheckFinding:
    """Return a finding; severity and fix default to those of the code."""
    known = CODES[code]
    severity = severity or known.severities[0]
    if severity not in known.severities:
        raise ValueError(f"findings {code} have no severity {severity}")
    chosen = sorted(examples, key=_order)[:MAX_EXAMPLES]
    return CheckFinding(
        code=code,
        severity=severity,
        message=message,
        fix=fix or known.fix,
        row_ids=[row_id for row_id, _ in chosen],
        values=[shown(value) for _, value in chosen],
        **fields,
    )


def _order(example: Example) -> tuple[bool, Any]:
    row_id, _ = example
    return (not isinstance(row_id, int), row_id if isinstance(row_id, int) else str(row_id))


def largest_first(groups: dict[str, Group]) -> dict[str, Group]:
    """Return the groups by size, largest first; those beyond `MAX_NAMES` combined as `other`."""
    ordered = sorted(groups.items(), key=lambda item: (-item[1].count, item[0]))
    result = dict(ordered[:MAX_NAMES])
    for _, group in ordered[MAX_NAMES:]:
        rest = result.setdefault(OTHER, Group())
        rest.count += group.count
        rest.examples += group.examples
    return result


def counts_of(groups: dict[str, Group]) -> dict[str, int]:
    """Return the sizes of groups."""
    return {name: group.count for name, group in groups.items()}


def plural(count: int, one: str, many: str = "") -> str:
    """Return a number with its noun."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
