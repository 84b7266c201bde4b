"""What a reliable run does before its first write: keep the file's present state as a backup."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

from schedd.backups.backups import Backups, disk_errors
from schedd.store import maintenance
from schedproto import JobSpec, Mode
from schedproto.layout import temporary_folder

from .context import RunContext


class Keeper:
    """Makes the backup of one run, at most once, and only if the run comes to write anything."""

    def __init__(
        self, database: Path, backups: Backups | None, run_id: str, descriptor: int
    ) -> None:
        self._database, self._backups, self._run_id, self._descriptor = (
            database,
            backups,
            run_id,
            descriptor,
        )
        #: set once there is a backup of this run's beginning
        self.backup_id: str | None = None

    def prepare(self, connection: apsw.Connection) -> None:
        """Before the run's transaction.

        Have the file hold everything, if that goes without waiting.
        """
        if self._backups is not None:
            maintenance.empty_log(connection)

    def keep(self) -> None:
        """Keep the state that the run's transaction, which has the write lock, has begun with."""
        if self._backups is None or self.backup_id is not None:
            return
        if maintenance.log_is_empty(self._database):
            self.backup_id = self._backups.make(self._descriptor, self._run_id)
            return
        # Somebody reads an older state, so a part of the database lies in the log: SQLite puts it
        # together.
        with disk_errors(self._backups.folder):
            self._backups.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(
                prefix="backup-", dir=temporary_folder(self._database.parent)
            ) as folder:
                copy = Path(folder) / self._database.name
                maintenance.whole_copy(self._database, copy)
                descriptor = os.open(copy, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    self.backup_id = self._backups.make(descriptor, self._run_id)
                finally:
                    os.close(descriptor)


@contextmanager
def keeper(spec: JobSpec, database: Path, context: RunContext) -> Iterator[Keeper]:
    """Provide the keeper of a job.

    Opened before SQLite opens the file and closed after SQLite has closed it.

    Closing any descriptor of a file drops all locks that this process has on it (POSIX), SQLite's
    among them.
    """
    wanted = context.backups is not None and spec.mode == Mode.RELIABLE and not spec.dry_run
    descriptor = -1
    if wanted:
        try:
            descriptor = os.open(database, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            wanted = False  # opening it with SQLite says what is wrong
    try:
        yield Keeper(database, context.backups if wanted else None, context.run_id, descriptor)
    finally:
        if descriptor >= 0:
            os.close(descriptor)
