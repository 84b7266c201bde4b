"""Existing rows in any status.

Chunks without planned, dispatched or existing rows at any step of a run.
"""

from __future__ import annotations

import datetime as dt
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schedctl.synthetic import make_organization
from schedd.run import runner
from schedproto import ErrorCode, SchedulerError
from tests.reference.compare import differences
from tests.reference.compare import read_plan as read_whole_plan
from tests.reference.plan import plan as reference_plan
from tests.support.plans import run_locally

AS_OF = "2026-11-23"
STATUSES = ("pre-scheduled", "skipped", "scheduled", "sent", "Opened", "failed", "strange", "")


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An organization of 60 contacts with its first plan."""
    folder = tmp_path_factory.mktemp("planned")
    path = folder / "org.db"
    make_organization(path, 60, 3, dt.date.fromisoformat(AS_OF))
    run_locally(path, folder / "scratch", AS_OF)
    return path


def check(path: Path, scratch: Path, workers: int) -> None:
    """Run and compare with the reference; a second run changes nothing."""
    with closing(sqlite3.connect(path)) as connection:
        expected = reference_plan(connection, dt.date.fromisoformat(AS_OF), {})
    spec: dict[str, Any] = {"workers": workers, "mode": "highperf", "accept_changes": True}
    run_locally(path, scratch, AS_OF, **spec)
    assert not differences(expected, read_whole_plan(path))
    again = run_locally(path, scratch, AS_OF, run_id="job-again.1", **spec)
    assert (again.rows_inserted, again.rows_updated, again.rows_deleted) == (0, 0, 0)


def changed(planned: Path, folder: Path, sql: str, *bindings: object) -> Path:
    """Return a copy of the organization after a statement of the sender."""
    path = folder / "org.db"
    path.write_bytes(planned.read_bytes())
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(sql, bindings)
        connection.commit()
    return path


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("status", STATUSES)
def test_all_rows_in_one_status(planned: Path, tmp_path: Path, status: str, workers: int) -> None:
    """The sender moves every row on to one status."""
    check(
        changed(planned, tmp_path, "UPDATE email_schedules SET status = ?", status),
        tmp_path / "scratch",
        workers,
    )


@pytest.mark.parametrize("workers", [1, 5])
@pytest.mark.parametrize("condition", ["0", "contact_id <= 30", "contact_id > 30", "1"])
def test_contacts_without_rows(planned: Path, tmp_path: Path, condition: str, workers: int) -> None:
    """Complete chunks of contacts have no rows, and others only dispatched ones."""
    path = changed(planned, tmp_path, f"DELETE FROM email_schedules WHERE {condition}")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE email_schedules SET status = 'sent' WHERE contact_id % 2")
        connection.commit()
    check(path, tmp_path / "scratch", workers)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.sampled_from(STATUSES), min_size=1, max_size=9),
    st.integers(1, 9),
    st.sampled_from([1, 2, 5]),
)
def test_any_statuses(
    planned: Path,
    tmp_path_factory: pytest.TempPathFactory,
    statuses: list[str],
    every: int,
    workers: int,
) -> None:
    """Rows in any mixture of statuses, in runs of any length."""
    cases = " ".join(f"WHEN {number} THEN '{status}'" for number, status in enumerate(statuses))
    sql = f"UPDATE email_schedules SET status = CASE id / {every} % {len(statuses)} {cases} END"
    folder = tmp_path_factory.mktemp("statuses")
    check(changed(planned, folder, sql), folder / "scratch", workers)


#: What the sender or the agency does to the contacts with `id / run % 4 = turn`.
CHANGES = (
    "DELETE FROM email_schedules WHERE {rows}",
    "UPDATE email_schedules SET status = 'sent' WHERE {rows}",
    "UPDATE email_schedules SET status = 'strange' WHERE {rows}",
    "UPDATE email_schedules SET scheduled_send_date = 'day ' || id WHERE {rows}",
    "UPDATE OR IGNORE email_schedules SET contact_id = 1000 + contact_id WHERE {rows}",
    "UPDATE OR IGNORE email_schedules SET contact_id = -contact_id WHERE {rows}",
    "UPDATE contacts SET email = 'none' WHERE {contacts}",
    "UPDATE contacts SET zip_code = '94107' WHERE {contacts}",
    "UPDATE contacts SET birth_date = NULL, effective_date = NULL WHERE {contacts}",
    "DELETE FROM contacts WHERE {contacts}",
)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.tuples(st.sampled_from(CHANGES), st.integers(0, 3)), min_size=1, max_size=8, unique=True
    ),
    st.sampled_from([1, 2, 5, 17]),
    st.integers(1, 20),
)
def test_any_chunk_is_empty_at_any_step(
    planned: Path,
    tmp_path_factory: pytest.TempPathFactory,
    changes: list[tuple[str, int]],
    run: int,
    size: int,
) -> None:
    """Chunks without eligible contacts, without rows, with dispatched rows alone, or nothing."""
    folder = tmp_path_factory.mktemp("chunks")
    sql = "; ".join(
        change.format(rows=f"contact_id / {run} % 4 = {turn}", contacts=f"id / {run} % 4 = {turn}")
        for change, turn in changes
    )
    path = folder / "org.db"
    path.write_bytes(planned.read_bytes())
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(sql)
        [(contacts,)] = connection.execute("SELECT count(*) FROM contacts")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "CHUNK_CONTACTS", size)
        if not contacts:
            refuse(path, folder / "scratch")
            return
        check(path, folder / "scratch", 1)


def refuse(path: Path, scratch: Path) -> None:
    """A run over no contacts is refused."""
    with pytest.raises(SchedulerError) as caught:
        run_locally(path, scratch, AS_OF, accept_changes=True)
    assert caught.value.code == ErrorCode.CONTACTS_EMPTY


def test_an_empty_plan(planned: Path, tmp_path: Path) -> None:
    """A table without a single row is a chunk that is empty at every step."""
    check(changed(planned, tmp_path, "DELETE FROM email_schedules"), tmp_path / "scratch", 1)


def test_no_contacts(planned: Path, tmp_path: Path) -> None:
    """A file without contacts is refused, though it has a plan."""
    refuse(changed(planned, tmp_path, "DELETE FROM contacts"), tmp_path / "scratch")
