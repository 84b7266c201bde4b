"""From root to an ordinary user.

A volume that a machine mounts belongs to root, the daemon need not.

Started as root with a user set, the daemon gives the data folder and its files to that user and
becomes it, before it listens and before it starts a worker. Started as anybody else it stays who it
is.
"""

from __future__ import annotations

import os
import pwd
from pathlib import Path

from schedproto.layout import state_folder

from .exitcodes import ExitCode, FatalError


def become(user: str | None, data: Path) -> bool:
    """Become the user if this process is root; returns whether it did. Raises `FatalError`."""
    if user is None or os.geteuid() != 0 or user == "root":
        return False
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise FatalError(
            ExitCode.USAGE,
            f"there is no user {user!r} on this machine",
            "Set SCHEDD_USER to an existing user, or unset it.",
        ) from None
    try:
        _give(data, entry.pw_uid, entry.pw_gid)
        os.setgroups([])
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)
    except OSError as error:
        raise FatalError(
            ExitCode.DATA,
            f"cannot change the owner of the data folder {data} to {user}: {error.strerror}",
            "Mount the volume so that its owner can be changed, or unset SCHEDD_USER.",
        ) from None
    os.environ["HOME"] = entry.pw_dir
    return True


def _give(data: Path, uid: int, gid: int) -> None:
    """Give the folder, its files and the daemon's own folder to a user.

    Links are given, not followed.
    """
    own = state_folder(data)
    found = [data, *(path for path in data.iterdir() if path.is_file() or path.is_symlink())]
    if own.is_dir():
        found += [own, *own.rglob("*")]
    for path in found:
        stats = path.lstat()
        if (stats.st_uid, stats.st_gid) != (uid, gid):
            os.chown(path, uid, gid, follow_symlinks=False)
