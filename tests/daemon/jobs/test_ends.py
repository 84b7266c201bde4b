"""Ends of jobs while the journal cannot be written."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from schedd.jobs import ends
from schedd.jobs.ends import JobEnds
from schedd.jobs.journal import Journal
from schedproto import ErrorCode, JobSpec, JobState, SchedulerError
from schedproto.ids import new_job_id


def test_end_is_reported_before_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full disk an end is known from memory at once; the journal gets it later."""
    monkeypatch.setattr(ends, "JOURNAL_RETRY_S", 0.02)
    journal = Journal(tmp_path / "journal.db", time.time)
    writes = journal.finished
    tries = 0

    def full(*arguments: Any) -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise SchedulerError(ErrorCode.DISK_FULL, "the disk is full")
        writes(*arguments)

    monkeypatch.setattr(journal, "finished", full)

    async def scenario() -> None:
        kept = JobEnds(journal, 10)
        job, _ = journal.add(new_job_id(), JobSpec(organization="org-1"), None)
        journal.started(job.job_id)
        error = SchedulerError(ErrorCode.CANCELLED, "cancelled").info()
        ended = kept.finish(job, JobState.CANCELLED, None, error)
        assert ended.final
        assert ended.finished_at is not None
        assert kept.get(job.job_id) == ended
        assert len(kept) == 1
        assert not journal.get(job.job_id).final

        async with asyncio.timeout(20):
            while len(kept):  # noqa: ASYNC110 - nothing announces it
                await asyncio.sleep(0.01)
        stored = journal.get(job.job_id)
        assert (stored.state, stored.error) == (JobState.CANCELLED, error)

    asyncio.run(scenario())
    journal.close()


def test_journal_that_was_replaced(tmp_path: Path) -> None:
    """Nothing is accepted into a journal that is gone: it would not be on the disk."""
    path = tmp_path / "journal.db"
    journal = Journal(path, time.time)
    assert journal.is_present
    path.rename(tmp_path / "moved.db")
    with pytest.raises(SchedulerError) as caught:
        journal.add(new_job_id(), JobSpec(organization="org-1"), None)
    assert caught.value.code == ErrorCode.DATABASE_REPLACED
    assert not journal.is_present
    journal.close()
