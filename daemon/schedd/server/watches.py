"""Watches: clients that are sent a job's changes until it ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

import structlog
import zmq.asyncio

from schedd.jobs.service import JobService
from schedproto import ErrorCode, SchedulerError
from schedproto.message import Done, Reply
from schedproto.messages import JobEvent, Unwatch, Watch

#: Longest time between two events of a watch.
HEARTBEAT_S = 2.0
#: Shortest time between two events of a watch.
PUSH_INTERVAL_S = 0.1
#: A watch ends when its client has sent nothing for this long (clients that watch send
#: `GetHealth`).
WATCH_EXPIRY_S = 60.0
#: Events that are sent before requests have their turn.
EVENTS_IN_TURN = 20
#: Watches of one client, and of all.
MAX_WATCHES_PER_CLIENT, MAX_WATCHES = 1000, 10_000


@dataclass(frozen=True)
class Peer:
    """A client's connection: the socket that it uses and its identity there."""

    socket: zmq.asyncio.Socket
    identity: bytes


@dataclass
class _Watch:
    request_id: str
    job_id: str
    sent_at: float
    #: The job has changed since the last event.
    dirty: bool = False


class Watches:
    """The watches of all clients.

    send: sends a reply to a peer without waiting, and returns whether that was possible.

        watches = Watches(service, send)
        first = watches.watch(peer, Watch(id="1", job_id=job_id))  # a `JobEvent`
    """

    def __init__(self, service: JobService, send: Callable[[Peer, Reply], bool]) -> None:
        self._service = service
        self._send = send
        self._watches: dict[Peer, dict[str, _Watch]] = {}
        self._heard: dict[Peer, float] = {}
        self._changed = asyncio.Event()
        self._finished = asyncio.Event()
        self._log = structlog.get_logger()
        service.on_job_changed.subscribe(self._job_changed)

    # Requests -------------------------------------------------------------------------------------

    def watch(self, peer: Peer, request: Watch) -> JobEvent:
        """Start a watch; the reply is its first event."""
        job = self._service.job(request.job_id)
        watches = self._watches.get(peer, {})
        if (
            len(watches) >= MAX_WATCHES_PER_CLIENT
            or sum(map(len, self._watches.values())) >= MAX_WATCHES
        ):
            raise SchedulerError(
                ErrorCode.QUEUE_FULL,
                "too many watched jobs",
                hint="Stop some watches, or poll the job's state instead.",
            )
        if not job.final:
            watches[request.id] = _Watch(request.id, request.job_id, time.monotonic())
            self._watches[peer] = watches
            self._heard[peer] = time.monotonic()
        return JobEvent(id=request.id, job=job)

    def unwatch(self, peer: Peer, request: Unwatch) -> Done:
        """End a watch."""
        self._watches.get(peer, {}).pop(request.watch_id, None)
        return Done(id=request.id)

    # Peers ----------------------------------------------------------------------------------------

    def heard(self, peer: Peer) -> None:
        """Note that a client has sent something: its watches continue."""
        if peer in self._watches:
            self._heard[peer] = time.monotonic()

    def forget(self, peer: Peer) -> None:
        """End all watches of a client that is gone or does not read."""
        self._watches.pop(peer, None)
        self._heard.pop(peer, None)

    # Events ---------------------------------------------------------------------------------------

    def _job_changed(self, job_id: str) -> None:
        for watches in self._watches.values():
            for watch in watches.values():
                if watch.job_id == job_id:
                    watch.dirty = True
        self._changed.set()
        if self._service.job(job_id).final:
            self._finished.set()

    async def push_forever(self) -> None:
        """Send events when they are due, until cancelled."""
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), HEARTBEAT_S / 4)
            self._changed.clear()
            try:
                await self._push_in_turns()
            except Exception:  # noqa: BLE001 - nothing may end the loop
                self._log.exception("cannot notify watchers")
            # A finished job is sent at once; other changes wait for the interval.
            with suppress(TimeoutError):
                await asyncio.wait_for(self._finished.wait(), PUSH_INTERVAL_S)
            self._finished.clear()

    def push(self, *, final_only: bool = False) -> None:
        """Send the events that are due: a change, or a heartbeat."""
        for _ in self._push_each(final_only=final_only):
            pass

    async def _push_in_turns(self) -> None:
        """Do the same without delaying requests: thousands of events take seconds."""
        for sent, _ in enumerate(self._push_each(), start=1):
            if sent % EVENTS_IN_TURN == 0:
                await asyncio.sleep(0)

    def _push_each(self, *, final_only: bool = False) -> Iterator[None]:
        """Send the events that are due, and yield after each."""
        now = time.monotonic()
        for peer in list(self._watches):
            if now - self._heard.get(peer, 0.0) > WATCH_EXPIRY_S:
                self.forget(peer)
                continue
            yield from self._push_to(peer, now, final_only=final_only)
            if not self._watches.get(peer, True):
                self.forget(peer)

    def _push_to(self, peer: Peer, now: float, *, final_only: bool) -> Iterator[None]:
        watches = self._watches.get(peer, {})
        for watch in list(watches.values()):
            if not watch.dirty and now - watch.sent_at < HEARTBEAT_S:
                continue
            if watches.get(watch.request_id) is not watch:
                continue  # the client has ended it meanwhile
            yield
            job = self._service.job(watch.job_id)
            if final_only and not job.final:
                continue
            if not self._send(peer, JobEvent(id=watch.request_id, job=job)):
                return
            watch.dirty, watch.sent_at = False, now
            if job.final:
                watches.pop(watch.request_id, None)
