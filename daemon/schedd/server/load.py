"""Limits on what clients can make the daemon hold: waiting requests and unsent replies."""

from __future__ import annotations

from collections import Counter, deque

import zmq

from schedproto import ErrorCode, SchedulerError

from .watches import Peer

#: Requests that wait for a thread, of one client and of all, and the bytes of all.
MAX_PENDING_PER_CLIENT, MAX_PENDING, MAX_PENDING_BYTES = 512, 4096, 64 << 20
#: Smaller replies are limited by the high-water mark of the socket alone.
LARGE_REPLY_BYTES = 16 << 10
#: Bytes of large replies that a client, and all clients, have not read.
MAX_UNSENT_PER_CLIENT_BYTES, MAX_UNSENT_BYTES = 64 << 20, 256 << 20


class PendingRequests:
    """Counts the requests that wait for a thread or run on one.

    pending.add(peer, 200)  # raises `SchedulerError` (`queue_full`) when there are too many
    ...
    pending.remove(peer, 200)
    """

    def __init__(self) -> None:
        self._of: Counter[Peer] = Counter()
        self._count = self._bytes = 0

    def add(self, peer: Peer, size_bytes: int) -> None:
        """Count a request. Raises `SchedulerError` (`queue_full`)."""
        if (
            self._of[peer] >= MAX_PENDING_PER_CLIENT
            or self._count >= MAX_PENDING
            or self._bytes + size_bytes > MAX_PENDING_BYTES
        ):
            if not self._of[peer]:
                del self._of[peer]
            raise SchedulerError(
                ErrorCode.QUEUE_FULL,
                "too many requests wait for an answer",
                hint="Send the next requests when earlier ones have been answered.",
            )
        self._of[peer] += 1
        self._count += 1
        self._bytes += size_bytes

    def remove(self, peer: Peer, size_bytes: int) -> None:
        """Count a request no longer."""
        self._of[peer] -= 1
        if not self._of[peer]:
            del self._of[peer]
        self._count -= 1
        self._bytes -= size_bytes


class UnsentReplies:
    """Counts the bytes of large replies that libzmq still holds because their clients do not read.

    The high-water mark of a socket counts messages, and a thousand large replies are gigabytes.
    """

    def __init__(self) -> None:
        #: Trackers and sizes; a frame itself would keep its bytes.
        self._of: dict[Peer, deque[tuple[zmq.MessageTracker, int]]] = {}

    def frame(self, peer: Peer, body: bytes) -> bytes | zmq.Frame | None:
        """Return the body as it is to be sent; None if too much has not been read."""
        if len(body) < LARGE_REPLY_BYTES:
            return body
        self._drop_sent()
        unsent = self._of.get(peer, deque())
        waiting = sum(map(self._bytes, self._of.values()))
        if (
            self._bytes(unsent) + len(body) > MAX_UNSENT_PER_CLIENT_BYTES
            or waiting + len(body) > MAX_UNSENT_BYTES
        ):
            return None
        frame = zmq.Frame(body, track=True, copy=False)
        if frame.tracker is not None:
            unsent.append((frame.tracker, len(body)))
            self._of[peer] = unsent
        return frame

    def _drop_sent(self) -> None:
        for peer, frames in list(self._of.items()):
            while frames and frames[0][0].done:
                frames.popleft()
            if not frames:
                del self._of[peer]

    @staticmethod
    def _bytes(frames: deque[tuple[zmq.MessageTracker, int]]) -> int:
        return sum(size for _, size in frames)
