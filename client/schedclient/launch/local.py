"""The launcher that starts `schedd` as a detached child over a data folder, on its Unix socket.

The daemon exits when idle. If several clients start one at the same time, the first to hold the
launch lock starts it; the others wait for the lock and find it running.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from schedclient.errors import LaunchError
from schedproto import ErrorCode, sqlite_files
from schedproto.layout import (
    prepare_socket_folder,
    socket_endpoint,
    socket_path,
    state_folder,
)
from schedproto.private import private_folder, private_opener

#: How long a daemon may take until it listens.
START_TIMEOUT_S = 20.0
_POLL_S = 0.01
#: How much of the daemon's log an error shows.
LOG_TAIL_LINES = 8
#: The daemon's exit code for "another daemon has the folder" (schedd.exitcodes.ExitCode.LOCKED).
_EXIT_LOCKED = 3

#: Daemons started by this process, which outlive it; kept only to collect those that have ended.
_children: list[subprocess.Popen[bytes]] = []


def compiled_program() -> str | None:
    """Return the path of the compiled program that this process runs, which is `schedd` too.

    None in Python.
    """
    if "__compiled__" not in globals():
        return None
    # If the program is one file, this process runs an unpacked part of it, and the variable
    # names the file.
    return os.environ.get("NUITKA_ONEFILE_BINARY") or str(Path("/proc/self/exe").readlink())


def daemon_command() -> list[str]:
    """Return how to call `schedd` here, or raise `LaunchError` if it is not installed.

    Of the compiled program the first word is only a name; `compiled_program` is what is run under
    it.
    """
    if compiled_program() is not None:
        return ["schedd"]
    sibling = Path(sys.executable).with_name("schedd")
    if (
        find_spec("schedd") is not None
        and find_spec("apsw") is not None
        and find_spec("numpy") is not None
    ):
        return [sys.executable, "-m", "schedd"]
    if sibling.is_file() and os.access(sibling, os.X_OK) and find_spec("schedd") is None:
        return [str(sibling)]
    found = shutil.which("schedd")
    if found is not None and Path(found).resolve().parent != Path(sys.executable).resolve().parent:
        return [found]
    raise LaunchError(
        "no daemon is configured, and the daemon package is not installed to start one",
        "Install it with `pip install 'email-scheduler[daemon]'`, or set --endpoint or "
        "SCHEDCTL_ENDPOINT to use a running daemon.",
    )


#: What the output of a daemon says of a full disk.
_FULL_DISK_WORDS = ("No space left", "disk is full", "Disk quota exceeded")
#: With less free space a daemon cannot even write its log.
_LITTLE_BYTES = 64 * 1024


class LocalLauncher:
    """Starts a daemon over `data_dir` if none runs there.

    environment: the daemon's (default: this process's).

        launcher = LocalLauncher(Path("/srv/data"), idle_timeout_s=60)
        endpoint = await launcher.ensure()
    """

    can_start = True
    #: a local start takes a moment, and counts
    starting_s = 0.0

    def __init__(
        self, data_dir: Path, idle_timeout_s: float, environment: Mapping[str, str] | None = None
    ) -> None:
        self.data_dir = data_dir
        self.idle_timeout_s = idle_timeout_s
        self._environment = os.environ if environment is None else environment
        self._process: subprocess.Popen[bytes] | None = None

    async def ensure(self) -> str:
        """Return the endpoint of the folder's daemon, started if need be."""
        await asyncio.to_thread(self._ensure)
        return socket_endpoint(self.data_dir)

    def _ensure(self) -> None:
        _children[:] = [child for child in _children if child.poll() is None]
        if not self.data_dir.is_dir():
            raise LaunchError(
                f"the data folder {self.data_dir} does not exist",
                "Create it and put the organizations' databases there (`org-123.db`), or set "
                "another folder with --data.",
            )
        state = state_folder(self.data_dir)
        try:
            # The folder of another user is for root alone, who may start that user's daemon.
            owners = (self.data_dir.stat().st_uid,) if os.geteuid() == 0 else ()
            private_folder(state, owners)
            prepare_socket_folder(self.data_dir)
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            lock = os.open(state / "launch.lock", flags, 0o600)
        except OSError as error:
            if sqlite_files.is_disk_full(error):
                raise _disk_full(self.data_dir, str(error.strerror)) from None
            raise LaunchError(
                f"cannot write to the data folder {self.data_dir}: {error.strerror}",
                "Check ownership and permissions.",
            ) from None
        deadline = time.monotonic() + START_TIMEOUT_S
        try:
            self._take(lock, deadline)
            if not self._running():
                self._start(state, deadline)
        finally:
            os.close(lock)

    def _is_disk_full(self, output: str) -> bool:
        """Return whether a daemon ended because a disk is full: by its output, or without one."""
        if any(words in output for words in _FULL_DISK_WORDS):
            return True
        folders = (self.data_dir, Path(tempfile.gettempdir()))
        return any(shutil.disk_usage(folder).free < _LITTLE_BYTES for folder in folders)

    def stop(self) -> None:
        """End the daemon that this launcher started, if it did, and wait until it has ended."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(START_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _take(self, lock: int, deadline: float) -> None:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                if time.monotonic() > deadline:
                    raise LaunchError(
                        f"another client is still starting a daemon for {self.data_dir}",
                        f"Check {state_folder(self.data_dir) / 'daemon.log'}.",
                    ) from None
                time.sleep(_POLL_S)
            else:
                return

    def _running(self) -> bool:
        """Return whether a daemon holds the folder's lock and its socket is there."""
        try:
            lock = os.open(state_folder(self.data_dir) / "lock", os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return socket_path(self.data_dir).is_socket()
        finally:
            os.close(lock)
        return False

    def _spawn(self, command: list[str], log: Path) -> tuple[subprocess.Popen[bytes], int]:
        """Run a command with its output in the log; returns the process and the log's size."""
        environment = {
            name: value
            for name, value in self._environment.items()
            if not name.startswith("NUITKA_")
        }
        with open(log, "ab", opener=private_opener) as output:
            position = output.tell()
            process = subprocess.Popen(
                command,
                executable=compiled_program(),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        return process, position

    def _start(self, state: Path, deadline: float) -> None:
        """Start a daemon and wait until it listens. Raises `LaunchError`."""
        log = state / "daemon.log"
        command = [
            *daemon_command(),
            "serve",
            "--data",
            str(self.data_dir),
            "--idle-timeout",
            f"{self.idle_timeout_s:g}",
        ]
        while True:
            socket_path(self.data_dir).unlink(missing_ok=True)
            process, position = self._spawn(command, log)
            while not self._running():
                code = process.poll()
                if code == _EXIT_LOCKED and time.monotonic() < deadline:
                    break  # an earlier daemon is exiting and still held the folder
                if code is not None and self._is_disk_full(said := _tail(log, position)):
                    raise _disk_full(self.data_dir, said)
                if code is not None:
                    raise LaunchError(
                        f"the daemon could not be started (exit code {code}): "
                        f"{_tail(log, position)}",
                        f"See its log: {log}",
                    )
                if time.monotonic() > deadline:
                    process.terminate()
                    raise LaunchError(
                        f"the daemon did not listen within {START_TIMEOUT_S:g} seconds: "
                        f"{_tail(log, position)}",
                        f"See its log: {log}",
                    )
                time.sleep(_POLL_S)
            else:
                _children.append(process)
                self._process = process
                return
            time.sleep(_POLL_S * 5)


def _disk_full(data_dir: Path, text: str) -> LaunchError:
    """Return the error for a daemon that cannot start as a disk is full."""
    error = LaunchError(
        f"the daemon for {data_dir} cannot start: a disk is full "
        f"({sqlite_files.free_space(data_dir)}): {text}",
        "Free space in the data folder and in the temporary folder (TMPDIR), or extend the volume.",
    )
    error.code = ErrorCode.DISK_FULL
    return error


def _tail(log: Path, position: int) -> str:
    with log.open("rb") as file:
        file.seek(position)
        lines = file.read().decode("utf-8", "replace").splitlines()
    return " | ".join(line.strip() for line in lines[-LOG_TAIL_LINES:]) or "no output"
