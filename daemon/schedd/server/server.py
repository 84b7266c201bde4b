"""The request loop: receive, decode, dispatch, reply. Knows no SQL and no worker.

Every message is answered, with a `Failure` if need be, or dropped. Nothing that a client sends or
does not send can stop the loop or make it wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

import structlog
import zmq
import zmq.asyncio

from schedd.files.requests import FileRequestHandler
from schedd.jobs.service import JobService
from schedd.settings import Settings
from schedproto import ErrorCode, SchedulerError
from schedproto.codec import CodecError, decode_request, encode
from schedproto.ids import check_organization
from schedproto.message import Reply
from schedproto.messages import AnyRequest, Failure

from .endpoints import bind_again, is_lost
from .handlers import DaemonRequestHandler, JobRequestHandler
from .idle import IdleTimer
from .load import PendingRequests, UnsentReplies
from .table import Access, RequestTable, Route
from .watches import Peer, Watches

#: Requests that run on threads at the same time, of each kind: those that read a part of a file,
#: and those that read complete files. The second kind cannot keep the first waiting.
MAX_THREADS = 4
#: Time for interrupted requests to end.
INTERRUPT_S = 2.0
#: Messages of one socket that are handled before everything else in the loop has its turn.
#: `await` does not pass control while a message is ready.
_MESSAGES_IN_TURN = 16


class Server:
    """Serves requests on its sockets, in the event loop and on threads, as the table says.

    lost_log_lines: returns how many log lines could not be written.

        server = Server(service, files, settings, log_output.lost)
        server.listen(open_router(context, endpoint, None, "schedd", limit), endpoint)
        server.start()
        ...
        server.close()
    """

    def __init__(
        self,
        service: JobService,
        files: FileRequestHandler,
        settings: Settings,
        lost_log_lines: Callable[[], int],
    ) -> None:
        self.service = service
        self._idle = IdleTimer(settings.idle_timeout_s, lambda: service.active)
        self._watches = Watches(service, self._send)
        daemon = DaemonRequestHandler(service, self._idle, settings.queue_limit, lost_log_lines)
        self._table = RequestTable(daemon, JobRequestHandler(service), self._watches, files)
        self._sockets: list[zmq.asyncio.Socket] = []
        self._endpoints: dict[str, zmq.asyncio.Socket] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._files = files
        self._requests: set[asyncio.Task[None]] = set()
        self._quick_slots = asyncio.Semaphore(MAX_THREADS)
        self._slow_slots = asyncio.Semaphore(MAX_THREADS)
        self._threads = ThreadPoolExecutor(2 * MAX_THREADS, thread_name_prefix="request")
        self._pending = PendingRequests()
        self._unsent = UnsentReplies()
        # A restore closes a descriptor of its own on the file. That drops every lock that SQLite
        # holds on the file in this process (POSIX), so only one request at a time may use an
        # organization's file. A request waits for that without a slot, so one organization whose
        # requests are slow takes no more than one slot of each kind. The locks live as long as
        # requests that use them: clients may name any number of organizations.
        self._file_locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._log = structlog.get_logger()

    def listen(self, socket: zmq.asyncio.Socket, endpoint: str) -> None:
        """Begin to serve a socket that is bound to an endpoint."""
        self._sockets.append(socket)
        self._endpoints[endpoint] = socket
        self._spawn(self._receive(socket))

    def listen_again(self) -> None:
        """Bind Unix sockets again whose files were removed: nobody can connect to them."""
        for endpoint, socket in self._endpoints.items():
            if is_lost(endpoint):
                try:
                    bind_again(socket, endpoint)
                except (zmq.ZMQError, OSError) as error:
                    self._log.error("cannot listen", endpoint=endpoint, error=str(error))
                else:
                    self._log.warning("the socket was removed; listening again", endpoint=endpoint)

    def start(self) -> None:
        """Begin to push to watchers."""
        self._spawn(self._watches.push_forever())

    def close(self) -> None:
        """Send the last events and close the sockets."""
        for task in self._tasks:
            task.cancel()
        self._watches.push(final_only=True)
        for socket in self._sockets:
            socket.close()

    @property
    def idle_exit_in_s(self) -> float | None:
        """Return the seconds until the daemon exits for idleness; None if it does not."""
        return self._idle.exit_in_s

    async def has_pending(self) -> bool:
        """Return whether a message has arrived that was not read yet."""
        for socket in self._sockets:
            if await socket.poll(0):
                return True
        return False

    async def end_requests(self, timeout_s: float) -> bool:
        """End the requests on threads and return whether all have ended; blocks up to the time.

        Those that only read are ended at once: their clients send them again. Those that may
        replace a file get the time, and are then ended as well.
        """
        self._files.cancel(everything=False)
        if self._requests:
            await asyncio.wait(set(self._requests), timeout=timeout_s)
        self._files.cancel(everything=True)
        if self._requests:
            await asyncio.wait(set(self._requests), timeout=INTERRUPT_S)
        self._threads.shutdown(wait=False, cancel_futures=True)
        return not self._requests

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # Receiving ------------------------------------------------------------------------------------

    async def _receive(self, socket: zmq.asyncio.Socket) -> None:
        while True:
            for _ in range(_MESSAGES_IN_TURN):
                frames = await socket.recv_multipart()
                try:
                    self._handle(Peer(socket, frames[0]), frames[1:])
                except Exception:  # noqa: BLE001 - nothing that arrives may end the loop
                    self._log.exception("a message could not be handled")
            await asyncio.sleep(0)

    def _handle(self, peer: Peer, frames: list[bytes]) -> None:
        self._idle.touch()
        try:
            request = decode_request(frames)
        except CodecError as error:
            self._send(peer, Failure(id=error.request_id, error=error.info()))
            self._log.debug("bad message", code=str(error.code), error=error.message)
            return

        self._watches.heard(peer)
        route = self._table.route(peer, request)
        try:
            if route.on_thread:
                size_bytes = sum(map(len, frames))
                self._pending.add(peer, size_bytes)
                task = self._spawn(self._reply_from_thread(peer, request, route, size_bytes))
                self._requests.add(task)
                task.add_done_callback(self._requests.discard)
                return
            reply = route.call()
        except Exception as error:  # noqa: BLE001 - nothing that arrives may end the loop
            reply = self._failure(request, error)
        self._send(peer, reply)

    async def _reply_from_thread(
        self, peer: Peer, request: AnyRequest, route: Route, size_bytes: int
    ) -> None:
        try:
            with self._idle.busy():
                reply = await self._run_with_access(route)
        except Exception as error:  # noqa: BLE001 - nothing that arrives may end the loop
            reply = self._failure(request, error)
        finally:
            self._pending.remove(peer, size_bytes)
        self._send(peer, reply)

    async def _run_with_access(self, route: Route) -> Reply:
        """Return a handler's reply, with the access to an organization's file that it needs."""
        if route.access is Access.NONE:
            return await self._run_on_thread(route)
        check_organization(route.organization)
        lock = self._file_locks.get(route.organization)
        if lock is None:
            lock = self._file_locks[route.organization] = asyncio.Lock()

        exclusive = route.access is Access.EXCLUSIVE
        with self.service.reserve(route.organization) if exclusive else nullcontext():
            async with lock:
                return await self._run_on_thread(route)

    async def _run_on_thread(self, route: Route) -> Reply:
        """Return a handler's reply; it runs within its limits, in a slot of its kind."""
        call = partial(
            self._files.within_limits,
            route.call,
            slow=route.slow,
            exclusive=route.access is Access.EXCLUSIVE,
        )
        async with self._slow_slots if route.slow else self._quick_slots:
            return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    def _failure(self, request: AnyRequest, error: Exception) -> Failure:
        """Return the reply to a request that failed; logs an error that is our fault."""
        if isinstance(error, SchedulerError):
            return Failure(id=request.id, error=error.info())
        self._log.error("a request failed", request=type(request).__name__, exc_info=error)
        cause = SchedulerError(
            ErrorCode.INTERNAL,
            f"{type(error).__name__}: {error}",
            hint="This is a fault of the daemon; see its log.",
        )
        return Failure(id=request.id, error=cause.info())

    # Sending --------------------------------------------------------------------------------------

    def _send(self, peer: Peer, reply: Reply) -> bool:
        """Send without waiting.

        A client that is gone or does not read loses the message and its watches.
        """
        try:
            frames = encode(reply)
        except CodecError as error:
            frames = encode(Failure(id=reply.id, error=error.info()))
        body = self._unsent.frame(peer, frames[-1])
        if body is None:
            self._log.warning("a client does not read its replies")
            self._watches.forget(peer)
            return False
        # With NOBLOCK the socket takes the message, or says at once why not.
        sent = peer.socket.send_multipart(
            [peer.identity, *frames[:-1], body], flags=zmq.NOBLOCK, copy=False
        )
        assert isinstance(sent, asyncio.Future)
        if sent.done() and sent.exception() is not None:
            self._watches.forget(peer)
            return False
        return True
