"""The start of a daemon in its data folder: the lock, old workers, temporary files."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from multiprocessing.util import Finalize
from pathlib import Path

from schedproto.layout import prepare_socket_folder
from schedproto.private import private_folder

from .exitcodes import ExitCode, FatalError
from .scratch import scratch_folder

#: How long to wait for the workers of a killed daemon to end.
ORPHANS_TIMEOUT_S = 20.0
_LOCK_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


def lock_folder(data: Path, state: Path) -> int:
    """Create the state folder and lock it; returns the open descriptor. Raises `FatalError`.

    One daemon has one data folder.
    """
    try:
        if not data.is_dir():
            raise FatalError(
                ExitCode.DATA,
                f"the data folder {data} does not exist",
                "Mount the volume there, create the folder, or set another one with --data.",
            )
        private_folder(state, owners=_owners(data))
        prepare_socket_folder(data)
        lock = os.open(state / "lock", _LOCK_FLAGS, 0o600)
    except OSError as error:
        raise FatalError(
            ExitCode.DATA,
            f"the data folder {data} cannot be used: {error.strerror}",
            "Check ownership and permissions.",
        ) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        owner = os.pread(lock, 32, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(lock)
        raise FatalError(
            ExitCode.LOCKED,
            f"the data folder {data} is locked by another daemon (pid {owner})",
            "Use that daemon, or stop it first.",
        ) from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    return lock


def wait_for_old_workers(state: Path) -> Path:
    """Wait until the workers of a killed daemon have ended; they hold a file with a shared lock.

    Returns that file. Raises `FatalError`.
    """
    path = state / "workers.lock"
    descriptor = os.open(path, _LOCK_FLAGS, 0o600)
    deadline = time.monotonic() + ORPHANS_TIMEOUT_S
    try:
        while not _try_lock(descriptor):
            if time.monotonic() > deadline:
                raise FatalError(
                    ExitCode.DATA,
                    "workers of a previous daemon still use the data folder",
                    "Find processes named schedd and stop them.",
                )
            time.sleep(0.02)
    finally:
        os.close(descriptor)
    return path


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _owners(data: Path) -> tuple[int, ...]:
    """Return whose state folder this process may use besides its own user's.

    Root may serve the folder of an ordinary user; a state folder of anybody else was put there.
    """
    return (data.stat().st_uid,) if os.geteuid() == 0 else ()


def remove_temporary(state: Path) -> None:
    """Remove what a killed daemon left: complete copies of organizations' files."""
    shutil.rmtree(state / "temporary", ignore_errors=True)


def make_scratch_folder(data: Path, state: Path) -> Path:
    """Return an empty folder for arrays shared by processes (`scratch`). Raises `FatalError`.

    It is removed when this process ends, or emptied by the next daemon's start.
    """
    try:
        folder = scratch_folder(data, state)
    except OSError as error:
        raise FatalError(
            ExitCode.DATA,
            f"cannot create a folder for running jobs: {error.strerror}",
            "Check ownership and permissions.",
        ) from None

    # multiprocessing keeps the fork server's socket in a temporary folder, which a kill -9 would
    # leave behind. In the scratch folder, the next start removes it.
    tempfile.tempdir = str(folder)
    # The lower priority runs this after multiprocessing's own finalizer, which removes that folder.
    Finalize(None, shutil.rmtree, (folder,), {"ignore_errors": True}, exitpriority=-200)
    return folder
