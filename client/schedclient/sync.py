"""The client for programs without asyncio: the calls of `aio.AsyncClient`, on a thread of its own.

Thread-safe: any thread may call. After a fork the child gets a new thread and a new connection.
"""

from __future__ import annotations

import asyncio
import os
import queue
import sys
import threading
import warnings
from collections.abc import Callable, Coroutine, Generator, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import aclosing, closing
from functools import partial, wraps
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, Unpack
from weakref import WeakSet

from schedproto import Job, RunResult

from .aio import AsyncClient
from .batch import AsyncBatch, OnUpdate, Outcomes
from .errors import SchedulerClientError, UnreachableError
from .handles import AsyncJobHandle, OnProgress, result_of
from .launch import Launcher
from .plans import Expected
from .session import DEFAULT_TIMEOUT_S, INHERITED
from .settings import ClientSettings, SettingArguments

_P = ParamSpec("_P")
_T = TypeVar("_T")

#: Time for the daemon's reply to a submission that Ctrl-C interrupts.
ACCEPT_GRACE_S = 1.0


def _blocking(
    call: Callable[Concatenate[AsyncClient, _P], Coroutine[Any, Any, _T]],
) -> Callable[Concatenate[Client, _P], _T]:
    """Return the method of `Client` that runs a call of `AsyncClient` and waits for it.

    It has the call's signature (for type checkers too) and docstring.
    """

    @wraps(call)
    def method(self: Client, /, *args: _P.args, **options: _P.kwargs) -> _T:
        return self._run(call(self._current(), *args, **options))

    return method


