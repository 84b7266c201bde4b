"""Complete plans, computed by an independent program, against the engine's."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.plans import (
    CASES,
    GOLDEN,
    PREDECESSOR,
    PREDECESSOR_PLANS,
    golden,
    make_database,
    predecessor,
    read_issues,
    read_plan,
    run_locally,
)


@pytest.mark.parametrize(
    ("workers", "mode"),
    [
        (1, "reliable"),
        (5, "highperf"),
        *(
            pytest.param(workers, mode, marks=pytest.mark.slow)
            for workers, mode in (
                (1, "highperf"),
                (2, "reliable"),
                (2, "highperf"),
                (5, "reliable"),
            )
        ),
    ],
)
@pytest.mark.parametrize("case", CASES)
def test_golden_plan(case: str, workers: int, mode: str, tmp_path: Path) -> None:
    """Plan, issues and counts equal the case for any number of shards and either mode."""
    expected = golden(case)
    path = make_database(tmp_path / "org.db", (GOLDEN / f"{case}.sql").read_text())
    result = run_locally(
        path,
        tmp_path / "scratch",
        expected["as_of"],
        config=expected["config"],
        workers=workers,
        mode=mode,
    )
    assert read_plan(path) == sorted(expected["rows"], key=lambda row: row[:3])
    assert read_issues(path) == sorted(expected["issues"])
    assert result.daily_limit == expected["limit"]
    assert result.duplicates_dropped == expected["duplicates_dropped"]
    assert result.rows_planned == len(expected["rows"])
    assert sum(result.volume.values()) == sum(
        1 for row in expected["rows"] if row[3] == "pre-scheduled"
    )


@pytest.mark.parametrize("case", CASES)
def test_second_run_changes_nothing(case: str, tmp_path: Path) -> None:
    """Run twice on the same inputs, the second run inserts, updates and deletes no row."""
    expected = golden(case)
    path = make_database(tmp_path / "org.db", (GOLDEN / f"{case}.sql").read_text())
    first = run_locally(path, tmp_path / "scratch", expected["as_of"], config=expected["config"])
    second = run_locally(
        path, tmp_path / "scratch", expected["as_of"], config=expected["config"], run_id="job-b.1"
    )
    assert (second.rows_inserted, second.rows_updated, second.rows_deleted) == (0, 0, 0)
    assert second.rows_unchanged == first.rows_planned


@pytest.mark.parametrize("mode", ["reliable", "highperf"])
@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("name", PREDECESSOR_PLANS)
def test_predecessor_plan(name: str, workers: int, mode: str, tmp_path: Path) -> None:
    """The predecessor's file gets the plans worked out for it, and a second run changes nothing."""
    expected = predecessor(name)
    path = make_database(tmp_path / "org.db", PREDECESSOR.read_text())
    spec = {"config": expected["config"], "workers": workers, "mode": mode}
    result = run_locally(path, tmp_path / "scratch", expected["as_of"], **spec)
    assert read_plan(path) == sorted(expected["rows"], key=lambda row: row[:3])
    assert read_issues(path) == sorted(expected["issues"])
    assert (result.daily_limit, result.duplicates_dropped) == (
        expected["limit"],
        expected["duplicates_dropped"],
    )
    again = run_locally(path, tmp_path / "scratch", expected["as_of"], run_id="job-again.1", **spec)
    assert (again.rows_inserted, again.rows_updated, again.rows_deleted) == (0, 0, 0)


def test_there_are_cases() -> None:
    """The golden cases were found, so the tests above are not empty."""
    assert len(CASES) >= 18
