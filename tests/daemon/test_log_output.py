"""A log that cannot be written changes nothing: jobs, status and SIGTERM work."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from schedclient import Client
from schedd import log_output, logs
from schedd.log_output import LogOutput
from schedproto.layout import socket_endpoint
from tests.support.daemons import AS_OF, RunningDaemon
from tests.support.machines import free_port
from tests.support.waiting import wait_until


class Output:
    """Standard error for a daemon, which works until `fail` is called."""

    def __init__(self, tmp_path: Path) -> None:
        self.descriptor: int | None = None

    def fail(self) -> None:
        """From now on nothing can be written."""

    def close(self) -> None:
        if self.descriptor is not None:
            os.close(self.descriptor)


class ClosedPipe(Output):
    """A pipe whose reader goes away."""

    def __init__(self, tmp_path: Path) -> None:
        super().__init__(tmp_path)
        self.reading, self.descriptor = os.pipe()

    def fail(self) -> None:
        os.close(self.reading)


class UnreadPipe(Output):
    """A pipe whose reader stops reading."""

    def __init__(self, tmp_path: Path) -> None:
        super().__init__(tmp_path)
        self.reading, self.descriptor = os.pipe()

    def fail(self) -> None:
        assert self.descriptor is not None
        fill(self.descriptor)


def fill(pipe: int) -> None:
    """Fill the buffer of a pipe."""
    os.set_blocking(pipe, False)
    try:
        while True:
            os.write(pipe, b"x")
    except BlockingIOError:
        os.set_blocking(pipe, True)


class FullDisk(Output):
    """A file on a file system that fills up."""

    def __init__(self, tmp_path: Path) -> None:
        if os.getuid() != 0 or not shutil.which("mount"):
            pytest.skip("a small file system can only be mounted by root")
        self.folder = tmp_path / "logs"
        self.folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(self.folder)]
        if subprocess.run(command, capture_output=True, check=False).returncode != 0:
            pytest.skip("file systems cannot be mounted here")
        self.log = self.folder / "log"
        self.descriptor = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def fail(self) -> None:
        with (self.folder / "filler").open("ab", buffering=0) as file:
            try:
                while True:
                    file.write(b"x" * 4096)
            except OSError:
                pass
        # The log's last page may have room.
        assert self.descriptor is not None
        try:
            while True:
                os.write(self.descriptor, b"x" * 100 + b"\n")
        except OSError:
            pass

    def free(self) -> None:
        (self.folder / "filler").unlink()

    def close(self) -> None:
        super().close()
        subprocess.run(["umount", "-l", str(self.folder)], check=True)


class DevFull(Output):
    """The device that is always full."""

    def __init__(self, tmp_path: Path) -> None:
        self.descriptor = os.open("/dev/full", os.O_WRONLY)


class Closed(Output):
    """No descriptor 2 at all."""

    def __init__(self, tmp_path: Path) -> None:
        self.descriptor = None


@pytest.fixture
def start(data: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts a daemon with an output as its standard error."""
    started = []

    def run(output: Output, *options: str) -> subprocess.Popen[bytes]:
        daemon = [sys.executable, "-m", "schedd", "serve", "--data", str(data), "--workers", "2"]
        command = [*daemon, *options]
        if output.descriptor is None:
            command = ["sh", "-c", 'exec "$@" 2>&-', "sh", *command]
        started.append(subprocess.Popen(command, stderr=output.descriptor))
        return started[-1]

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
            process.wait(10)


BEFORE, WHILE, AT_END = "before the start", "while it runs", "before its end"
CASES = [
    (kind, moment)
    for kind, moments in {
        ClosedPipe: (BEFORE, WHILE, AT_END),
        UnreadPipe: (BEFORE, WHILE, AT_END),
        FullDisk: (BEFORE, WHILE, AT_END),
        DevFull: (BEFORE,),
        Closed: (BEFORE,),
    }.items()
    for moment in moments
]


@pytest.mark.parametrize(
    ("kind", "moment"), CASES, ids=[f"{kind.__name__}, {moment}" for kind, moment in CASES]
)
def test_unwritable_log(
    start: Callable[..., subprocess.Popen[bytes]],
    data: Path,
    tmp_path: Path,
    kind: type[Output],
    moment: str,
) -> None:
    """Jobs run, a crashed worker is replaced, status answers, SIGTERM gives code 0."""
    output = kind(tmp_path)
    try:
        if moment == BEFORE:
            output.fail()
        process = start(output, "--log-level", "debug")
        with Client(socket_endpoint(data), timeout_s=30) as client:
            assert client.schedule("org-a", as_of=AS_OF).contacts == 300
            if moment == WHILE:
                output.fail()
            crash_worker(process.pid)
            wait_until(lambda: client.health().workers == 2)
            assert client.schedule("org-b", as_of=AS_OF).contacts == 300
            assert client.health().status == "serving"
            if moment != AT_END and kind is not UnreadPipe:
                # The lines of an unread pipe wait in the queue.
                wait_until(lambda: client.health().log_lines_lost > 3)
            if moment == AT_END:
                output.fail()
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert time.monotonic() - began < 10
    finally:
        output.close()


