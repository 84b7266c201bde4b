"""Many organizations in one call: a bounded number of them in work at once, and one outcome for each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from schedproto import ErrorInfo, Job, RunResult

from .errors import BusyError, DaemonError, SchedulerClientError

if TYPE_CHECKING:
    from .aio import AsyncClient

#: How long to wait before a job is submitted again that found the daemon's queue full.
BUSY_PAUSE_S = 0.5

#: Told an organization and its job whenever that has changed; None when it has no job and never will.
OnEach = Callable[[str, Job | None], None]


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one organization: a result or an error. job_id: None where none was accepted."""

    organization: str
    job_id: str | None = None
    result: RunResult | None = None
    error: ErrorInfo | None = None


class Outcomes(msgspec.Struct, frozen=True, kw_only=True):
    """What became of all, in the order in which they were named, and sums over those that succeeded.

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
            failed=len(outcomes) - len(results),
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


async def schedule_many(
    client: AsyncClient,
    organizations: Sequence[str],
    *,
    at_once: int | None,
    on_each: OnEach | None,
    **options: Any,
) -> Outcomes:
    """Schedule organizations, at most `at_once` of them in work at the same time; see `Client.schedule_many`."""
    began = time.monotonic()
    names = list(dict.fromkeys(organizations))
    if at_once is None:
        at_once = max(1, (await client.health()).workers) if names else 1
    places = asyncio.Semaphore(max(1, at_once))
    tell = on_each or (lambda _organization, _job: None)

    async def one(name: str) -> Outcome:
        async with places:
            return await _one(client, name, tell, options)

    outcomes = await asyncio.gather(*(one(name) for name in names))
    return Outcomes.of(list(outcomes), time.monotonic() - began)


async def _one(client: AsyncClient, name: str, tell: OnEach, options: dict[str, Any]) -> Outcome:
    job_id = None
    try:
        while True:
            try:
                handle = await client.submit(name, **options)
            except BusyError as error:
                if error.code != "queue_full":
                    raise
                await asyncio.sleep(BUSY_PAUSE_S)
            else:
                break
        job_id = handle.job_id
        tell(name, handle.job)
        result = await handle.wait(on_progress=lambda job: tell(name, job))
    except SchedulerClientError as error:
        if job_id is None:
            tell(name, None)
        return Outcome(organization=name, job_id=job_id, error=_info(error))
    return Outcome(organization=name, job_id=job_id, result=result)


def _info(error: SchedulerClientError) -> ErrorInfo:
    if isinstance(error, DaemonError):
        return error.info
    return ErrorInfo(
        code=error.code, message=error.message, hint=error.hint, retryable=error.retryable, details=error.details
    )
