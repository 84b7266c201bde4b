"""The folder for arrays that processes share while a job runs."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from schedproto.private import private_folder

MEMORY = Path("/dev/shm")  # noqa: S108 - names there are checked and are for this user alone
#: The memory is used if at least this much of it is free.
MIN_FREE_BYTES = 1 << 30


def scratch_folder(data: Path, state: Path, memory: Path = MEMORY) -> Path:
    """Return an empty folder of this user (mode 0700), in memory if the machine has room for it.

    Its name is made from the data folder, so that the next start finds and removes what a killed
    daemon left. If another user has created that name, a random one is appended: what is there
    belongs to somebody else and is not used.

    data: the data folder.   state: the folder for the scratch folder if it is not in memory. Raises
    `OSError`.
    """
    if not _has_room(memory):
        folder = state / "scratch"
        _remove(folder)
        private_folder(folder)
        return folder

    identity = data.resolve().stat()
    name = f"schedd-{os.getuid()}-{identity.st_dev:x}-{identity.st_ino:x}"
    for left in (memory / name, *memory.glob(f"{name}-*")):
        _remove(left)
    try:
        (memory / name).mkdir(mode=0o700)
    except FileExistsError:
        return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=memory))
    return memory / name


def _has_room(memory: Path) -> bool:
    if not memory.is_dir() or not os.access(memory, os.W_OK):
        return False
    stats = os.statvfs(memory)
    return stats.f_bavail * stats.f_frsize > MIN_FREE_BYTES


def _remove(path: Path) -> None:
    """Remove what an earlier daemon of this user left; a link, not what it points to."""
    try:
        if path.lstat().st_uid != os.geteuid():
            return
        if path.is_symlink():
            path.unlink()
        else:
            shutil.rmtree(path, ignore_errors=True)
    except FileNotFoundError:
        return
