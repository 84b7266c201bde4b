"""The attacks, each run as a process: `python -m tests.attack.attacks NAME SIZE ADDRESSES`."""

from __future__ import annotations

import random
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import msgspec
import zmq

from schedproto import JobSpec
from schedproto.codec import MAGIC, decode_reply, encode_request
from schedproto.message import Message
from schedproto.messages import Cancel, GetJob, GetOrganization, ListJobs, Submit, Unwatch, Watch

#: How long an attack holds what it has opened.
HOLD_S = 3.0
#: Requests that are sent before their replies are read.
_WINDOW = 200
_SEED = 11


@dataclass
class Addresses:
    """Where the daemon listens."""

    unix: str
    tcp: str
    server_public: str
    metrics_port: int


def _dealer(context: zmq.Context[zmq.Socket[bytes]], endpoint: str) -> zmq.Socket[bytes]:
    dealer = context.socket(zmq.DEALER)
    dealer.setsockopt(zmq.LINGER, 0)
    dealer.connect(endpoint)
    return dealer


def _read_all(dealer: zmq.Socket[bytes], timeout_ms: int = 0) -> int:
    count = 0
    while dealer.poll(timeout_ms):
        dealer.recv_multipart()
        count += 1
    return count


def _send_each(where: Addresses, messages: Callable[[int], list[bytes]], size: int) -> None:
    """Send messages over one connection and read what comes back."""
    with zmq.Context() as context:
        dealer = _dealer(context, where.unix)
        for number in range(size):
            dealer.send_multipart(messages(number))
            if number % _WINDOW == 0:
                _read_all(dealer)
        _read_all(dealer, 1000)
        dealer.close(0)


# Messages -----------------------------------------------------------------------------------------


def random_frames(where: Addresses, size: int) -> None:
    """Frames of random number, length and content."""
    rng = random.Random(_SEED)
    _send_each(
        where,
        lambda _: [rng.randbytes(rng.randint(0, 300)) for _ in range(rng.randint(1, 5))],
        size,
    )


