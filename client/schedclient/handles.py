"""A job as a program holds it: wait for it, follow it, cancel it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from schedproto import ErrorInfo, Job, JobState, RunResult
from schedproto.messages import Cancel, GetJob

from .connection import new_request_id
from .errors import ExecutionError, WaitTimeoutError, from_info
from .session import Session

OnProgress = Callable[[Job], None]


async def get_job(session: Session, job_id: str) -> Job:
    """Return a job's current state."""
    return (await session.request(GetJob(id=new_request_id(), job_id=job_id))).job


async def cancel_job(session: Session, job_id: str) -> Job:
    """Request that a job ends; returns its state at that moment."""
    return (await session.request(Cancel(id=new_request_id(), job_id=job_id))).job


class AsyncJobHandle:
    """A job of the daemon, returned by `AsyncClient.submit` and `AsyncClient.job`.

    The job does not depend on the handle: it runs on if the program ends.

        handle = await client.submit("org-123")
        async for job in handle.progress():
            print(job.state)
        result = await handle.wait()
    """

    def __init__(self, session: Session, job: Job) -> None:
        self._session = session
        #: the job as it was last seen
        self.job = job

    @property
    def job_id(self) -> str:
        """Return the job's id."""
        return self.job.job_id

    async def status(self) -> Job:
        """Return the job's current state."""
        self.job = await get_job(self._session, self.job_id)
        return self.job

    async def cancel(self) -> Job:
        """Request that the job ends; returns its state at that moment."""
        self.job = await cancel_job(self._session, self.job_id)
        return self.job

    async def progress(self, timeout_s: float | None = None) -> AsyncGenerator[Job, None]:
        """Yield the job whenever it has changed, last in its final state.

        Survives restarts of the daemon. Raises `WaitTimeoutError` if the job has not ended after
        `timeout_s` seconds.
        """
        deadline = None if timeout_s is None else asyncio.get_running_loop().time() + timeout_s
        async with aclosing(self._session.job_events(self.job_id)) as events:
            while True:
                try:
                    async with asyncio.timeout_at(deadline):
                        job = await anext(events, None)
                except TimeoutError:
                    raise self._timeout_error(timeout_s or 0.0) from None
                if job is None:
                    return
                self.job = job
                yield job

    async def wait(
        self, timeout_s: float | None = None, on_progress: OnProgress | None = None
    ) -> RunResult:
        """Wait for the end and return the result.

        Raises the job's error (`DaemonError`), `JobCancelledError`, or `WaitTimeoutError` (the job
        continues).
        """
        async with aclosing(self.progress(timeout_s)) as jobs:
            async for job in jobs:
                if on_progress is not None:
                    on_progress(job)
        return result_of(self.job)

    def _timeout_error(self, timeout_s: float) -> WaitTimeoutError:
        return WaitTimeoutError(
            f"job {self.job_id} has not ended after {timeout_s:g} seconds; it continues",
            f"Resume with `schedctl watch {self.job_id}`, or wait again.",
            retryable=True,
            job_id=self.job_id,
        )


def result_of(job: Job) -> RunResult:
    """Return the result of an ended job, or raise its error."""
    if job.state == JobState.SUCCEEDED and job.result is not None:
        return job.result
    if job.error is not None:
        raise from_info(job.error, job)
    raise ExecutionError(
        ErrorInfo(
            code="internal",
            message=f"job {job.job_id} is {job.state} but has neither a result nor an error",
        ),
        job,
    )
