"""Comparison of the requested rows of a plan with what its triggers let through.

Only used if `email_schedules` has triggers. Each row is then written twice, once here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import apsw

from .schema import PLAN, PLAN_CONTENT, PLAN_KEY, has_key
from .tables import Table

_TABLE = "temp.write_expected"
_IGNORED = ("scheduler_run_id", "created_at", "updated_at")
_MAX_IDS = 5


class ExpectedRows:
    """The rows that one run has inserted and updated, as requested.

    missing: number of rows that are not in the plan as requested.   row_ids: up to five rows with
    other content.
    """

    def __init__(self, connection: apsw.Connection, plan: Table) -> None:
        self._connection = connection
        self.missing = 0
        self.row_ids: list[int] = []
        # Without the key's index, each lookup reads the table; so compare all at once, at the end.
        self._at_once = not has_key(plan)
        names = (*PLAN_KEY, *PLAN_CONTENT, *_IGNORED)
        # With the affinities of the plan's columns, so that values are converted as in the plan.
        columns = ", ".join(f"{name} {plan.columns[name].affinity}" for name in names)
        connection.execute(f"CREATE TABLE {_TABLE}(row_id INTEGER, {columns})")

    def add_inserted(self, columns: str, select: str, bindings: Sequence[Any]) -> None:
        """Record rows that are to be inserted. select: a SELECT of these columns."""
        self._connection.execute(f"INSERT INTO {_TABLE}({columns}) {select}", tuple(bindings))

    def add_updated(self, columns: str, select: str, bindings: Sequence[Any]) -> None:
        """Record rows that are to be updated. select: a SELECT of the row id and these columns."""
        self._connection.execute(
            f"INSERT INTO {_TABLE}(row_id, {columns}) {select}", tuple(bindings)
        )
        keys = ", ".join(PLAN_KEY)
        self._connection.execute(
            f"""
            UPDATE {_TABLE}
            SET ({keys}) = (SELECT {keys} FROM main.{PLAN} s WHERE s.id = row_id)
            WHERE row_id IS NOT NULL AND contact_id IS NULL
            """
        )

    def compare(self, *, last: bool = False) -> None:
        """Compare the recorded rows with the plan, and forget them.

        last: whether no more rows follow, and the key's index exists.
        """
        if self._at_once and not last:
            return
        key, content = _same(PLAN_KEY, "="), _same(PLAN_CONTENT, "IS")
        [(missing,)] = self._connection.execute(
            f"""
            SELECT count(*) FROM {_TABLE} e
            WHERE NOT EXISTS (SELECT 1 FROM main.{PLAN} s WHERE {key} AND {content})
            """
        )
        if missing and len(self.row_ids) < _MAX_IDS:
            rows = self._connection.execute(
                f"""
                SELECT s.id FROM {_TABLE} e CROSS JOIN main.{PLAN} s ON {key}
                WHERE NOT ({content})
                ORDER BY s.id
                LIMIT {_MAX_IDS - len(self.row_ids)}
                """
            )
            self.row_ids += [int(row_id) for (row_id,) in rows]
        self.missing += int(missing)
        self._connection.execute(f"DELETE FROM {_TABLE}")


def _same(columns: Sequence[str], operator: str) -> str:
    return " AND ".join(f"s.{name} {operator} e.{name} COLLATE BINARY" for name in columns)
