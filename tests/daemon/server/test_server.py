"""The socket: the daemon answers or drops every message, and keeps running."""

from __future__ import annotations

import socket as sockets
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schedclient import Client, errors
from schedproto.codec import MAGIC, MAX_REQUEST_BYTES
from schedproto.messages import Failure, Hello, Welcome
from tests.support.daemons import RawClient, RunningDaemon


def free_port() -> int:
    with sockets.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        ([b"hello"], "bad_message"),
        ([b"", b""], "bad_message"),
        ([MAGIC, b""], "bad_message"),
        ([MAGIC, b"\xc1"], "bad_message"),
        ([MAGIC, msgspec.msgpack.encode({"type": "hello"})], "bad_message"),
        ([MAGIC, msgspec.msgpack.encode({"type": "hello", "id": ""})], "bad_message"),
        ([MAGIC, msgspec.msgpack.encode({"type": "hello", "id": "x" * 1000})], "bad_message"),
        ([MAGIC, msgspec.msgpack.encode({"type": "submit", "id": "1", "spec": 5})], "bad_message"),
        (
            [MAGIC, msgspec.msgpack.encode({"type": "of_the_future", "id": "1"})],
            "unsupported_message",
        ),
        (
            [
                MAGIC,
                msgspec.msgpack.encode(
                    {"type": "submit", "id": "1", "spec": {"organization": "../x"}}
                ),
            ],
            "invalid_organization",
        ),
        (
            [MAGIC, msgspec.msgpack.encode({"type": "get_job", "id": "1", "job_id": "none"})],
            "unknown_job",
        ),
        ([MAGIC, b"", b""], "bad_message"),
    ],
)
def test_bad_messages_are_answered(raw: RawClient, frames: list[bytes], code: str) -> None:
    """Each malformed message gets a failure with a reason, and the daemon continues."""
    raw.send(frames)
    reply = raw.receive()
    assert isinstance(reply, Failure)
    assert reply.error.code == code
    assert reply.error.message
    assert raw.healthy()


def test_oversized_message(raw: RawClient, daemon: RunningDaemon) -> None:
    """A message above the limit costs its sender the connection, not the daemon its life."""
    raw.send([MAGIC, b"x" * (MAX_REQUEST_BYTES + 1)])
    other = RawClient(daemon.endpoint)
    assert other.healthy()
    other.close()


def test_protocol_versions(raw: RawClient) -> None:
    """A client with only later versions is refused; one that also has ours is served."""
    assert (
        raw.ask(Hello(id="1", protocol=9, protocol_oldest=9)).error.code == "unsupported_protocol"
    )
    assert isinstance(raw.ask(Hello(id="2", protocol=9, protocol_oldest=1)), Welcome)


@pytest.mark.slow
def test_fuzzed_socket(daemon: RunningDaemon) -> None:
    """Random frames, and random messages of known types, never stop the daemon."""
    raw = RawClient(daemon.endpoint)
    values = st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**64 - 1)
        | st.floats()
        | st.text()
        | st.binary(),
        lambda inner: (
            st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4)
        ),
        max_leaves=12,
    )
    types = st.sampled_from(
        [
            "hello",
            "submit",
            "watch",
            "list_jobs",
            "cancel",
            "get_organization",
            "unwatch",
            "welcome",
        ]
    )
    fields = st.sampled_from(
        ["id", "spec", "job_id", "limit", "states", "organization", "watch_id", "idempotency_key"]
    )
    message = st.builds(
        lambda kind, rest: [MAGIC, msgspec.msgpack.encode({"id": "f", **rest, "type": kind})],
        types,
        st.dictionaries(fields, values, max_size=5),
    )

    @settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
    @given(message | st.lists(st.binary(max_size=200), min_size=1, max_size=4))
    def send(frames: list[bytes]) -> None:
        raw.send(frames)

    send()
    assert raw.healthy()
    assert daemon.process.poll() is None
    raw.close()


def keys(folder: Path) -> Path:
    command = [
        sys.executable,
        "-m",
        "schedctl",
        "keys",
        "new",
        "--out",
        str(folder / "keys"),
        "--client",
        "good",
    ]
    code = "import sys; from schedctl import main; sys.argv[1:] = sys.argv[2:]; main()"
    subprocess.run([sys.executable, "-c", code, "-", *command[3:]], check=True, capture_output=True)
    return folder / "keys"


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_curve(tmp_path: Path, daemons: Callable[..., RunningDaemon], host: str) -> None:
    """A listed client is admitted over TCP, IPv6 too; another key, and no key, are not."""
    made = keys(tmp_path)
    endpoint = f"tcp://{host}:{free_port()}"
    daemon = daemons(
        "--listen",
        endpoint,
        "--server-key-file",
        str(made / "server.secret"),
        "--client-keys",
        str(made / "clients"),
    )
    public = made / "server.public"
    with Client(
        endpoint, key_file=made / "good.secret", server_key=str(public), timeout_s=20
    ) as client:
        assert client.schedule("org-a", as_of="2026-11-23").contacts == 300
    stranger = keys(tmp_path / "other")
    with (
        Client(
            endpoint, key_file=stranger / "good.secret", server_key=str(public), timeout_s=3
        ) as client,
        pytest.raises(errors.ConnectionFailedError),
    ):
        client.health()
    with Client(endpoint, timeout_s=2) as client, pytest.raises(errors.ConnectionFailedError):
        client.health()
    assert daemon.process.poll() is None


@pytest.mark.parametrize(
    "endpoint", ["tcp://0.0.0.0:7399", "tcp://[::]:7399", "tcp://*:7399", "tcp://10.0.0.1:7399"]
)
def test_no_keys_no_network(daemons: Callable[..., RunningDaemon], endpoint: str) -> None:
    """Without keys the daemon refuses to listen where others could reach it (exit code 4)."""
    daemon = daemons("--listen", endpoint)
    assert daemon.wait() == 4
    assert "without keys" in daemon.log()


def test_endpoint_in_use(daemons: Callable[..., RunningDaemon]) -> None:
    """A daemon whose address another program has says so and ends (exit code 4)."""
    with sockets.create_server(("127.0.0.1", 0)) as taken:
        daemon = daemons("--listen", f"tcp://127.0.0.1:{taken.getsockname()[1]}")
        assert daemon.wait() == 4
    assert "cannot listen on tcp://127.0.0.1" in daemon.log()
