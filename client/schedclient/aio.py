"""The client for asyncio programs; `sync` has the same calls without asyncio."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Self, Unpack

from schedproto import Explanation, Job, JobSpec, Mode, RunResult
from schedproto.ids import new_key
from schedproto.messages import GetHealth, Health, ListJobs, Submit, Welcome
from schedproto.transfers import TransferResult

from .batch import AsyncBatch, OnUpdate, Outcomes
from .connection import new_request_id
from .handles import AsyncJobHandle, OnProgress, cancel_job, get_job
from .launch import Launcher, launcher_for
from .organization_calls import _OrganizationCalls
from .plans import Expected, expected_plan
from .session import DEFAULT_TIMEOUT_S, Session
from .settings import SettingArguments, load
from .transfers import OnBytes, pull, push


class AsyncClient(_OrganizationCalls):
    """A client for asyncio programs. Connects at the first call, and starts a daemon if it can.

        async with AsyncClient(data="/srv/organizations") as client:
            result = await client.schedule("org-123")

    Calls may run concurrently. A client belongs to one event loop at a time; close it, or use it
    with `async with`, before the loop ends. `sync.Client` has the same calls without asyncio.

    endpoint: of a running daemon. Without one, and without `app`, a local daemon is used.
    settings: all others by name (`data=`, `app=`, `key_file=` ...; docs/SETTINGS.md).
    timeout_s: of a call in all, not of a wait for a job; the start of a machine does not count.
    launcher: replaces the one that follows from the settings.
    """

    def __init__(
        self,
        endpoint: str | None = None,
        *,
        launcher: Launcher | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        **settings: Unpack[SettingArguments],
    ) -> None:
        self.settings = load({"endpoint": endpoint, **settings})
        self.launcher: Launcher = launcher or launcher_for(self.settings)
        self.timeout_s = timeout_s
        self._session = Session(self.launcher, self.settings, timeout_s)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; the client can be used again afterwards."""
        await self._session.close()

    async def schedule(
        self,
        organization: str,
        *,
        as_of: str | None = None,
        mode: str = Mode.RELIABLE.value,
        workers: int | None = None,
        config: dict[str, Any] | None = None,
        dry_run: bool = False,
        accept_changes: bool = False,
        expect: Expected | None = None,
        idempotency_key: str | None = None,
        timeout_s: float | None = None,
        on_progress: OnProgress | None = None,
    ) -> RunResult:
        """Schedule an organization: submit a job, wait, return the result.

            result = await client.schedule("org-123", as_of="2026-03-01", dry_run=True)
            print(result.contacts, result.rows_inserted)

        as_of: `YYYY-MM-DD` (default: today in the organization's time zone).   mode: `reliable` or
        `highperf`.   workers: 1 to 32 (default: by size).   config: overrides, in the form of
        docs/RULES.md, section 13.   accept_changes, expect, idempotency_key: see `submit`.
        timeout_s: how long to wait for the job.   on_progress: called with each change of the job.

        Raises the job's error (`DaemonError`), `WaitTimeoutError` (the job continues), or another
        `SchedulerClientError`.
        """
        handle = await self.submit(
            organization,
            as_of=as_of,
            mode=mode,
            workers=workers,
            config=config,
            dry_run=dry_run,
            accept_changes=accept_changes,
            expect=expect,
            idempotency_key=idempotency_key,
        )
        return await handle.wait(timeout_s, on_progress)

    async def schedule_many(
        self,
        organizations: Sequence[str] | None = None,
        *,
        concurrency: int | None = None,
        on_update: OnUpdate | None = None,
        **options: Any,
    ) -> Outcomes:
        """Schedule many organizations (default: all). Does not raise if one of them fails.

            outcomes = await client.schedule_many(["org-1", "org-2"], concurrency=2)
            failed = [outcome for outcome in outcomes.outcomes if outcome.error is not None]

        concurrency: how many run at the same time (default: number of workers).   on_update: called
        with an organization and its job whenever the job has changed.   options: as in `submit`.
        """
        batch = await self.submit_many(
            organizations, concurrency=concurrency, on_update=on_update, **options
        )
        try:
            return await batch.wait()
        finally:
            await batch.stop()

    async def submit_many(
        self,
        organizations: Sequence[str] | None = None,
        *,
        concurrency: int | None = None,
        on_update: OnUpdate | None = None,
        **options: Any,
    ) -> AsyncBatch:
        """Start to schedule many organizations and return at once; arguments as `schedule_many`.

        The batch can be waited for, stopped and cancelled.
        """
        names = await self.organizations() if organizations is None else organizations
        batch = AsyncBatch(self.submit, names, on_update, options)
        return batch.start(concurrency or ((await self.health()).workers if names else 1))

    async def explain(
        self,
        organization: str,
        contact: int,
        *,
        as_of: str | None = None,
        config: dict[str, Any] | None = None,
    ) -> Explanation:
        """Return why a contact gets its e-mails: each event, its dates, the rules that apply.

        Runs a dry run of the complete organization, as load balancing looks at all contacts.
        """
        handle = await self.submit(
            organization, as_of=as_of, config=config, dry_run=True, explain=[contact]
        )
        return (await handle.wait()).explanations[0]

    async def submit(
        self,
        organization: str,
        *,
        as_of: str | None = None,
        mode: str = Mode.RELIABLE.value,
        workers: int | None = None,
        config: dict[str, Any] | None = None,
        dry_run: bool = False,
        explain: Sequence[int] = (),
        accept_changes: bool = False,
        expect: Expected | None = None,
        idempotency_key: str | None = None,
    ) -> AsyncJobHandle:
        """Submit a job and return its handle once it is accepted, which means on disk.

            handle = await client.submit("org-123", idempotency_key="2026-03-01/org-123")
            result = await handle.wait(timeout_s=60)

        explain: ids of contacts to explain in the result; needs `dry_run`.   accept_changes: write
        the plan even if it exceeds a guard (otherwise `PlanAbnormalError`).   expect: a reviewed
        plan, either `RunResult.plan` of a dry run or the file of `schedctl preview --save`. The job
        writes exactly this plan or fails with `PlanDiffersError`; date and overrides are those of
        the plan.   idempotency_key: submitting the same key again returns the first job.   Others:
        see `schedule`.
        """
        if explain:
            await self._session.require("explain")
        plan = None
        if expect is not None:
            plan, as_of, config = expected_plan(expect, organization, as_of, config)
            await self._session.require("expect")
        spec = JobSpec(
            organization=organization,
            as_of=as_of,
            mode=mode,
            workers=workers,
            config=config or {},
            dry_run=dry_run,
            explain=list(explain),
            accept_changes=accept_changes,
            expect=plan,
        )
        message = Submit(
            id=new_request_id(), spec=spec, idempotency_key=idempotency_key or new_key()
        )
        return AsyncJobHandle(self._session, (await self._session.request(message)).job)

    async def job(self, job_id: str) -> AsyncJobHandle:
        """Return the handle of an existing job."""
        return AsyncJobHandle(self._session, await self.status(job_id))

    async def status(self, job_id: str) -> Job:
        """Return a job's current state."""
        return await get_job(self._session, job_id)

    async def cancel(self, job_id: str) -> Job:
        """Request that a job ends; returns its state at that moment (a running one ends soon)."""
        return await cancel_job(self._session, job_id)

    async def list(
        self,
        organization: str | None = None,
        *,
        states: list[str] | None = None,
        limit: int = 50,
        before: str | None = None,
    ) -> list[Job]:
        """Return jobs, newest first; `before` is the last job id of the previous page."""
        message = ListJobs(
            id=new_request_id(),
            organization=organization,
            states=states or [],
            limit=limit,
            before=before,
        )
        return (await self._session.request(message)).jobs

    async def push(
        self, path: str | PathLike[str], organization: str, *, on_bytes: OnBytes | None = None
    ) -> TransferResult:
        """Replace the organization's file on the daemon's side with the SQLite database at `path`.

        Sends only blocks that the other side lacks: repeating an interrupted push resumes it. The
        local file may be in use. Refused while a job of the organization waits or runs. The
        replaced file is kept as a backup.   on_bytes: called with the bytes that have arrived so
        far, and the total.
        """
        await self._session.require("files")
        return await push(self._session.request, Path(path), organization, on_bytes)

    async def pull(
        self, organization: str, path: str | PathLike[str], *, on_bytes: OnBytes | None = None
    ) -> TransferResult:
        """Download a consistent snapshot of the organization's file to `path`.

        Fetches only blocks that an older file of this name, or an interrupted pull, lacks. The file
        appears or changes when it is complete. Refused while a job of the organization waits or
        runs.   on_bytes: as in `push`.
        """
        await self._session.require("files")
        return await pull(self._session.request, organization, Path(path), on_bytes)

    async def health(self) -> Health:
        """Return the daemon's health: version, workers, jobs, uptime."""
        return await self._session.request(GetHealth(id=new_request_id()))

    async def welcome(self) -> Welcome:
        """Return the daemon's version and capabilities, as sent when the connection was made."""
        return await self._session.welcome()
