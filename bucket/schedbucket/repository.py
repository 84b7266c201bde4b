"""One organization's file as the bucket has it.

What its newest version is, how to get it, how to make a newer one.

Two layouts with one face: `versions` (`versions.py`) and `plain` (`plain.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import msgspec

from schedproto import sqlite_files

from .head import Entry, LeaseState, Register
from .lease import Lease
from .object_store import damaged, digest_of

ROOT = "orgs/"


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """A version that somebody has or could have. label: changes whenever the content may have.

    number: counts up in the layout `versions`, 0 in `plain`.   sha256: empty where nobody has said
    it.
    """

    label: str
    number: int
    size_bytes: int
    sha256: str


class OtherVersionError(Exception):
    """Publishing found another version than the one that the changes were made to."""


class Repository(Protocol):
    """One organization in one layout. Every call may raise `SchedulerError`."""

    organization: str
    register: Register

    def newest(self, *, seen: bool = False) -> Known | None:
        """Return the newest version, None if there is none.

        seen: as it was read last, where that is known.
        """

    def history(self) -> list[Entry]:
        """Return the versions that can be fetched, newest first."""

    def lease(self) -> LeaseState | None:
        """Return who may write, None if nobody has the lease.

        As it was when the history was read, if it was.
        """

    def fetch(self, wanted: Known, have: Known | None, copy: Path | None, target: Path) -> int:
        """Make a new file `target` a version, verified, and return the bytes that came.

        have, copy: a version that is here already, and its file, which is left as it is.
        Raises `OtherVersionError` if the version is not kept any more.
        """

    def publish(
        self,
        new: Path,
        base: Path | None,
        known: Known | None,
        work: Path,
        *,
        lease: Lease | None = None,
        release: bool = False,
        by: str = "",
        note: str = "",
        check: Callable[[], None] = lambda: None,
    ) -> tuple[Known, int]:
        """Make a file the newest version, if `known` still is.

        Returns what it is now, and the bytes sent.

        new: a file that nobody changes meanwhile.   base: the file of `known`, for a patch.
        known: None for the first version.   work: a folder for what is sent.   lease: checked in
        the same write, and released by it if `release`.   A file that is what `known` is makes no
        version: `known` and 0 come back, the lease stays. Raises `OtherVersionError`, or
        `SchedulerError` (`lease_lost`).
        """

    def collect(self) -> int:
        """Remove objects that no version needs and nobody can be reading; returns how many."""


def verify(path: Path, key: str, size_bytes: int, sha256: str) -> None:
    """Raise `SchedulerError` (`bucket_damaged`) unless a file is what it should be, and SQLite finds it sound."""
    size = path.stat().st_size
    if size != size_bytes:
        raise damaged(key, f"it produces a file of {size} bytes instead of {size_bytes}")
    with ThreadPoolExecutor(1) as beside:
        check = beside.submit(sqlite_files.quick_check, path)
        if sha256 and digest_of(path) != sha256:
            raise damaged(key, "SHA-256 mismatch of the file")
        fault = check.result()
    if fault is not None:
        raise damaged(key, f"SQLite reports: {fault}")
