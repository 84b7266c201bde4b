"""Helpers for tests of several folders.

They make organizations from scripts, and run jobs in this process.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from schedd.backups.backups import Backups
from schedd.run.runner import run_job
from schedd.run.tasks import run_task
from schedproto import ErrorCode, JobSpec, RunResult, SchedulerError
from tests.support.paths import TESTS

GOLDEN = TESTS / "golden"
#: A file of the predecessor, and the two plans for it: unchanged, and with the configuration
#: adopted for it.
PREDECESSOR = TESTS / "predecessor" / "org-206.sql"
PREDECESSOR_PLANS = ("default", "adopted")
PLAIN_CASES = sorted(path.stem for path in GOLDEN.glob("plain-*.json"))
CASES = sorted(path.stem for path in GOLDEN.glob("*.json") if path.stem != "vectors")


class LocalContext:
    """The process that leads a job, without a pool: all shards run here."""

    def __init__(self, scratch: Path, run_id: str = "job-test.1", default_workers: int = 2) -> None:
        scratch.mkdir(parents=True, exist_ok=True)
        self.scratch = scratch
        self.run_id = run_id
        self.default_workers = default_workers
        self.backups: Backups | None = None
        self.stages: list[tuple[str, float]] = []
        self.on_progress: Callable[[str, float], None] | None = None

    def progress(self, stage: str, fraction: float, done: int = 0, total: int = 0) -> None:
        self.stages.append((stage, fraction))
        if self.on_progress:
            self.on_progress(stage, fraction)

    def check(self) -> None:
        return

    def on_cancel(self, callback: Callable[[], None] | None) -> None:
        return

    def shards(self, task: str, payloads: Sequence[bytes], workers: int) -> Iterator[bytes]:
        for payload in payloads:
            yield run_task(task, payload, self.check)


def make_database(path: Path, script: str) -> Path:
    connection = sqlite3.connect(path)
    if "autoincrement" not in script.lower():
        # Dumps of files without such a table nevertheless clear the table that it would have.
        script = script.replace('DELETE FROM "sqlite_sequence";', "")
    connection.executescript(script)
    connection.close()
    return path


def run_locally(
    path: Path, scratch: Path, as_of: str | None = None, run_id: str = "job-test.1", **spec: Any
) -> RunResult:
    job = JobSpec(organization=path.stem, as_of=as_of, **spec)
    return run_job(job, path, "", LocalContext(scratch, run_id))


def predecessor(name: str) -> dict[str, Any]:
    return json.loads(PREDECESSOR.with_name(f"org-206-{name}.json").read_text())


def golden(name: str) -> dict[str, Any]:
    return json.loads((GOLDEN / f"{name}.json").read_text())


def read_plan(path: Path) -> list[list[Any]]:
    """The plan rows of a file in the form of the golden cases."""
    connection = sqlite3.connect(path)
    rows = connection.execute(
        "SELECT contact_id, email_type, scheduled_send_date, status, skip_reason, priority, "
        "campaign_instance_id, "
        "email_template, sms_template, event_year, event_month, event_day, metadata FROM "
        "email_schedules "
        "WHERE status IN ('pre-scheduled', 'skipped') ORDER BY contact_id, email_type, "
        "scheduled_send_date"
    ).fetchall()
    connection.close()
    return [[*row[:-1], json.loads(row[-1])["parent_id"] if row[-1] else None] for row in rows]


def read_issues(path: Path) -> list[list[Any]]:
    connection = sqlite3.connect(path)
    rows = connection.execute(
        "SELECT contact_id, reason FROM contact_issues ORDER BY 1, 2"
    ).fetchall()
    connection.close()
    return [list(row) for row in rows]


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def expect_error(path: Path, tmp_path: Path, code: ErrorCode, **spec: Any) -> SchedulerError:
    """Run, expect the error, and see that the file and its folder are as they were."""
    before = {p.name: digest(p) for p in path.parent.iterdir() if p.is_file()}
    with pytest.raises(SchedulerError) as caught:
        run_locally(path, tmp_path / "scratch", "2026-11-23", **spec)
    assert caught.value.code == code, caught.value
    assert caught.value.message
    assert caught.value.hint
    assert {p.name: digest(p) for p in path.parent.iterdir() if p.is_file()} == before
    return caught.value
