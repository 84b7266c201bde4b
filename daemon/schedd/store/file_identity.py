"""Which file a path names, so that success is never reported for a file that is gone.

A restore, rsync or a deployment may rename a file over one that is open. SQLite continues with
the open one, which nobody will ever see again.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from schedproto import ErrorCode, SchedulerError


@dataclass(frozen=True)
class FileIdentity:
    """A file as the file system knows it, by the path under which it was opened.

    opened = FileIdentity.of(path)
    ...
    opened.check("The plan was not written.")
    """

    path: Path
    device: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> Self:
        """Return the identity of the file that a path names. Raises `OSError`."""
        info = path.stat()
        return cls(path, info.st_dev, info.st_ino)

    @property
    def is_current(self) -> bool:
        """Return whether the path still names this file."""
        try:
            return self == FileIdentity.of(self.path)
        except OSError:
            return False

    def check(self, consequence: str) -> None:
        """Raise `database_replaced` unless the path still names this file.

        consequence: a sentence that says what that means for what was done.
        """
        if not self.is_current:
            raise replaced(self.path, consequence)


def replaced(path: Path, consequence: str) -> SchedulerError:
    """Return the error for a file that was removed or replaced."""
    return SchedulerError(
        ErrorCode.DATABASE_REPLACED,
        f"{path.name} was removed or replaced by another file while it was in use",
        hint=f"{consequence} Repeat this when no restore, copy or deployment replaces the file.",
        details={"path": str(path)},
    )
