"""Rolling backups of an organization's file: a whole copy now and then, and between them only the pages that changed.

A *chain* is one copy (`ID.db`, a plain SQLite file) and the patches after it (`ID.patch`); every state of it can be
restored. `index.json` names what there is and is replaced as a whole, last, so that a kill at any moment leaves the
earlier backups as they were; what no index names is swept away. What was written is read back before it counts.
"""

from __future__ import annotations

import datetime as dt
import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
import numpy as np

from schedproto import Backup, ErrorCode, SchedulerError

from . import pages
from .pages import Digester, Digests

INDEX, DIGESTS = "index.json", ".digests"
_TIME = "%Y-%m-%d %H:%M:%S"


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One state that is kept. kind: `copy` or `patch`; whole: the digest of the whole state (`pages.whole`)."""

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
        """Return the name of the file that holds it."""
        return self.backup_id + (".db" if self.kind == "copy" else ".patch")


class PatchHead(msgspec.Struct, frozen=True):
    """The first line of a patch; page numbers (u4, from 0) and the pages follow."""

    pages: int
    page_size: int
    size_bytes: int


class Index(msgspec.Struct, frozen=True):
    """All states that are kept, oldest first: each chain is a copy and the patches up to the next copy."""

    entries: list[Entry] = []

    def chain_of(self, backup_id: str) -> list[Entry]:
        """Return the copy and the patches that make a state, or nothing."""
        chain: list[Entry] = []
        for entry in self.entries:
            chain = [entry] if entry.kind == "copy" else [*chain, entry]
            if entry.backup_id == backup_id:
                return chain
        return []


def no_backup(reason: str, path: Path) -> SchedulerError:
    """Return the error of a backup that is not what it was when it was made."""
    return SchedulerError(
        ErrorCode.BACKUP_DAMAGED,
        f"the backup cannot be used: {reason}",
        hint="Choose another backup (`schedctl backup list`); nothing was changed.",
        details={"path": str(path)},
    )


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Tell a full disk from other trouble with the backup folder."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise SchedulerError(
            ErrorCode.DISK_FULL if full else ErrorCode.BACKUP_FAILED,
            f"no backup could be made in {folder}: {error.strerror or error}",
            hint="Free space on the volume or extend it, keep backups for fewer days (SCHEDD_BACKUP_DAYS, 0 for "
            "none), or run in the mode highperf; the file is as it was before."
            if full
            else "Check the rights of the folder; the organization's file is as it was before.",
            details={"path": str(folder)},
        ) from None


class Backups:
    """The backups of one organization in `folder`. keep_days: how long a state is kept; now: the time in UTC."""

    def __init__(self, folder: Path, keep_days: float, now: Callable[[], dt.datetime]) -> None:
        self.folder, self.keep_days, self._now = folder, keep_days, now

    def index(self) -> Index:
        """Return what is kept; a folder without a readable index keeps nothing."""
        try:
            return msgspec.json.decode((self.folder / INDEX).read_bytes(), type=Index)
        except (OSError, msgspec.DecodeError):
            return Index()

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

    # Making ----------------------------------------------------------------------------------------------

    def make(self, descriptor: int, run_id: str) -> str:
        """Keep the present state of a file and return the id under which it can be restored.

        descriptor: the file, open for reading, which nobody changes meanwhile and whose write-ahead log is empty. It
        must stay open as long as this process has SQLite connections to the file: closing it would drop their locks.
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
        number = 1 + max((int(entry.backup_id.rpartition("-")[2]) for entry in index.entries), default=0)
        return f"{self._now():%Y%m%d}-{number:04d}"

    def _make(self, descriptor: int, backup_id: str, run_id: str, mark: str, index: Index) -> Entry:
        size_bytes = os.fstat(descriptor).st_size
        page_size = pages.page_size_of(os.pread(descriptor, 100, 0))
        before = self._digests(index, page_size)
        if before is None:
            kind, digests = "copy", self._copy(descriptor, size_bytes, page_size, backup_id)
        else:
            kind, digests = "patch", self._patch(descriptor, size_bytes, page_size, backup_id, before)
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
        self._write(self.folder / (backup_id + DIGESTS), digests.tobytes())
        return msgspec.structs.replace(entry, stored_bytes=(self.folder / entry.file).stat().st_size)

    def _digests(self, index: Index, page_size: int) -> Digests | None:
        """Return the digests of the newest state if a patch to it is the thing to make, None for a new copy."""
        if not index.entries or index.entries[-1].page_size != page_size:
            return None
        chain = index.chain_of(index.entries[-1].backup_id)
        patched = sum(entry.stored_bytes for entry in chain[1:])
        oldest = dt.datetime.strptime(chain[0].created_at, _TIME).replace(tzinfo=dt.UTC)
        if patched > chain[0].size_bytes // 2 or self._now() - oldest > dt.timedelta(days=self.keep_days):
            return None
        if any(not (self.folder / entry.file).is_file() for entry in chain):
            return None
        try:
            raw = (self.folder / (chain[-1].backup_id + DIGESTS)).read_bytes()
        except OSError:
            return None
        digests = np.frombuffer(raw, np.uint64).reshape(-1, 2) if len(raw) % 16 == 0 else np.zeros((0, 2), np.uint64)
        return digests if pages.whole(digests) == chain[-1].whole else None

    def _copy(self, descriptor: int, size_bytes: int, page_size: int, backup_id: str) -> Digests:
        """Copy the whole file, as blocks that the kernel may share where the file system can; read it back."""
        path = self.folder / f"{backup_id}.db"
        with path.open("xb") as file:
            os.fchmod(file.fileno(), 0o600)
            offset = 0
            while offset < size_bytes:
                step = min(64 << 20, size_bytes - offset)
                got = os.copy_file_range(descriptor, file.fileno(), step, offset, offset)
                if not got:
                    raise OSError(errno.EIO, "the file ended while it was copied")
                offset += got
            os.fsync(file.fileno())
        present = pages.digests_of(descriptor, size_bytes, page_size)
        with path.open("rb") as file:
            written = pages.digests_of(file.fileno(), size_bytes, page_size)
        if not np.array_equal(present, written):
            raise OSError(errno.EIO, "what was written is not what was read back")
        return present

    def _patch(self, descriptor: int, size_bytes: int, page_size: int, backup_id: str, before: Digests) -> Digests:
        """Keep the pages that are not what they were; read them back."""
        digester, parts, changed = Digester(page_size), [], []
        path = self.folder / f"{backup_id}.patch"
        body = self.folder / f"{backup_id}.pages"
        with body.open("x+b") as file:
            os.fchmod(file.fileno(), 0o600)
            for first, block in pages.blocks(descriptor, size_bytes, page_size):
                digests = digester.digest(block)
                old = before[first : first + len(block)]
                differs = np.ones(len(block), np.bool_)
                differs[: len(old)] = (digests[: len(old)] != old).any(axis=1)
                chosen = np.flatnonzero(differs)
                if len(chosen):
                    file.write(np.ascontiguousarray(block[chosen]).data)
                    changed.append(first + chosen)
                parts.append(digests)
            digests = np.concatenate(parts)
            numbers = np.concatenate(changed).astype("<u4") if changed else np.zeros(0, "<u4")
            file.flush()
            written = pages.digests_of(file.fileno(), len(numbers) * page_size, page_size)
            if not np.array_equal(written, digests[numbers]):
                raise OSError(errno.EIO, "what was written is not what was read back")
            head = msgspec.json.encode(PatchHead(len(numbers), page_size, size_bytes)) + b"\n" + numbers.tobytes()
            with path.open("xb") as patch:
                os.fchmod(patch.fileno(), 0o600)
                patch.write(head)
                file.seek(0)
                shutil.copyfileobj(file, patch, pages.BLOCK_BYTES)
                patch.flush()
                os.fsync(patch.fileno())
        body.unlink()
        return digests

    # The folder ------------------------------------------------------------------------------------------

    def _without_old(self, index: Index) -> Index:
        """Return the index without the chains all of whose states are too old; the newest chain stays."""
        chains: list[list[Entry]] = []
        for entry in index.entries:
            if entry.kind == "copy":
                chains.append([])
            chains[-1].append(entry)
        limit = (self._now() - dt.timedelta(days=self.keep_days)).strftime(_TIME)
        kept = [chain for chain in chains[:-1] if chain[-1].created_at >= limit]
        return Index([entry for chain in (*kept, chains[-1]) for entry in chain])

    def _write(self, path: Path, content: bytes) -> None:
        """Write a file that is there whole or not at all."""
        temporary = path.with_name(path.name + ".new")
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)

    def _write_index(self, index: Index) -> None:
        self._sync_folder()
        self._write(self.folder / INDEX, msgspec.json.format(msgspec.json.encode(index), indent=1))
        self._sync_folder()

    def _sync_folder(self) -> None:
        descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _sweep(self, index: Index) -> None:
        """Remove what no index names: leftovers of a kill, chains that are too old, digests of older states."""
        named = {INDEX, *(entry.file for entry in index.entries)}
        if index.entries:
            named.add(index.entries[-1].backup_id + DIGESTS)
        for path in self.folder.iterdir():
            if path.name not in named:
                with suppress(OSError):
                    path.unlink()