def crash_worker(pid: int) -> None:
    children = psutil.Process(pid).children(recursive=True)
    workers = [child for child in children if child.ppid() != pid]
    wait_until(lambda: workers)
    workers[0].kill()


def test_start_that_fails(start: Callable[..., subprocess.Popen[bytes]], tmp_path: Path) -> None:
    """A daemon that cannot start says so by its exit code, whatever its standard error is."""
    kinds: tuple[type[Output], ...] = (ClosedPipe, UnreadPipe, DevFull, Closed)
    for kind in kinds:
        output: Output = kind(tmp_path)
        output.fail()
        assert start(output, "--listen", "tcp://0.0.0.0:7399").wait(30) == 4
        assert start(output, "--workers", "none").wait(30) == 2
        output.close()


def test_lost_lines_are_reported(
    start: Callable[..., subprocess.Popen[bytes]], data: Path, tmp_path: Path
) -> None:
    """The next line that can be written is preceded by one that says how many are missing."""
    output = FullDisk(tmp_path)
    try:
        process = start(output, "--log-format", "json")
        with Client(socket_endpoint(data), timeout_s=30) as client:
            client.schedule("org-a", as_of=AS_OF)
            output.fail()
            client.schedule("org-b", as_of=AS_OF)
            lost = wait_until(lambda: client.health().log_lines_lost)
            output.free()
            client.schedule("org-c", as_of=AS_OF)
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        # The filler's last line is torn, and has the next one behind it.
        lines = [line.lstrip("x") for line in output.log.read_text().splitlines()]
        events = [json.loads(line) for line in lines if line]
        names = [event["event"] for event in events]
        assert names.index("listening") < names.index("log lines lost") < names.index("exit")
        assert events[names.index("log lines lost")]["lines"] >= lost
    finally:
        output.close()


def test_metrics_count_lost_lines(
    data: Path, start: Callable[..., subprocess.Popen[bytes]]
) -> None:
    """Lost lines are in the metrics too."""
    from urllib.request import urlopen

    output = DevFull(data)
    port = free_port("127.0.0.1")
    start(output, "--metrics-listen", f"127.0.0.1:{port}")
    with Client(socket_endpoint(data), timeout_s=30) as client:
        wait_until(lambda: client.health().log_lines_lost)
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as reply:
            text = reply.read().decode()
    [value] = [
        line.split()[1] for line in text.splitlines() if line.startswith("schedd_log_lines_lost")
    ]
    assert int(value) >= 1
    output.close()


def test_workers_write_to_the_daemon(daemon: RunningDaemon) -> None:
    """A worker's standard error is a pipe to the daemon, which logs what it reads there."""
    with daemon.client() as client:
        wait_until(lambda: client.health().workers == 2)
        client.schedule("org-a", as_of=AS_OF)
    for worker in daemon.workers():
        assert os.readlink(f"/proc/{worker}/fd/2").startswith("pipe:")
        with open(f"/proc/{worker}/fd/2", "wb", buffering=0) as pipe:
            pipe.write(b"Traceback of a crash\n")
    wait_until(lambda: daemon.log().count("Traceback of a crash") == 2)
    assert daemon.stop() == 0


# One output ---------------------------------------------------------------------------------------


def test_full_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that waits costs only lines: the queue is bounded, and the loss is reported."""
    monkeypatch.setattr(log_output, "MAX_QUEUED_BYTES", 1000)
    reading, writing = os.pipe()
    output = LogOutput(writing)
    try:
        fill(writing)
        began = time.monotonic()
        for _ in range(100):
            output.write("x" * 99 + "\n")
        assert 80 <= output.lost_lines <= 90
        output.close_soon()
        assert time.monotonic() - began < 2

        found = b""
        while f"{output.lost_lines} log lines could not be written".encode() not in found:
            found += os.read(reading, 1 << 16)
    finally:
        os.close(reading)


def test_closed_descriptor() -> None:
    """A descriptor that was closed meanwhile loses lines, but raises nothing."""
    reading, writing = os.pipe()
    os.close(reading)
    spare = os.dup(writing)
    os.close(writing)
    os.close(spare)
    output = LogOutput(spare)
    output.write("one\ntwo\n")
    wait_until(lambda: output.lost_lines == 2)


def test_torn_line(tmp_path: Path) -> None:
    """A line that was written in part does not damage the next one."""
    disk = FullDisk(tmp_path)
    try:
        output = LogOutput(disk.descriptor)
        disk.fail()
        disk.free()
        disk.fail()
        output.write("a" * 10_000 + "\n")
        wait_until(lambda: output.lost_lines == 1)
        disk.free()
        output.write("next\n")
        wait_until(lambda: disk.log.read_text().endswith("\nnext\n"))
    finally:
        disk.close()


def test_value_that_cannot_be_shown(capfd: pytest.CaptureFixture[str]) -> None:
    """A log call with a value that cannot be shown loses the line, but raises nothing."""
    import structlog

    class Unshowable:
        def __repr__(self) -> str:
            raise ValueError("no text")

    output = LogOutput(2)
    logs.configure("json", "info", output)
    try:
        structlog.get_logger().info("one", value=Unshowable())
        assert output.lost_lines == 1
        structlog.get_logger().info("two \udcff")
        output.close_soon()
        assert "two" in capfd.readouterr().err
    finally:
        structlog.reset_defaults()