def broken_messages(where: Addresses, size: int) -> None:
    """MessagePack that is truncated, or nested a hundred thousand levels deep."""
    message = msgspec.msgpack.encode(
        {"type": "submit", "id": "1", "spec": {"organization": "org-1"}}
    )
    deep = b"\x82\xa4type\xa6submit\xa4spec" + b"\x91" * 100_000 + b"\xc0"
    _send_each(
        where,
        lambda number: [MAGIC, deep if number % 2 else message[: number // 2 % len(message)]],
        size,
    )


def large_frames(where: Addresses, size: int) -> None:
    """Frames of 100 MB, each over a connection of its own."""
    frame = bytes(100 << 20)
    with zmq.Context() as context:
        for _ in range(size):
            dealer = _dealer(context, where.unix)
            dealer.send_multipart([MAGIC, frame], copy=False)
            dealer.poll(500)
            dealer.close(0)


def largest_frames(where: Addresses, size: int) -> None:
    """Messages of the largest size that is allowed, as fast as they go, from ten clients."""
    message = [MAGIC, b"\xc1" * ((1 << 20) - 16)]
    with zmq.Context() as context:
        dealers = [_dealer(context, where.unix) for _ in range(10)]
        for number in range(size):
            dealers[number % 10].send_multipart(message)
            _read_all(dealers[number % 10])
        for dealer in dealers:
            _read_all(dealer, 1000)
            dealer.close(0)


def submits(where: Addresses, size: int) -> None:
    """Jobs without end: the queue has a limit."""

    def message(number: int) -> list[bytes]:
        return encode_request(
            Submit(id=str(number), spec=JobSpec(organization=f"org-{1 + number % 2}", dry_run=True))
        )

    _send_each(where, message, size)


def foreign_ids(where: Addresses, size: int) -> None:
    """Requests about jobs, watches and organizations of others, or of nobody."""
    rng = random.Random(_SEED)

    def message(number: int) -> list[bytes]:
        name, job = str(number), f"job-{rng.randbytes(8).hex()}"
        requests: list[Message] = [
            Cancel(id=name, job_id=job),
            GetJob(id=name, job_id=job),
            Watch(id=name, job_id=job),
            Unwatch(id=name, watch_id=str(rng.randint(0, size))),
            GetOrganization(id=name, organization=f"org-{rng.randbytes(4).hex()}"),
        ]
        return encode_request(rng.choice(requests))

    _send_each(where, message, size)


# Clients that do not read -------------------------------------------------------------------------


def _submit_one(dealer: zmq.Socket[bytes], number: int) -> str | None:
    spec = JobSpec(organization=f"org-{1 + number % 2}", dry_run=True)
    dealer.send_multipart(encode_request(Submit(id="submit", spec=spec)))
    while True:
        reply = decode_reply(dealer.recv_multipart())
        if reply.id == "submit":
            return getattr(getattr(reply, "job", None), "job_id", None)


def unread_watch(where: Addresses, size: int) -> None:
    """A client that watches jobs and asks for lists of them, and never reads an answer."""
    with zmq.Context() as context:
        dealer = _dealer(context, where.unix)
        jobs = [_submit_one(dealer, number) for number in range(20)]
        dealer.setsockopt(zmq.RCVHWM, 1)
        for number in range(size):
            request = (
                Watch(id=str(number), job_id=jobs[number % len(jobs)] or "job-none")
                if number % 2
                else ListJobs(id=str(number), limit=1000)
            )
            with suppress(zmq.Again):
                dealer.send_multipart(encode_request(request), flags=zmq.NOBLOCK)
            if number % _WINDOW == 0:
                time.sleep(0.01)
        time.sleep(HOLD_S)
        dealer.close(0)


def watchers(where: Addresses, size: int) -> None:
    """Watches from clients that read them, a thousand a client."""
    with zmq.Context() as context:
        dealers = [_dealer(context, where.unix) for _ in range(-(-size // 1000))]
        jobs = [_submit_one(dealers[0], number) for number in range(20)]
        for number in range(size):
            job = jobs[number % len(jobs)] or "job-none"
            dealers[number // 1000].send_multipart(
                encode_request(Watch(id=str(number), job_id=job))
            )
            if number % _WINDOW == 0:
                _read_all(dealers[number // 1000])
        ends = time.monotonic() + 2 * HOLD_S
        while time.monotonic() < ends:
            for dealer in dealers:
                _read_all(dealer, 1)
        for dealer in dealers:
            dealer.close(0)


# Connections --------------------------------------------------------------------------------------


def silent_connections(where: Addresses, size: int) -> None:
    """Connections that never greet; as many of them as the daemon accepts."""
    opened: list[socket.socket] = []
    for _ in range(size):
        one = socket.socket(socket.AF_UNIX)
        one.settimeout(0.05)
        opened.append(one)
        with suppress(OSError):
            one.connect(where.unix.removeprefix("ipc://"))
    time.sleep(HOLD_S)


def half_messages(where: Addresses, size: int) -> None:
    """Clients that greet and stop in the middle of a message."""
    greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(16) + bytes(32)
    ready = b"\x04\x1a\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER"
    half = b"\x03" + (1 << 19).to_bytes(8, "big") + bytes(1 << 18)
    opened = []
    for number in range(size):
        one = socket.socket(socket.AF_UNIX)
        one.settimeout(0.5)
        opened.append(one)
        with suppress(OSError):
            one.connect(where.unix.removeprefix("ipc://"))
            whole = greeting + ready + half
            one.sendall(whole[: [20, 64, 80, len(whole)][number % 4]])
    time.sleep(HOLD_S)


def wrong_keys(where: Addresses, size: int) -> None:
    """Clients with a key that is not listed, with a wrong key of the server, or with none."""
    with zmq.Context() as context:
        context.set(zmq.MAX_SOCKETS, size + 10)
        dealers = []
        for number in range(size):
            dealer = context.socket(zmq.DEALER)
            dealer.setsockopt(zmq.LINGER, 0)
            public, secret = zmq.curve_keypair()
            if number % 3:
                known = where.server_public.encode()
                dealer.setsockopt(zmq.CURVE_SERVERKEY, known if number % 3 == 1 else public)
                dealer.setsockopt(zmq.CURVE_PUBLICKEY, public)
                dealer.setsockopt(zmq.CURVE_SECRETKEY, secret)
            dealer.connect(where.tcp)
            with suppress(zmq.Again):
                dealer.send_multipart([MAGIC, b""], flags=zmq.NOBLOCK)
            dealers.append(dealer)
        time.sleep(HOLD_S)
        if any(dealer.poll(0) for dealer in dealers):
            sys.exit("a client without a listed key was answered")
        for dealer in dealers:
            dealer.close(0)


# HTTP ---------------------------------------------------------------------------------------------


def _http(where: Addresses, size: int, sent: bytes) -> None:
    opened = []
    for number in range(size):
        one = socket.socket()
        one.settimeout(0.5)
        with suppress(OSError):
            one.connect(("127.0.0.1", where.metrics_port))
            one.sendall(sent)
        opened.append(one)
        if number % 100 == 99:
            _scrape(where)
    ends = time.monotonic() + HOLD_S
    while time.monotonic() < ends:
        for one in opened[-50:]:
            with suppress(OSError):
                one.sendall(b"x")
        _scrape(where)
        time.sleep(0.1)


def _scrape(where: Addresses) -> None:
    """Fail unless a scraper is served meanwhile."""
    with socket.create_connection(("127.0.0.1", where.metrics_port), 60) as one:
        one.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        if not one.recv(64).startswith(b"HTTP/1.1 200"):
            sys.exit("the scraper was not served")


def slow_http(where: Addresses, size: int) -> None:
    """Requests that arrive byte by byte and never end."""
    _http(where, size, b"GET /metrics HTTP/1.1\r\nA: ")


def large_http(where: Addresses, size: int) -> None:
    """Headers of a megabyte without a line break."""
    _http(where, size, b"GET /metrics HTTP/1.1\r\nA: " + b"a" * (1 << 20))


#: name -> (attack, size of the full length, size of the short form)
ATTACKS: dict[str, tuple[Callable[[Addresses, int], None], int, int]] = {
    "random-frames": (random_frames, 50_000, 2000),
    "broken-messages": (broken_messages, 4000, 200),
    "100-MB-frames": (large_frames, 50, 3),
    "largest-frames": (largest_frames, 3000, 200),
    "submits": (submits, 100_000, 3000),
    "ids-of-others": (foreign_ids, 20_000, 1000),
    "watcher-never-reads": (unread_watch, 20_000, 2000),
    "watchers": (watchers, 5000, 1000),
    "silent-connections": (silent_connections, 10_000, 3000),
    "half-messages": (half_messages, 1000, 100),
    "wrong-keys": (wrong_keys, 500, 60),
    "slow-http": (slow_http, 1000, 200),
    "large-http": (large_http, 1000, 100),
}


def main() -> None:
    """Run one attack."""
    name, size, unix, tcp, server_public, metrics_port = sys.argv[1:]
    ATTACKS[name][0](Addresses(unix, tcp, server_public, int(metrics_port)), int(size))


if __name__ == "__main__":
    main()
