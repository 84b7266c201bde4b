"""The check of a local file, outside of any daemon's data folder.

A temporary daemon checks a copy of the file in a temporary folder.

The file is only read, byte by byte; SQLite never opens it, as opening a database can change what is
next to it.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from schedclient.errors import LocalFileError
from schedclient.launch.local import LocalLauncher
from schedclient.sync import Client
from schedproto import sqlite_files
from schedproto.checks import CheckReport
from schedproto.ids import DATABASE_SUFFIX, ORGANIZATION_ID

#: What belongs to a database: the file itself, a write-ahead log, and the journal of a transaction
#: that broke off.
_PARTS = ("", *sqlite_files.DATA_SUFFIXES)
#: How often a file that another program writes to is copied again, and the pause before.
_TRIES, _PAUSE_S = 20, 0.25
_IDLE_TIMEOUT_S = 60.0


def check_file(
    path: Path,
    *,
    as_of: str | None = None,
    config: dict[str, Any] | None = None,
    accept_statuses: Sequence[str] = (),
) -> CheckReport:
    """Check a database in any folder; blocks. Raises `SchedulerClientError`.

    Arguments as in `Client.check`.
    """
    with tempfile.TemporaryDirectory(prefix="schedctl-check-") as folder:
        data = Path(folder)
        organization = path.stem if ORGANIZATION_ID.fullmatch(path.stem) else "file"
        copy_database(path, data / f"{organization}{DATABASE_SUFFIX}")
        launcher = LocalLauncher(data, _IDLE_TIMEOUT_S, _environment())
        try:
            with Client(data=data, launcher=launcher) as client:
                return client.check(
                    organization, as_of=as_of, config=config, accept_statuses=accept_statuses
                )
        finally:
            launcher.stop()


def _environment() -> dict[str, str]:
    """Return the daemon's environment: of its settings, only the default configuration."""
    return {
        name: value
        for name, value in os.environ.items()
        if name == "SCHEDD_DEFAULTS" or not name.startswith(("SCHEDD_", "BUCKET_"))
    }


def copy_database(path: Path, copy: Path) -> None:
    """Copy a database with its log, in one state: none of its files may change meanwhile."""
    try:
        if not path.is_file():
            raise FileNotFoundError(2, "no such file")
        for number in range(_TRIES):
            if number:
                time.sleep(_PAUSE_S)
            before = _states(path)
            for part in _PARTS:
                target = sqlite_files.sidecar(copy, part)
                target.unlink(missing_ok=True)
                if before[part] is not None:
                    shutil.copyfile(sqlite_files.sidecar(path, part), target)
            if _states(path) == before:
                _recover(copy)
                return
    except OSError as error:
        raise LocalFileError(
            f"cannot read {path}: {error.strerror or error}",
            "Check the path, its permissions and the free space in the temporary folder (TMPDIR).",
        ) from None
    raise LocalFileError(
        f"{path} changes continuously, so no consistent copy can be made",
        "Retry while no other program writes to it.",
    )


def _recover(copy: Path) -> None:
    """Have SQLite undo, in the copy, a transaction that broke off; who only reads cannot."""
    if sqlite_files.sidecar(copy, "-journal").exists():
        with suppress(sqlite3.Error), closing(sqlite3.connect(copy)) as connection:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchall()


def _states(path: Path) -> dict[str, tuple[int, int, int] | None]:
    """Return inode, size and time of change of each part, None for one that is not there."""
    states: dict[str, tuple[int, int, int] | None] = {}
    for part in _PARTS:
        try:
            info = sqlite_files.sidecar(path, part).stat()
            states[part] = (info.st_ino, info.st_size, info.st_mtime_ns)
        except FileNotFoundError:
            states[part] = None
    return states
