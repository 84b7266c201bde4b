"""A job as a program holds it: wait for it, follow it, cancel it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Protocol

from schedproto import ErrorInfo, Job, JobState, RunResult

from .errors import ExecutionError, WaitTimeoutError, from_info

OnProgress = Callable[[Job], None]


class JobCalls(Protocol):
    """What a handle needs of a client."""

    async def status(self, job_id: str) -> Job:
        """Return the job's current state."""

    async def cancel(self, job_id: str) -> Job:
        """Request that the job ends."""

    def job_events(self, job_id: str) -> AsyncGenerator[Job, None]:
        """Yield the job on every change, last in its final state."""


class AsyncJobHandle:
    """A job that was submitted, or is looked at again."""

    def __init__(self, client: JobCalls, job: Job) -> None:
        self._client = client
        #: the job as it was last seen
        self.job = job

    @property
    def job_id(self) -> str:
        """Return the job's id."""
        return self.job.job_id

    async def status(self) -> Job:
        """Ask for the job's present state."""
        self.job = await self._client.status(self.job_id)
        return self.job

    async def cancel(self) -> Job:
        """Ask that the job ends; returns it as it is then."""
        self.job = await self._client.cancel(self.job_id)
        return self.job

    async def progress(self, timeout_s: float | None = None) -> AsyncGenerator[Job, None]:
        """Yield the job whenever it has changed, last in its final state.

        Survives restarts of the daemon.

        Raises `WaitTimeoutError` when the job has not ended after `timeout_s`.
        """
        deadline = None if timeout_s is None else asyncio.get_running_loop().time() + timeout_s
        async with aclosing(self._client.job_events(self.job_id)) as events:
            while True:
                try:
                    async with asyncio.timeout_at(deadline):
                        job = await anext(events, None)
                except TimeoutError:
                    raise WaitTimeoutError(
                        f"job {self.job_id} has not ended after {timeout_s:g} seconds; it continues",
                        f"Resume with `schedctl watch {self.job_id}`, or wait again.",
                        retryable=True,
                    ) from None
                if job is None:
                    return
                self.job = job
                yield job

    async def wait(
        self, timeout_s: float | None = None, on_progress: OnProgress | None = None
    ) -> RunResult:
        """Wait for the end and return the result.

        Raises the job's error (`DaemonError`), `JobCancelledError`, or `WaitTimeoutError` (the job
        goes on).
        """
        async with aclosing(self.progress(timeout_s)) as jobs:
            async for job in jobs:
                if on_progress is not None:
                    on_progress(job)
        return result_of(self.job)


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
