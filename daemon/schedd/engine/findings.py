"""Values that a run could not read or use as they are, counted by kind (rules, section 0).

Each kind keeps the five examples with the lowest row ids, so that the result does not depend on the
order in which chunks of contacts are read.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from .coercions import text_of

MAX_EXAMPLES = 5
MAX_SHOWN = 60

RowId = int | str


def shown(value: Any) -> str:
    """Return a value for people: short, on one line, without control characters."""
    if value is None:
        return "NULL"
    text = "".join(
        c if c.isprintable() else f"\\x{ord(c):02x}" for c in text_of(value)[: MAX_SHOWN + 1]
    )
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"


def _order(example: tuple[RowId, str]) -> tuple[bool, RowId, str]:
    row_id, value = example
    return isinstance(row_id, str), row_id, value


@dataclass
class Finding:
    """One kind of finding, with the number of its rows and some examples.

    name: what it is about, where each is counted on its own (a status, a type, a campaign).

    examples: (row id, the value found), ascending by row id.
    """

    code: str
    table: str
    column: str
    name: str = ""
    count: int = 0
    examples: list[tuple[RowId, str]] = field(default_factory=list)


class Findings:
    """A collection of findings, by kind.

    >>> findings = Findings()
    >>> findings.add("unreadable_date", "contact_campaigns", "trigger_date", 7, "soon")
    >>> [(f.code, f.count, f.examples) for f in findings]
    [('unreadable_date', 1, [(7, 'soon')])]
    """

    def __init__(self, found: Iterable[Finding] = ()) -> None:
        self._found: dict[tuple[str, str, str, str], Finding] = {}
        self.extend(found)

    def __iter__(self) -> Any:
        return iter(self._found.values())

    def __len__(self) -> int:
        return len(self._found)

    def add(
        self, code: str, table: str, column: str, row_id: RowId | None, value: Any, name: str = ""
    ) -> None:
        """Count one row; `row_id` is None if the table has none."""
        self.extend(
            [
                Finding(
                    code,
                    table,
                    column,
                    name,
                    1,
                    [("?" if row_id is None else row_id, shown(value))],
                )
            ]
        )

    def extend(self, found: Iterable[Finding]) -> None:
        """Add the counts and examples of others."""
        for finding in found:
            key = (finding.code, finding.table, finding.column, finding.name)
            known = self._found.get(key)
            if known is None:
                known = self._found[key] = Finding(*key)
            known.count += finding.count
            examples = {*known.examples, *finding.examples}
            known.examples = sorted(examples, key=_order)[:MAX_EXAMPLES]
