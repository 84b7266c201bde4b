"""The durable journal of jobs: one SQLite file in the data folder.

When a method returns, its change is on disk.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from schedd.store.errors import sqlite_errors
from schedd.store.file_identity import FileIdentity
from schedd.store.limits import connect
from schedproto import (
    ErrorCode,
    ErrorInfo,
    Job,
    JobSpec,
    JobState,
    RunResult,
    SchedulerError,
    sqlite_files,
)

#: Raised when the table below changes; an older file is completed, a newer one refused.
VERSION = 1

_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs(
  number INTEGER PRIMARY KEY,
  job_id TEXT NOT NULL UNIQUE,
  organization TEXT NOT NULL,
  state TEXT NOT NULL,
  spec BLOB NOT NULL,
  idempotency_key TEXT UNIQUE,
  submitted_at REAL NOT NULL,
  started_at REAL,
  finished_at REAL,
  attempts INTEGER NOT NULL DEFAULT 0,
  worker_deaths INTEGER NOT NULL DEFAULT 0,
  cancel_requested INTEGER NOT NULL DEFAULT 0,
  result BLOB,
  error BLOB);
CREATE INDEX IF NOT EXISTS jobs_state ON jobs(state, number);
CREATE INDEX IF NOT EXISTS jobs_organization ON jobs(organization, number);
"""
_COLUMNS = (
    "job_id, state, spec, idempotency_key, submitted_at, started_at, finished_at, attempts, "
    "cancel_requested, result, error"
)
_FINAL = ("succeeded", "failed", "cancelled")


def _time(value: float | None) -> dt.datetime | None:
    return None if value is None else dt.datetime.fromtimestamp(value, dt.UTC)


def _job(row: Sequence[Any]) -> Job:
    return Job(
        job_id=row[0],
        state=row[1],
        spec=msgspec.json.decode(row[2], type=JobSpec),
        idempotency_key=row[3],
        submitted_at=dt.datetime.fromtimestamp(row[4], dt.UTC),
        started_at=_time(row[5]),
        finished_at=_time(row[6]),
        attempts=row[7],
        cancel_requested=bool(row[8]),
        result=None if row[9] is None else msgspec.json.decode(row[9], type=RunResult),
        error=None if row[10] is None else msgspec.json.decode(row[10], type=ErrorInfo),
    )


