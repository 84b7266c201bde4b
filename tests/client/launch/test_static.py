"""A daemon at an address: unreachable, encrypted, refused, restarted behind the client's back."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from schedclient import Client
from schedclient.errors import AuthenticationError, IncompatibleError, UnreachableError
from schedproto.keys import render

AS_OF = "2026-11-01"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def serve(folder) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start a daemon with these flags over the folder; they are ended after the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*flags: object) -> subprocess.Popen[bytes]:
        command = [
            sys.executable,
            "-m",
            "schedd",
            "serve",
            "--data",
            str(folder.path),
            *map(str, flags),
        ]
        with (folder.path.parent / "serve.log").open("ab") as log:
            started.append(subprocess.Popen(command, stdout=log, stderr=log))
        return started[-1]

    yield start
    for process in started:
        process.terminate()
        try:
            process.wait(120)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(120)


class Keys:
    """Two clients' keys, of which the daemon admits the first, and the daemon's."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.server_public, server_secret = self.pair()
        self.admitted_public, self.admitted = self.pair()
        self.stranger = self.pair()[1]
        self.server_file, self.clients_file = folder / "server.secret", folder / "clients"
        self.server_file.write_text(render(self.server_public, server_secret, "server"))
        self.clients_file.write_text(render(self.admitted_public, None, "admitted"))

    @staticmethod
    def pair() -> tuple[str, str]:
        public, secret = zmq.curve_keypair()
        return public.decode(), secret.decode()


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path / "keys")


@pytest.mark.parametrize("kind", ["tcp", "ipc"])
def test_unreachable(tmp_path: Path, kind: str) -> None:
    """If nothing listens, the call ends at its timeout and names the address."""
    endpoint = f"tcp://127.0.0.1:{free_port()}" if kind == "tcp" else f"ipc://{tmp_path}/none.sock"
    began = time.monotonic()
    with pytest.raises(UnreachableError) as caught, Client(endpoint, timeout_s=0.8) as client:
        client.health()
    assert 0.7 <= time.monotonic() - began < 60
    assert endpoint in caught.value.message
    assert caught.value.retryable
    assert caught.value.hint


