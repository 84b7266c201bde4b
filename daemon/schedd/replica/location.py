"""A daemon's bucket, and the daemon's name in it. Passed to the workers."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from schedproto import sqlite_files
from schedproto.layout import database_path, replica_folder, state_folder

# A daemon without a bucket loads none of it, and one with a bucket only after it listens.
if TYPE_CHECKING:
    from schedbucket import BucketSettings, Repository, WorkingCopy
    from schedd.backups.backups import Backups

HOLDER_FILE = "holder"
#: The name of a preserved copy with unpublished changes, if there are no backups.
CHANGED_FILE = "changed.db"
REASON = "changed on the volume and not published"


class BucketLocation(msgspec.Struct, frozen=True, kw_only=True):
    """The bucket of a daemon. The secrets stay in the environment, which workers inherit.

        location = BucketLocation(data="/data", holder=holder_name(Path("/data"), None))
        location.repository("org-123").newest()

    data: the data folder.   holder: the daemon's name in leases.   folder, layout: the settings of
    these names, empty if not set.   cache_bytes: limit of the copies on the volume, 0 for none.
    lease_s: duration of a lease.   timeout_s: of one request.
    """

    data: str
    holder: str
    folder: str = ""
    layout: str = ""
    cache_bytes: int = 0
    lease_s: float = 30.0
    timeout_s: float = 120.0

    def settings(self) -> BucketSettings:
        """Return the bucket's settings. Raises `SchedulerError` (`invalid_argument`)."""
        from schedbucket import load_settings  # noqa: PLC0415

        settings = load_settings(
            os.environ, self.folder or None, self.layout or None, self.timeout_s
        )
        assert settings is not None
        return settings

    def name(self) -> str:
        """Return the bucket's name for the log."""
        return f"{self.folder or os.environ.get('BUCKET_NAME', '')} ({self.layout or 'versions'})"

    def repository(self, organization: str) -> Repository:
        """Return an organization's repository."""
        from schedbucket import open_repository, open_store  # noqa: PLC0415

        settings = self.settings()
        return open_repository(settings, open_store(settings), organization)

    def copy(
        self,
        organization: str,
        preserve_changes: Callable[[Path], None],
        check: Callable[[], None] = lambda: None,
    ) -> WorkingCopy:
        """Return the volume's copy of an organization; for the arguments see `WorkingCopy`."""
        from schedbucket import WorkingCopy  # noqa: PLC0415

        data = Path(self.data)
        return WorkingCopy(
            database_path(data, organization),
            replica_folder(data, organization),
            self.repository(organization),
            preserve_changes=preserve_changes,
            check=check,
        )


def holder_name(data: Path, machine_id: str | None) -> str:
    """Return the daemon's name in leases: the same after a restart, unique per data folder.

    So a daemon that replaces a killed one need not wait for that one's lease to expire; the
    folder's lock ensures that no other daemon lives.
    """
    path = state_folder(data) / HOLDER_FILE
    try:
        own = path.read_text().strip()
    except FileNotFoundError:
        own = secrets.token_hex(6)
        path.write_text(own)
    return f"{machine_id or socket.gethostname()}/{own}"


def preserve_local_changes(
    backups: Backups | None, location: BucketLocation, organization: str
) -> Callable[[Path], None]:
    """Return a function that keeps a copy with unpublished changes before it is replaced.

    As a backup, or without backups as one file in the copy's folder.
    """

    def preserve(path: Path) -> None:
        if backups is not None:
            from schedd.backups.restore import back_up_current  # noqa: PLC0415 - rarely needed

            if back_up_current(backups, path, REASON):
                return
        kept = replica_folder(Path(location.data), organization) / CHANGED_FILE
        sqlite_files.move_database(path, kept)

    return preserve
