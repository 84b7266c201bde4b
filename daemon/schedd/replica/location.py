"""Where a daemon's bucket is and who the daemon is there; travels to its workers."""

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

if (
    TYPE_CHECKING
):  # a daemon without a bucket loads none of it, and one with a bucket after it listens
    from schedbucket import BucketSettings, Copy, Repository
    from schedd.backups.backups import Backups

HOLDER = "holder"
CHANGED = "changed.db"
REASON = "changed on the volume and not published"


class ReplicaPlace(msgspec.Struct, frozen=True, kw_only=True):
    """The bucket of a daemon. The secrets stay in the environment, which workers inherit.

    data: the data folder.   folder, layout: as the settings of these names, empty where not set.
    holder: the daemon's name in leases.   cache_bytes: how much the copies on the volume may
    take, 0 for no limit.   timeout_s: of one request.
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
        """Return what the log calls the bucket."""
        return f"{self.folder or os.environ.get('BUCKET_NAME', '')} ({self.layout or 'versions'})"

    def repository(self, organization: str) -> Repository:
        """Return an organization's part of the bucket."""
        from schedbucket import open_repository, open_store  # noqa: PLC0415

        settings = self.settings()
        return open_repository(settings, open_store(settings), organization)

    def copy(
        self,
        organization: str,
        keep_changed: Callable[[Path], None],
        check: Callable[[], None] = lambda: None,
    ) -> Copy:
        """Return the volume's copy of an organization; see `schedbucket.Copy`."""
        from schedbucket import Copy  # noqa: PLC0415

        data = Path(self.data)
        return Copy(
            database_path(data, organization),
            replica_folder(data, organization),
            self.repository(organization),
            keep_changed=keep_changed,
            check=check,
        )


def holder_name(data: Path, machine_id: str | None) -> str:
    """Return the daemon's name in leases.

    The same after a restart, another one for every data folder and machine.

    A daemon that was killed is succeeded by one of the same name, which therefore need not wait for
    the lease to run
    out: the folder's lock says that no other one lives.
    """
    path = state_folder(data) / HOLDER
    try:
        own = path.read_text().strip()
    except FileNotFoundError:
        own = secrets.token_hex(6)
        path.write_text(own)
    return f"{machine_id or socket.gethostname()}/{own}"


def keeper_of_changed(
    backups: Backups | None, place: ReplicaPlace, organization: str
) -> Callable[[Path], None]:
    """Return what keeps a changed copy.

    As a backup, else as one file beside what is known of the copy.
    """

    def keep(path: Path) -> None:
        if backups is not None:
            from schedd.backups.restore import back_up_current  # noqa: PLC0415 - rarely needed

            if back_up_current(backups, path, REASON):
                return
        kept = replica_folder(Path(place.data), organization) / CHANGED
        sqlite_files.move_database(path, kept)

    return keep
