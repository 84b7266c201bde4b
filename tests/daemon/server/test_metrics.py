"""Metrics of a real daemon over real HTTP.

The numbers are right, and no request of a scraper disturbs the daemon.
"""

from __future__ import annotations

import re
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from schedclient import Client
from schedd.server.metrics import METRICS
from tests.support.daemons import AS_OF, RunningDaemon
from tests.support.machines import free_port
from tests.support.paths import ROOT
from tests.support.waiting import wait_until

LINE = re.compile(r"^([a-z_]+)(\{[^}]*\})? (-?[0-9.e+-]+)$")


@pytest.fixture
def port() -> int:
    return free_port("127.0.0.1")


@pytest.fixture
def metered(daemons: Callable[..., RunningDaemon], port: int) -> RunningDaemon:
    return listening(daemons("--metrics-listen", str(port)))


def listening(daemon: RunningDaemon) -> RunningDaemon:
    wait_until(lambda: '"listening"' in daemon.log(), "listening")
    return daemon


def scrape(
    port: int, path: str = "/metrics", host: str = "127.0.0.1", method: str = "GET"
) -> tuple[int, str]:
    request = urllib.request.Request(f"http://{host}:{port}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def values(text: str) -> dict[str, float]:
    found = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            match = LINE.match(line)
            assert match, line
            found[match[1] + (match[2] or "")] = float(match[3])
    return found


def test_jobs_and_rows_are_counted(metered: RunningDaemon, port: int) -> None:
    """Jobs, rows, durations and the pool are counted.

    Every metric is described, and no other appears.
    """
    before = values(scrape(port)[1])
    assert before['schedd_jobs{state="running"}'] == 0
    with Client(metered.endpoint) as client:
        result = client.schedule("org-a", as_of=AS_OF)
        client.schedule("org-a", as_of=AS_OF, mode="highperf")
    text = scrape(port)[1]
    after = values(text)
    assert after['schedd_jobs_total{state="succeeded",mode="reliable"}'] == 1
    assert after['schedd_jobs_total{state="succeeded",mode="highperf"}'] == 1
    assert after['schedd_rows_total{change="inserted"}'] == result.rows_inserted
    assert after["schedd_contacts_total"] == 2 * result.contacts
    assert after['schedd_job_duration_seconds_count{mode="reliable"}'] == 1
    assert after['schedd_job_duration_seconds_bucket{mode="reliable",le="+Inf"}'] == 1
    buckets = [
        value
        for name, value in after.items()
        if name.startswith('schedd_job_duration_seconds_bucket{mode="re')
    ]
    assert buckets == sorted(buckets)
    assert after["schedd_workers"] == 2
    assert after["schedd_free_bytes"] > 0
    described = set(re.findall(r"^# TYPE ([a-z_]+) ", text, re.MULTILINE))
    assert described <= set(METRICS)
    named = {re.sub(r"_(bucket|sum|count)$", "", name.split("{")[0]) for name in after}
    assert named == described


def test_ipv4_and_ipv6(metered: RunningDaemon, port: int) -> None:
    """A bare port is served over IPv4 and IPv6."""
    assert scrape(port, "/health") == (200, "ok\n")
    assert scrape(port, "/health", "[::1]") == (200, "ok\n")


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [("/", "GET", 404), ("/metrics", "POST", 405), ("/metrics", "HEAD", 200)],
)
def test_other_requests(
    metered: RunningDaemon, port: int, path: str, method: str, status: int
) -> None:
    """Requests other than a scrape get the right HTTP status."""
    assert scrape(port, path, method=method)[0] == status


def is_served(port: int) -> bool:
    try:
        return scrape(port)[0] == 200
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.parametrize(
    "sent", [b"nonsense\r\n\r\n", b"GET /metrics\r\n\r\n", b"x" * 100_000, b""]
)
def test_bad_clients(metered: RunningDaemon, port: int, sent: bytes) -> None:
    """Nonsense, endless heads and silent connections harm nobody else."""
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(30)]
    for each in silent:
        try:
            each.sendall(sent)
        except OSError:
            continue
    with Client(metered.endpoint) as client:
        assert client.health().status == "serving"
    wait_until(lambda: is_served(port), "serving of the metrics")
    for each in silent:
        each.close()


@pytest.mark.slow
def test_a_scrape_is_no_activity(daemons: Callable[..., RunningDaemon], port: int) -> None:
    """A daemon that is scraped all the time exits when idle all the same, and says when it will."""
    daemon = listening(daemons("--metrics-listen", f"127.0.0.1:{port}", "--idle-timeout", "5"))
    seen = []
    while daemon.running:
        try:
            seen.append(values(scrape(port)[1]).get("schedd_idle_exit_seconds", 99.0))
        except OSError:
            break
        time.sleep(0.05)
    assert daemon.process.wait(120) == 0
    assert min(seen) < 4.0


def test_port_in_use(data: Path, daemons: Callable[..., RunningDaemon], port: int) -> None:
    """A port that is taken is a clear error and exit code."""
    import subprocess
    import sys

    with socket.create_server(("127.0.0.1", port)):
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "schedd",
                "serve",
                "--data",
                str(data),
                "--metrics-listen",
                f"127.0.0.1:{port}",
            ],
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert done.returncode == 4
    assert "cannot serve metrics" in done.stderr


@pytest.mark.parametrize("address", ["", "x", "70000", "host:1", "127.0.0.1:0", "[::1]"])
def test_wrong_addresses(address: str) -> None:
    """An address that is none is refused with what is accepted."""
    from schedd.exitcodes import FatalError
    from schedd.settings import load

    with pytest.raises(FatalError, match="ADDRESS:PORT"):
        load({"metrics_listen": address or " "}, {})


def test_documented() -> None:
    """docs/OPERATIONS.md has every metric as it is described to the scraper."""
    page = (ROOT / "docs" / "OPERATIONS.md").read_text()
    for name, (kind, meaning) in METRICS.items():
        assert f"| `{name}` | {kind} | {meaning} |" in page
