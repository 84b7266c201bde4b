"""The daemon as process 1: it reaps what it adopts, and nothing else changes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from schedclient import Client
from schedproto.layout import socket_endpoint
from tests.support.daemons import AS_OF
from tests.support.waiting import wait_until

#: Children of a daemon's workers end before and after their own parents.
_ORPHANS = 20


def can_unshare() -> bool:
    return (
        shutil.which("unshare") is not None
        and subprocess.run(
            ["unshare", "--pid", "--fork", "--mount-proc", "true"], capture_output=True, check=False
        ).returncode
        == 0
    )


@pytest.fixture
def first_process(data: Path) -> Iterator[psutil.Process]:
    """The daemon as process 1 of a namespace of its own."""
    if not can_unshare():
        pytest.skip("needs the right to make a namespace of processes")
    log = data.parent / "log"
    # A process in the namespace that leaves orphans: it is a child of the daemon, as a worker is.
    leave = (
        "import os, time\n"
        f"for _ in range({_ORPHANS}):\n"
        "    if os.fork() == 0:\n"
        "        if os.fork() == 0:\n"
        "            time.sleep(0.5)\n"
        "        os._exit(0)\n"
        "    os.wait()\n"
    )
    # The shell starts it in the background and becomes the daemon, which thereby is process 1.
    script = 'sleep 2 && "$0" -c "$1" & shift; exec "$0" -m schedd serve --workers 2 --data "$1"'
    with log.open("wb") as output:
        outer = subprocess.Popen(
            [
                *("unshare", "--pid", "--fork", "--mount-proc", "--kill-child"),
                *("bash", "-c", script, sys.executable, leave, str(data)),
            ],
            stdout=output,
            stderr=output,
        )
    try:
        yield wait_until(lambda: _child_of(outer.pid), "the daemon")
    finally:
        outer.kill()
        outer.wait(60)


def _child_of(pid: int) -> psutil.Process | None:
    with suppress(psutil.Error):
        children = psutil.Process(pid).children()
        return children[0] if children and "schedd" in children[0].cmdline() else None
    return None


def zombies(daemon: psutil.Process) -> list[int]:
    found = []
    for child in daemon.children():
        with suppress(psutil.NoSuchProcess):  # reaped since it was listed
            if child.status() == psutil.STATUS_ZOMBIE:
                found.append(child.pid)
    return found


def test_no_zombies_stay(first_process: psutil.Process, data: Path) -> None:
    """Orphans that end are reaped; jobs run, crashed workers are replaced, and the daemon ends."""
    daemon = first_process
    log = data.parent / "log"
    wait_until(lambda: '"listening"' in log.read_text(), "listening")
    first = json.loads(next(line for line in log.read_text().splitlines() if "listening" in line))
    assert first["pid"] == 1
    seen: set[int] = set()

    def orphans_seen() -> bool:
        with suppress(psutil.Error):
            seen.update(child.pid for child in daemon.children())
        return len(seen) >= _ORPHANS

    wait_until(orphans_seen, "the orphans")
    wait_until(lambda: not zombies(daemon) and len(daemon.children()) <= 3, "their end")
    with Client(socket_endpoint(data)) as client:
        assert client.schedule("org-a", as_of=AS_OF).contacts == 300
        workers = [c for child in daemon.children() for c in child.children()]
        assert len(workers) >= 2
        for worker in workers:
            os.kill(worker.pid, signal.SIGKILL)
        assert client.schedule("org-b", as_of=AS_OF).contacts == 300
    assert not zombies(daemon)
    daemon.send_signal(signal.SIGTERM)
    daemon.wait(60)
