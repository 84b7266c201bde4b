"""File transfer (push and pull), block by block (`schedproto.transfers`).

A pull reads a copy that is made when it starts, so that it is one state of the file although other
programs write to it. A push fills a file next to the organization's. When that file is complete and
valid, it replaces the organization's in one transaction. If either side is killed, the received
blocks stay and are found again by their digests.
"""

from __future__ import annotations

import datetime as dt
import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from schedd.store.errors import sqlite_errors
from schedd.store.maintenance import check_file, whole_copy
from schedproto import ErrorCode, SchedulerError, sqlite_files
from schedproto.layout import state_folder, transfer_folder
from schedproto.transfers import (
    BLOCK_BYTES,
    DIGEST_BYTES,
    MAX_BLOCKS,
    MAX_DIGESTS,
    CommitPush,
    GetBlocks,
    GetDigests,
    OfferDigests,
    OpenPush,
    PutBlocks,
    Transfer,
    blocks_of,
    differing,
    digests_of,
    whole_digest,
)

#: A pull's copy is removed after this long without a request; an unfinished push after this many
#: days.
PULL_EXPIRY_S, PUSH_EXPIRY_DAYS = 600.0, 7.0
#: Maximum copies for pulls at the same time. At the limit, a copy without a request for this long
#: is removed for a new one.
MAX_PULLS, PULL_IDLE_S = 8, 60.0
#: A copy leaves this much of the volume free for the journal and running jobs: a share, and bytes.
_RESERVED_SHARE, _MAX_RESERVED_BYTES = 0.05, 64 << 20
#: Blocks read at once.
_STEP_BLOCKS = 1024
#: The largest file that SQLite can make (sqlite.org/limits.html).
MAX_BYTES = 281 * 10**12


@dataclass
class _Open:
    """A current transfer; `path` is the pull's copy or the push's partial file."""

    organization: str
    path: Path
    size_bytes: int
    digest: str
    push: bool
    #: digests of all blocks; of a push, as far as they were offered
    digests: bytearray = field(default_factory=bytearray)
    used_at: float = field(default_factory=time.monotonic)
    lock: threading.Lock = field(default_factory=threading.Lock)


