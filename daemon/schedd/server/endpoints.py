"""The daemon's sockets: which endpoints need keys, and how each is opened."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import zmq
import zmq.asyncio

from schedd.exitcodes import ExitCode, FatalError
from schedproto.codec import MAX_REQUEST_BYTES

from .connections import HIDDEN, ConnectionLimit

#: Messages queued for a slow client before it is given up.
HIGH_WATER_MARK = 1000
#: Messages of one client that the daemon reads ahead. Each may have `MAX_REQUEST_BYTES`; more stay
#: in the network.
READ_AHEAD = 4
#: Time for a new connection to complete its handshake, before it is closed.
HANDSHAKE_MS = 10_000


def is_private(endpoint: str) -> bool:
    """Return whether only this machine can reach an endpoint.

    It can be a Unix socket or a loopback address.
    """
    if endpoint.startswith("ipc://"):
        return True
    host = endpoint.removeprefix("tcp://").rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


def check_endpoint(endpoint: str, *, has_keys: bool) -> None:
    """Raise `FatalError` for an endpoint that is malformed, or reachable by others without keys."""
    scheme, separator, address = endpoint.partition("://")
    port = address.rpartition(":")[2]
    if (
        scheme not in {"ipc", "tcp"}
        or not separator
        or not address
        or (scheme == "tcp" and not port.isdigit())
    ):
        raise FatalError(
            ExitCode.USAGE,
            f"{endpoint!r} is not a valid endpoint",
            "Use tcp://ADDRESS:PORT (IPv6 in brackets: tcp://[::]:7300) or ipc:///path/to/socket.",
        )
    if not has_keys and not is_private(endpoint):
        raise FatalError(
            ExitCode.BIND,
            f"refusing to listen on {endpoint} without keys",
            "Create keys with `schedctl keys new` and set --server-key-file and --client-keys. "
            "Without keys, only Unix sockets and loopback addresses are allowed.",
        )


def open_router(
    context: zmq.asyncio.Context,
    endpoint: str,
    server_secret: bytes | None,
    domain: str,
    limit: ConnectionLimit,
) -> zmq.asyncio.Socket:
    """Return a listening ROUTER socket whose connections count towards a limit.

    With a secret key it speaks CURVE, except on Unix sockets.
    """
    socket: zmq.asyncio.Socket = context.socket(zmq.ROUTER)
    socket.setsockopt(zmq.LINGER, 500)
    socket.setsockopt(zmq.SNDHWM, HIGH_WATER_MARK)
    socket.setsockopt(zmq.RCVHWM, READ_AHEAD)
    # A peer that sends more loses its connection; the daemon never holds it.
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_REQUEST_BYTES)
    # Sending to a peer that has gone is an error instead of nothing, so that its watches end.
    socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
    # A client that reconnects with the same identity replaces its old connection.
    socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
    socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
    socket.setsockopt(zmq.BACKLOG, limit.backlog)
    socket.setsockopt(zmq.HEARTBEAT_IVL, 10_000)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 30_000)
    if endpoint.startswith("tcp://"):
        socket.setsockopt(zmq.IPV6, 1)
        if server_secret is not None:
            socket.setsockopt(zmq.CURVE_SERVER, 1)
            socket.setsockopt(zmq.CURVE_SECRETKEY, server_secret)
            socket.setsockopt(zmq.ZAP_DOMAIN, domain.encode())
    try:
        if endpoint.startswith("ipc://"):
            _prepare_unix_socket(Path(endpoint.removeprefix("ipc://")))
        limit.watch(socket, endpoint)
        socket.bind(endpoint)
        if endpoint.startswith("ipc://"):
            Path(endpoint.removeprefix("ipc://")).chmod(0o600)
    except (zmq.ZMQError, OSError) as error:
        socket.close(0)
        raise FatalError(
            ExitCode.BIND,
            f"cannot listen on {endpoint}: {error}",
            "The address may be in use by another program, or may not belong to this machine.",
        ) from None
    return socket


def _prepare_unix_socket(path: Path) -> None:
    """Make the socket's folder, for this user alone, and remove a socket that a killed daemon left.

    This process holds the data folder's lock, so no daemon uses an existing socket.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    for left in (path, path.with_name(path.name + HIDDEN)):
        if left.is_socket():
            left.unlink()


def is_lost(endpoint: str) -> bool:
    """Return whether the file of a Unix socket was removed; one that is hidden was not."""
    if not endpoint.startswith("ipc://"):
        return False
    path = Path(endpoint.removeprefix("ipc://"))
    return not path.exists() and not path.with_name(path.name + HIDDEN).exists()


def bind_again(socket: zmq.asyncio.Socket, endpoint: str) -> None:
    """Bind a Unix socket whose file was removed; connections that exist stay.

    Raises `zmq.ZMQError` or `OSError`.
    """
    with suppress(zmq.ZMQError):  # an earlier try may have got this far
        socket.unbind(endpoint)
    path = Path(endpoint.removeprefix("ipc://"))
    _prepare_unix_socket(path)
    socket.bind(endpoint)
    path.chmod(0o600)


def remove_unix_sockets(endpoints: Iterable[str]) -> None:
    """Remove the socket files of endpoints that are no longer listened on."""
    for endpoint in endpoints:
        if endpoint.startswith("ipc://"):
            Path(endpoint.removeprefix("ipc://")).unlink(missing_ok=True)
