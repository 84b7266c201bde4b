"""Helpers for the tests of the client.

They make data folders with a daemon that the local launcher starts, and call `schedctl`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import time
from pathlib import Path
from typing import Any

from schedclient import Client
from schedclient.errors import DatabaseMissingError
from schedproto.layout import state_folder
from tests.support.daemons import workers_of
from tests.support.waiting import wait_until

AS_OF = "2026-11-01"
CONTACTS = 300


class Folder:
    """A data folder, and whatever daemon is over it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.paused: list[int] = []

    def client(self, **options: Any) -> Client:
        return Client(data=self.path, **options)

    def daemon(self) -> int | None:
        """The pid of the daemon that holds the folder's lock."""
        try:
            descriptor = os.open(state_folder(self.path) / "lock", os.O_RDWR)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return int(os.pread(descriptor, 32, 0).decode().strip() or 0) or None
        finally:
            os.close(descriptor)
        return None

    def starts(self) -> int:
        """Return the number of daemons that began to listen over this folder, by its log."""
        log = state_folder(self.path) / "daemon.log"
        return log.read_text().count('"event": "listening"') if log.exists() else 0

    def workers(self) -> list[int]:
        pid = self.daemon()
        return workers_of(pid) if pid is not None else []

    def pause_workers(self, client: Client) -> None:
        """Stop all workers, so that a job submitted next runs until `resume_workers`."""
        # A worker takes jobs once it has loaded everything; one that has ended a job is ready for
        # sure.
        with contextlib.suppress(DatabaseMissingError):
            client.schedule("org-warm-up", timeout_s=120)
        wanted = client.health().workers
        wait_until(lambda: len(self.workers()) >= wanted, "start of the workers")
        self.paused = self.workers()
        for pid in self.paused:
            os.kill(pid, signal.SIGSTOP)

    def resume_workers(self) -> None:
        for pid in self.paused:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self.paused = []

    def kill_daemon(self) -> int:
        pid = self.daemon()
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        return pid

    def stop(self) -> None:
        self.resume_workers()
        pid = self.daemon()
        if pid is None:
            return
        family = [pid, *self.workers()]
        os.kill(pid, signal.SIGTERM)
        try:
            wait_until(lambda: self.daemon() is None, "the end of the daemon")
        except AssertionError:
            for each in family:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(each, signal.SIGKILL)
            raise


class Terminal:
    """A process on a terminal of its own; what it writes is collected."""

    def __init__(
        self, command: list[str], cwd: Path, environment: dict[str, str], columns: int = 100
    ) -> None:
        self.screen = ""
        pid, self.master = pty.fork()
        if pid == 0:  # the child: becomes the command at once
            os.chdir(cwd)
            os.execvpe(command[0], command, environment)
        self.pid = pid
        fcntl.ioctl(
            self.master,
            0x5414,
            (30).to_bytes(2, "little") + columns.to_bytes(2, "little") + bytes(4),
        )
        self.code: int | None = None

    def read(self, timeout_s: float = 0.05) -> bool:
        """Collect what is there; returns whether the other side is still open."""
        if not select.select([self.master], [], [], timeout_s)[0]:
            return True
        try:
            data = os.read(self.master, 65536)
        except OSError:
            return False
        self.screen += data.decode("utf-8", "replace")
        return bool(data)

    def expect(self, text: str, timeout_s: float = 120.0) -> None:
        """Wait until a text was shown after what was expected before."""
        deadline = time.monotonic() + timeout_s
        while text not in self.screen:
            open_still = self.read()
            if text in self.screen:
                break
            assert open_still, (
                f"{text!r} was never shown; the process ended with:\n{self.screen[-2000:]!r}"
            )
            assert time.monotonic() < deadline, (
                f"{text!r} was not shown; there is:\n{self.screen[-2000:]!r}"
            )

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def wait(self, timeout_s: float = 120.0) -> int:
        """Collect all output until the process ends and return its exit code."""
        deadline = time.monotonic() + timeout_s
        while self.code is None:
            self.read()
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
            assert time.monotonic() < deadline, (
                f"the process did not end; there is:\n{self.screen[-2000:]!r}"
            )
        while select.select([self.master], [], [], 0)[0] and self.read():
            pass
        return self.code

    def close(self) -> None:
        if self.code is None:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
        os.close(self.master)
