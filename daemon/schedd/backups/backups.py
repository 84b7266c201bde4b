"""Rolling backups of an organization's file: complete copies, and patches of changed pages.

A *chain* is one copy (`ID.db`, a plain SQLite file) and the patches after it (`ID.patch`). Each
state in it can be restored. `index.json` lists the states. It is replaced atomically, as the last
step, so a kill at any moment leaves the earlier backups intact; files that the index does not list
are removed. Data is read back after it is written, before the index lists it.
"""

from __future__ import annotations

import datetime as dt
import errno
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import ClassVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from schedproto import Backup, ErrorCode, SchedulerError, sqlite_files

from . import pages
from .pages import Digests

INDEX, DIGESTS = "index.json", ".digests"
#: A new copy is made if more than this share of the pages has changed since the last one.
MAX_CHANGED = 0.5
_TIME = "%Y-%m-%d %H:%M:%S"


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A stored state.

    kind: `copy` or `patch`.   whole: the digest of the complete state (`pages.whole`).
    fingerprint: of the database when it was backed up (`pages.fingerprint`).
    """

    backup_id: str
    kind: str
    created_at: str
    run_id: str
    size_bytes: int
    page_size: int
    stored_bytes: int
    whole: str
    fingerprint: str

    @property
    def file(self) -> str:
        """Return the name of the file that holds the state."""
        return self.backup_id + (".db" if self.kind == "copy" else ".patch")


class PatchEnd(msgspec.Struct, frozen=True):
    """The trailer of a patch.

    A patch has the pages, then their numbers (u4, from 0), then this, then its length.
    """

    pages: int
    page_size: int
    size_bytes: int

    LENGTH_BYTES: ClassVar[int] = 4


class Index(msgspec.Struct, frozen=True):
    """All stored states, oldest first. A chain is a copy and the patches up to the next copy.

    Example:

        chain = backups.index().chain_of(backup_id)  # a copy, then patches
    """

    entries: list[Entry] = []

    def chain_of(self, backup_id: str) -> list[Entry]:
        """Return the copy and the patches that make up a state; empty if it is unknown."""
        chain: list[Entry] = []
        for entry in self.entries:
            chain = [entry] if entry.kind == "copy" else [*chain, entry]
            if entry.backup_id == backup_id:
                return chain
        return []


def no_backup(reason: str, path: Path) -> SchedulerError:
    """Return the error for a backup that is missing or was changed."""
    return SchedulerError(
        ErrorCode.BACKUP_DAMAGED,
        f"invalid backup: {reason}",
        hint="Choose another backup (`schedctl backup list`); nothing was changed.",
        details={"path": str(path)},
    )


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Translate errors of the operating system in the block; a full disk has its own code."""
    try:
        yield
    except OSError as error:
        message = f"cannot create a backup in {folder}: {error.strerror or error}"
        if sqlite_files.is_disk_full(error):
            raise sqlite_files.disk_full(
                message,
                "Free space on the volume or extend it, reduce SCHEDD_BACKUP_DAYS (0 for no "
                "backups), or run in mode highperf. The file is unchanged.",
                folder,
            ) from None
        raise SchedulerError(
            ErrorCode.BACKUP_FAILED,
            message,
            hint="Check the permissions of the folder. The organization's file is unchanged.",
            details={"path": str(folder)},
        ) from None


