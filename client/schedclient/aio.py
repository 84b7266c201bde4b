"""The client for asyncio programs; `sync` offers the same calls without asyncio."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import zmq.asyncio

from schedproto import Explanation, Job, JobSpec, Mode, RunResult
from schedproto.ids import new_key
from schedproto.message import Message
from schedproto.messages import (
    Cancel,
    GetHealth,
    GetJob,
    Health,
    JobList,
    JobReply,
    ListJobs,
    Submit,
    Welcome,
)
from schedproto.transfers import TransferResult

from .batch import AsyncBatch, OnEach, Outcomes
from .connection import (
    Connection,
    ConnectionLostError,
    HandshakeBrokenError,
    Watching,
    new_request_id,
    refusal,
)
from .deadlines import Deadline
from .errors import (
    AuthenticationError,
    BusyError,
    DaemonError,
    IncompatibleError,
    UnreachableError,
)
from .handles import AsyncJobHandle, OnProgress
from .launch import Launcher, launcher_for
from .organization_calls import AsyncQuestions
from .plans import Expected, expected_plan
from .settings import SettingArguments, load
from .transfers import OnBytes, pull, push

_T = TypeVar("_T", bound=Message)

#: How long a call may take in all, new connections and a daemon's start included.
DEFAULT_TIMEOUT_S = 30.0
#: How long an answer may take before the connection is given up; the daemon answers in
#: milliseconds.
ANSWER_TIMEOUT_S = 5.0
#: A watch that was silent for so many heartbeats is begun anew over a new connection.
SILENT_HEARTBEATS = 3
#: While a job is watched the daemon hears from the client at least so often (it forgets watchers
#: after 60 s).
KEEPALIVE_S = 20.0
#: So many handshakes that the other side broke off mean that it wants other keys, not that it keeps
#: dying.
BROKEN_HANDSHAKES = 4
_BACKOFF_S = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


class AsyncClient(AsyncQuestions):
    """Talks to a daemon, starting one where the launcher can.

    settings: by name, what `schedclient.settings.TABLE` lists (`data=`, `app=`, `key_file=` ...).
    timeout_s: how long a call (not a wait for a job) may take in all, the start of a machine aside.
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
        self._context: zmq.asyncio.Context | None = None
        self._connection: Connection | None = None
        self._connecting = asyncio.Lock()

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
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()
        context, self._context = self._context, None
        if context is not None:
            context.destroy(linger=0)

    # Connections ----------------------------------------------------------------------------------

    def _deadline(self, timeout_s: float | None = None) -> Deadline:
        return Deadline(self.launcher, self.timeout_s if timeout_s is None else timeout_s)

    async def _connected(self, deadline: Deadline) -> Connection:
        """Return a connection on which the daemon has greeted.

        Raises `UnreachableError` at the deadline.
        """
        async with self._connecting:
            if self._connection is not None and self._connection.usable:
                return self._connection
            attempt = broken = 0
            while True:
                await self._drop(self._connection)
                endpoint = await self.launcher.ensure()
                if self._context is None:
                    self._context = zmq.asyncio.Context()
                connection = Connection(
                    self._context, endpoint, self.settings.secret_key, self.settings.server_key
                )
                self._connection = connection
                try:
                    await connection.hello(max(0.05, min(ANSWER_TIMEOUT_S, deadline.left_s)))
                except (TimeoutError, ConnectionLostError) as error:
                    attempt += 1
                    broken += isinstance(error, HandshakeBrokenError)
                    ended = deadline.over
                    if endpoint.startswith("tcp://") and broken >= (
                        1 if ended else BROKEN_HANDSHAKES
                    ):
                        await self._drop(connection)
                        raise refusal(endpoint) from None
                    if ended:
                        await self._drop(connection)
                        raise UnreachableError(
                            f"no daemon answers at {endpoint}",
                            "Check that the daemon is running and that the address and port are correct.",
                            retryable=True,
                        ) from None
                    await asyncio.sleep(_BACKOFF_S[min(attempt, len(_BACKOFF_S) - 1)])
                except BaseException:
                    await self._drop(connection)
                    raise
                else:
                    return connection

    async def _drop(self, connection: Connection | None) -> None:
        if connection is not None:
            if self._connection is connection:
                self._connection = None
            await connection.close()

    async def _ask(
        self, message: Message, expected: type[_T], answer_s: float = ANSWER_TIMEOUT_S
    ) -> _T:
        """Ask until there is an answer; every request may be sent twice without harm.

        answer_s: how long the daemon may take for it before the connection is given up.
        """
        deadline = self._deadline(
            max(self.timeout_s, answer_s if answer_s > ANSWER_TIMEOUT_S else 0.0)
        )
        attempt = 0
        while True:
            connection = await self._connected(deadline)
            try:
                return await connection.ask(
                    message, expected, min(answer_s, max(0.05, deadline.left_s))
                )
            except (TimeoutError, ConnectionLostError):
                await self._drop(connection)
                if deadline.over:
                    raise UnreachableError(
                        f"the daemon at {connection.endpoint} does not answer",
                        "Check its log.",
                        retryable=True,
                    ) from None
            except BusyError as error:
                # A daemon that is going away is started again; this very request is then its first.
                if error.code != "shutting_down" or not self.launcher.can_start or deadline.over:
                    raise
                await self._drop(connection)
            await asyncio.sleep(_BACKOFF_S[min(attempt, len(_BACKOFF_S) - 1)])
            attempt += 1

    async def job_events(self, job_id: str) -> AsyncGenerator[Job, None]:
        """Yield a job now, at every change and at every heartbeat, last in its final state."""
        silent_since = time.monotonic()
        while True:
            try:
                connection = await self._connected(self._deadline())
            except UnreachableError as error:
                error.hint = (
                    f"Accepted jobs are kept; resume with `schedctl watch {job_id}`. {error.hint}"
                )
                raise
            heartbeat_s = connection.welcome.heartbeat_s if connection.welcome is not None else 2.0
            watching: Watching | None = None
            keepalive = asyncio.create_task(self._keepalive(connection))
            try:
                watching = await connection.watch(job_id)
                while True:
                    event = await watching.next(SILENT_HEARTBEATS * heartbeat_s + 1.0)
                    yield event.job
                    if event.job.final:
                        return
                    silent_since = time.monotonic()  # after the caller has had its time
            except (TimeoutError, ConnectionLostError):
                if (
                    time.monotonic() - silent_since
                    > self.timeout_s + SILENT_HEARTBEATS * heartbeat_s
                ):
                    raise UnreachableError(
                        f"the daemon at {connection.endpoint} stopped sending updates for job {job_id}",
                        f"Accepted jobs are kept; resume with `schedctl watch {job_id}`.",
                        retryable=True,
                    ) from None
                await self._drop(connection)
            finally:
                keepalive.cancel()
                await asyncio.wait(
                    [keepalive]
                )  # unlike awaiting the task, tells its cancellation from ours
                if watching is not None:
                    await watching.end()

    @staticmethod
    async def _keepalive(connection: Connection) -> None:
        with suppress(TimeoutError, ConnectionLostError, AuthenticationError, DaemonError):
            while True:
                await asyncio.sleep(KEEPALIVE_S)
                await connection.ask(GetHealth(id=new_request_id()), Health, ANSWER_TIMEOUT_S)

    # Calls ----------------------------------------------------------------------------------------

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
        """Schedule an organization: submit, wait, return the result. Raises `SchedulerClientError`.

        as_of: `YYYY-MM-DD`, by default today in the organization's time zone.   workers: 1 to 32.
        config: overrides in the shape of the rules' section 13.   timeout_s: how long to wait for
        the job.
        accept_changes, expect: as of `submit`.
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
        at_once: int | None = None,
        on_each: OnEach | None = None,
        **options: Any,
    ) -> Outcomes:
        """Schedule many organizations, all there are by default.

        Never raises for one of them (see `Outcome`).

        at_once: how many are in work at the same time, by default as many as the daemon has
        workers.
        options: as those of `submit`.
        """
        batch = await self.submit_many(organizations, at_once=at_once, on_each=on_each, **options)
        try:
            return await batch.wait()
        finally:
            await batch.stop()

    async def submit_many(
        self,
        organizations: Sequence[str] | None = None,
        *,
        at_once: int | None = None,
        on_each: OnEach | None = None,
        **options: Any,
    ) -> AsyncBatch:
        """Begin to schedule many organizations and return what can be waited for, stopped and cancelled.

        Arguments as those of `schedule_many`.
        """
        names = await self.organizations() if organizations is None else organizations
        batch = AsyncBatch(self, names, on_each, options)
        return batch.start(at_once or ((await self.health()).workers if names else 1))

    async def explain(
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

        explain: contacts of which the result shall tell why they get what they get; needs dry_run.
        accept_changes: write the plan although it exceeds a guard (`PlanAbnormalError` otherwise).
        expect: a plan that was reviewed, `RunResult.plan` of a dry run or the file of `schedctl
        preview --save`. The job writes exactly this plan or fails with `PlanDiffersError`; it takes
        the date and the overrides from it.
        """
        if explain:
            await self._needs("explain")
        plan = None
        if expect is not None:
            plan, as_of, config = expected_plan(expect, organization, as_of, config)
            await self._needs("expect")
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
        return AsyncJobHandle(self, (await self._ask(message, JobReply)).job)

    async def _needs(self, capability: str) -> None:
        welcome = await self.welcome()
        if capability not in welcome.capabilities:
            raise IncompatibleError(
                f"the daemon (version {welcome.daemon_version}) does not support {capability!r}",
                "Upgrade the daemon.",
            )

    async def job(self, job_id: str) -> AsyncJobHandle:
        """Return the handle of a job that exists."""
        return AsyncJobHandle(self, await self.status(job_id))

    async def status(self, job_id: str) -> Job:
        """Return a job as it is now."""
        return (await self._ask(GetJob(id=new_request_id(), job_id=job_id), JobReply)).job

    async def cancel(self, job_id: str) -> Job:
        """Ask that a job ends; returns it as it is then (a running one ends a moment later)."""
        return (await self._ask(Cancel(id=new_request_id(), job_id=job_id), JobReply)).job

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
        return (await self._ask(message, JobList)).jobs

    async def push(
        self, path: str | PathLike[str], organization: str, *, on_bytes: OnBytes | None = None
    ) -> TransferResult:
        """Make the organization's file on the daemon's side what the SQLite database at `path` is.

        Only blocks that the other side lacks are sent; a push that broke off is resumed by doing it
        again. The file may be in use here. Refused while a job of the organization waits or runs;
        what the file was before is kept as a backup. on_bytes: told the bytes that are there so
        far, and all.
        """
        await self._needs("files")
        return await push(self._ask, Path(path), organization, on_bytes)

    async def pull(
        self, organization: str, path: str | PathLike[str], *, on_bytes: OnBytes | None = None
    ) -> TransferResult:
        """Fetch the organization's file, in one state, as the file `path`, which appears or changes when it is whole.

        Only blocks that an older file of this name, or a pull that broke off, lacks are fetched.
        Refused while a job of the organization waits or runs.
        """
        await self._needs("files")
        return await pull(self._ask, organization, Path(path), on_bytes)

    async def health(self) -> Health:
        """Return how the daemon is."""
        return await self._ask(GetHealth(id=new_request_id()), Health)

    async def welcome(self) -> Welcome:
        """Return what the daemon said of itself when the connection was made."""
        connection = await self._connected(self._deadline())
        assert connection.welcome is not None
        return connection.welcome
