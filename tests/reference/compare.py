"""Two plans: where they differ, in words; and the plan that a scheduled file holds.

Knows the tables of a scheduled file, none of the rules.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Any

from . import values
from .plan import COLUMNS, Plan, PlanRow

_WRITTEN = tuple(name for name in COLUMNS if name != "parent_id")
#: Columns that another program's table may hold as text.
_INTEGERS = {
    *("contact_id", "priority", "campaign_instance_id"),
    *("event_year", "event_month", "event_day"),
}
_NUMBERS = ("limit", "duplicates_dropped", "keys_held")
#: Maximum number of differences named.
_SHOWN = 10


def read_plan(path: Path) -> Plan:
    """Return the plan that a scheduled file holds.

    The plan has its pre-scheduled and skipped rows, and its issues.
    """
    uri = f"{Path(path).resolve().as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True)) as connection:
        rows = connection.execute(
            f"SELECT {', '.join(_WRITTEN)}, metadata FROM email_schedules WHERE status IN "
            "('pre-scheduled', 'skipped') "
            "ORDER BY contact_id, email_type, scheduled_send_date, id"
        ).fetchall()
        issues = connection.execute(
            "SELECT contact_id, reason FROM contact_issues ORDER BY 1, 2"
        ).fetchall()
    found = [PlanRow._make((*map(_plain, _WRITTEN, row[:-1]), _parent(row[-1]))) for row in rows]
    return Plan(None, sorted(found, key=lambda row: row.key), issues)


def _plain(column: str, value: Any) -> Any:
    return values.integer(value) if column in _INTEGERS else value


def _parent(metadata: str | None) -> int | None:
    content = json.loads(metadata) if metadata else None
    parent = content.get("parent_id") if isinstance(content, dict) else None
    return parent if isinstance(parent, int) else None


def golden_plan(case: dict[str, Any]) -> Plan:
    """Return the plan of a golden case's JSON. Raises `ValueError` where its columns are others."""
    if tuple(case["columns"]) != COLUMNS:
        raise ValueError(f"columns {case['columns']}")
    return Plan(
        as_of=date.fromisoformat(case["as_of"]),
        rows=[PlanRow(*row) for row in case["rows"]],
        issues=[(contact_id, reason) for contact_id, reason in case["issues"]],
        limit=case["limit"],
        duplicates_dropped=case["duplicates_dropped"],
    )


def differences(expected: Plan, actual: Plan, *, most: int = _SHOWN) -> list[str]:
    """Return what differs, one sentence each, the first `most` of rows and issues.

    An empty list if nothing does.

    Numbers are compared where both plans have them.
    """
    found = []
    for name in _NUMBERS:
        wanted, got = getattr(expected, name), getattr(actual, name)
        if None not in {wanted, got} and wanted != got:
            found.append(f"{name} is {got}, expected {wanted}")
    found += _issue_differences(expected.issues, actual.issues, most)
    found += _row_differences(expected.rows, actual.rows, most)
    return found


def explain(expected: Plan, actual: Plan) -> str:
    """Return the differences as one text, or an empty one; made for the message of an assertion."""
    return "\n".join(differences(expected, actual))


def _issue_differences(
    expected: list[tuple[int, str]], actual: list[tuple[int, str]], most: int
) -> list[str]:
    wanted, got = Counter(map(tuple, expected)), Counter(map(tuple, actual))
    lines = [
        f"contact {contact} lacks the issue {reason}"
        for contact, reason in sorted((wanted - got).elements())
    ]
    lines += [
        f"contact {contact} has an issue {reason} too many"
        for contact, reason in sorted((got - wanted).elements())
    ]
    return _first(lines, most)


def _row_differences(expected: list[PlanRow], actual: list[PlanRow], most: int) -> list[str]:
    lines = []
    wanted, got = _by_key(expected), _by_key(actual)
    missing = {key: row for key, row in wanted.items() if key not in got}
    extra = {key: row for key, row in got.items() if key not in wanted}
    for key in sorted(wanted.keys() & got.keys()):
        lines += _column_differences(wanted[key], got[key])
    for _, row in sorted(missing.items()):
        twin = _twin(row, extra.values())
        if twin is None:
            lines.append(f"{_named(row)} is missing ({_described(row)})")
        else:
            del extra[twin.key]
            lines.append(
                f"{_named(row)} is on {twin.scheduled_send_date} instead ({_described(twin)}, "
                f"expected {_described(row)})"
            )
    lines += [
        f"{_named(row)} is not expected ({_described(row)})" for _, row in sorted(extra.items())
    ]
    if len(wanted) != len(expected) or len(got) != len(actual):
        lines.append("a plan has two rows of one key")
    return _first(lines, most)


def _by_key(rows: Iterable[PlanRow]) -> dict[tuple[int, str, str], PlanRow]:
    return {row.key: row for row in rows}


def _twin(row: PlanRow, others: Iterable[PlanRow]) -> PlanRow | None:
    """Return the row for the same event on another day."""
    event = row[:2] + row[6:7] + row[9:12]
    return next((other for other in others if other[:2] + other[6:7] + other[9:12] == event), None)


def _column_differences(wanted: PlanRow, got: PlanRow) -> list[str]:
    return [
        f"{_named(wanted)}: {name} is {value!r}, expected {right!r}"
        for name, right, value in zip(COLUMNS, wanted, got, strict=True)
        if right != value or type(right) is not type(value)
    ]


def _named(row: PlanRow) -> str:
    instance = (
        f" of instance {row.campaign_instance_id}" if row.campaign_instance_id is not None else ""
    )
    return f"contact {row.contact_id}: {row.email_type}{instance} on {row.scheduled_send_date}"


def _described(row: PlanRow) -> str:
    return (
        f"{row.skip_reason or row.status}, event "
        f"{row.event_year}-{row.event_month}-{row.event_day}, priority {row.priority}"
    )


def _first(lines: list[str], most: int) -> list[str]:
    return lines if len(lines) <= most else [*lines[:most], f"... and {len(lines) - most} more"]
