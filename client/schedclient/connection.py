"""One ZeroMQ connection: requests and replies, watches and events, and the loss of it.

Knows nothing of retries or launchers; `session` builds on it.
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress

import zmq
import zmq.asyncio
from zmq.utils.monitor import parse_monitor_message

from schedproto import ErrorCode, ErrorInfo, SchedulerError
from schedproto.codec import (
    MAX_REPLY_BYTES,
    MAX_REQUEST_BYTES,
    CodecError,
    decode_reply,
    encode_request,
)
from schedproto.message import Message, Reply, ReplyT, Request
from schedproto.messages import Failure, Hello, JobEvent, Unwatch, Watch, Welcome
from schedproto.version import __version__

from .errors import AuthenticationError, ConnectionFailedError, from_info

#: Certainly a refusal. A handshake that fails without detail may also be a daemon that just died.
_REFUSED = {zmq.EVENT_HANDSHAKE_FAILED_AUTH, zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL}
_EVENTS = (
    zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_DISCONNECTED
    | zmq.EVENT_CONNECT_RETRIED
)


class ConnectionLostError(ConnectionFailedError):
    """The connection broke; its requests can be repeated over a new one."""


class HandshakeBrokenError(ConnectionLostError):
    """The other side hung up during the handshake: it crashed, or it expects other keys."""


def refusal(endpoint: str) -> AuthenticationError:
    """Return the error for a daemon that refuses the connection."""
    return AuthenticationError(
        f"the daemon at {endpoint} refused the encrypted connection",
        "Check that the daemon's --client-keys include this client's public key, and that "
        "server_key is the daemon's public key.",
    )


def new_request_id() -> str:
    """Return an id for a request, unique enough for one connection."""
    return secrets.token_hex(8)


class Connection:
    """A DEALER socket to one endpoint. Everything runs in one event loop.

    Example:

        connection = Connection(zmq.asyncio.Context.instance(), endpoint, None, None)
        await connection.hello(timeout_s=5)
        reply = await connection.ask(GetJob(id=new_request_id(), job_id=job_id), timeout_s=5)
        await connection.close()
    """

    def __init__(
        self,
        context: zmq.asyncio.Context,
        endpoint: str,
        secret_key: bytes | None,
        server_key: bytes | None,
    ) -> None:
        self.endpoint = endpoint
        self.welcome: Welcome | None = None
        self._answers: dict[str, asyncio.Future[Reply]] = {}
        self._events: dict[str, asyncio.Queue[JobEvent | Exception]] = {}
        self._lost: ConnectionFailedError | None = None
        self._socket: zmq.asyncio.Socket = context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_REPLY_BYTES + 1024)
        self._socket.setsockopt(zmq.IPV6, 1)
        self._socket.setsockopt(zmq.HEARTBEAT_IVL, 5_000)
        self._socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 15_000)
        if secret_key is not None and server_key is not None and endpoint.startswith("tcp://"):
            self._socket.setsockopt(zmq.CURVE_SECRETKEY, secret_key)
            self._socket.setsockopt(zmq.CURVE_PUBLICKEY, zmq.curve_public(secret_key))
            self._socket.setsockopt(zmq.CURVE_SERVERKEY, server_key)
        self._monitor = self._socket.get_monitor_socket(_EVENTS)
        self._tasks = [
            asyncio.create_task(self._receive()),
            asyncio.create_task(self._watch_socket()),
        ]
        try:
            self._socket.connect(endpoint)
        except zmq.ZMQError as error:
            self._lose(ConnectionLostError(f"cannot connect to {endpoint}: {error}"))

    async def hello(self, timeout_s: float) -> Welcome:
        """Greet the daemon. Raises `TimeoutError`, or `SchedulerClientError` if it refuses."""
        message = Hello(id=new_request_id(), client="schedclient", client_version=__version__)
        self.welcome = await self.ask(message, timeout_s)
        return self.welcome

    async def ask(self, message: Request[ReplyT], timeout_s: float) -> ReplyT:
        """Send a request and return its reply.

        Raises `TimeoutError`, `ConnectionLostError`, or the exception for the daemon's `Failure`.
        """
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._answers[message.id] = answer
        try:
            await self._send(message)
            reply = await asyncio.wait_for(answer, timeout_s)
        finally:
            self._answers.pop(message.id, None)
        if isinstance(reply, Failure):
            raise from_info(reply.error)
        if not isinstance(reply, message.reply_type()):
            info = ErrorInfo(
                code=ErrorCode.UNSUPPORTED_MESSAGE,
                message=f"the daemon answered a {type(message).__name__} with a "
                f"{type(reply).__name__}",
                hint="Client and daemon have different versions; upgrade the older one.",
            )
            raise from_info(info)
        return reply

    async def watch(self, job_id: str) -> Watching:
        """Start to watch a job."""
        request = Watch(id=new_request_id(), job_id=job_id)
        queue: asyncio.Queue[JobEvent | Exception] = asyncio.Queue()
        self._events[request.id] = queue
        await self._send(request)
        return Watching(self, request.id, queue)

    async def unwatch(self, watch_id: str) -> None:
        """End a watch without waiting for a reply."""
        self._events.pop(watch_id, None)
        if self._lost is None:
            with suppress(ConnectionFailedError):
                await self._send(Unwatch(id=new_request_id(), watch_id=watch_id))

    @property
    def _max_request_bytes(self) -> int:
        """The daemon's limit, as far as it has said so: it drops the connection above it."""
        limit = 0 if self.welcome is None else self.welcome.max_message_bytes
        return min(MAX_REQUEST_BYTES, limit or MAX_REQUEST_BYTES)

    async def _send(self, message: Message) -> None:
        if self._lost is not None:
            raise self._lost
        try:
            frames = encode_request(message, self._max_request_bytes)
        except CodecError as error:
            raise from_info(error.info()) from None
        await self._socket.send_multipart(frames)

    async def _receive(self) -> None:
        while True:
            frames = await self._socket.recv_multipart()
            try:
                reply = decode_reply(frames)
            except SchedulerError:
                # An unknown message of a newer release. If it is the reply to a request, that
                # request times out with a clear error.
                continue
            if isinstance(reply, Failure) and reply.id in self._events:
                self._events[reply.id].put_nowait(from_info(reply.error))
            elif isinstance(reply, JobEvent):
                if reply.id in self._events:
                    self._events[reply.id].put_nowait(reply)
            elif (answer := self._answers.get(reply.id)) is not None and not answer.done():
                answer.set_result(reply)

    async def _watch_socket(self) -> None:
        while True:
            event = parse_monitor_message(await self._monitor.recv_multipart())
            if event["event"] == zmq.EVENT_DISCONNECTED:
                self._lose(
                    ConnectionLostError(f"connection to {self.endpoint} lost", retryable=True)
                )
            elif event["event"] == zmq.EVENT_CONNECT_RETRIED:
                # Nobody listens there. ZeroMQ would retry forever; a launcher can start a daemon.
                self._lose(
                    ConnectionLostError(f"nothing listens at {self.endpoint}", retryable=True)
                )
            elif event["event"] in _REFUSED:
                self._lose(refusal(self.endpoint))
            elif event["event"] == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:
                self._lose(
                    HandshakeBrokenError(
                        f"{self.endpoint} closed the connection during the handshake",
                        retryable=True,
                    )
                )

    def _lose(self, error: ConnectionFailedError) -> None:
        """Pass the error to everybody who waits."""
        if self._lost is None:
            self._lost = error
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(self._lost)
        for queue in self._events.values():
            queue.put_nowait(self._lost)

    @property
    def usable(self) -> bool:
        """Return whether the connection has not been lost."""
        return self._lost is None

    async def close(self) -> None:
        """Close the socket; everybody who waits gets `ConnectionLostError`."""
        self._lose(ConnectionLostError("the connection was closed"))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._close_sockets()

    def discard(self) -> None:
        """Close the socket without waiting for the tasks; for event loops that have ended."""
        for task in self._tasks:
            if not task.done():
                with suppress(RuntimeError):  # the loop is closed
                    task.cancel()
        self._close_sockets()

    def _close_sockets(self) -> None:
        if self._socket.closed:  # by another task that lost the connection as well
            return
        self._socket.disable_monitor()
        self._monitor.close(0)
        self._socket.close(0)


class Watching:
    """A watch on one connection.

    Example:

        watching = await connection.watch(job_id)
        event = await watching.next(timeout_s=30)  # the job as it is now, then at each change
        await watching.end()
    """

    def __init__(
        self, connection: Connection, watch_id: str, queue: asyncio.Queue[JobEvent | Exception]
    ) -> None:
        self._connection, self._watch_id, self._queue = connection, watch_id, queue

    async def next(self, timeout_s: float) -> JobEvent:
        """Return the next event.

        Raises `TimeoutError`, `ConnectionLostError` or the daemon's refusal.
        """
        event = await asyncio.wait_for(self._queue.get(), timeout_s)
        if isinstance(event, Exception):
            raise event
        return event

    async def end(self) -> None:
        """End the watch."""
        await self._connection.unwatch(self._watch_id)
