"""Many organizations in one call: a bounded number of concurrent jobs, one outcome for each.

Example:

    outcomes = client.schedule_many(["org-1", "org-2"])
    failed = {o.organization: o.error.message for o in outcomes.outcomes if o.error}
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import msgspec

from schedproto import ErrorInfo, Job, RunResult

from .errors import BusyError, DaemonError, SchedulerClientError
from .handles import AsyncJobHandle

#: Pause before a job is submitted again after the daemon's queue was full.
BUSY_PAUSE_S = 0.5

#: Called with an organization and its job whenever the job has changed; with None if the
#: organization gets no job.
OnUpdate = Callable[[str, Job | None], None]


_NOT_SUBMITTED = ErrorInfo(
    code="cancelled",
    message="the job was not submitted",
    hint="Submit it again to schedule it.",
    retryable=True,
)


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of one organization: a result or an error, neither while it runs.

    job_id: None if no job was accepted.
    """

    organization: str
    job_id: str | None = None
    result: RunResult | None = None
    error: ErrorInfo | None = None


class Outcomes(msgspec.Struct, frozen=True, kw_only=True):
    """All outcomes, in the order of the organizations, and sums over those that succeeded.

    failed: those with an error.   wall_s: since the first was submitted.
    bytes_down, bytes_up: between bucket and volume; bytes_whole: the size of the complete files.
    """

    outcomes: list[Outcome]
    succeeded: int
    failed: int
    wall_s: float
    contacts: int = 0
    rows_inserted: int = 0
    rows_updated: int = 0
    rows_deleted: int = 0
    bytes_down: int = 0
    bytes_up: int = 0
    bytes_whole: int = 0
    cost_usd: float | None = None

    @classmethod
    def collect(cls, outcomes: list[Outcome], wall_s: float) -> Outcomes:
        """Return outcomes with their sums."""
        results = [outcome.result for outcome in outcomes if outcome.result is not None]
        moved = [result.replica for result in results if result.replica is not None]
        costs = [result.cost_usd for result in results if result.cost_usd is not None]
        return cls(
            outcomes=outcomes,
            succeeded=len(results),
            failed=sum(1 for outcome in outcomes if outcome.error is not None),
            wall_s=round(wall_s, 6),
            contacts=sum(result.contacts for result in results),
            rows_inserted=sum(result.rows_inserted for result in results),
            rows_updated=sum(result.rows_updated for result in results),
            rows_deleted=sum(result.rows_deleted for result in results),
            bytes_down=sum(use.bytes_down for use in moved),
            bytes_up=sum(use.bytes_up for use in moved),
            bytes_whole=sum(use.bytes_whole for use in moved),
            cost_usd=sum(costs) if costs else None,
        )


class AsyncBatch:
    """Organizations that are being scheduled, a bounded number at a time.

    Returned by `AsyncClient.submit_many`:

        batch = await client.submit_many(["org-1", "org-2"], concurrency=2)
        outcomes = await batch.wait()

    organizations: each once, in the given order.
    """

    def __init__(
        self,
        submit: Callable[..., Awaitable[AsyncJobHandle]],
        organizations: Sequence[str],
        on_update: OnUpdate | None,
        options: dict[str, Any],
    ) -> None:
        self.organizations = list(dict.fromkeys(organizations))
        self._submit_job = partial(submit, **options)
        self._notify = on_update or (lambda _organization, _job: None)
        self._began = time.monotonic()
        self._stopped = self._cancelled = False
        self._active: dict[str, AsyncJobHandle] = {}
        self._ended: dict[str, Outcome] = {}
        self._task: asyncio.Task[None] | None = None
        self._pid = os.getpid()

    def start(self, concurrency: int) -> AsyncBatch:
        """Start to submit; called once, by `submit_many`."""
        self._task = asyncio.create_task(self._run(max(1, concurrency)))
        return self

    def _check_process(self) -> None:
        """Raise `RuntimeError` in a forked child: the batch submits in its parent."""
        if self._pid != os.getpid():
            raise RuntimeError(
                f"this batch belongs to the process {self._pid}, from which this process was "
                "forked; wait for it there, or look at its jobs with `client.list()`"
            )

    async def _run(self, concurrency: int) -> None:
        slots = asyncio.Semaphore(concurrency)

        async def one(name: str) -> None:
            async with slots:
                self._ended[name] = await self._one(name)
                self._active.pop(name, None)

        await asyncio.gather(*(one(name) for name in self.organizations))

    async def wait(self) -> Outcomes:
        """Wait until all have ended and return their outcomes.

        Cancelling the wait does not stop the batch.
        """
        self._check_process()
        assert self._task is not None  # `submit_many` has started it
        await asyncio.shield(self._task)
        return self.snapshot()

    def snapshot(self) -> Outcomes:
        """Return the outcomes so far. One that runs has neither result nor error yet."""
        self._check_process()
        # A copy, as jobs may end meanwhile.
        active = {name: handle.job_id for name, handle in self._active.copy().items()}
        outcomes = [
            self._ended.get(name) or Outcome(organization=name, job_id=active.get(name))
            for name in self.organizations
        ]
        return Outcomes.collect(outcomes, time.monotonic() - self._began)

    async def stop(self) -> None:
        """Submit no more; accepted jobs continue."""
        self._check_process()
        self._stopped = True

    async def cancel(self) -> None:
        """Submit no more, and cancel the running jobs. Raises `SchedulerClientError`."""
        self._check_process()
        self._stopped = self._cancelled = True
        await asyncio.gather(*(handle.cancel() for handle in self._active.values()))

    async def _one(self, name: str) -> Outcome:
        job_id = None
        try:
            handle = await self._submit(name)
            if handle is None:
                return Outcome(organization=name, error=_NOT_SUBMITTED)
            self._active[name] = handle
            job_id = handle.job_id
            self._notify(name, handle.job)
            if self._cancelled:  # while it was being submitted
                await handle.cancel()
            result = await handle.wait(on_progress=lambda job: self._notify(name, job))
        except SchedulerClientError as error:
            if job_id is None:
                self._notify(name, None)
            return Outcome(organization=name, job_id=job_id, error=_info(error))
        return Outcome(organization=name, job_id=job_id, result=result)

    async def _submit(self, name: str) -> AsyncJobHandle | None:
        """Submit as soon as the daemon's queue has room; None if the batch was stopped before."""
        while not self._stopped:
            try:
                return await self._submit_job(name)
            except BusyError as error:
                if error.code != "queue_full":
                    raise
                await asyncio.sleep(BUSY_PAUSE_S)
        return None


def _info(error: SchedulerClientError) -> ErrorInfo:
    if isinstance(error, DaemonError):
        return error.info
    return ErrorInfo(
        code=error.code,
        message=error.message,
        hint=error.hint,
        retryable=error.retryable,
        details=error.details,
    )
