"""A session with a daemon: requests and watches that survive lost connections and restarts.

Knows nothing of single calls; `aio.AsyncClient` and `handles` build on it.
"""

from __future__ import annotations

import asyncio
import os
import time
import warnings
from collections.abc import AsyncGenerator
from contextlib import suppress

import zmq.asyncio

from schedproto import Job
from schedproto.message import ReplyT, Request
from schedproto.messages import GetHealth, Welcome

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
from .launch import Launcher
from .settings import ClientSettings

#: How long a call may take in all, including new connections and the start of a daemon.
DEFAULT_TIMEOUT_S = 30.0
#: How long a reply may take before the connection is given up; the daemon replies in milliseconds.
REPLY_TIMEOUT_S = 5.0
#: A watch that was silent for this many heartbeats is restarted over a new connection.
SILENT_HEARTBEATS = 3
#: How often the daemon hears from the client while a job is watched (it forgets watchers after
#: 60 s).
KEEPALIVE_S = 20.0
#: After this many broken handshakes the other side wants other keys; a crash does not repeat so
#: often.
BROKEN_HANDSHAKES = 4
#: What a forked child has of its parent: closed or collected, it would remove the parent's
#: descriptors from the epoll instance that both share.
INHERITED: list[object] = []
_BACKOFF_S = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


def _backoff_s(attempt: int) -> float:
    return _BACKOFF_S[min(attempt, len(_BACKOFF_S) - 1)]


