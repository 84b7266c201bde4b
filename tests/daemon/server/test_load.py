"""Limits on waiting requests and unread replies."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import zmq
import zmq.asyncio

from schedd.server.load import (
    LARGE_REPLY_BYTES,
    MAX_PENDING,
    MAX_PENDING_BYTES,
    MAX_PENDING_PER_CLIENT,
    MAX_UNSENT_BYTES,
    MAX_UNSENT_PER_CLIENT_BYTES,
    PendingRequests,
    UnsentReplies,
)
from schedd.server.watches import Peer
from schedproto import ErrorCode, SchedulerError
from tests.support.waiting import wait_until


@pytest.fixture
def socket() -> Iterator[zmq.asyncio.Socket]:
    context = zmq.asyncio.Context()
    yield context.socket(zmq.ROUTER)
    context.destroy(0)


def refused(pending: PendingRequests, peer: Peer, size_bytes: int = 10) -> bool:
    try:
        pending.add(peer, size_bytes)
    except SchedulerError as error:
        assert error.code == ErrorCode.QUEUE_FULL
        return True
    return False


def test_one_client_cannot_take_all_places(socket: zmq.asyncio.Socket) -> None:
    """A client that sends too many requests is refused; another is not, nor the first later."""
    pending, one, other = PendingRequests(), Peer(socket, b"1"), Peer(socket, b"2")
    for _ in range(MAX_PENDING_PER_CLIENT):
        pending.add(one, 10)
    assert refused(pending, one)
    assert not refused(pending, other)
    pending.remove(one, 10)
    assert not refused(pending, one)


def test_all_clients_have_a_limit(socket: zmq.asyncio.Socket) -> None:
    """The number and the bytes of all requests are bounded, and return to nothing."""
    pending = PendingRequests()
    peers = [Peer(socket, str(number).encode()) for number in range(MAX_PENDING)]
    for peer in peers:
        pending.add(peer, 10)
    assert refused(pending, Peer(socket, b"new"))
    for peer in peers:
        pending.remove(peer, 10)
    assert refused(pending, peers[0], MAX_PENDING_BYTES + 1)
    assert not refused(pending, peers[0], MAX_PENDING_BYTES)


def test_unread_replies(socket: zmq.asyncio.Socket) -> None:
    """A client that does not read is given up at its limit; once sent, replies do not count."""
    unsent, peer = UnsentReplies(), Peer(socket, b"1")
    body = bytes(MAX_UNSENT_PER_CLIENT_BYTES // 4)
    held = [unsent.frame(peer, body) for _ in range(4)]
    assert None not in held
    assert unsent.frame(peer, body) is None
    assert unsent.frame(peer, b"small") == b"small"
    assert unsent.frame(Peer(socket, b"2"), body) is not None
    held.clear()  # as libzmq does when it has sent them; a thread of pyzmq notices
    assert isinstance(wait_until(lambda: unsent.frame(peer, body)), zmq.Frame)


def test_unread_replies_of_all_clients(socket: zmq.asyncio.Socket) -> None:
    """Many clients that do not read cannot exceed the limit of all together."""
    unsent = UnsentReplies()
    body = bytes(MAX_UNSENT_PER_CLIENT_BYTES)
    count = MAX_UNSENT_BYTES // MAX_UNSENT_PER_CLIENT_BYTES
    held = [unsent.frame(Peer(socket, bytes([number])), body) for number in range(count)]
    assert None not in held
    assert unsent.frame(Peer(socket, b"more"), bytes(LARGE_REPLY_BYTES)) is None
