"""The limit on connections: clients cannot use up the daemon's descriptors.

libzmq accepts connections on a thread of its own, as long as a socket is bound. On a Unix socket it
aborts the process when no descriptor is left. So the daemon counts connections by the events of
socket monitors and refuses others above a limit that leaves descriptors for itself. Connections
below the limit are still served.
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
#: marks of both of its ends), so it accepts at most this many connections before the daemon knows.
UNREAD_EVENTS = 1000 + 1
#: Share of the descriptors for connections where the unread events alone could use up all of them.
_SMALL_SHARE = 0.25
#: Connections that wait in the kernel until they are accepted, and their share of the limit: a
#: hidden socket still accepts these.
_MAX_BACKLOG, _BACKLOG_SHARE = 128, 0.1
#: What is added to the name of a Unix socket that is hidden.
HIDDEN = ".full"
#: Share of the limit below which a full daemon accepts others, and the interval of that check.
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
    """One endpoint of a ROUTER socket that can be hidden from new clients.

    `unbind` would close the connections that the endpoint has accepted, so the path of a Unix
    socket is renamed: connecting then fails. A TCP endpoint remains.
    """

    def __init__(self, endpoint: str) -> None:
        path = endpoint.removeprefix("ipc://") if endpoint.startswith("ipc://") else None
        self._path = Path(path) if path is not None else None
        self.local: str | int = path if path is not None else int(endpoint.rpartition(":")[2])

    @property
    def hidden_path(self) -> Path | None:
        """Return the path of a Unix socket while it is hidden."""
        return self._path.with_name(self._path.name + HIDDEN) if self._path is not None else None

    def hide(self) -> None:
        """Have new clients fail to connect."""
        if self._path is not None and self.hidden_path is not None:
            with suppress(FileNotFoundError):
                self._path.rename(self.hidden_path)

    def show(self) -> None:
        """Let new clients connect."""
        if self._path is not None and self.hidden_path is not None:
            with suppress(FileNotFoundError):
                self.hidden_path.rename(self._path)

    def shut_down(self, descriptor: int) -> None:
        """End a connection that libzmq has accepted. It notices, and closes the descriptor.

        Does nothing if the descriptor has become something else.
        """
        with suppress(OSError), sockets.socket(fileno=os.dup(descriptor)) as connection:
            name = connection.getsockname()
            if (name if isinstance(name, str) else name[1]) == self.local:
                connection.shutdown(sockets.SHUT_RDWR)


class ConnectionLimit:
    """Counts the connections of all sockets, and refuses those above the limit.

    limit = ConnectionLimit(connection_limit(raise_descriptor_limit()))
    limit.watch(router, "ipc:///data/.schedd/schedd.sock")  # before it is bound
    ...
    limit.close()  # before the sockets are closed
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._descriptors: set[int] = set()
        self._full = False
        self._listeners: list[Listener] = []
        self._monitors: list[tuple[zmq.asyncio.Socket, zmq.asyncio.Socket]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._log = structlog.get_logger()

    def __len__(self) -> int:
        return len(self._descriptors)

    @property
    def backlog(self) -> int:
        """Return how many connections may wait until they are accepted."""
        return max(1, min(_MAX_BACKLOG, int(self.most * _BACKLOG_SHARE)))

    def watch(self, socket: zmq.asyncio.Socket, endpoint: str) -> None:
        """Count the connections of a socket that is about to be bound to an endpoint."""
        address = f"inproc://connections-{id(socket)}"
        socket.monitor(address, _EVENTS)
        # With the smallest queue of its own, so that libzmq's thread waits early.
        monitor = zmq.asyncio.Socket(socket.context, zmq.PAIR)
        monitor.setsockopt(zmq.RCVHWM, 1)
        monitor.connect(address)
        listener = Listener(endpoint)
        if not self._listeners:
            self._spawn(self._show_when_possible())
        self._listeners.append(listener)
        self._monitors.append((socket, monitor))
        self._spawn(self._count(monitor, listener))

    def close(self) -> None:
        """Stop counting, and show what is hidden."""
        for task in self._tasks:
            task.cancel()
        for socket, monitor in self._monitors:
            # A socket that could not be bound is closed already, and its monitoring with it.
            if not socket.closed:
                socket.disable_monitor()
            monitor.close(0)
        for listener in self._listeners:
            listener.show()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _count(self, monitor: zmq.asyncio.Socket, listener: Listener) -> None:
        while True:
            event = parse_monitor_message(await monitor.recv_multipart())
            descriptor = int(event["value"])
            # A set, because libzmq reports no end of a connection that another one replaces (equal
            # identities). The kernel uses its number again soon.
            if event["event"] == zmq.Event.ACCEPTED:
                self._descriptors.add(descriptor)
                if len(self._descriptors) > self.most:
                    self._refuse(descriptor, listener)
            else:
                self._descriptors.discard(descriptor)

    def _refuse(self, descriptor: int, listener: Listener) -> None:
        if not self._full:
            self._descriptors = {number for number in self._descriptors if _is_socket(number)}
            if len(self._descriptors) <= self.most:
                return
            self._full = True
            for one in self._listeners:
                one.hide()
            self._log.warning("too many connections, refusing others", connections=self.most)
        listener.shut_down(descriptor)

    async def _show_when_possible(self) -> None:
        while True:
            await asyncio.sleep(_RESUME_CHECK_S)
            if self._full and len(self._descriptors) <= self.most * _RESUME_SHARE:
                self._full = False
                for listener in self._listeners:
                    listener.show()
                self._log.info("accepting connections again", connections=len(self))


def _is_socket(descriptor: int) -> bool:
    try:
        return stat.S_ISSOCK(os.fstat(descriptor).st_mode)
    except OSError:
        return False
