"""The limit on connections: clients cannot use up the daemon's descriptors.

libzmq accepts connections on a thread of its own, as long as a socket is bound. On a Unix socket it
aborts the process when no descriptor is left. So the daemon counts connections by the events of
socket monitors and stops listening at a limit that leaves descriptors for itself. Connections that
exist are still served.
"""

from __future__ import annotations

import asyncio
import os
import resource
import socket as sockets
import stat
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog
import zmq
import zmq.asyncio
from zmq.utils.monitor import parse_monitor_message

#: Connections at the same time, over all endpoints. Each needs up to 60 KB of memory.
MAX_CONNECTIONS = 2000
#: Descriptors for files, workers, transfers and databases.
RESERVED_DESCRIPTORS = 256
#: libzmq's thread waits when this many events of a monitor are unread (the sum of the high-water
#: marks of both of its ends), so it accepts at most so many connections before the daemon knows.
UNREAD_EVENTS = 1000 + 1
#: Share of the descriptors for connections where the unread events alone could use up all of them.
_SMALL_SHARE = 0.25
#: Connections that wait in the kernel until they are accepted.
BACKLOG = 128
#: Share of the limit at which a full daemon listens again, and the interval of that check.
_RESUME_SHARE, _RESUME_CHECK_S = 0.9, 0.5
_EVENTS = zmq.Event.ACCEPTED | zmq.Event.DISCONNECTED


def raise_descriptor_limit() -> int:
    """Raise the soft limit of descriptors to the hard limit; return the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # an unlimited hard limit may exceed the kernel's own
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    return soft if soft != resource.RLIM_INFINITY else 1 << 20


def connection_limit(descriptors: int) -> int:
    """Return how many connections a limit of descriptors allows.

    >>> connection_limit(4096), connection_limit(2048), connection_limit(256)
    (2000, 791, 64)
    """
    safe = descriptors - RESERVED_DESCRIPTORS - UNREAD_EVENTS
    # With few descriptors, connections may arrive faster than the daemon can count them.
    return min(MAX_CONNECTIONS, max(safe, int(descriptors * _SMALL_SHARE)))


class Listener:
    """One endpoint of a ROUTER socket, which can be closed and opened again.

    The daemon creates a Unix socket itself and keeps it, so that clients wait in the kernel's queue
    while the limit is reached. A TCP endpoint refuses them.
    """

    def __init__(self, socket: zmq.asyncio.Socket, endpoint: str) -> None:
        self._socket = socket
        self._endpoint = endpoint
        self._unix: sockets.socket | None = None
        if endpoint.startswith("ipc://"):
            self._unix = _listen_on_path(Path(endpoint.removeprefix("ipc://")))

    def open(self) -> None:
        """Accept connections. Raises `zmq.ZMQError`."""
        if self._unix is None:
            self._socket.bind(self._endpoint)
            self._endpoint = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
            return
        # libzmq closes the descriptor that it is given.
        descriptor = os.dup(self._unix.fileno())
        self._socket.setsockopt(zmq.USE_FD, descriptor)
        try:
            self._socket.bind(self._endpoint)
        except zmq.ZMQError:
            os.close(descriptor)
            raise

    def pause(self) -> None:
        """Accept no more connections."""
        self._socket.unbind(self._endpoint)

    def close(self) -> None:
        """Close the Unix socket; the ROUTER socket is the caller's."""
        if self._unix is not None:
            self._unix.close()


def _listen_on_path(path: Path) -> sockets.socket:
    unix = sockets.socket(sockets.AF_UNIX)
    try:
        unix.bind(os.fspath(path))
        path.chmod(0o600)
        unix.listen(BACKLOG)
        unix.setblocking(False)
    except OSError:
        unix.close()
        raise
    return unix


class ConnectionLimit:
    """Counts the connections of all sockets and stops listening at the limit.

    limit = ConnectionLimit(connection_limit(raise_descriptor_limit()))
    limit.watch(router, listener)  # an open listener
    ...
    limit.close()
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._descriptors: set[int] = set()
        self._listeners: list[Listener] = []
        self._paused: list[Listener] = []
        self._sockets: list[tuple[zmq.asyncio.Socket, zmq.asyncio.Socket]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._log = structlog.get_logger()

    def __len__(self) -> int:
        return len(self._descriptors)

    @property
    def full(self) -> bool:
        """Return whether the daemon has stopped listening."""
        return bool(self._paused)

    def monitor(self, socket: zmq.asyncio.Socket) -> None:
        """Count the connections of a socket; call it before the socket is bound."""
        address = f"inproc://connections-{id(socket)}"
        socket.monitor(address, _EVENTS)
        # With the smallest queue of its own, so that libzmq's thread waits early.
        monitor = zmq.asyncio.Socket(socket.context, zmq.PAIR)
        monitor.setsockopt(zmq.RCVHWM, 1)
        monitor.connect(address)
        self._sockets.append((socket, monitor))
        self._spawn(self._count(monitor))

    def watch(self, listener: Listener) -> None:
        """Close this listener while there are too many connections."""
        if not self._listeners:
            self._spawn(self._resume_when_possible())
        self._listeners.append(listener)

    def close(self) -> None:
        """Stop counting."""
        for task in self._tasks:
            task.cancel()
        for socket, monitor in self._sockets:
            socket.disable_monitor()
            monitor.close(0)
        for listener in self._listeners:
            listener.close()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _count(self, monitor: zmq.asyncio.Socket) -> None:
        while True:
            event = parse_monitor_message(await monitor.recv_multipart())
            # A set, because libzmq reports no end of a connection that another one replaces (equal
            # identities). The kernel uses its number again soon.
            if event["event"] == zmq.Event.ACCEPTED:
                self._descriptors.add(int(event["value"]))
                if len(self._descriptors) >= self.most and not self._paused:
                    self._pause()
            else:
                self._descriptors.discard(int(event["value"]))

    def _pause(self) -> None:
        self._drop_closed()
        if len(self._descriptors) < self.most:
            return
        for listener in self._listeners:
            with suppress(zmq.ZMQError):
                listener.pause()
            self._paused.append(listener)
        self._log.warning("too many connections, not listening", connections=len(self))

    def _drop_closed(self) -> None:
        self._descriptors = {number for number in self._descriptors if _is_socket(number)}

    async def _resume_when_possible(self) -> None:
        while True:
            await asyncio.sleep(_RESUME_CHECK_S)
            if not self._paused:
                continue
            self._drop_closed()
            if len(self._descriptors) > self.most * _RESUME_SHARE:
                continue
            try:
                while self._paused:
                    self._paused[-1].open()
                    self._paused.pop()
            except (zmq.ZMQError, OSError) as error:
                # libzmq closes an endpoint a moment later; then the next attempt succeeds.
                self._log.debug("cannot listen yet", error=str(error))
                continue
            self._log.info("listening again", connections=len(self))


def _is_socket(descriptor: int) -> bool:
    try:
        return stat.S_ISSOCK(os.fstat(descriptor).st_mode)
    except OSError:
        return False
