"""Explanations and previews against the plans that runs write."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from schedproto import EventExplanation, Explanation, RunResult
from tests.reference.compare import read_plan
from tests.reference.organizations import random_organization
from tests.support.plans import (
    CASES,
    GOLDEN,
    PREDECESSOR,
    PREDECESSOR_PLANS,
    golden,
    make_database,
    predecessor,
    read_issues,
    run_locally,
)


def contacts_of(path: Path) -> list[int]:
    connection = sqlite3.connect(path)
    ids = [row[0] for row in connection.execute("SELECT id FROM contacts ORDER BY id")]
    connection.close()
    return ids


def explained_rows(explanations: list[Explanation]) -> list[tuple[Any, ...]]:
    """The rows of the plan as the explanations tell them."""
    rows = []
    for contact in explanations:
        for event in contact.events:
            if event.status is not None:
                assert event.event_date is not None
                rows.append(
                    (
                        contact.contact_id,
                        event.email_type,
                        event.send_date,
                        event.status,
                        event.skip_reason,
                        *map(int, event.event_date.split("-")),
                    )
                )
    return sorted(rows)


def check_agreement(path: Path, scratch: Path, as_of: str, config: dict[str, Any]) -> RunResult:
    """Explain every contact, then schedule, and compare; returns the dry run's result."""
    ids = contacts_of(path)
    explained = run_locally(path, scratch, as_of, config=config, dry_run=True, explain=ids)
    result = run_locally(path, scratch, as_of, config=config, accept_changes=True)
    plan = [(*row[:5], *row[9:12]) for row in read_plan(path).rows]
    assert explained_rows(explained.explanations) == sorted(plan)
    assert [e.contact_id for e in explained.explanations] == ids
    first_issue = dict(reversed(read_issues(path)))
    for contact in explained.explanations:
        assert contact.found
        assert contact.eligible == (contact.reason is None)
        assert bool(contact.issues) == (contact.contact_id in first_issue)
        assert contact.eligible or contact.issues == [first_issue[contact.contact_id]]
        for event in contact.events:
            check_event(event, as_of)
    assert explained.preview is not None
    changes = explained.preview.types.values()
    moved = sum(c.moved for c in changes)
    assert sum(c.inserted for c in changes) + moved == result.rows_inserted
    assert sum(c.updated for c in changes) == result.rows_updated
    assert sum(c.deleted for c in changes) + moved == result.rows_deleted
    assert sum(c.unchanged for c in changes) == result.rows_unchanged
    return explained


def check_event(event: EventExplanation, as_of: str) -> None:
    """The dates of an event follow from one another."""
    assert event.steps, event
    if event.status is None:
        return
    dates = (event.capped_date, event.smoothed_date, event.caught_up_date, event.ideal_date)
    assert event.send_date == next(date for date in dates if date)
    assert event.send_date is not None
    assert event.send_date >= as_of
    assert event.latest_date is None or event.send_date <= event.latest_date
    assert (event.skip_reason or "").startswith("exclusion:") == bool(event.windows)
    for window in event.windows:
        assert f":{window.state}:" in (event.skip_reason or "")
        if window.start is not None and window.end is not None:
            assert window.start <= event.send_date <= window.end


@pytest.mark.parametrize("case", CASES)
def test_golden_explained(case: str, tmp_path: Path) -> None:
    """For each contact of the golden cases the explanation has exactly the plan's rows."""
    expected = golden(case)
    path = make_database(tmp_path / "org.db", (GOLDEN / f"{case}.sql").read_text())
    explained = check_agreement(path, tmp_path / "scratch", expected["as_of"], expected["config"])
    rows = [(*row[:5], *row[9:12]) for row in expected["rows"]]
    assert explained_rows(explained.explanations) == sorted(rows)


@pytest.mark.parametrize("name", PREDECESSOR_PLANS)
def test_predecessor_explained(name: str, tmp_path: Path) -> None:
    """The same for the predecessor's file, unchanged and with the adopted configuration."""
    expected = predecessor(name)
    path = make_database(tmp_path / "org.db", PREDECESSOR.read_text())
    explained = check_agreement(path, tmp_path / "scratch", expected["as_of"], expected["config"])
    rows = [(*row[:5], *row[9:12]) for row in expected["rows"]]
    assert explained_rows(explained.explanations) == sorted(rows)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40))
def test_random_explained(seed: int, tmp_path: Path) -> None:
    """The same over random organizations with odd data and configurations."""
    organization = random_organization(200_000 + seed)
    path = make_database(tmp_path / "org.db", organization.script)
    check_agreement(
        path, tmp_path / "scratch", organization.as_of.isoformat(), organization.overrides
    )


def steps_of(event: EventExplanation) -> list[str]:
    return [step.kind for step in event.steps]


@pytest.mark.slow
def test_every_kind_of_step_is_met(tmp_path: Path) -> None:
    """The golden cases have every kind of step, each with a section of the rules."""
    met: dict[str, set[str]] = {}
    for case in CASES:
        expected = golden(case)
        path = make_database(tmp_path / f"{case}.db", (GOLDEN / f"{case}.sql").read_text())
        explained = run_locally(
            path,
            tmp_path / "scratch",
            expected["as_of"],
            config=expected["config"],
            dry_run=True,
            explain=contacts_of(path),
        )
        for contact in explained.explanations:
            for event in contact.events:
                for step in event.steps:
                    met.setdefault(step.kind, set()).add(step.rule)
    wanted = {
        "event",
        "ideal",
        "caught_up",
        "excluded",
        "post_window",
        "handled",
        "none",
        "smoothed",
        "capped",
    }
    assert wanted | {"same_day_conflict", "frequency_limit"} <= set(met)
    assert met["excluded"] == {"3"}
    assert met["capped"] == met["smoothed"] == {"9"}
    assert all(
        rule in {"1", "3", "4", "5", "6", "7", "8", "9", "10", "11"}
        for rules in met.values()
        for rule in rules
    )


def test_unknown_contact(tmp_path: Path) -> None:
    """A contact that does not exist is said to be not found."""
    path = make_database(tmp_path / "org.db", (GOLDEN / f"{CASES[0]}.sql").read_text())
    explained = run_locally(
        path, tmp_path / "scratch", golden(CASES[0])["as_of"], dry_run=True, explain=[987_654_321]
    )
    assert [(e.contact_id, e.found, e.events) for e in explained.explanations] == [
        (987_654_321, False, [])
    ]


def test_preview_against_a_present_plan(tmp_path: Path) -> None:
    """A preview for another date lists changes against the existing plan and its volume."""
    case = golden("08-crowded")
    path = make_database(tmp_path / "org.db", (GOLDEN / "08-crowded.sql").read_text())
    first = run_locally(path, tmp_path / "scratch", case["as_of"])
    before = read_plan(path).rows
    explained = run_locally(
        path,
        tmp_path / "scratch",
        case["as_of"],
        dry_run=True,
        config={"balance": {"daily_cap_percent": 5.0}},
    )
    assert read_plan(path).rows == before
    assert explained.preview is not None
    assert explained.preview.volume_present == first.volume
    assert sum(changes.moved for changes in explained.preview.types.values()) > 0
    moved = [example for example in explained.preview.examples if example.change == "moved"]
    keys = {tuple(row[:3]) for row in before}
    assert all((row.contact_id, row.email_type, row.date_before) in keys for row in moved)
    assert all(row.date_after != row.date_before for row in moved)
