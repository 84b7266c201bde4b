"""A daemon under attack: its memory, and how long another client waits for it."""

from __future__ import annotations

import datetime as dt
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from schedctl.synthetic import make_organization
from tests.support.daemons import AS_OF, RawClient, RunningDaemon
from tests.support.machines import Keys, free_port
from tests.support.paths import ROOT
from tests.support.waiting import wait_until

#: A client that waits longer than this is not served.
ANSWER_S = 120.0
#: Descriptors that the daemon opens once: libzmq's thread that frees sent messages, databases.
OWN_DESCRIPTORS = 16
_SAMPLE_S = 0.02


@dataclass
class Measured:
    """What one attack did. Memory is the daemon's own, in bytes; latencies are in seconds."""

    attack: str
    size: int
    before: int = 0
    peak: int = 0
    after: int = 0
    quiet: list[float] = field(default_factory=list)
    during: list[float] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def require(self, condition: object, text: str) -> None:
        """Note a broken promise unless the condition holds."""
        if not condition:
            self.broken.append(text)


def p99(samples: list[float]) -> float:
    """Return the 99th percentile, the nearest rank.

    >>> p99([1.0, 3.0, 2.0])
    3.0
    """
    return sorted(samples)[math.ceil(0.99 * len(samples)) - 1]


class Target:
    """A daemon with all its sockets: a Unix socket, an encrypted TCP port and metrics."""

    def __init__(self, root: Path) -> None:
        data = root / "data"
        data.mkdir()
        for number, name in enumerate(("org-1", "org-2")):
            make_organization(data / f"{name}.db", 200, number, dt.date.fromisoformat(AS_OF))
        self.keys = Keys.new()
        self.port, self.metrics_port = free_port("127.0.0.1"), free_port("127.0.0.1")
        own = ("SCHEDD_", "SCHEDCTL_", "BUCKET_", "AWS_")
        environment = {n: v for n, v in os.environ.items() if not n.startswith(own)}
        environment |= {
            "SCHEDD_SERVER_KEY": self.keys.server_secret,
            "SCHEDD_ALLOW_CLIENTS": self.keys.client_public,
        }
        self.daemon = RunningDaemon(
            data,
            *("--listen", f"tcp://127.0.0.1:{self.port}"),
            *("--metrics-listen", f"127.0.0.1:{self.metrics_port}"),
            environment=environment,
        ).start()
        self.client = RawClient(self.daemon.endpoint)
        self.client.healthy()
        wait_until(lambda: len(self.daemon.workers()) == 2, "the workers")

    def close(self) -> None:
        """End the daemon."""
        self.client.close()
        self.daemon.clean_up()

    def memory(self) -> int:
        """Return the resident memory of the daemon's process."""
        return int(psutil.Process(self.daemon.process.pid).memory_info().rss)

    def descriptors(self) -> int:
        """Return the open descriptors of the daemon's process."""
        return int(psutil.Process(self.daemon.process.pid).num_fds())

    def ask(self) -> float:
        """Return how long the other client waits for the daemon's status."""
        began = time.monotonic()
        self.client.healthy()
        return time.monotonic() - began

    def measure_quiet(self, seconds: float) -> list[float]:
        """Return the latencies of some seconds without an attack."""
        ends = time.monotonic() + seconds
        return list(self._latencies(lambda: time.monotonic() < ends))

    def _latencies(self, more: Callable[[], bool]) -> Iterator[float]:
        while more():
            yield self.ask()
            time.sleep(_SAMPLE_S)

    @contextmanager
    def observed(self, measured: Measured) -> Iterator[None]:
        """Sample memory and latencies during a block."""
        end = threading.Event()

        def sample_memory() -> None:
            while not end.wait(0.05):
                measured.peak = max(measured.peak, self.memory())

        def sample_latency() -> None:
            measured.during.extend(self._latencies(lambda: not end.is_set()))

        threads = [threading.Thread(target=work) for work in (sample_memory, sample_latency)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            end.set()
            for thread in threads:
                thread.join(ANSWER_S)

    def attack(self, name: str, size: int, quiet_s: float = 3.0) -> Measured:
        """Run an attack in a process of its own; measure the daemon before, during and after."""
        measured = Measured(name, size, before=self.memory(), quiet=self.measure_quiet(quiet_s))
        measured.peak = measured.before
        descriptors = self.descriptors()
        with self.observed(measured):
            done = subprocess.run(
                [sys.executable, "-m", "tests.attack.attacks", name, str(size), *self._addresses()],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                text=True,
                timeout=900,
                check=False,
            )
        measured.require(done.returncode == 0, f"the attack itself failed: {done.returncode}")
        if not self.daemon.running:
            measured.broken.append("the daemon has died")
            return measured
        measured.require(measured.during, "another client was not served")
        wait_until(
            lambda: self.descriptors() <= descriptors + OWN_DESCRIPTORS,
            "the end of the connections",
        )
        other = RawClient(self.daemon.endpoint)
        measured.require(other.healthy(), "a new client is not served")
        other.close()
        measured.after = self.memory()
        return measured

    def _addresses(self) -> list[str]:
        keys = self.keys
        tcp = f"tcp://127.0.0.1:{self.port}"
        return [self.daemon.endpoint, tcp, keys.server_public, str(self.metrics_port)]
