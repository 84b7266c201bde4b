"""The daemon's ear: messages in, calls of the service, messages out. Knows no SQL and no worker.

Whatever arrives is answered with a `Failure` or dropped; nothing that a client sends or does not
send can stop the loop or make it wait.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import Callable, Coroutine
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog
import zmq
import zmq.asyncio

from schedd.jobs.service import JobService
from schedproto import ErrorCode, SchedulerError, __version__
from schedproto.checks import AdoptOrganization
from schedproto.codec import MAX_REQUEST_BYTES, CodecError, decode_request, encode
from schedproto.messages import (
    CAPABILITIES,
    PROTOCOL_OLDEST,
    PROTOCOL_VERSION,
    Cancel,
    Done,
    Failure,
    FileReply,
    FileRequest,
    GetHealth,
    GetJob,
    Health,
    Hello,
    JobEvent,
    JobList,
    JobReply,
    ListJobs,
    Reply,
    Request,
    RestoreBackup,
    Submit,
    Unwatch,
    Watch,
    Welcome,
)
from schedproto.transfers import CommitPush, OpenPull, OpenPush

#: A watcher hears at least so often.
HEARTBEAT_S = 2.0
#: Changes of a job are pushed at most so often.
PUSH_INTERVAL_S = 0.1
#: A watch ends when its client has not sent anything for so long (clients send `GetHealth` while
#: they watch).
WATCH_EXPIRY_S = 60.0
#: Watches of one client, and of all.
MAX_WATCHES_PER_CLIENT, MAX_WATCHES = 1000, 10_000
#: Questions about files that are worked on at once; they read the disk.
MAX_INFO = 4


#: Questions during which no job of the organization may begin; refused while one waits or runs.
HELD = (RestoreBackup, OpenPull, OpenPush, CommitPush, AdoptOrganization)


@dataclass(frozen=True)
class Peer:
    """A client's connection: the socket it came by and its identity on it."""

    socket: zmq.asyncio.Socket
    identity: bytes


@dataclass
class _Watch:
    request_id: str
    job_id: str
    sent_at: float
    dirty: bool = True


