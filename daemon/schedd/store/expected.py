"""What was asked of a plan with triggers, next to what the triggers let through.

Only where `email_schedules` has triggers: each row is then written twice, once here.
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
    """The rows that one run has inserted and updated, as it meant them.

    missing: how many are not in the plan as they were meant.   row_ids: up to five whose content is
    another one.
    """

    def __init__(self, connection: apsw.Connection, plan: Table) -> None:
        self._connection = connection
        self.missing = 0
        self.row_ids: list[int] = []
        # Without the key's index, looking a row up reads the table: all at once, at the end.
        self._at_once = not has_key(plan)
        names = (*PLAN_KEY, *PLAN_CONTENT, *_IGNORED)
        # With the affinities of the plan's columns, so that values come to what the plan stores.
        columns = ", ".join(f"{name} {plan.columns[name].affinity}" for name in names)
        connection.execute(f"CREATE TABLE {_TABLE}(row_id INTEGER, {columns})")

    def add_inserted(self, columns: str, select: str, bindings: Sequence[Any]) -> None:
        """Note rows that are to be inserted by a SELECT of these columns."""
        self._connection.execute(f"INSERT INTO {_TABLE}({columns}) {select}", tuple(bindings))

    def add_updated(self, columns: str, select: str, bindings: Sequence[Any]) -> None:
        """Note rows that are to be updated: a SELECT of the row id and of these columns."""
        self._connection.execute(
            f"INSERT INTO {_TABLE}(row_id, {columns}) {select}", tuple(bindings)
        )
        keys = ", ".join(PLAN_KEY)
        self._connection.execute(
            f"UPDATE {_TABLE} SET ({keys}) = (SELECT {keys} FROM main.{PLAN} s WHERE s.id = row_id) "
            "WHERE row_id IS NOT NULL AND contact_id IS NULL"
        )

    def compare(self, *, last: bool = False) -> None:
        """Look for the noted rows in the plan.

        last: no more rows come, and the key's index is there.
        """
        if self._at_once and not last:
            return
        key, content = _same(PLAN_KEY, "="), _same(PLAN_CONTENT, "IS")
        [(missing,)] = self._connection.execute(
            f"SELECT count(*) FROM {_TABLE} e WHERE NOT EXISTS (SELECT 1 FROM main.{PLAN} s WHERE {key} AND {content})"
        )
        if missing and len(self.row_ids) < _MAX_IDS:
            rows = self._connection.execute(
                f"SELECT s.id FROM {_TABLE} e CROSS JOIN main.{PLAN} s ON {key} WHERE NOT ({content}) "
                f"ORDER BY s.id LIMIT {_MAX_IDS - len(self.row_ids)}"
            )
            self.row_ids += [int(row_id) for (row_id,) in rows]
        self.missing += int(missing)
        self._connection.execute(f"DELETE FROM {_TABLE}")


def _same(columns: Sequence[str], operator: str) -> str:
    return " AND ".join(f"s.{name} {operator} e.{name} COLLATE BINARY" for name in columns)