class Session:
    """Requests to one daemon, over connections that are renewed as needed.

    Belongs to one event loop at a time: after a loop has ended, it may be used in the next one.

        session = Session(launcher, settings, timeout_s=30.0)
        health = await session.request(GetHealth(id=new_request_id()), Health)
        await session.close()
    """

    def __init__(self, launcher: Launcher, settings: ClientSettings, timeout_s: float) -> None:
        self.launcher = launcher
        self.settings = settings
        self.timeout_s = timeout_s
        self.connection: Connection | None = None
        self._context: zmq.asyncio.Context | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connecting = asyncio.Lock()
        self._pid = os.getpid()

    async def close(self) -> None:
        """Close the connection; the session can be used again afterwards."""
        self._enter_loop()
        connection, self.connection = self.connection, None
        if connection is not None:
            await connection.close()
        context, self._context = self._context, None
        if context is not None:
            context.destroy(linger=0)

    def __del__(self) -> None:
        context, loop = self._context, self._loop
        if context is None:
            return  # closed
        if self._pid != os.getpid():
            INHERITED.append((self.connection, context, loop))
            return
        warnings.warn(f"unclosed client of {self._endpoint}", ResourceWarning, stacklevel=2)
        if loop is not None and loop.is_running():
            loop.call_soon_threadsafe(_discard, self.connection, context)
        else:
            _discard(self.connection, context)

    @property
    def _endpoint(self) -> str:
        return "a daemon" if self.connection is None else self.connection.endpoint

    # Connections ----------------------------------------------------------------------------------

    def _leave_to_parent(self) -> None:
        """Start without the connections of the parent in a forked child."""
        INHERITED.append((self.connection, self._context, self._loop))
        self.connection = self._context = self._loop = None
        self._pid = os.getpid()

    def _enter_loop(self) -> None:
        """Make the running event loop the session's own, without what an earlier loop has left."""
        loop = asyncio.get_running_loop()
        if self._pid != os.getpid():
            self._leave_to_parent()
        if self._loop is loop:
            return
        if self._loop is not None and self._loop.is_running():
            raise RuntimeError(
                "this client belongs to another event loop, which still runs; create one "
                "AsyncClient for each loop"
            )
        connection, self.connection = self.connection, None
        context, self._context = self._context, None
        if context is not None:
            _discard(connection, context)
        self._loop, self._connecting = loop, asyncio.Lock()

    async def connected(self, deadline: Deadline) -> Connection:
        """Return a connection on which the daemon has greeted.

        Raises `UnreachableError` at the deadline.
        """
        self._enter_loop()
        async with self._connecting:
            if self.connection is not None and self.connection.usable:
                return self.connection
            attempt = broken = 0
            while True:
                connection = await self._open()
                try:
                    await connection.hello(max(0.05, min(REPLY_TIMEOUT_S, deadline.left_s)))
                except (TimeoutError, ConnectionLostError) as error:
                    await self.drop(connection)
                    attempt += 1
                    broken += isinstance(error, HandshakeBrokenError)
                    _check_attempt(connection.endpoint, broken, over=deadline.over)
                    await asyncio.sleep(_backoff_s(attempt))
                except BaseException:
                    await self.drop(connection)
                    raise
                else:
                    return connection

    async def _open(self) -> Connection:
        """Open a new connection to the daemon, which is started if the launcher can."""
        await self.drop(self.connection)
        endpoint = await self.launcher.ensure()
        if self._context is None:
            self._context = zmq.asyncio.Context()
        self.connection = Connection(
            self._context, endpoint, self.settings.secret_key, self.settings.server_key
        )
        return self.connection

    async def drop(self, connection: Connection | None) -> None:
        """Close a connection that is of no use any more."""
        if connection is not None:
            if self.connection is connection:
                self.connection = None
            await connection.close()

    def _deadline(self, timeout_s: float | None = None) -> Deadline:
        return Deadline(self.launcher, self.timeout_s if timeout_s is None else timeout_s)

    # Requests -------------------------------------------------------------------------------------

    async def request(self, message: Request[ReplyT], reply_s: float = REPLY_TIMEOUT_S) -> ReplyT:
        """Send a request until there is a reply; every request may be sent twice without harm.

        reply_s: how long the daemon may take for it before the connection is given up.
        """
        longer_s = reply_s if reply_s > REPLY_TIMEOUT_S else 0.0
        deadline = self._deadline(max(self.timeout_s, longer_s))
        attempt = 0
        while True:
            connection = await self.connected(deadline)
            try:
                timeout_s = min(reply_s, max(0.05, deadline.left_s))
                return await connection.ask(message, timeout_s)
            except (TimeoutError, ConnectionLostError):
                await self.drop(connection)
                if deadline.over:
                    raise UnreachableError(
                        f"the daemon at {connection.endpoint} does not answer",
                        "Check its log.",
                        retryable=True,
                    ) from None
            except BusyError as error:
                # A daemon that shuts down is started again; this request is then its first.
                if error.code != "shutting_down" or not self.launcher.can_start or deadline.over:
                    raise
                await self.drop(connection)
            await asyncio.sleep(_backoff_s(attempt))
            attempt += 1

    async def welcome(self) -> Welcome:
        """Return the daemon's reply to `hello`: its version and capabilities."""
        connection = await self.connected(self._deadline())
        assert connection.welcome is not None
        return connection.welcome

    async def require(self, capability: str) -> None:
        """Raise `IncompatibleError` if the daemon lacks a capability."""
        welcome = await self.welcome()
        if capability not in welcome.capabilities:
            raise IncompatibleError(
                f"the daemon (version {welcome.daemon_version}) does not support {capability!r}",
                "Upgrade the daemon.",
            )

    # Watches --------------------------------------------------------------------------------------

    async def job_events(self, job_id: str) -> AsyncGenerator[Job, None]:
        """Yield a job now, at every change and at every heartbeat, last in its final state."""
        silent_since = time.monotonic()
        while True:
            connection = await self._connected_to_watch(job_id)
            heartbeat_s = connection.welcome.heartbeat_s if connection.welcome is not None else 2.0
            silence_s = SILENT_HEARTBEATS * heartbeat_s

            watching: Watching | None = None
            keepalive = asyncio.create_task(self._keepalive(connection))
            try:
                watching = await connection.watch(job_id)
                while True:
                    event = await watching.next(silence_s + 1.0)
                    yield event.job
                    if event.job.final:
                        return
                    silent_since = time.monotonic()  # after the caller has had its time
            except (TimeoutError, ConnectionLostError):
                if time.monotonic() - silent_since > self.timeout_s + silence_s:
                    raise UnreachableError(
                        f"the daemon at {connection.endpoint} stopped sending updates for job "
                        f"{job_id}",
                        _resume_hint(job_id),
                        retryable=True,
                    ) from None
                await self.drop(connection)
            finally:
                keepalive.cancel()
                # Unlike awaiting the task, this tells its cancellation from ours.
                await asyncio.wait([keepalive])
                if watching is not None:
                    await watching.end()

    async def _connected_to_watch(self, job_id: str) -> Connection:
        try:
            return await self.connected(self._deadline())
        except UnreachableError as error:
            error.hint = f"{_resume_hint(job_id)} {error.hint}"
            raise

    @staticmethod
    async def _keepalive(connection: Connection) -> None:
        with suppress(TimeoutError, ConnectionLostError, AuthenticationError, DaemonError):
            while True:
                await asyncio.sleep(KEEPALIVE_S)
                await connection.ask(GetHealth(id=new_request_id()), REPLY_TIMEOUT_S)


def _resume_hint(job_id: str) -> str:
    return f"Accepted jobs are kept; resume with `schedctl watch {job_id}`."


def _check_attempt(endpoint: str, broken: int, *, over: bool) -> None:
    """Raise if another attempt to connect is of no use: keys are refused, or time is over.

    broken: handshakes so far that the other side broke off.
    """
    if endpoint.startswith("tcp://") and broken >= (1 if over else BROKEN_HANDSHAKES):
        raise refusal(endpoint) from None
    if over:
        raise UnreachableError(
            f"no daemon answers at {endpoint}",
            "Check that the daemon is running and that the address and port are correct.",
            retryable=True,
        ) from None


def _discard(connection: Connection | None, context: zmq.asyncio.Context) -> None:
    """Free the sockets of a client that was not closed, without waiting for its tasks."""
    if connection is not None:
        connection.discard()
    context.destroy(linger=0)
