"""Connections of a real daemon are bounded, whatever its limit of descriptors is."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
import zmq

from schedd.server.connections import MAX_CONNECTIONS, connection_limit
from tests.support.daemons import RawClient, RunningDaemon
from tests.support.machines import free_port
from tests.support.waiting import wait_until

#: Opens clients that never close, in another process: this one must not run out of descriptors.
_CLIENTS = """
import sys
from schedclient import Client
clients = [Client(sys.argv[1], timeout_s=float(sys.argv[3])) for _ in range(int(sys.argv[2]))]
for number, client in enumerate(clients):
    try:
        client.health()
    except Exception as error:
        print(type(error).__name__, file=sys.stderr)
        break
print("ready", flush=True)
sys.stdin.read()
"""


class LimitedDaemon(RunningDaemon):
    """A daemon that starts with few descriptors."""

    soft, hard = 256, 256

    def start(self) -> LimitedDaemon:
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        command = [
            *("bash", "-c", f'ulimit -Sn {self.soft}; ulimit -Hn {self.hard}; exec "$@"', "bash"),
            *(sys.executable, "-m", "schedd", "serve", "--data", str(self.data), "--workers", "2"),
        ]
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen([*command, *self.options], stdout=log, stderr=log)
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == before
        return self


def descriptors(daemon: RunningDaemon) -> int:
    return len(os.listdir(f"/proc/{daemon.process.pid}/fd"))


def cpu_s(daemon: RunningDaemon) -> float:
    fields = Path(f"/proc/{daemon.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.fixture(params=[(256, 256), (256, 4096)], ids=["hard-256", "hard-4096"])
def limited(data: Path, request: pytest.FixtureRequest) -> Iterator[LimitedDaemon]:
    daemon = LimitedDaemon(data)
    daemon.soft, daemon.hard = request.param
    daemon.start()
    yield daemon
    daemon.clean_up()


def silent_connections(endpoint: str, count: int) -> list[socket.socket]:
    """Open connections that never greet; as many as the daemon lets in and the kernel queues."""
    opened: list[socket.socket] = []
    for _ in range(count):
        one = socket.socket(socket.AF_UNIX)
        one.setblocking(False)
        deadline = time.monotonic() + 1
        while True:
            try:
                one.connect(endpoint.removeprefix("ipc://"))
                opened.append(one)
                break
            except FileNotFoundError:  # the daemon refuses others
                one.close()
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    one.close()
                    return opened
                time.sleep(0.001)
    return opened


def test_connections_that_never_greet(limited: LimitedDaemon) -> None:
    """A thousand of them leave an established client served, and the daemon as it was."""
    with closing(RawClient(limited.endpoint)) as client:
        lost = client.socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        assert client.healthy()
        before = descriptors(limited)
        opened = silent_connections(limited.endpoint, 1000)
        assert client.healthy()
        assert descriptors(limited) <= min(limited.hard, before + 1000 + 10)
        used = cpu_s(limited)
        time.sleep(1)
        assert cpu_s(limited) - used < 0.5  # it does not spin
        for one in opened:
            one.close()
        wait_until(lambda: descriptors(limited) <= before + 5, "the end of the connections")
        assert client.healthy()
        assert not lost.poll(0), "the established client lost its connection"
        client.socket.disable_monitor()
        lost.close(0)
    with closing(RawClient(limited.endpoint)) as other:
        assert other.healthy()


def test_silent_connections_are_closed(limited: LimitedDaemon) -> None:
    """The daemon itself closes them after the time for a handshake, and serves new clients."""
    with closing(RawClient(limited.endpoint)) as client:
        assert client.healthy()
    before = descriptors(limited)
    opened = silent_connections(limited.endpoint, 150)
    with closing(RawClient(limited.endpoint)) as client:
        assert client.healthy()
    wait_until(lambda: descriptors(limited) <= before + 5, "the end of the connections")
    for one in opened:
        one.close()


def test_clients_that_never_close(limited: LimitedDaemon) -> None:
    """A backend that makes a client for each request and closes none of them."""
    with closing(RawClient(limited.endpoint)) as client:
        assert client.healthy()
        before = descriptors(limited)
        process = subprocess.Popen(
            [sys.executable, "-c", _CLIENTS, limited.endpoint, "300", "5"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            assert client.healthy()
            assert descriptors(limited) < limited.hard
        finally:
            process.kill()
            process.communicate()
        wait_until(lambda: descriptors(limited) <= before + 5, "the end of the connections")
    with closing(RawClient(limited.endpoint)) as other:
        assert other.healthy()


@pytest.mark.parametrize("descriptors_", [1024, 2048, 4096, 1 << 20])
def test_limit_leaves_descriptors(descriptors_: int) -> None:
    """The limit never exceeds the maximum, and leaves most descriptors where there are few."""
    limit = connection_limit(descriptors_)
    assert 0 < limit <= MAX_CONNECTIONS
    assert limit <= descriptors_ // 2


def test_tcp_accepts_again(data: Path) -> None:
    """After a flood of a TCP endpoint, new clients are served over it."""
    endpoint = f"tcp://127.0.0.1:{(port := free_port('127.0.0.1'))}"
    daemon = LimitedDaemon(data, "--listen", endpoint)
    daemon.soft = daemon.hard = 1024
    daemon.start()
    try:
        with closing(RawClient(endpoint)) as client:
            lost = client.socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
            assert client.healthy()
            opened = []
            for _ in range(2 * connection_limit(1024)):
                with suppress(OSError):
                    opened.append(socket.create_connection(("127.0.0.1", port), 5))
            wait_until(lambda: "refusing others" in daemon.log(), "the limit")
            assert client.healthy()
            assert not lost.poll(0), "the established client lost its connection"
            client.socket.disable_monitor()
            lost.close(0)
            for one in opened:
                one.close()
        wait_until(lambda: "accepting connections again" in daemon.log(), "the end of the flood")
        with closing(RawClient(endpoint)) as client:
            assert client.healthy()
    finally:
        daemon.clean_up()
