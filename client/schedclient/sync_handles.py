"""Jobs and batches as a program without asyncio holds them."""

from __future__ import annotations

import queue
from collections.abc import Generator
from concurrent.futures import CancelledError
from contextlib import aclosing, closing
from typing import TYPE_CHECKING

from schedproto import Job, RunResult

from .errors import UnreachableError
from .handles import AsyncJobHandle, OnProgress, result_of
from .many import AsyncBatch, Outcomes

if TYPE_CHECKING:
    from .sync import Client


class JobHandle:
    """A job that was submitted, or is looked at again."""

    def __init__(self, client: Client, handle: AsyncJobHandle) -> None:
        self._client, self._handle = client, handle

    @property
    def job_id(self) -> str:
        """Return the job's id."""
        return self._handle.job_id

    @property
    def job(self) -> Job:
        """Return the job as it was last seen."""
        return self._handle.job

    def status(self) -> Job:
        """Ask for the job's present state."""
        return self._client._run(self._handle.status())  # noqa: SLF001 - two halves of one thing

    def cancel(self) -> Job:
        """Ask that the job ends; returns it as it is then."""
        return self._client._run(self._handle.cancel())  # noqa: SLF001

    def progress(self, timeout_s: float | None = None) -> Generator[Job, None, None]:
        """Yield the job whenever it has changed, last in its final state; survives restarts of the daemon.

        Raises `WaitTimeoutError` when the job has not ended after `timeout_s`.
        """
        jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()

        async def follow() -> None:
            # One task has the generator from its beginning to its end, whatever interrupts this thread.
            async with aclosing(self._handle.progress(timeout_s)) as events:
                async for job in events:
                    jobs.put(job)

        following = self._client._start(follow())  # noqa: SLF001
        following.add_done_callback(lambda _: jobs.put(None))
        try:
            while (job := jobs.get()) is not None:
                yield job
            following.result()
        except CancelledError:
            raise UnreachableError(
                "the client was closed while waiting", f"Resume with `schedctl watch {self.job_id}`."
            ) from None
        finally:
            following.cancel()

    def wait(self, timeout_s: float | None = None, on_progress: OnProgress | None = None) -> RunResult:
        """Wait for the end and return the result; `on_progress` is called in this thread.

        Raises the job's error (`DaemonError`), `JobCancelledError`, or `WaitTimeoutError` (the job goes on).
        """
        with closing(self.progress(timeout_s)) as jobs:
            for job in jobs:
                if on_progress is not None:
                    on_progress(job)
        return result_of(self.job)


class Batch:
    """Many organizations being scheduled; see `many.AsyncBatch`."""

    def __init__(self, client: Client, batch: AsyncBatch) -> None:
        self._client, self._batch = client, batch

    @property
    def organizations(self) -> list[str]:
        """Return the organizations, each once, in the order in which they were named."""
        return self._batch.organizations

    def wait(self) -> Outcomes:
        """Wait until all have ended and return what became of them; may be interrupted and called again."""
        return self._client._run(self._batch.wait())  # noqa: SLF001 - two halves of one thing

    def so_far(self) -> Outcomes:
        """Return what has become of them until now: of one in work there is neither result nor error yet."""
        return self._batch.so_far()

    def stop(self) -> None:
        """Submit no more; jobs that were accepted go on."""
        self._client._run(self._batch.stop())  # noqa: SLF001

    def cancel(self) -> None:
        """Submit no more, and ask the jobs in work to end; a run that is cancelled changes nothing."""
        self._client._run(self._batch.cancel())  # noqa: SLF001