class Server:
    """Serves requests until it is told to end.

    ask_files: the blocking function that answers questions about files; raises `SchedulerError`.
    """

    def __init__(
        self,
        service: JobService,
        ask_files: Callable[[FileRequest], FileReply],
        *,
        queue_limit: int,
        idle_timeout_s: float,
    ) -> None:
        self.service = service
        self.boot_id = secrets.token_hex(8)
        self._ask_files = ask_files
        self._queue_limit = queue_limit
        self._idle_timeout_s = idle_timeout_s
        self._started_at = datetime.now(UTC)
        self._started = self._last_active = time.monotonic()
        self._sockets: list[zmq.asyncio.Socket] = []
        self._watches: dict[Peer, dict[str, _Watch]] = {}
        self._heard: dict[Peer, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._info = asyncio.Semaphore(MAX_INFO)
        self._asking = 0
        self._changed, self._ended = asyncio.Event(), asyncio.Event()
        self._log = structlog.get_logger()
        service.changed = self._job_changed

    def listen(self, socket: zmq.asyncio.Socket) -> None:
        """Begin to serve a bound socket."""
        self._sockets.append(socket)
        self._spawn(self._receive(socket))

    def start(self) -> None:
        """Begin to push to watchers."""
        self._spawn(self._push_forever())

    def close(self) -> None:
        """Send what is left to send and close the sockets."""
        for task in self._tasks:
            task.cancel()
        self._push(final_only=True)
        for socket in self._sockets:
            socket.close()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # Idleness -------------------------------------------------------------------------------------

    @property
    def idle_exit_in_s(self) -> float | None:
        """Return the seconds until the daemon exits for idleness.

        None while there is work, or if it never does.
        """
        if not self._idle_timeout_s or self.service.active or self._asking:
            self._last_active = time.monotonic()
            return None
        return max(0.0, self._idle_timeout_s - (time.monotonic() - self._last_active))

    async def has_pending(self) -> bool:
        """Return whether a message has arrived that was not looked at yet."""
        for socket in self._sockets:
            if await socket.poll(0):
                return True
        return False

    # Receiving ------------------------------------------------------------------------------------

    async def _receive(self, socket: zmq.asyncio.Socket) -> None:
        while True:
            frames = await socket.recv_multipart()
            try:
                self._handle(Peer(socket, frames[0]), frames[1:])
            except Exception:  # noqa: BLE001 - nothing that arrives may end the loop
                self._log.exception("a message could not be handled")

    def _handle(self, peer: Peer, frames: list[bytes]) -> None:
        self._last_active = time.monotonic()
        try:
            request = decode_request(frames)
        except CodecError as error:
            self._log.debug("bad message", code=str(error.code), error=error.message)
            self._send(peer, Failure(id=error.request_id, error=error.info()))
            return
        self._heard[peer] = time.monotonic()
        try:
            reply = self._answer(peer, request)
        except SchedulerError as error:
            reply = Failure(id=request.id, error=error.info())
        except Exception as error:  # noqa: BLE001 - nothing that arrives may end the loop
            self._log.exception("a request failed", request=type(request).__name__)
            hint = "This is a fault of the daemon; see its log."
            cause = SchedulerError(
                ErrorCode.INTERNAL, f"{type(error).__name__}: {error}", hint=hint
            )
            reply = Failure(id=request.id, error=cause.info())
        if reply is not None:
            self._send(peer, reply)

    def _answer(self, peer: Peer, request: Request) -> Reply | None:
        """Return the answer, or None where it comes later."""
        match request:
            case Watch():
                self._watch(peer, request)
            case Unwatch():
                self._watches.get(peer, {}).pop(request.watch_id, None)
                return Done(id=request.id)
            case Hello():
                return self._welcome(request)
            case GetHealth():
                return self._health(request)
            case Submit() | GetJob() | ListJobs() | Cancel():
                return self._answer_about_jobs(request)
            case _:
                self._spawn(self._answer_about_files(peer, request))
        return None

    def _answer_about_jobs(self, request: Submit | GetJob | ListJobs | Cancel) -> Reply:
        service = self.service
        if isinstance(request, Submit):
            job, duplicate = service.submit(request.spec, request.idempotency_key)
            return JobReply(id=request.id, job=job, duplicate=duplicate)
        if isinstance(request, ListJobs):
            jobs, more = service.page(
                request.organization, request.states, request.limit, request.before
            )
            return JobList(id=request.id, jobs=jobs, more=more)
        if isinstance(request, Cancel):
            return JobReply(id=request.id, job=service.cancel(request.job_id))
        return JobReply(id=request.id, job=service.job(request.job_id))

    def _welcome(self, request: Hello) -> Reply:
        if request.protocol < PROTOCOL_OLDEST or request.protocol_oldest > PROTOCOL_VERSION:
            raise SchedulerError(
                ErrorCode.UNSUPPORTED_PROTOCOL,
                f"the client speaks protocol {request.protocol_oldest} to {request.protocol}, "
                f"this daemon {PROTOCOL_OLDEST} to {PROTOCOL_VERSION}",
                hint="Upgrade the older of the two.",
            )
        return Welcome(
            id=request.id,
            daemon_version=__version__,
            protocol=min(request.protocol, PROTOCOL_VERSION),
            boot_id=self.boot_id,
            pid=os.getpid(),
            capabilities=list(CAPABILITIES),
            heartbeat_s=HEARTBEAT_S,
            max_message_bytes=MAX_REQUEST_BYTES,
            data_dir=str(self.service.data_dir),
        )

    def _health(self, request: GetHealth) -> Reply:
        pool = self.service.pool
        stats = os.statvfs(self.service.data_dir)
        return Health(
            id=request.id,
            status="serving" if self.service.accepting else "draining",
            daemon_version=__version__,
            boot_id=self.boot_id,
            started_at=self._started_at,
            uptime_s=round(time.monotonic() - self._started, 3),
            jobs=self.service.journal.counts(),
            workers=len(pool.workers) if pool else 0,
            workers_busy=pool.busy if pool else 0,
            queue_limit=self._queue_limit,
            idle_exit_in_s=self.idle_exit_in_s,
            free_bytes=stats.f_bavail * stats.f_frsize,
        )

    async def _answer_about_files(self, peer: Peer, request: FileRequest) -> None:
        """Answer what reads the disk from a thread, a few at a time."""
        self._asking += 1
        async with self._info:
            reply: Reply
            try:
                with (
                    self.service.hold(request.organization)
                    if isinstance(request, HELD)
                    else nullcontext()
                ):
                    reply = await asyncio.to_thread(self._ask_files, request)
            except SchedulerError as error:
                reply = Failure(id=request.id, error=error.info())
            except Exception as error:  # noqa: BLE001 - nothing that arrives may end the loop
                self._log.exception("a question about a file failed")
                cause = SchedulerError(ErrorCode.INTERNAL, f"{type(error).__name__}: {error}")
                reply = Failure(id=request.id, error=cause.info())
            finally:
                self._asking -= 1
        self._send(peer, reply)

    # Sending --------------------------------------------------------------------------------------

    def _send(self, peer: Peer, reply: Reply) -> bool:
        """Send without waiting.

        A client that has gone or does not read loses the message and its watches.
        """
        try:
            frames = encode(reply)
        except CodecError as error:
            frames = encode(Failure(id=reply.id, error=error.info()))
        # With NOBLOCK the socket takes the message or says at once why not.
        sent = peer.socket.send_multipart([peer.identity, *frames], flags=zmq.NOBLOCK)
        assert isinstance(sent, asyncio.Future)
        if sent.done() and sent.exception() is not None:
            self._watches.pop(peer, None)
            self._heard.pop(peer, None)
            return False
        return True

    def _watch(self, peer: Peer, request: Watch) -> None:
        self.service.job(request.job_id)
        watches = self._watches.setdefault(peer, {})
        if (
            len(watches) >= MAX_WATCHES_PER_CLIENT
            or sum(map(len, self._watches.values())) >= MAX_WATCHES
        ):
            raise SchedulerError(
                ErrorCode.QUEUE_FULL,
                "too many watched jobs",
                hint="Stop some watches, or poll the job's state instead.",
            )
        watches[request.id] = _Watch(request.id, request.job_id, 0.0)
        self._changed.set()

    def _job_changed(self, job_id: str) -> None:
        for watches in self._watches.values():
            for watch in watches.values():
                if watch.job_id == job_id:
                    watch.dirty = True
        self._changed.set()
        if self.service.job(job_id).final:
            self._ended.set()

    async def _push_forever(self) -> None:
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), HEARTBEAT_S / 4)
            self._changed.clear()
            try:
                self._push()
            except Exception:  # noqa: BLE001 - nothing that arrives may end the loop
                self._log.exception("cannot notify watchers")
            # Who waits for an end hears of it at once.
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), PUSH_INTERVAL_S)
            self._ended.clear()

    def _push(self, *, final_only: bool = False) -> None:
        """Tell the watchers what is due: a change, or a heartbeat."""
        now = time.monotonic()
        for peer in list(self._watches):
            if now - self._heard.get(peer, 0.0) > WATCH_EXPIRY_S:
                self._watches.pop(peer, None)
                continue
            self._push_to(peer, now, final_only)
            if not self._watches.get(peer, True):
                self._watches.pop(peer)
        for peer, heard in list(self._heard.items()):
            if now - heard > WATCH_EXPIRY_S and peer not in self._watches:
                self._heard.pop(peer)

    def _push_to(self, peer: Peer, now: float, final_only: bool) -> None:
        watches = self._watches[peer]
        for watch in list(watches.values()):
            if not watch.dirty and now - watch.sent_at < HEARTBEAT_S:
                continue
            job = self.service.job(watch.job_id)
            if final_only and not job.final:
                continue
            if not self._send(peer, JobEvent(id=watch.request_id, job=job)):
                return
            watch.dirty, watch.sent_at = False, now
            if job.final:
                watches.pop(watch.request_id, None)
