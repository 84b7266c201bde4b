"""The client for programs without asyncio.

The same calls as `aio.AsyncClient`, on a thread of its own.

Thread-safe: any thread may call. After a fork the child gets a new thread and a new connection.
"""

from __future__ import annotations

import asyncio
import os
import queue
import threading
from collections.abc import Coroutine, Generator, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import aclosing, closing
from functools import partial
from os import PathLike
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack

from schedproto import (
    BackupList,
    Explanation,
    Job,
    OrganizationConfiguration,
    OrganizationInfo,
    Report,
    RunResult,
    VolumeInfo,
)
from schedproto.checks import Adoption, CheckReport
from schedproto.diagnosis import Diagnosis
from schedproto.messages import Health, Welcome
from schedproto.transfers import TransferResult

from .aio import DEFAULT_TIMEOUT_S, AsyncClient
from .batch import AsyncBatch, OnEach, Outcomes
from .errors import UnreachableError
from .handles import AsyncJobHandle, OnProgress, result_of
from .launch import Launcher
from .plans import Expected
from .settings import ClientSettings, SettingArguments
from .transfers import OnBytes

if TYPE_CHECKING:
    import builtins

_T = TypeVar("_T")


class Client:
    """Talks to a daemon, starting one where the launcher can; arguments as `aio.AsyncClient`."""

    def __init__(
        self,
        endpoint: str | None = None,
        *,
        launcher: Launcher | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        **settings: Unpack[SettingArguments],
    ) -> None:
        self._make = partial(
            AsyncClient, endpoint, launcher=launcher, timeout_s=timeout_s, **settings
        )
        self._client = self._make()
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._pid = os.getpid()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def settings(self) -> ClientSettings:
        """Return the settings that this client uses."""
        return self._client.settings

    def close(self) -> None:
        """Close the connection and end the thread; the client can be used again afterwards."""
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is None or thread is None or self._pid != os.getpid():
            return
        asyncio.run_coroutine_threadsafe(self._finish(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()

    async def _finish(self) -> None:
        """End what other threads wait for, then close the connection."""
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._client.close()

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._pid != os.getpid():
                # A forked child has neither the thread nor a right to its parent's connection.
                self._client, self._loop, self._pid = self._make(), None, os.getpid()
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._loop.run_forever, name="schedclient", daemon=True
                )
                self._thread.start()
            return self._loop

    def _start(self, work: Coroutine[Any, Any, _T]) -> Future[_T]:
        return asyncio.run_coroutine_threadsafe(work, self._started())

    def _run(self, work: Coroutine[Any, Any, _T]) -> _T:
        future = self._start(work)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def schedule(
        self,
        organization: str,
        *,
        as_of: str | None = None,
        mode: str = "reliable",
        workers: int | None = None,
        config: dict[str, Any] | None = None,
        dry_run: bool = False,
        accept_changes: bool = False,
        expect: Expected | None = None,
        idempotency_key: str | None = None,
        timeout_s: float | None = None,
        on_progress: OnProgress | None = None,
    ) -> RunResult:
        """Schedule an organization: submit, wait, return the result. Raises `SchedulerClientError`.

        as_of: `YYYY-MM-DD`, by default today in the organization's time zone.   workers: 1 to 32.
        config: overrides in the shape of the rules' section 13.   timeout_s: how long to wait for
        the job.
        accept_changes: write the plan although it exceeds a guard (`PlanAbnormalError` otherwise).
        expect: a plan that was reviewed, `RunResult.plan` of a dry run or the file of `schedctl
        preview --save`. The job writes exactly this plan or fails with `PlanDiffersError`; it takes
        the date and the overrides from it.
        """
        handle = self.submit(
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
        return handle.wait(timeout_s, on_progress)

    def schedule_many(
        self,
        organizations: Sequence[str] | None = None,
        *,
        at_once: int | None = None,
        on_each: OnEach | None = None,
        **options: Any,
    ) -> Outcomes:
        """Schedule many organizations, all there are by default.

        Never raises for one of them (see `Outcome`).

        at_once: how many are in work at the same time, by default as many as the daemon has
        workers.
        on_each: told, in another thread, an organization and its job whenever that has changed.
        options: as those of `submit`.
        """
        batch = self.submit_many(organizations, at_once=at_once, on_each=on_each, **options)
        try:
            return batch.wait()
        except BaseException:
            batch.stop()
            raise

    def submit_many(
        self,
        organizations: Sequence[str] | None = None,
        *,
        at_once: int | None = None,
        on_each: OnEach | None = None,
        **options: Any,
    ) -> Batch:
        """Begin to schedule many organizations and return what can be waited for, stopped and cancelled.

        Arguments as those of `schedule_many`. The client submits as long as it is open.
        """
        submitting = self._current().submit_many(
            organizations, at_once=at_once, on_each=on_each, **options
        )
        return Batch(self, self._run(submitting))

    def organizations(self) -> builtins.list[str]:
        """Return the organizations in the bucket, or on the volume where there is no bucket."""
        return self._run(self._current().organizations())

    lease = staticmethod(AsyncClient.lease)

    def explain(
        self,
        organization: str,
        contact: int,
        *,
        as_of: str | None = None,
        config: dict[str, Any] | None = None,
    ) -> Explanation:
        """Return why a contact gets what it gets.

        Each event, its dates as they move, the rules that apply.

        A dry run over the whole organization, as load balancing looks at all contacts.
        """
        return self._run(self._current().explain(organization, contact, as_of=as_of, config=config))

    def submit(
        self,
        organization: str,
        *,
        as_of: str | None = None,
        mode: str = "reliable",
        workers: int | None = None,
        config: dict[str, Any] | None = None,
        dry_run: bool = False,
        explain: Sequence[int] = (),
        accept_changes: bool = False,
        expect: Expected | None = None,
        idempotency_key: str | None = None,
    ) -> JobHandle:
        """Submit a job and return its handle once it is accepted, which means on disk."""
        submitting = self._current().submit(
            organization,
            as_of=as_of,
            mode=mode,
            workers=workers,
            config=config,
            dry_run=dry_run,
            explain=explain,
            accept_changes=accept_changes,
            expect=expect,
            idempotency_key=idempotency_key,
        )
        return JobHandle(self, self._run(submitting))

    def _current(self) -> AsyncClient:
        self._started()
        return self._client

    def job(self, job_id: str) -> JobHandle:
        """Return the handle of a job that exists."""
        return JobHandle(self, self._run(self._current().job(job_id)))

    def status(self, job_id: str) -> Job:
        """Return a job as it is now."""
        return self._run(self._current().status(job_id))

    def cancel(self, job_id: str) -> Job:
        """Ask that a job ends; returns it as it is then (a running one ends a moment later)."""
        return self._run(self._current().cancel(job_id))

    def list(
        self,
        organization: str | None = None,
        *,
        states: list[str] | None = None,
        limit: int = 50,
        before: str | None = None,
    ) -> list[Job]:
        """Return jobs, newest first; `before` is the last job id of the previous page."""
        return self._run(
            self._current().list(organization, states=states, limit=limit, before=before)
        )

    def info(self, organization: str) -> OrganizationInfo:
        """Return what is known of an organization's file."""
        return self._run(self._current().info(organization))

    def volume(self) -> VolumeInfo:
        """Return the data folder's organizations and free space."""
        return self._run(self._current().volume())

    def configuration(
        self, organization: str, version: int | None = None
    ) -> OrganizationConfiguration:
        """Return the configuration that a run would start from, and its stored versions.

        version: one whose text is wanted, also where texts of older versions are left out
        (`toml_left_out`).
        """
        return self._run(self._current().configuration(organization, version))

    def check_configuration(self, organization: str, toml: str) -> OrganizationConfiguration:
        """Return what a TOML text would make of the configuration, or raise what is wrong with it."""
        return self._run(self._current().check_configuration(organization, toml))

    def set_configuration(
        self, organization: str, toml: str, created_by: str | None = None
    ) -> OrganizationConfiguration:
        """Store a TOML text as the organization's new version.

        Created_by: by default, the user's name.
        """
        return self._run(self._current().set_configuration(organization, toml, created_by))

    def withdraw_configuration(
        self, organization: str, version: int, withdrawn_by: str | None = None
    ) -> OrganizationConfiguration:
        """Withdraw a version; the newest one that is not withdrawn applies."""
        return self._run(
            self._current().withdraw_configuration(organization, version, withdrawn_by)
        )

    def report(self, organization: str) -> Report:
        """Return the newest two completed runs as they were recorded, and contacts with issues."""
        return self._run(self._current().report(organization))

    def diagnose(self, organization: str | None = None) -> Diagnosis:
        """Return what the daemon finds when it looks at its volume and at an organization's file, or at all."""
        return self._run(self._current().diagnose(organization))

    def check(
        self,
        organization: str,
        *,
        as_of: str | None = None,
        config: dict[str, Any] | None = None,
        accept_statuses: Sequence[str] = (),
        first_run_only: bool = False,
    ) -> CheckReport:
        """Return what a run of the organization could not read, would refuse or lose.

        Changes nothing.

        as_of, config: as of `schedule`.   accept_statuses: contact statuses that the suggested
        configuration shall make active.   first_run_only: look only if no run of the organization
        has been completed yet.
        """
        checking = self._current().check(
            organization,
            as_of=as_of,
            config=config,
            accept_statuses=accept_statuses,
            first_run_only=first_run_only,
        )
        return self._run(checking)

    def plan_adoption(self, organization: str, accept_statuses: Sequence[str] = ()) -> Adoption:
        """Return what would make the organization's file ready for its first run.

        Changes nothing.
        """
        return self._run(self._current().plan_adoption(organization, accept_statuses))

    def adopt(
        self,
        organization: str,
        adoption: Adoption,
        accept_statuses: Sequence[str] = (),
        created_by: str | None = None,
    ) -> Adoption:
        """Do what `plan_adoption`, with the same statuses, has returned, in one transaction after a backup."""
        return self._run(self._current().adopt(organization, adoption, accept_statuses, created_by))

    def backups(self, organization: str) -> BackupList:
        """Return the backups of an organization's file, newest first."""
        return self._run(self._current().backups(organization))

    def restore(self, organization: str, backup_id: str) -> BackupList:
        """Put a backup in the place of the organization's file.

        Refused while a job of it waits or runs.
        """
        return self._run(self._current().restore(organization, backup_id))

    def push(
        self, path: str | PathLike[str], organization: str, *, on_bytes: OnBytes | None = None
    ) -> TransferResult:
        """Make the organization's file on the daemon's side what the SQLite database at `path` is.

        Only blocks that the other side lacks are sent; a push that broke off is resumed by doing it
        again. The file may be in use here. Refused while a job of the organization waits or runs;
        what the file was before is kept as a backup. on_bytes: told, in another thread, the bytes
        that are there so far, and all.
        """
        return self._run(self._current().push(path, organization, on_bytes=on_bytes))

    def pull(
        self, organization: str, path: str | PathLike[str], *, on_bytes: OnBytes | None = None
    ) -> TransferResult:
        """Fetch the organization's file, in one state, as the file `path`, which appears or changes when it is whole.

        Only blocks that an older file of this name, or a pull that broke off, lacks are fetched.
        Refused while a job of the organization waits or runs.
        """
        return self._run(self._current().pull(organization, path, on_bytes=on_bytes))

    def health(self) -> Health:
        """Return how the daemon is."""
        return self._run(self._current().health())

    def welcome(self) -> Welcome:
        """Return what the daemon said of itself when the connection was made."""
        return self._run(self._current().welcome())


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
        """Yield the job whenever it has changed, last in its final state.

        Survives restarts of the daemon.

        Raises `WaitTimeoutError` when the job has not ended after `timeout_s`.
        """
        jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()

        async def follow() -> None:
            # One task has the generator from its beginning to its end, whatever interrupts this
            # thread.
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
                "the client was closed while waiting",
                f"Resume with `schedctl watch {self.job_id}`.",
            ) from None
        finally:
            following.cancel()

    def wait(
        self, timeout_s: float | None = None, on_progress: OnProgress | None = None
    ) -> RunResult:
        """Wait for the end and return the result; `on_progress` is called in this thread.

        Raises the job's error (`DaemonError`), `JobCancelledError`, or `WaitTimeoutError` (the job
        goes on).
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
        """Wait until all have ended and return what became of them.

        May be interrupted and called again.
        """
        return self._client._run(self._batch.wait())  # noqa: SLF001 - two halves of one thing

    def so_far(self) -> Outcomes:
        """Return what has become of them until now.

        Of one in work there is neither result nor error yet.
        """
        return self._batch.so_far()

    def stop(self) -> None:
        """Submit no more; jobs that were accepted go on."""
        self._client._run(self._batch.stop())  # noqa: SLF001

    def cancel(self) -> None:
        """Submit no more, and ask the jobs in work to end.

        A run that is cancelled changes nothing.
        """
        self._client._run(self._batch.cancel())  # noqa: SLF001
