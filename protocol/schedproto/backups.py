"""Data of `schedctl backup`: the backups of an organization's file."""

from __future__ import annotations

import msgspec


class Backup(msgspec.Struct, frozen=True, kw_only=True):
    """One state of the file that can be restored. created_at: UTC, `YYYY-MM-DD HH:MM:SS`.

    size_bytes: of the file as it was.   stored_bytes: the space it needs in addition to the
    backups before it.
    """

    backup_id: str
    created_at: str
    run_id: str = ""
    size_bytes: int = 0
    stored_bytes: int = 0


class BackupList(msgspec.Struct, frozen=True, kw_only=True):
    """The backups of an organization, newest first. restored: the one just restored, if any."""

    organization: str
    backups: list[Backup] = []
    restored: str | None = None
