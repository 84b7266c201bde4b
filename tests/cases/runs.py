"""The files of the cases: how they are made, scheduled in every way, and checked."""

from __future__ import annotations

import importlib.util
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from schedproto import ErrorCode, RunResult, RunWarning, SchedulerError
from tests.cases.checks import (
    PLAN,
    index_differences,
    integrity,
    plan_rows,
    sender_rows,
    table_columns,
)
from tests.reference.compare import differences, read_plan
from tests.reference.plan import plan
from tests.support.plans import make_database, run_locally

DATA = Path(__file__).parent / "data"
AS_OF = date(2026, 11, 23)
NAMES = sorted(path.stem for path in DATA.iterdir() if path.suffix in {".sql", ".py"})
#: Every file is scheduled in each of these ways.
WAYS: tuple[dict[str, Any], ...] = (
    {"mode": "reliable", "workers": 1},
    {"mode": "highperf", "workers": 2},
)

Change = Callable[[sqlite3.Connection], object]


@dataclass
class Outcome:
    """The outcome of the first run of a file.

    rows: (contact, type) -> (date, "" or the skip reason) of each planned row, in the order of the
    dates.
    warnings: (code, table, column) -> (count, row ids) of all names together.
    """

    path: Path
    result: RunResult
    rows: dict[tuple[int, str], list[tuple[str, str]]]
    issues: list[tuple[int, str]]
    warnings: dict[tuple[str, str, str], tuple[int, list[int | str]]] = field(default_factory=dict)

    def dates(self, email_type: str) -> dict[int, str]:
        """Return the date of each contact's only e-mail of a type that goes out."""
        found = {}
        for (contact, kind), rows in self.rows.items():
            if kind == email_type:
                [(day, reason)] = rows
                if not reason:
                    found[contact] = day
        return found


def module(name: str) -> Any:
    """Return the module of a case that is made by a program."""
    spec = importlib.util.spec_from_file_location(f"case_{name}", DATA / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def build(name: str, folder: Path, change: Change | str | None = None) -> Path:
    """Make the file of a case in a folder. change: what to do to it, as SQL or as a function."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.db"
    script = DATA / f"{name}.sql"
    if script.exists():
        make_database(path, script.read_text())
    else:
        module(name).build(str(path))
    if change is not None:
        with closing(sqlite3.connect(path)) as connection:
            if isinstance(change, str):
                connection.executescript(change)
            else:
                change(connection)
            connection.commit()
    return path


def run(path: Path, run_id: str, way: dict[str, Any], **spec: Any) -> RunResult:
    """Schedule a file."""
    return run_locally(
        path, path.parent / "scratch", AS_OF.isoformat(), run_id=run_id, **way, **spec
    )


def scheduled(
    name: str,
    folder: Path,
    change: Change | str | None = None,
    *,
    config: dict[str, Any] | None = None,
    settles: bool = True,
    against_reference: bool = True,
) -> Outcome:
    """Schedule a case in every way, twice; return what the first way came to, after all checks.

    settles: whether a second run changes nothing.   against_reference: whether the reference plans
    the same.
    """
    outcomes = [
        _scheduled(
            name, folder / way["mode"], change, config or {}, way, settles, against_reference
        )
        for way in WAYS
    ]
    first, *others = outcomes
    for other in others:
        assert (other.rows, other.issues, other.warnings) == (
            first.rows,
            first.issues,
            first.warnings,
        )
    return first


def _scheduled(
    name: str,
    folder: Path,
    change: Change | str | None,
    config: dict[str, Any],
    way: dict[str, Any],
    settles: bool,
    against_reference: bool,
) -> Outcome:
    path = build(name, folder, change)
    columns, before = table_columns(path), sender_rows(path)
    expected = _reference(path, config) if against_reference else None
    result = run(path, "job-first.1", way, config=config)
    actual = read_plan(path)
    actual.limit, actual.duplicates_dropped = result.daily_limit, result.duplicates_dropped
    if expected is not None:
        assert not differences(expected, actual)
    after = plan_rows(path)
    again = run(path, "job-second.1", way, config=config)
    if settles:
        assert (again.rows_inserted, again.rows_updated, again.rows_deleted) == (0, 0, 0)
        assert plan_rows(path) == after
        left_out = sum(
            warning.count for warning in result.warnings if warning.code == "trigger_changed_rows"
        )
        assert again.rows_unchanged == result.rows_planned - left_out
    check_file(path, before, columns)
    return Outcome(path, result, _rows(path), read_plan(path).issues, _warnings(result.warnings))


def _reference(path: Path, config: dict[str, Any]) -> Any:
    with closing(sqlite3.connect(path)) as connection:
        return plan(connection, AS_OF, config)


def check_file(path: Path, before: Any, columns: dict[str, list[str]]) -> None:
    """Assert what must hold of every file after a run."""
    assert integrity(path) == "ok"
    after = sender_rows(path, columns)
    for table, rows in before.items():
        # A trigger of the application may add rows to its own tables.
        assert after[table][: len(rows)] == rows if table == "audit" else after[table] == rows, (
            table
        )
    assert index_differences(path) == []


def _rows(path: Path) -> dict[tuple[int, str], list[tuple[str, str]]]:
    found: dict[tuple[int, str], list[tuple[str, str]]] = {}
    for row in sorted(
        read_plan(path).rows,
        key=lambda row: (row.contact_id, row.email_type, row.scheduled_send_date),
    ):
        key = (row.contact_id, row.email_type)
        found.setdefault(key, []).append((row.scheduled_send_date, row.skip_reason or ""))
    return found


def _warnings(
    warnings: list[RunWarning],
) -> dict[tuple[str, str, str], tuple[int, list[int | str]]]:
    found: dict[tuple[str, str, str], tuple[int, list[int | str]]] = {}
    for warning in warnings:
        assert warning.message
        key = (warning.code, warning.table, warning.column)
        count, row_ids = found.get(key, (0, []))
        found[key] = (count + warning.count, sorted([*row_ids, *warning.row_ids], key=str))
    return found


def refused(name: str, folder: Path, change: Change | str | None = None) -> SchedulerError:
    """Schedule a case in every way, twice.

    Returns the error with which each run must refuse it.
    """
    errors = []
    for way in WAYS:
        path = build(name, folder / way["mode"], change)
        before = _everything(path)
        for number in (1, 2):
            with pytest.raises(SchedulerError) as caught:
                run(path, f"job-{number}.1", way)
            errors.append(caught.value)
            assert caught.value.code != ErrorCode.INTERNAL
            assert caught.value.hint
        assert _everything(path) == before
    assert len({(error.code, error.message) for error in errors}) == 1
    return errors[0]


def _everything(path: Path) -> Any:
    """Return all that a file holds, as far as SQLite can read it."""
    try:
        with closing(sqlite3.connect(path)) as connection:
            schema = connection.execute(
                "SELECT type, name, sql FROM sqlite_schema ORDER BY name"
            ).fetchall()
        rows = (
            {PLAN: plan_rows(path)}
            if any(name == PLAN and kind == "table" for kind, name, _ in schema)
            else {}
        )
        return schema, rows
    except sqlite3.DatabaseError:
        return path.read_bytes()


__all__ = ["AS_OF", "NAMES", "Outcome", "build", "refused", "run", "scheduled"]