class Client:
    """A client without asyncio. Connects at the first call, and starts a daemon if it can.

        from schedclient import Client

        with Client() as client:
            result = client.schedule("org-123")

    Other ways to name the daemon:

        Client(data="/srv/organizations")                 # a local one, started if needed
        Client("tcp://[::1]:7300")                        # one that runs
        Client(app="my-scheduler", token="...")           # a machine on Fly, started if needed

    Close a client, or use it in a `with` block; it can be used again afterwards. Any thread may
    call. Arguments as those of `aio.AsyncClient`. Calls raise `SchedulerClientError`.
    """

    def __init__(
        self,
        endpoint: str | None = None,
        *,
        launcher: Launcher | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        **settings: Unpack[SettingArguments],
    ) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._make = partial(
            AsyncClient, endpoint, launcher=launcher, timeout_s=timeout_s, **settings
        )
        self._client = self._make()
        _clients.add(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        loop = self._loop
        if loop is None or self._pid != os.getpid() or sys.is_finalizing():
            return
        warnings.warn("unclosed schedclient.Client", ResourceWarning, stacklevel=2)
        # The garbage collector may run in any thread, the client's own included: nothing waits.
        asyncio.run_coroutine_threadsafe(_finish(self._client, stop=True), loop)

    @property
    def settings(self) -> ClientSettings:
        """Return the settings that this client uses."""
        return self._client.settings

    def close(self) -> None:
        """Close the connection and end the thread; the client can be used again afterwards."""
        if self._pid != os.getpid():
            return  # the parent's
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is None or thread is None:
            return
        asyncio.run_coroutine_threadsafe(_finish(self._client), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._pid != os.getpid():
                # A forked child has neither the thread nor a right to its parent's connection.
                INHERITED.append((self._client, self._loop, self._thread))
                self._client = self._make()
                self._loop = self._thread = None
                self._pid = os.getpid()
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=_serve, args=(self._loop,), name="schedclient", daemon=True
                )
                self._thread.start()
            return self._loop

    def _current(self) -> AsyncClient:
        self._started()
        return self._client

    def _start(self, work: Coroutine[Any, Any, _T]) -> Future[_T]:
        return asyncio.run_coroutine_threadsafe(work, self._started())

    def _run(self, work: Coroutine[Any, Any, _T]) -> _T:
        future = self._start(work)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    # Calls that differ from those of `AsyncClient`: they return blocking objects, or call back in
    # the caller's thread. All others follow.

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
        """Schedule an organization: submit a job, wait, return the result.

            result = client.schedule("org-123", as_of="2026-03-01", dry_run=True)
            print(result.contacts, result.rows_inserted)

        as_of: `YYYY-MM-DD` (default: today in the organization's time zone).   mode: `reliable` or
        `highperf`.   workers: 1 to 32 (default: by size).   config: overrides, in the form of
        docs/RULES.md, section 13.   accept_changes, expect, idempotency_key: see `submit`.
        timeout_s: how long to wait for the job.   on_progress: called in this thread with each
        change of the job.

        Raises the job's error (`DaemonError`), `WaitTimeoutError` (the job continues), or another
        `SchedulerClientError`.
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
        concurrency: int | None = None,
        on_update: OnUpdate | None = None,
        **options: Any,
    ) -> Outcomes:
        """Schedule many organizations (default: all). Does not raise if one of them fails.

            outcomes = client.schedule_many(["org-1", "org-2"], concurrency=2)
            failed = [outcome for outcome in outcomes.outcomes if outcome.error is not None]

        concurrency: how many run at the same time (default: number of workers).   on_update: called
        in another thread with an organization and its job whenever the job has changed.   options:
        as in `submit`.
        """
        batch = self.submit_many(
            organizations, concurrency=concurrency, on_update=on_update, **options
        )
        try:
            return batch.wait()
        except BaseException:
            batch.stop()
            raise

    def submit_many(
        self,
        organizations: Sequence[str] | None = None,
        *,
        concurrency: int | None = None,
        on_update: OnUpdate | None = None,
        **options: Any,
    ) -> Batch:
        """Start to schedule many organizations and return at once; arguments as `schedule_many`.

        The batch can be waited for, stopped and cancelled. It submits as long as the client is
        open.
        """
        submitting = self._current().submit_many(
            organizations, concurrency=concurrency, on_update=on_update, **options
        )
        return Batch(self, self._run(submitting))

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
        """Submit a job and return its handle once it is accepted, which means on disk.

            handle = client.submit("org-123", idempotency_key="2026-03-01/org-123")
            result = handle.wait(timeout_s=60)

        explain: ids of contacts to explain in the result; needs `dry_run`.   accept_changes: write
        the plan even if it exceeds a guard (otherwise `PlanAbnormalError`).   expect: a reviewed
        plan, either `RunResult.plan` of a dry run or the file of `schedctl preview --save`. The job
        writes exactly this plan or fails with `PlanDiffersError`; date and overrides are those of
        the plan.   idempotency_key: submitting the same key again returns the first job.   Others:
        see `schedule`.

        A `KeyboardInterrupt` has `job_id`: the job if the daemon has accepted it, otherwise None.
        """
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
        future = self._start(submitting)
        try:
            return JobHandle(self, future.result())
        except KeyboardInterrupt as interrupt:
            interrupt.job_id = _accepted_job(future)  # type: ignore[attr-defined]
            raise
        finally:
            future.cancel()

    def job(self, job_id: str) -> JobHandle:
        """Return the handle of an existing job."""
        return JobHandle(self, self._run(self._current().job(job_id)))

    lease = staticmethod(AsyncClient.lease)

    # Jobs.
    status = _blocking(AsyncClient.status)
    cancel = _blocking(AsyncClient.cancel)
    list = _blocking(AsyncClient.list)
    explain = _blocking(AsyncClient.explain)

    # Organizations and their files.
    organizations = _blocking(AsyncClient.organizations)
    info = _blocking(AsyncClient.info)
    volume = _blocking(AsyncClient.volume)
    report = _blocking(AsyncClient.report)
    diagnose = _blocking(AsyncClient.diagnose)
    check = _blocking(AsyncClient.check)
    plan_adoption = _blocking(AsyncClient.plan_adoption)
    adopt = _blocking(AsyncClient.adopt)
    backups = _blocking(AsyncClient.backups)
    restore = _blocking(AsyncClient.restore)
    push = _blocking(AsyncClient.push)
    pull = _blocking(AsyncClient.pull)

    # Configurations.
    configuration = _blocking(AsyncClient.configuration)
    check_configuration = _blocking(AsyncClient.check_configuration)
    set_configuration = _blocking(AsyncClient.set_configuration)
    withdraw_configuration = _blocking(AsyncClient.withdraw_configuration)

    # The daemon.
    health = _blocking(AsyncClient.health)
    welcome = _blocking(AsyncClient.welcome)


def _after_fork() -> None:
    """Give a forked child's clients new locks: a thread that the child lacks may hold the old."""
    for client in list(_clients):
        client._lock = threading.Lock()  # noqa: SLF001 - of the class above


_clients: WeakSet[Client] = WeakSet()
os.register_at_fork(after_in_child=_after_fork)


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    """Run a client's event loop until it is stopped, then free it."""
    try:
        loop.run_forever()
    finally:
        loop.close()


async def _finish(client: AsyncClient, *, stop: bool = False) -> None:
    """Cancel what other threads wait for, then close the client's connection.

    stop: also stop the event loop.
    """
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await client.close()
    if stop:
        asyncio.get_running_loop().stop()


def _accepted_job(submitting: Future[AsyncJobHandle]) -> str | None:
    """Return the id of a job whose submission was interrupted, None if it was not accepted.

    The request may be in transit, so this waits for a moment until the daemon has accepted it.
    """
    try:
        return submitting.result(ACCEPT_GRACE_S).job_id
    except (SchedulerClientError, TimeoutError, CancelledError):
        return None


class JobHandle:
    """A job of the daemon, returned by `Client.submit` and `Client.job`.

    The job does not depend on the handle: it runs on if the program ends.

        handle = client.submit("org-123")
        print(handle.job_id)
        result = handle.wait(timeout_s=60)
    """

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
        """Return the job's current state."""
        return self._client._run(self._handle.status())  # noqa: SLF001 - two halves of one thing

    def cancel(self) -> Job:
        """Request that the job ends; returns its state at that moment."""
        return self._client._run(self._handle.cancel())  # noqa: SLF001

    def progress(self, timeout_s: float | None = None) -> Generator[Job, None, None]:
        """Yield the job whenever it has changed, last in its final state.

        Survives restarts of the daemon. Raises `WaitTimeoutError` if the job has not ended after
        `timeout_s` seconds.

            for job in handle.progress():
                print(job.state, job.progress)
        """
        jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()

        async def follow() -> None:
            # One task owns the generator from start to end, whatever interrupts this thread.
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
        continues).
        """
        with closing(self.progress(timeout_s)) as jobs:
            for job in jobs:
                if on_progress is not None:
                    on_progress(job)
        return result_of(self.job)


class Batch:
    """Organizations that are being scheduled, returned by `Client.submit_many`.

    Example:

        batch = client.submit_many(["org-1", "org-2"], concurrency=2)
        try:
            outcomes = batch.wait()
        except KeyboardInterrupt:
            batch.cancel()
            outcomes = batch.wait()
    """

    def __init__(self, client: Client, batch: AsyncBatch) -> None:
        self._client, self._batch = client, batch

    @property
    def organizations(self) -> list[str]:
        """Return the organizations, each once, in the given order."""
        return self._batch.organizations

    def wait(self) -> Outcomes:
        """Wait until all have ended and return their outcomes. May be called again."""
        return self._client._run(self._batch.wait())  # noqa: SLF001 - two halves of one thing

    def snapshot(self) -> Outcomes:
        """Return the outcomes so far. One that runs has neither result nor error yet."""
        return self._batch.snapshot()

    def stop(self) -> None:
        """Submit no more; accepted jobs continue."""
        self._client._run(self._batch.stop())  # noqa: SLF001

    def cancel(self) -> None:
        """Submit no more, and cancel the running jobs. A cancelled run changes nothing."""
        self._client._run(self._batch.cancel())  # noqa: SLF001
