"""The backup that a reliable run makes of the file before its first write."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

from schedd.backups.backups import Backups, disk_errors
from schedd.store import maintenance
from schedd.store.connection import check_file
from schedproto import JobSpec, Mode
from schedproto.layout import temporary_folder

from .context import RunContext


class PreRunBackup:
    """The backup of one run: made at most once, and only if the run is about to write.

    Use `backup_scope` to create it.
    """

    def __init__(
        self, database: Path, backups: Backups | None, run_id: str, descriptor: int
    ) -> None:
        self._database = database
        self._backups = backups
        self._run_id = run_id
        self._descriptor = descriptor
        #: set when the backup is complete
        self.backup_id: str | None = None

    def prepare(self, connection: apsw.Connection) -> None:
        """Copy the log into the file, if nobody has to wait for it; before the transaction."""
        if self._backups is not None:
            maintenance.empty_log(connection)

    def check(self) -> None:
        """Raise if the backup that was made is gone, before the run relies on it."""
        if self._backups is not None and self.backup_id is not None:
            self._backups.check_present(self.backup_id)

    def make(self) -> None:
        """Back up the state in which the run's transaction began, unless that is done.

        The transaction must have the write lock.
        """
        if self._backups is None or self.backup_id is not None:
            return
        if maintenance.log_is_empty(self._database):
            self.backup_id = self._backups.make(self._descriptor, self._run_id)
            return
        # Somebody reads an older state, so a part of the database is in the log: SQLite's backup
        # makes one file of both.
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
def backup_scope(spec: JobSpec, database: Path, context: RunContext) -> Iterator[PreRunBackup]:
    """Provide the backup of a job. Enter before SQLite opens the file, leave after it is closed.

    Closing any descriptor of a file drops all locks that this process has on it (POSIX), SQLite's
    among them.

        with backup_scope(spec, database, context) as backup:
            connection = open_writer(database, mode)
            backup.prepare(connection)
            connection.execute("BEGIN IMMEDIATE")
            backup.make()
    """
    wanted = context.backups is not None and spec.mode == Mode.RELIABLE and not spec.dry_run
    descriptor = -1
    if wanted:
        check_file(database)  # the opening of a named pipe would wait for its other end
        try:
            descriptor = os.open(database, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            wanted = False  # SQLite will report why the file cannot be opened
    try:
        yield PreRunBackup(
            database, context.backups if wanted else None, context.run_id, descriptor
        )
    finally:
        if descriptor >= 0:
            os.close(descriptor)
