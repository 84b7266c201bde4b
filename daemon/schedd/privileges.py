"""Drop of privileges, from root to an ordinary user.

A mounted volume belongs to root; the daemon does not need to run as root. Started as root with a
user set, it changes the owner of the data folder to that user and drops its privileges, before it
listens and before it starts a worker. Otherwise it changes nothing.
"""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path

from schedproto.layout import STATE_FOLDER

from .exitcodes import ExitCode, FatalError
from .hardening import forbid_new_privileges


def drop_privileges(user: str | None, data: Path) -> bool:
    """Run as `user` from now on, if this process is root; returns whether it was.

    All groups except the user's own are dropped. Raises `FatalError`.
    """
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
        _chown_data(data, entry.pw_uid, entry.pw_gid)
        os.setgroups([])
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)
    except OSError as error:
        raise FatalError(
            ExitCode.DATA,
            f"cannot change the owner of the data folder {data} to {user}: {error.strerror}",
            "Mount the volume so that its owner can be changed, or unset SCHEDD_USER.",
        ) from None
    forbid_new_privileges()
    os.environ["HOME"] = entry.pw_dir
    return True


def _chown_data(data: Path, uid: int, gid: int) -> None:
    """Change the owner of the data folder, its files and the state folder.

    The data folder itself may be reached by a symbolic link: the operator names it. Below it, links
    are not followed: the user may have replaced anything there, to have root give away other files.
    So everything is named relative to an open folder.
    """
    folder = os.open(data, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fchown(folder, uid, gid)
        # Not `Path.iterdir`: of the open folder, whatever its path is now.
        for name in os.listdir(folder):  # noqa: PTH208 - see above
            mode = os.lstat(name, dir_fd=folder).st_mode
            if stat.S_ISREG(mode) or (stat.S_ISLNK(mode) and name != STATE_FOLDER):
                _chown(name, folder, data, uid, gid)
            elif stat.S_ISLNK(mode):
                raise FatalError(
                    ExitCode.DATA,
                    f"{data / name} is a symbolic link",
                    "Remove the link: the daemon keeps its state in the data folder itself.",
                )
            elif name == STATE_FOLDER and stat.S_ISDIR(mode):
                _chown_tree(name, folder, data, uid, gid)
    finally:
        os.close(folder)


def _chown_tree(name: str, folder: int, path: Path, uid: int, gid: int) -> None:
    # fwalk compares each folder that it has opened with the entry that it found, so that it does
    # not leave the tree by a link that replaces a folder meanwhile.
    for inner, folders, files, opened in os.fwalk(name, dir_fd=folder):
        os.fchown(opened, uid, gid)
        for entry in (*folders, *files):
            _chown(entry, opened, path / inner, uid, gid)


def _chown(name: str, folder: int, path: Path, uid: int, gid: int) -> None:
    """Change the owner of an entry of an open folder; of a link, not of what it points to."""
    info = os.lstat(name, dir_fd=folder)
    if (info.st_uid, info.st_gid) == (uid, gid):
        return
    if stat.S_ISREG(info.st_mode) and info.st_nlink > 1 and info.st_uid != uid:
        raise FatalError(
            ExitCode.DATA,
            f"{path / name} has other hard links and belongs to another user (uid {info.st_uid})",
            "Replace it by a copy: a change of its owner would change the other names' file too.",
        )
    os.chown(name, uid, gid, dir_fd=folder, follow_symlinks=False)