class Journal:
    """The jobs of one daemon. Every method is one transaction; errors are `SchedulerError`.

    Example:

        journal = Journal(data_dir / ".schedd" / "journal.db", time.time)
        job, duplicate = journal.add(new_job_id(), JobSpec(organization="org-123"), key=None)
        journal.started(job.job_id)  # 1, the number of the attempt
        journal.finished(job.job_id, JobState.SUCCEEDED, result=result)
    """

    def __init__(self, path: Path, now: Callable[[], float]) -> None:
        self._path, self._now = path, now
        with sqlite_errors(path):
            self._connection = connect(str(path))
            self._connection.set_busy_timeout(5000)
            self._connection.execute("PRAGMA journal_mode = WAL")
            # Accepted means on disk: every commit is synced.
            self._connection.execute("PRAGMA synchronous = FULL")
            [(version,)] = self._connection.execute("PRAGMA user_version")
            if version > VERSION:
                raise SchedulerError(
                    ErrorCode.DATABASE_UNREADABLE,
                    f"{path} was written by a newer release "
                    f"(version {version}; this release supports {VERSION})",
                    hint="Start the newer release, or move the file away to discard its jobs.",
                )
            if sqlite_files.faults(self._connection):
                raise SchedulerError(
                    ErrorCode.DATABASE_DAMAGED,
                    f"the journal {path} is damaged",
                    hint="Move it away and restart; resubmit jobs that had not ended.",
                )
            with self._connection:
                self._connection.execute(_SCHEMA)
                self._connection.execute(f"PRAGMA user_version = {VERSION}")
        self._opened = FileIdentity.of(path)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _rows(self, sql: str, bindings: Sequence[Any] = ()) -> list[Job]:
        with sqlite_errors(self._path):
            rows = self._connection.execute(sql, tuple(bindings)).fetchall()
        return [_job(row) for row in rows]

    def _change(self, sql: str, bindings: Sequence[Any]) -> int:
        with sqlite_errors(self._path), self._connection:
            self._connection.execute(sql, tuple(bindings))
        # What is written to a file that is gone is not on the disk.
        self._opened.check("The journal of the daemon is gone, so the daemon stops.")
        return self._connection.changes()

    @property
    def is_present(self) -> bool:
        """Return whether the journal is still where it was opened."""
        return self._opened.is_current

    def add(self, job_id: str, spec: JobSpec, key: str | None) -> tuple[Job, bool]:
        """Accept a job.

        Returns it, and whether the key was known already (then it is the first job's).

        The same key with another specification raises `idempotency_conflict`.
        """
        if key is not None:
            known = self._rows(f"SELECT {_COLUMNS} FROM jobs WHERE idempotency_key = ?", (key,))
            if known:
                if known[0].spec != spec:
                    raise SchedulerError(
                        ErrorCode.IDEMPOTENCY_CONFLICT,
                        f"the idempotency key {key!r:.80} was used for another job "
                        f"({known[0].job_id})",
                        hint="Use a new key for a new job.",
                        details={"job_id": known[0].job_id},
                    )
                return known[0], True
        self._change(
            "INSERT INTO jobs(job_id, organization, state, spec, idempotency_key, submitted_at) "
            "VALUES (?, ?, 'queued', ?, ?, ?)",
            (job_id, spec.organization, msgspec.json.encode(spec), key, self._now()),
        )
        return self.get(job_id), False

    def knows(self, key: str) -> bool:
        """Return whether a job was accepted under this idempotency key."""
        return bool(self._rows(f"SELECT {_COLUMNS} FROM jobs WHERE idempotency_key = ?", (key,)))

    def get(self, job_id: str) -> Job:
        """Return a job, or raise `unknown_job`."""
        jobs = self._rows(f"SELECT {_COLUMNS} FROM jobs WHERE job_id = ?", (job_id,))
        if not jobs:
            raise SchedulerError(
                ErrorCode.UNKNOWN_JOB,
                f"unknown job {job_id!r:.80}",
                hint="`schedctl list` shows the jobs; old ended jobs are removed.",
            )
        return jobs[0]

    def page(
        self, organization: str | None, states: Sequence[str], limit: int, before: str | None
    ) -> tuple[list[Job], bool]:
        """Return jobs, newest first, and whether there are more."""
        conditions, bindings = ["1"], []
        if organization is not None:
            conditions.append("organization = ?")
            bindings.append(organization)
        if states:
            conditions.append(f"state IN ({', '.join('?' * len(states))})")
            bindings.extend(states)
        if before is not None:
            conditions.append("number < (SELECT number FROM jobs WHERE job_id = ?)")
            bindings.append(before)
        jobs = self._rows(
            f"SELECT {_COLUMNS} FROM jobs WHERE {' AND '.join(conditions)} "
            f"ORDER BY number DESC LIMIT {limit + 1}",
            bindings,
        )
        return jobs[:limit], len(jobs) > limit

    def unfinished(self) -> list[Job]:
        """Return the jobs that have not ended, in the order of their submission."""
        return self._rows(
            f"SELECT {_COLUMNS} FROM jobs WHERE state IN ('queued', 'running') ORDER BY number"
        )

    def counts(self) -> dict[str, int]:
        """Return state -> jobs."""
        counts = {state.value: 0 for state in JobState}
        with sqlite_errors(self._path):
            for state, number in self._connection.execute(
                "SELECT state, count(*) FROM jobs GROUP BY 1"
            ):
                counts[str(state)] = int(number)
        return counts

    def started(self, job_id: str) -> int:
        """Note that an attempt begins; returns its number."""
        self._change(
            "UPDATE jobs SET state = 'running', attempts = attempts + 1, "
            "started_at = coalesce(started_at, ?) WHERE job_id = ?",
            (self._now(), job_id),
        )
        return self.get(job_id).attempts

    def worker_died(self, job_id: str) -> int:
        """Note that the worker of a job died; the job is queued again.

        Returns how often that happened.
        """
        self._change(
            "UPDATE jobs SET state = 'queued', worker_deaths = worker_deaths + 1 WHERE job_id = ?",
            (job_id,),
        )
        with sqlite_errors(self._path):
            [(deaths,)] = self._connection.execute(
                "SELECT worker_deaths FROM jobs WHERE job_id = ?", (job_id,)
            )
        return int(deaths)

    def requeued(self, job_id: str) -> None:
        """Note that a running job was stopped with the daemon; the next daemon runs it again."""
        self._change(
            "UPDATE jobs SET state = 'queued' WHERE job_id = ? AND state = 'running'", (job_id,)
        )

    def cancel_requested(self, job_id: str) -> None:
        """Note that a job is to end."""
        self._change("UPDATE jobs SET cancel_requested = 1 WHERE job_id = ?", (job_id,))

    def finished(
        self,
        job_id: str,
        state: JobState,
        result: RunResult | None = None,
        error: ErrorInfo | None = None,
    ) -> None:
        """Note how a job ended."""
        self._change(
            "UPDATE jobs SET state = ?, finished_at = ?, result = ?, error = ? WHERE job_id = ?",
            (
                state.value,
                self._now(),
                None if result is None else msgspec.json.encode(result),
                None if error is None else msgspec.json.encode(error),
                job_id,
            ),
        )

    def forget(self, keep: int) -> int:
        """Forget the oldest ended jobs beyond the newest `keep`; returns how many."""
        return self._change(
            "DELETE FROM jobs WHERE number <= (SELECT number FROM jobs WHERE state IN (?, ?, ?) "
            "ORDER BY number DESC LIMIT 1 OFFSET ?) AND state IN (?, ?, ?)",
            (*_FINAL, keep, *_FINAL),
        )
