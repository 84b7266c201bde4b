"""Interface of one organization's file in a bucket: newest version, download, publish.

Two layouts implement it: `versions` (`versions.py`) and `plain` (`plain.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import msgspec

from schedproto import sqlite_files

from .head import Entry, HeadDocument, LeaseState
from .lease import Lease
from .object_store import damaged, digest_of

ROOT = "orgs/"


class VersionRef(msgspec.Struct, frozen=True, kw_only=True):
    """Reference to a version of a file.

    label: changes whenever the content may have changed.   number: increases by one in the layout
    `versions`, 0 in `plain`.   sha256: empty if the writer has not set it.
    """

    label: str
    number: int
    size_bytes: int
    sha256: str


class OtherVersionError(Exception):
    """The bucket has another version than the one that is to be changed or fetched.

    Example:

        try:
            copy.publish()
        except OtherVersionError:
            copy.discard()  # then fetch the newest version, and change it again
    """


class Repository(Protocol):
    """One organization in one layout. Every call blocks, and may raise `SchedulerError`.

        repository = open_repository(settings, open_store(settings), "org-123")
        newest = repository.newest()
        repository.fetch(newest, None, None, Path("org-123.db"))

    `WorkingCopy` is easier to use: it keeps a local file, and transfers only what changed.
    """

    organization: str
    head_document: HeadDocument

    def newest(self, *, cached: bool = False) -> VersionRef | None:
        """Return the newest version, None if there is none.

        cached: as it was read last, if it was.
        """

    def history(self) -> list[Entry]:
        """Return the versions that can be fetched, newest first."""

    def lease(self) -> LeaseState | None:
        """Return the lease, None if nobody has it; as of the last read of the history, if any."""

    def fetch(
        self, wanted: VersionRef, have: VersionRef | None, local_file: Path | None, target: Path
    ) -> int:
        """Download a version to a new file `target`, verify it, and return the bytes transferred.

        have, local_file: a version that is here already, and its file, which is not changed.
        Raises `OtherVersionError` if the version is no longer kept.
        """

    def publish(
        self,
        new: Path,
        base_file: Path | None,
        base: VersionRef | None,
        work: Path,
        *,
        lease: Lease | None = None,
        release: bool = False,
        by: str = "",
        note: str = "",
        check: Callable[[], None] = lambda: None,
    ) -> tuple[VersionRef, int]:
        """Make a file the newest version if `base` still is; return it and the bytes transferred.

        If the file equals `base`, nothing is published: `base` and 0 are returned, and the lease
        stays.

        new: must not change during the call.   base: None for the first version.   base_file: the
        file of `base`, for a patch.   work: a folder for temporary files.
        lease: checked in the same write, and with `release` also released by it. Without one, the
        call waits while another writer's lease is exclusive.

        Raises `OtherVersionError`, or `SchedulerError` (`lease_lost`, `lease_held`).
        """

    def collect(self) -> int:
        """Delete objects that no version needs and nobody can be reading; return their number."""


def verify(path: Path, key: str, size_bytes: int, sha256: str) -> None:
    """Check a downloaded file's size, its SHA-256 (unless empty), and its SQLite structure.

    Raises `SchedulerError` (`bucket_damaged`).
    """
    size = path.stat().st_size
    if size != size_bytes:
        raise damaged(key, f"it produces a file of {size} bytes instead of {size_bytes}")
    with ThreadPoolExecutor(1) as pool:
        check = pool.submit(sqlite_files.quick_check, path)
        if sha256 and digest_of(path) != sha256:
            raise damaged(key, "SHA-256 mismatch of the file")
        fault = check.result()
    if fault is not None:
        raise damaged(key, f"SQLite reports: {fault}")