def test_silent_listener() -> None:
    """Something that accepts connections and says nothing is unreachable too, in time."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        began = time.monotonic()
        with (
            pytest.raises(UnreachableError),
            Client(f"tcp://127.0.0.1:{port}", timeout_s=0.8) as client,
        ):
            client.health()
    assert time.monotonic() - began < 60


@pytest.mark.parametrize("address", ["127.0.0.1", "[::1]"])
def test_plain_tcp(serve, address: str) -> None:
    """On loopback a daemon serves without keys, over IPv6 too.

    A client may come before it listens.
    """
    endpoint = f"tcp://{address}:{free_port()}"
    serve("--listen", endpoint)
    with Client(endpoint) as client:
        assert client.schedule("org-1", as_of=AS_OF, timeout_s=120).contacts == 300


def test_restarted_while_a_client_waits(serve, folder) -> None:
    """A daemon that somebody else starts again after SIGKILL.

    The client reconnects and gets its result.
    """
    endpoint = f"tcp://127.0.0.1:{free_port()}"
    first = serve("--listen", endpoint)
    with Client(endpoint) as client:
        folder.pause_workers(client)
        handle = client.submit("org-1", as_of=AS_OF)
        first.send_signal(signal.SIGKILL)
        first.wait(120)
        folder.resume_workers()
        serve("--listen", endpoint)
        assert handle.wait(120).contacts == 300


@pytest.mark.slow
def test_lost_for_good_while_a_client_waits(serve, folder) -> None:
    """If the daemon does not come back, the wait ends and says how to see the job later."""
    endpoint = f"tcp://127.0.0.1:{free_port()}"
    daemon = serve("--listen", endpoint)
    with Client(endpoint) as patient:
        folder.pause_workers(patient)
    with Client(endpoint, timeout_s=1.0) as client:
        handle = client.submit("org-1", as_of=AS_OF)
        daemon.send_signal(signal.SIGKILL)
        daemon.wait(120)
        folder.resume_workers()
        with pytest.raises(UnreachableError) as caught:
            handle.wait(120)
    assert handle.job_id in caught.value.hint


def test_keys(serve, keys: Keys) -> None:
    """A known key is served.

    A stranger's key, a wrong server key and no key are refused, not silent.
    """
    endpoint = f"tcp://127.0.0.1:{free_port()}"
    serve(
        "--listen",
        endpoint,
        "--server-key-file",
        keys.server_file,
        "--client-keys",
        keys.clients_file,
    )
    with Client(endpoint, key=keys.admitted, server_key=keys.server_public) as client:
        assert client.schedule("org-1", as_of=AS_OF, timeout_s=120).contacts == 300
    refused: dict[str, dict[str, Any]] = {
        "stranger": {"key": keys.stranger, "server_key": keys.server_public},
        "wrong server": {"key": keys.admitted, "server_key": keys.admitted_public},
        "no key": {},
    }
    for what, options in refused.items():
        began = time.monotonic()
        with (
            pytest.raises(AuthenticationError) as caught,
            Client(endpoint, timeout_s=200.0, **options) as client,
        ):
            client.health()
        assert time.monotonic() - began < 100, what
        assert endpoint in caught.value.message, what
        assert "key" in caught.value.hint, what


def test_keys_where_nobody_listens(keys: Keys) -> None:
    """With keys, an address at which nobody listens is still unreachable, not refused."""
    endpoint = f"tcp://127.0.0.1:{free_port()}"
    with (
        pytest.raises(UnreachableError),
        Client(endpoint, key=keys.admitted, server_key=keys.server_public, timeout_s=0.5) as client,
    ):
        client.health()


@pytest.mark.slow
def test_killed_in_the_handshake(tmp_path: Path) -> None:
    """Whoever hangs up in the middle of the greeting has died, as far as a Unix socket can tell.

    The error does not mention keys.
    """
    path = tmp_path / "dying.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        ended = threading.Event()

        def hang_up() -> None:
            while not ended.is_set():
                peer = listener.accept()[0]
                with contextlib.suppress(OSError), peer:
                    peer.sendall(b"\xff" + bytes(8) + b"\x7f\x03")  # the beginning of a greeting
                    peer.recv(1)

        thread = threading.Thread(target=hang_up, daemon=True)
        thread.start()
        with pytest.raises(UnreachableError), Client(f"ipc://{path}", timeout_s=1.0) as client:
            client.health()
        ended.set()
        with socket.socket(socket.AF_UNIX) as last:
            last.connect(str(path))
        thread.join(120)


def test_daemon_of_another_protocol(tmp_path: Path) -> None:
    """A daemon that refuses the client's protocol version is `IncompatibleError`, at once."""
    endpoint = f"ipc://{tmp_path}/odd.sock"
    script = """
import sys, zmq
from schedproto import ErrorInfo
from schedproto.codec import decode_request, encode
from schedproto.messages import Failure
router = zmq.Context().socket(zmq.ROUTER)
router.bind(sys.argv[1])
while True:
    identity, *frames = router.recv_multipart()
    hint = "Upgrade the older of the two."
    error = ErrorInfo(code="unsupported_protocol", message="I speak 7 to 9", hint=hint)
    router.send_multipart([identity, *encode(Failure(id=decode_request(frames).id, error=error))])
"""
    other = subprocess.Popen([sys.executable, "-c", script, endpoint])
    try:
        with pytest.raises(IncompatibleError, match="7 to 9") as caught, Client(endpoint) as client:
            client.health()
        assert "Upgrade" in caught.value.hint
    finally:
        os.kill(other.pid, signal.SIGKILL)
        other.wait(120)