class Backups:
    """The backups of one organization in a folder.

    keep_days: how long a state is kept.   now: returns the time in UTC.

    Example:

        backups = Backups(backup_folder(data, "org-123"), 7.0, utc_now)
        backup_id = backups.make(descriptor, run_id)
        restore(backups, backup_id, database)
    """

    def __init__(self, folder: Path, keep_days: float, now: Callable[[], dt.datetime]) -> None:
        self.folder, self.keep_days, self._now = folder, keep_days, now

    def index(self) -> Index:
        """Return the stored states; none if the folder has no readable index."""
        try:
            return msgspec.json.decode((self.folder / INDEX).read_bytes(), type=Index)
        except (OSError, msgspec.DecodeError):
            return Index()

    def check_present(self, backup_id: str) -> None:
        """Raise `backup_failed` unless all files of a backup are still in the folder."""
        chain = self.index().chain_of(backup_id)
        if not chain or not all((self.folder / entry.file).exists() for entry in chain):
            raise SchedulerError(
                ErrorCode.BACKUP_FAILED,
                f"the backup {backup_id} was removed before the run ended",
                hint="Nothing was changed. Submit again when no other program changes the folder.",
                details={"path": str(self.folder)},
            )

    def list(self) -> list[Backup]:
        """Return the states that can be restored, newest first."""
        return [
            Backup(
                backup_id=entry.backup_id,
                created_at=entry.created_at,
                run_id=entry.run_id,
                size_bytes=entry.size_bytes,
                stored_bytes=entry.stored_bytes,
            )
            for entry in reversed(self.index().entries)
        ]

    # Making ---------------------------------------------------------------------------------------

    def make(self, descriptor: int, run_id: str) -> str:
        """Store the current state of a file and return its backup id; blocks.

        descriptor: the file, open for reading. Nothing changes it meanwhile, and its write-ahead
        log is empty. It must stay open as long as this process has SQLite connections to the file:
        closing it would drop their locks (POSIX).

        Raises `SchedulerError` (`disk_full`, `backup_failed`); the earlier backups then stay.
        """
        with disk_errors(self.folder):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            index = self.index()
            mark = pages.fingerprint(descriptor)
            if index.entries and index.entries[-1].fingerprint == mark:
                return index.entries[-1].backup_id
            self._sweep(index)
            backup_id = self._new_id(index)
            try:
                entry = self._make(descriptor, backup_id, run_id, mark, index)
                self._write_index(self._without_old(Index([*index.entries, entry])))
            except BaseException:
                self._sweep(index)
                raise
            self._sweep(self.index())
            return backup_id

    def _new_id(self, index: Index) -> str:
        number = 1 + max(
            (int(entry.backup_id.rpartition("-")[2]) for entry in index.entries), default=0
        )
        return f"{self._now():%Y%m%d}-{number:04d}"

    def _make(self, descriptor: int, backup_id: str, run_id: str, mark: str, index: Index) -> Entry:
        size_bytes = os.fstat(descriptor).st_size
        page_size = pages.page_size_of(os.pread(descriptor, 100, 0))
        digests = pages.digests_of(descriptor, size_bytes, page_size)
        changed = self._changed(index, page_size, digests)
        if changed is None or len(changed) > len(digests) * MAX_CHANGED:
            kind = "copy"
            self._copy(descriptor, size_bytes, digests, page_size, backup_id)
        else:
            kind = "patch"
            self._patch(descriptor, size_bytes, digests, page_size, backup_id, changed)
        entry = Entry(
            backup_id=backup_id,
            kind=kind,
            created_at=self._now().strftime(_TIME),
            run_id=run_id,
            size_bytes=size_bytes,
            page_size=page_size,
            stored_bytes=0,
            whole=pages.whole(digests),
            fingerprint=mark,
        )
        sqlite_files.write_file(self.folder / (backup_id + DIGESTS), digests.tobytes())
        return msgspec.structs.replace(
            entry, stored_bytes=(self.folder / entry.file).stat().st_size
        )

    def _changed(self, index: Index, page_size: int, digests: Digests) -> NDArray[np.int64] | None:
        """Return the pages that differ from the newest state, None if a copy has to be made."""
        if not index.entries or index.entries[-1].page_size != page_size:
            return None
        chain = index.chain_of(index.entries[-1].backup_id)
        before = self._digests_before(chain[-1]) if self._can_grow(chain) else None
        if before is None:
            return None

        common = min(len(before), len(digests))
        differs = np.ones(len(digests), np.bool_)
        differs[:common] = (digests[:common] != before[:common]).any(axis=1)
        return np.flatnonzero(differs)

    def _can_grow(self, chain: Sequence[Entry]) -> bool:
        """Return whether a chain is complete, and neither too large nor too old for a patch."""
        patched_bytes = sum(entry.stored_bytes for entry in chain[1:])
        started_at = dt.datetime.strptime(chain[0].created_at, _TIME).replace(tzinfo=dt.UTC)
        return (
            patched_bytes <= chain[0].size_bytes * MAX_CHANGED
            and self._now() - started_at <= dt.timedelta(days=self.keep_days)
            and all((self.folder / entry.file).is_file() for entry in chain)
        )

    def _digests_before(self, newest: Entry) -> Digests | None:
        """Return the digests of the newest state's pages, None if they are missing or damaged."""
        try:
            raw = (self.folder / (newest.backup_id + DIGESTS)).read_bytes()
        except OSError:
            return None
        if len(raw) % 16:
            return None
        digests = np.frombuffer(raw, np.uint64).reshape(-1, 2)
        return digests if pages.whole(digests) == newest.whole else None

    def _copy(
        self, descriptor: int, size_bytes: int, digests: Digests, page_size: int, backup_id: str
    ) -> None:
        """Write a copy of the complete file, and verify it."""
        path = self.folder / f"{backup_id}.db"
        with path.open("xb") as file:
            os.fchmod(file.fileno(), 0o600)
            sqlite_files.copy_content(descriptor, file.fileno(), size_bytes)
            os.fsync(file.fileno())
        with path.open("rb") as file:
            written = pages.digests_of(file.fileno(), size_bytes, page_size)
        if not np.array_equal(digests, written):
            raise OSError(errno.EIO, "the data read back differs from the data written")

    def _patch(
        self,
        descriptor: int,
        size_bytes: int,
        digests: Digests,
        page_size: int,
        backup_id: str,
        changed: NDArray[np.int64],
    ) -> None:
        """Write a patch with the pages that changed, and verify it."""
        with (self.folder / f"{backup_id}.patch").open("x+b") as file:
            os.fchmod(file.fileno(), 0o600)
            for first, block in pages.blocks(descriptor, size_bytes, page_size):
                chosen = changed[
                    np.searchsorted(changed, first) : np.searchsorted(changed, first + len(block))
                ]
                if len(chosen):
                    file.write(np.ascontiguousarray(block[chosen - first]).data)
            end = msgspec.json.encode(PatchEnd(len(changed), page_size, size_bytes))
            length = len(end).to_bytes(PatchEnd.LENGTH_BYTES, "little")
            file.write(changed.astype("<u4").tobytes() + end + length)
            file.flush()
            os.fsync(file.fileno())
            written = pages.digests_of(file.fileno(), len(changed) * page_size, page_size)
            if not np.array_equal(written, digests[changed]):
                raise OSError(errno.EIO, "the data read back differs from the data written")

    # The folder -----------------------------------------------------------------------------------

    def _without_old(self, index: Index) -> Index:
        """Return the index without chains that have only expired states; the newest one stays."""
        chains: list[list[Entry]] = []
        for entry in index.entries:
            if entry.kind == "copy":
                chains.append([])
            chains[-1].append(entry)
        limit = (self._now() - dt.timedelta(days=self.keep_days)).strftime(_TIME)
        kept = [chain for chain in chains[:-1] if chain[-1].created_at >= limit]
        return Index([entry for chain in (*kept, chains[-1]) for entry in chain])

    def _write_index(self, index: Index) -> None:
        # The files that the index names are durable before it is.
        sqlite_files.sync_folder(self.folder)
        content = msgspec.json.format(msgspec.json.encode(index), indent=1)
        sqlite_files.write_file(self.folder / INDEX, content)
        sqlite_files.sync_folder(self.folder)

    def _sweep(self, index: Index) -> None:
        """Remove files that the index does not list.

        They are leftovers of a kill, expired chains, or digests of older states.
        """
        named = {INDEX, *(entry.file for entry in index.entries)}
        if index.entries:
            named.add(index.entries[-1].backup_id + DIGESTS)
        for path in self.folder.iterdir():
            if path.name not in named:
                with suppress(OSError):
                    path.unlink()