class Transfers:
    """The transfers of one data folder. Methods block and are called from several threads.

    Example:

        transfers = Transfers(data_dir, now)
        transfer = transfers.open_pull("org-123", data_dir / "org-123.db")
        digests = transfers.digests(request)  # a `GetDigests` for `transfer.transfer_id`
        transfers.forget(transfer.transfer_id)
    """

    def __init__(self, data: Path, now: Callable[[], dt.datetime]) -> None:
        self._data, self._now = data, now
        self._open: dict[str, _Open] = {}
        #: copies of pulls that are being made
        self._making: set[Path] = set()
        self._lock = threading.Lock()
        self._sweep()

    # Pull -----------------------------------------------------------------------------------------

    def open_pull(self, organization: str, path: Path) -> Transfer:
        """Copy an organization's file for a client; path: that file."""
        self._sweep()
        if not path.exists():
            raise SchedulerError(
                ErrorCode.DATABASE_MISSING,
                f"there is no file {path.name}",
                hint="`schedctl info` lists the existing files.",
            )
        transfer_id = secrets.token_hex(8)
        with _disk_errors(path):
            folder = transfer_folder(self._data, organization)
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            copy = folder / f"pull-{transfer_id}.db"
            with self._reserved(copy):
                try:
                    _check_room(path, folder)
                    with sqlite_errors(path):
                        whole_copy(path, copy)
                    digests = bytearray().join(digests_of(data) for _, data in _read(copy))
                except BaseException:
                    copy.unlink(missing_ok=True)
                    raise
                size = copy.stat().st_size
                pull = _Open(
                    organization,
                    copy,
                    size,
                    whole_digest(bytes(digests)),
                    push=False,
                    digests=digests,
                )
                answer = self._begin(transfer_id, pull)
        # An idle daemon gets no requests, so nothing else would remove the copy.
        timer = threading.Timer(PULL_EXPIRY_S + 1.0, self._sweep)
        timer.daemon = True
        timer.start()
        return answer

    @contextmanager
    def _reserved(self, copy: Path) -> Iterator[None]:
        """Count a copy that is being made among the `MAX_PULLS` of them."""
        with self._lock:
            pulls = [(other.used_at, key) for key, other in self._open.items() if not other.push]
            if len(pulls) + len(self._making) >= MAX_PULLS:
                used_at, oldest = min(pulls, default=(time.monotonic(), ""))
                if time.monotonic() - used_at < PULL_IDLE_S:
                    raise SchedulerError(
                        ErrorCode.QUEUE_FULL,
                        f"{MAX_PULLS} downloads are running",
                        hint="Retry when one of them has ended.",
                    )
                self.forget(oldest)
            self._making.add(copy)
        try:
            yield
        finally:
            with self._lock:
                self._making.discard(copy)

    def digests(self, request: GetDigests) -> bytes:
        """Return digests of a pull's blocks, `DIGEST_BYTES` each."""
        pull = self._find(request.transfer_id, push=False)
        if request.first < 0 or not 0 < request.count <= MAX_DIGESTS:
            raise SchedulerError(ErrorCode.INVALID_ARGUMENT, f"count must be 1-{MAX_DIGESTS}")
        start = request.first * DIGEST_BYTES
        return bytes(pull.digests[start : start + request.count * DIGEST_BYTES])

    def blocks(self, request: GetBlocks) -> bytes:
        """Return blocks of a pull, in the order of the request."""
        pull = self._find(request.transfer_id, push=False)
        _check_numbers(request.blocks, blocks_of(pull.size_bytes))
        with _disk_errors(pull.path), _descriptor(pull.path, os.O_RDONLY) as descriptor:
            return b"".join(
                os.pread(descriptor, BLOCK_BYTES, number * BLOCK_BYTES) for number in request.blocks
            )

    # Push -----------------------------------------------------------------------------------------

    def open_push(self, request: OpenPush) -> Transfer:
        """Prepare the file that a push fills."""
        self._sweep()
        if not 0 < request.size_bytes <= MAX_BYTES:
            raise SchedulerError(
                ErrorCode.INVALID_ARGUMENT,
                f"a file of {request.size_bytes} bytes is not a database",
            )
        for transfer_id, other in list(self._open.items()):
            # The newest push continues; the other one's transfer is unknown from now on.
            if other.push and other.organization == request.organization:
                self._open.pop(transfer_id, None)
        folder = transfer_folder(self._data, request.organization)
        partial = folder / "push.partial"
        with _disk_errors(partial):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            existing = partial.stat().st_size if partial.exists() else 0
            stats = os.statvfs(folder)
            if request.size_bytes - existing > stats.f_bavail * stats.f_frsize:
                raise _full(partial, "not enough space on the volume for the file")
            with _descriptor(partial, os.O_RDWR | os.O_CREAT) as descriptor:
                os.ftruncate(descriptor, request.size_bytes)
        push = _Open(request.organization, partial, request.size_bytes, request.digest, push=True)
        return self._begin(secrets.token_hex(8), push)

    def offer(self, request: OfferDigests, path: Path) -> list[int]:
        """Note digests of blocks; copy the blocks that the file has; return the numbers of others.

        path: the organization's file.
        """
        push = self._find(request.transfer_id, push=True)
        count = len(request.digests) // DIGEST_BYTES
        if len(request.digests) % DIGEST_BYTES or not 0 < count <= MAX_DIGESTS:
            raise SchedulerError(
                ErrorCode.INVALID_ARGUMENT, f"an offer must have 1-{MAX_DIGESTS} digests"
            )
        with push.lock, _disk_errors(push.path), _descriptor(push.path, os.O_RDWR) as descriptor:
            start, at = request.first * DIGEST_BYTES, request.first * BLOCK_BYTES
            if not 0 <= start <= len(push.digests) or request.first + count > blocks_of(
                push.size_bytes
            ):
                raise SchedulerError(
                    ErrorCode.INVALID_ARGUMENT,
                    "digests must be offered in order, starting with the first",
                )
            push.digests[start : start + len(request.digests)] = request.digests
            data = os.pread(descriptor, count * BLOCK_BYTES, at)
            wanted = differing(request.digests, digests_of(data))
            if wanted and path.is_file():
                wanted = self._copy_existing(descriptor, path, request, wanted)
        return [request.first + number for number in wanted]

    @staticmethod
    def _copy_existing(
        descriptor: int, path: Path, request: OfferDigests, wanted: list[int]
    ) -> list[int]:
        # Another program may be writing there, so the digests of what was read decide.
        with _descriptor(path, os.O_RDONLY) as existing:
            data = os.pread(
                existing,
                len(request.digests) // DIGEST_BYTES * BLOCK_BYTES,
                request.first * BLOCK_BYTES,
            )
        missing = set(differing(request.digests, digests_of(data)))
        for number in wanted:
            if number not in missing:
                block = data[number * BLOCK_BYTES : (number + 1) * BLOCK_BYTES]
                os.pwrite(descriptor, block, (request.first + number) * BLOCK_BYTES)
        return [number for number in wanted if number in missing]

    def put(self, request: PutBlocks) -> None:
        """Store blocks of a push; each must have its digest."""
        push = self._find(request.transfer_id, push=True)
        _check_numbers(request.blocks, len(push.digests) // DIGEST_BYTES)
        with push.lock, _disk_errors(push.path), _descriptor(push.path, os.O_RDWR) as descriptor:
            taken = 0
            for number in request.blocks:
                length = min(BLOCK_BYTES, push.size_bytes - number * BLOCK_BYTES)
                block = request.data[taken : taken + length]
                taken += length
                if (
                    digests_of(block)
                    != push.digests[number * DIGEST_BYTES : (number + 1) * DIGEST_BYTES]
                ):
                    raise SchedulerError(
                        ErrorCode.TRANSFER_DAMAGED,
                        f"block {number} was corrupted in transfer",
                        hint="Push again.",
                    )
                os.pwrite(descriptor, block, number * BLOCK_BYTES)

    def commit(self, request: CommitPush, replace: Callable[[Path], None]) -> None:
        """Check the complete file and replace the organization's file by it.

        replace: moves the file at the given path there.
        """
        push = self._find(request.transfer_id, push=True)
        with push.lock, _disk_errors(push.path):
            sqlite_files.sync_file(push.path)
            found = bytearray().join(digests_of(data) for _, data in _read(push.path))
            if whole_digest(bytes(found)) != push.digest:
                raise SchedulerError(
                    ErrorCode.TRANSFER_DAMAGED,
                    "the received file differs from the announced one",
                    hint="Push again; received blocks are kept.",
                )
            check_file(push.path, request.organization)
            replace(push.path)
            push.path.unlink(missing_ok=True)
        self._open.pop(request.transfer_id, None)

    # Bookkeeping ----------------------------------------------------------------------------------

    def _begin(self, transfer_id: str, transfer: _Open) -> Transfer:
        self._open[transfer_id] = transfer
        return Transfer(
            transfer_id=transfer_id,
            organization=transfer.organization,
            size_bytes=transfer.size_bytes,
            digest=transfer.digest,
        )

    def _find(self, transfer_id: str, *, push: bool) -> _Open:
        found = self._open.get(transfer_id)
        if found is None or found.push != push:
            raise SchedulerError(
                ErrorCode.TRANSFER_UNKNOWN,
                "unknown transfer",
                hint="The daemon restarted, or another client started the same transfer. Retry; "
                "received blocks are kept.",
            )
        found.used_at = time.monotonic()
        return found

    def forget(self, transfer_id: str) -> None:
        """End a transfer and remove a pull's copy."""
        found = self._open.pop(transfer_id, None)
        if found is not None and not found.push:
            found.path.unlink(missing_ok=True)

    def _sweep(self) -> None:
        """Remove old copies of pulls, and unfinished pushes of days ago."""
        with self._lock:
            for transfer_id, found in list(self._open.items()):
                if not found.push and time.monotonic() - found.used_at > PULL_EXPIRY_S:
                    self.forget(transfer_id)
            known = {found.path for found in self._open.values()} | self._making
            # SQLite keeps a journal next to a copy while it writes it.
            known |= {path.with_name(f"{path.name}-journal") for path in self._making}
            oldest = self._now().timestamp() - PUSH_EXPIRY_DAYS * 86_400
            with suppress(OSError):
                for path in (state_folder(self._data) / "transfers").glob("*/*"):
                    if path not in known and (
                        path.name.startswith("pull-") or path.stat().st_mtime < oldest
                    ):
                        path.unlink()


def _check_room(database: Path, folder: Path) -> None:
    """Raise `SchedulerError` if a copy of a database would fill the volume."""
    size = database.stat().st_size
    with suppress(FileNotFoundError):
        size += database.with_name(database.name + "-wal").stat().st_size
    stats = os.statvfs(folder)
    total = stats.f_blocks * stats.f_frsize
    reserved = min(_MAX_RESERVED_BYTES, int(total * _RESERVED_SHARE))
    if size + reserved > stats.f_bavail * stats.f_frsize:
        raise _full(folder / database.name, f"not enough space for a copy of {database.name}")


def _check_numbers(numbers: list[int], count: int) -> None:
    if not 0 < len(numbers) <= MAX_BLOCKS or not all(0 <= number < count for number in numbers):
        raise SchedulerError(
            ErrorCode.INVALID_ARGUMENT, f"block numbers out of range (1-{MAX_BLOCKS} per request)"
        )


def _read(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the offset and the content of a file, some complete blocks at a time."""
    with path.open("rb", buffering=0) as file:
        at = 0
        while data := file.read(_STEP_BLOCKS * BLOCK_BYTES):
            yield at, data
            at += len(data)


@contextmanager
def _descriptor(path: Path, flags: int) -> Iterator[int]:
    descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _full(path: Path, what: str) -> SchedulerError:
    free = shutil.disk_usage(path.parent).free
    return sqlite_files.disk_full(
        f"{what}: {free:,} bytes are free",
        "Free space on the volume or extend it; the organization's file is unchanged.",
        path,
    )


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    """Translate errors of the file system; a full disk has its own error."""
    try:
        yield
    except OSError as error:
        if sqlite_files.is_disk_full(error):
            raise _full(path, f"not enough space to transfer {path.parent.name}") from None
        raise SchedulerError(
            ErrorCode.DATABASE_UNREADABLE,
            f"a file of the transfer cannot be used: {error.strerror or error}",
            hint="Check the volume; the organization's file is unchanged.",
        ) from None
