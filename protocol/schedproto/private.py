"""Folders and files that only their owner may use.

Names such as `/tmp/schedd-1000` can be guessed, so another user may have created them first, or put
a symbolic link there. These functions create what is missing and refuse what is not safe to use.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

FOLDER_MODE, FILE_MODE = 0o700, 0o600


def private_folder(path: Path, owners: Iterable[int] = ()) -> None:
    """Create a folder with mode 0700, or check an existing one.

    A folder of this user gets the mode 0700. A folder of one of `owners` (user ids) is accepted if
    nobody else can write to it. Root may use the folder of any owner in `owners` only.

    Raises `OSError` if the path is a symbolic link or not a folder, or belongs to somebody else.

        private_folder(Path("/tmp/schedd-1000"))
    """
    with suppress(FileExistsError):
        path.mkdir(mode=FOLDER_MODE)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in {errno.ENOTDIR, errno.ELOOP}:
            message = f"{path} is a symbolic link or not a folder"
            raise NotADirectoryError(errno.ENOTDIR, message) from None
        raise
    try:
        info = os.fstat(descriptor)
        if info.st_uid == os.geteuid():
            if stat.S_IMODE(info.st_mode) != FOLDER_MODE:
                os.fchmod(descriptor, FOLDER_MODE)
        elif info.st_uid not in set(owners):
            message = f"{path} belongs to another user (uid {info.st_uid})"
            raise PermissionError(errno.EPERM, message)
        elif info.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise PermissionError(errno.EPERM, f"other users can write to {path}")
    finally:
        os.close(descriptor)


def private_opener(path: str, flags: int) -> int:
    """Open a file as `open(..., opener=private_opener)`: mode 0600, links are not followed.

    Example:

        with open(path, "xb", opener=private_opener) as file: ...
    """
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)


def open_private_file(path: Path) -> int:
    """Return a descriptor of a file for reading and writing, created if it is missing.

    The file gets the mode 0600. Raises `OSError` if the path is a symbolic link, is not a regular
    file, has further hard links, or belongs to another user: somebody else may have put it there.
    """
    descriptor = private_opener(os.fspath(path), os.O_RDWR | os.O_CREAT | os.O_NONBLOCK)
    info = os.fstat(descriptor)
    if not stat.S_ISREG(info.st_mode) or info.st_nlink > 1 or info.st_uid != os.geteuid():
        os.close(descriptor)
        message = f"{path} exists and is not a file of this user alone; remove it"
        raise PermissionError(errno.EPERM, message)
    os.fchmod(descriptor, FILE_MODE)
    return descriptor
