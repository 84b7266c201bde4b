"""A year of daily runs of the engine over a predecessor's file, with a sender and its outages."""

from __future__ import annotations

import datetime as dt
import sqlite3
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest

from tests.reference.compare import differences
from tests.reference.compare import read_plan as read_whole_plan
from tests.reference.plan import Plan
from tests.reference.plan import plan as reference_plan
from tests.reference.year import faults, forgotten, run_year
from tests.support.plans import PREDECESSOR, make_database, predecessor, run_locally

FIRST = dt.date(2025, 6, 9)


def run_days(folder: Path, name: str, days: int, outages: Collection[dt.date] = ()) -> None:
    """Run every day.

    Each day's plan is the reference's, and each event's e-mail goes out at most once.
    """
    path = make_database(folder / "org.db", PREDECESSOR.read_text())
    connection = sqlite3.connect(path)
    # With this index of the predecessor a contact gets one e-mail of a type a year; `schedctl
    # adopt` removes it.
    connection.execute("DROP INDEX idx_schedules_one_a_year")
    overrides = predecessor(name)["config"]
    mode = {"default": "reliable", "adopted": "highperf"}[name]

    def planner(connection: sqlite3.Connection, as_of: dt.date, overrides: dict[str, Any]) -> Plan:
        connection.commit()
        expected = reference_plan(connection, as_of, overrides)
        run_locally(
            path,
            folder / "scratch",
            as_of.isoformat(),
            config=overrides,
            mode=mode,
            workers=1 + as_of.day % 2,
        )
        wrong = differences(expected, read_whole_plan(path))
        assert not wrong, f"{as_of}: {wrong}"
        return expected

    year = run_year(
        connection, FIRST, overrides, days=days, sender_outages=outages, planner=planner
    )
    assert not faults(year)
    assert not forgotten(connection, FIRST, overrides, year)
    assert year.sent
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


def test_two_weeks(tmp_path: Path) -> None:
    """The first two weeks, three days of them without a sender."""
    run_days(tmp_path, "adopted", 14, {FIRST + dt.timedelta(days=n) for n in (4, 5, 6)})


@pytest.mark.slow
@pytest.mark.parametrize("name", ["default", "adopted"])
def test_a_year(name: str, tmp_path: Path) -> None:
    """A year, with three weeks and single days on which nothing is sent."""
    away = {dt.date(2025, 8, 1) + dt.timedelta(days=n) for n in range(21)}
    away |= {FIRST + dt.timedelta(days=n) for n in range(30, 366, 17)}
    run_days(tmp_path, name, 366, away)
