"""The ends of jobs, which are reported even while the journal cannot be written.

On a full disk, an end is kept in memory and written as soon as that is possible. If the daemon is
stopped before, the next one runs the job again, which changes nothing: a plan depends only on the
file and the date.
"""

from __future__ import annotations

import asyncio
import datetime as dt

import msgspec
import structlog

from schedproto import ErrorInfo, Job, JobState, RunResult, SchedulerError

from .journal import Journal

#: Time between tries to write the journal, for example on a full disk.
JOURNAL_RETRY_S = 1.0


class JobEnds:
    """Writes the ends of jobs into the journal, and keeps those that could not be written.

    keep_jobs: how many ended jobs the journal keeps.

        ended = ends.finish(job, JobState.SUCCEEDED, result, None)
        ends.get(job.job_id)  # the same while the journal cannot be written, then None
    """

    def __init__(self, journal: Journal, keep_jobs: int) -> None:
        self._journal = journal
        self._keep_jobs = keep_jobs
        self._unwritten: dict[str, Job] = {}
        self._writing: asyncio.Task[None] | None = None
        self._log = structlog.get_logger()

    def __len__(self) -> int:
        return len(self._unwritten)

    def get(self, job_id: str) -> Job | None:
        """Return a job whose end is not in the journal yet."""
        return self._unwritten.get(job_id)

    def finish(
        self, job: Job, state: JobState, result: RunResult | None, error: ErrorInfo | None
    ) -> Job:
        """Write the end of a job, now or later; returns the ended job."""
        try:
            self._journal.finished(job.job_id, state, result, error)
            ended = self._journal.get(job.job_id)
        except SchedulerError as journal_error:
            ended = msgspec.structs.replace(
                job,
                state=state,
                result=result,
                error=error,
                finished_at=dt.datetime.now(dt.UTC),
            )
            self._unwritten[job.job_id] = ended
            if self._writing is None:
                self._writing = asyncio.get_running_loop().create_task(self._write_later())
            self._log.error(
                "the journal cannot be written; the end of the job is kept in memory",
                code=str(journal_error.code),
                error=journal_error.message,
                job_id=job.job_id,
            )
            return ended
        self._forget_old()
        return ended

    def _forget_old(self) -> None:
        try:
            self._journal.forget(self._keep_jobs)
        except SchedulerError as error:
            self._log.warning("old jobs stay in the journal", error=error.message)

    async def _write_later(self) -> None:
        while self._unwritten:
            await asyncio.sleep(JOURNAL_RETRY_S)
            for job_id, job in list(self._unwritten.items()):
                try:
                    self._journal.finished(job_id, JobState(job.state), job.result, job.error)
                except SchedulerError:
                    break
                del self._unwritten[job_id]
                self._log.info("the end of the job is in the journal now", job_id=job_id)
        self._writing = None
