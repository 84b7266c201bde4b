"""Many organizations in one call.

A bounded number of them in work at once, and one outcome for each.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

import msgspec

from schedproto import ErrorInfo, Job, RunResult

from .errors import BusyError, DaemonError, SchedulerClientError
from .handles import AsyncJobHandle

#: How long to wait before a job is submitted again that found the daemon's queue full.
BUSY_PAUSE_S = 0.5

#: Told an organization and its job whenever that has changed; None when it has no job and never
#: will.
OnEach = Callable[[str, Job | None], None]


_NOT_SUBMITTED = ErrorInfo(
    code="cancelled",
    message="the job was not submitted",
    hint="Submit it again to schedule it.",
    retryable=True,
)


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one organization: a result or an error, neither while it is in work.

    job_id: None where none was accepted.
    """

    organization: str
    job_id: str | None = None
    result: RunResult | None = None
    error: ErrorInfo | None = None


class Outcomes(msgspec.Struct, frozen=True, kw_only=True):
    """What became of all, in the order in which they were named, and sums over those that succeeded.

    failed: those with an error.   wall_s: since the first was submitted.
    bytes_down, bytes_up: between bucket and volume; bytes_whole: what whole files would have been.
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
    def of(cls, outcomes: list[Outcome], wall_s: float) -> Outcomes:
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


class SubmitCalls(Protocol):
    """What a batch needs of a client."""

    @property
    def submit(self) -> Callable[..., Awaitable[AsyncJobHandle]]:
        """Return what submits a job and returns its handle."""


class AsyncBatch:
    """Many organizations being scheduled, a bounded number of them in work at once.

    Begun by `submit_many`.

    organizations: each once, in the order in which they were named.
    """

    def __init__(
        self,
        client: SubmitCalls,
        organizations: Sequence[str],
        on_each: OnEach | None,
        options: dict[str, Any],
    ) -> None:
        self.organizations = list(dict.fromkeys(organizations))
        self._client, self._options = client, options
        self._tell = on_each or (lambda _organization, _job: None)
        self._began = time.monotonic()
        self._stopped = self._cancelled = False
        self._active: dict[str, AsyncJobHandle] = {}
        self._ended: dict[str, Outcome] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self, at_once: int) -> AsyncBatch:
        """Begin to submit; called once, by `submit_many`."""
        self._task = asyncio.create_task(self._run(max(1, at_once)))
        return self

    async def _run(self, at_once: int) -> None:
        places = asyncio.Semaphore(at_once)

        async def one(name: str) -> None:
            async with places:
                self._ended[name] = await self._one(name)
                self._active.pop(name, None)

        await asyncio.gather(*(one(name) for name in self.organizations))

    async def wait(self) -> Outcomes:
        """Wait until all have ended and return what became of them.

        Who stops waiting does not stop the batch.
        """
        assert self._task is not None  # `submit_many` has begun it
        await asyncio.shield(self._task)
        return self.so_far()

    def so_far(self) -> Outcomes:
        """Return what has become of them until now.

        Of one in work there is neither result nor error yet.
        """
        active = {
            name: handle.job_id for name, handle in self._active.copy().items()
        }  # others may be ending
        outcomes = [
            self._ended.get(name) or Outcome(organization=name, job_id=active.get(name))
            for name in self.organizations
        ]
        return Outcomes.of(outcomes, time.monotonic() - self._began)

    async def stop(self) -> None:
        """Submit no more; jobs that were accepted go on."""
        self._stopped = True

    async def cancel(self) -> None:
        """Submit no more, and ask the jobs in work to end.

        Raises the error of a daemon that cannot be asked.
        """
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
            self._tell(name, handle.job)
            if self._cancelled:  # while it was being submitted
                await handle.cancel()
            result = await handle.wait(on_progress=lambda job: self._tell(name, job))
        except SchedulerClientError as error:
            if job_id is None:
                self._tell(name, None)
            return Outcome(organization=name, job_id=job_id, error=_info(error))
        return Outcome(organization=name, job_id=job_id, result=result)

    async def _submit(self, name: str) -> AsyncJobHandle | None:
        """Submit as soon as the daemon's queue has a place.

        None where the batch was stopped before.
        """
        while not self._stopped:
            try:
                return await self._client.submit(name, **self._options)
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
