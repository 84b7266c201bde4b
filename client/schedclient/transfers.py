"""Push and pull: transfers of an organization's file. Only blocks that differ are sent.

Files are read and written in threads. The standard library's SQLite makes the copy that is sent and
checks the one that was fetched. A file gets its name when it is complete.
"""

from __future__ import annotations

import asyncio
import glob
import os
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from schedproto import ErrorCode, ErrorInfo, SchedulerError
from schedproto.message import ReplyT, Request
from schedproto.private import open_private_file, private_opener
from schedproto.transfers import (
    BLOCK_BYTES,
    DIGEST_BYTES,
    MAX_BLOCKS,
    MAX_DIGESTS,
    CloseTransfer,
    CommitPush,
    GetBlocks,
    GetDigests,
    OfferDigests,
    OpenPull,
    OpenPush,
    PutBlocks,
    Transfer,
    TransferResult,
    blocks_of,
    differing,
    digests_of,
    whole_digest,
)

from .connection import new_request_id
from .errors import ConnectionFailedError, LocalFileError, TransferError, from_info


class Requester(Protocol):
    """Sends a request and returns its reply; see `Session.request`."""

    async def __call__(self, message: Request[ReplyT], reply_s: float) -> ReplyT:
        """Raise `SchedulerClientError` if there is no reply."""


#: Called with the bytes that have arrived so far, and the total.
OnBytes = Callable[[int, int], None]

#: Concurrent messages with blocks.
_WINDOW = 4
#: How long the daemon may take to copy and check a large file.
_COPY_S = 1800.0
#: Attempts at a transfer that the daemon does not know any more because it restarted.
_ATTEMPTS = 4
#: Blocks of one read.
_STEP_BLOCKS = 1024


@contextmanager
def _local(path: Path, doing: str) -> Iterator[None]:
    """Translate errors of the operating system or SQLite about a local file."""
    try:
        yield
    except OSError as error:
        raise LocalFileError(
            f"{doing} {path} failed: {error.strerror or error}",
            "Check the path, its permissions and the free disk space.",
        ) from None
    except sqlite3.Error as error:
        from schedproto import sqlite_files  # noqa: PLC0415 - only errors need it

        if sqlite_files.is_disk_full(error):
            raise LocalFileError(f"{doing} {path} failed: {error}", "Free disk space.") from None
        raise LocalFileError(
            f"{doing} {path} failed: {error}",
            "The file must be a complete SQLite database that no other program keeps locked.",
        ) from None


def _read_digests(path: Path) -> bytes:
    """Return the digests of a file's blocks; none if there is no file."""
    digests = bytearray()
    with suppress(FileNotFoundError), path.open("rb", buffering=0) as file:
        while data := file.read(_STEP_BLOCKS * BLOCK_BYTES):
            digests += digests_of(data)
    return bytes(digests)


# Push ---------------------------------------------------------------------------------------------


async def push(
    request: Requester, path: Path, organization: str, on_bytes: OnBytes | None = None
) -> TransferResult:
    """Replace the organization's file with a local database; see `AsyncClient.push`."""
    began = time.monotonic()
    copy = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.push")
    try:
        await asyncio.to_thread(_copy, path, copy)
        with _local(path, "reading"):
            digests = await asyncio.to_thread(_read_digests, copy)
            size = copy.stat().st_size
        moved = await _retry(lambda: _push(request, copy, organization, digests, size, on_bytes))
    finally:
        copy.unlink(missing_ok=True)
    return TransferResult(
        organization=organization,
        path=str(path),
        direction="push",
        size_bytes=size,
        moved_bytes=moved,
        digest=whole_digest(digests),
        wall_s=round(time.monotonic() - began, 3),
    )


def _copy(path: Path, copy: Path) -> None:
    """Write the committed state of a database, which may be in use, into a new file."""
    with _local(path, "reading"):
        if not path.is_file():
            raise FileNotFoundError(2, "no such file")
        if not path.stat().st_size:
            raise sqlite3.DatabaseError("the file is empty")
        _remove_left_copies(path)
        source = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=10.0)
        try:
            with open(copy, "xb", opener=private_opener):
                pass  # SQLite would create it as the umask says
            target = sqlite3.connect(copy)
            try:
                target.execute("PRAGMA synchronous = OFF")
                source.backup(target, pages=-1)
            finally:
                target.close()
        finally:
            source.close()


def _remove_left_copies(path: Path) -> None:
    """Remove copies that killed processes of this machine left next to the file."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.push"):
        pid = left.name.split(".")[-2].partition("-")[0]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            left.unlink(missing_ok=True)


async def _push(
    request: Requester,
    copy: Path,
    organization: str,
    digests: bytes,
    size: int,
    on_bytes: OnBytes | None,
) -> int:
    message = OpenPush(
        id=new_request_id(),
        organization=organization,
        size_bytes=size,
        digest=whole_digest(digests),
    )
    transfer = (await request(message, _COPY_S)).transfer
    _check_block_size(transfer)
    moved = 0
    for first in range(0, blocks_of(size), MAX_DIGESTS):
        offer = OfferDigests(
            id=new_request_id(),
            organization=organization,
            transfer_id=transfer.transfer_id,
            first=first,
            digests=digests[first * DIGEST_BYTES : (first + MAX_DIGESTS) * DIGEST_BYTES],
        )
        wanted = (await request(offer, _COPY_S)).blocks
        there = min(size, (first + MAX_DIGESTS) * BLOCK_BYTES) - len(wanted) * BLOCK_BYTES
        moved += await _send(
            request, copy, transfer, wanted, partial(_notify_sent, on_bytes, there, size)
        )
    commit = CommitPush(
        id=new_request_id(), organization=organization, transfer_id=transfer.transfer_id
    )
    await request(commit, _COPY_S)
    _notify(on_bytes, size, size)
    return moved


async def _send(
    request: Requester,
    copy: Path,
    transfer: Transfer,
    wanted: list[int],
    on_sent: Callable[[int], None],
) -> int:
    sent = 0

    async def put(numbers: list[int]) -> None:
        nonlocal sent
        with _local(copy, "reading"):
            data = await asyncio.to_thread(_read_blocks, copy, numbers)
        message = PutBlocks(
            id=new_request_id(),
            organization=transfer.organization,
            transfer_id=transfer.transfer_id,
            blocks=numbers,
            data=data,
        )
        await request(message, _COPY_S)
        sent += len(data)
        on_sent(sent)

    await _in_window(put, wanted)
    return sent


def _read_blocks(path: Path, numbers: list[int]) -> bytes:
    with path.open("rb", buffering=0) as file:
        return b"".join(
            os.pread(file.fileno(), BLOCK_BYTES, number * BLOCK_BYTES) for number in numbers
        )


# Pull ---------------------------------------------------------------------------------------------


async def pull(
    request: Requester, organization: str, path: Path, on_bytes: OnBytes | None = None
) -> TransferResult:
    """Download an organization's file; see `AsyncClient.pull`."""
    began = time.monotonic()
    _refuse_if_in_use(path)
    unfinished = path.with_name(f".{path.name}.pull")
    size, digest, moved = await _retry(
        lambda: _pull(request, organization, path, unfinished, on_bytes)
    )
    with _local(path, "writing"):
        await asyncio.to_thread(_finish, unfinished, path)
    return TransferResult(
        organization=organization,
        path=str(path),
        direction="pull",
        size_bytes=size,
        moved_bytes=moved,
        digest=digest,
        wall_s=round(time.monotonic() - began, 3),
    )


def _refuse_if_in_use(path: Path) -> None:
    """Raise if another program has the file open: its unwritten changes would be lost."""
    from schedproto import sqlite_files  # noqa: PLC0415 - only pulls need it

    with _local(path, "writing"):
        sidecar = sqlite_files.unmerged_sidecar(path)
    if sidecar is not None:
        raise LocalFileError(
            f"{path} is in use: {sidecar.name} exists next to it",
            "Close the program that uses it, or choose another file.",
        )


async def _pull(
    request: Requester, organization: str, path: Path, unfinished: Path, on_bytes: OnBytes | None
) -> tuple[int, str, int]:
    transfer = (
        await request(OpenPull(id=new_request_id(), organization=organization), _COPY_S)
    ).transfer
    _check_block_size(transfer)
    size = transfer.size_bytes
    digests = bytearray()
    while len(digests) < blocks_of(size) * DIGEST_BYTES:
        message = GetDigests(
            id=new_request_id(),
            organization=organization,
            transfer_id=transfer.transfer_id,
            first=len(digests) // DIGEST_BYTES,
            count=MAX_DIGESTS,
        )
        digests += (await request(message, _COPY_S)).digests
    if whole_digest(bytes(digests)) != transfer.digest:
        raise damaged("the digests of the file")
    with _local(path, "writing"):
        wanted = await asyncio.to_thread(_prepare, unfinished, path, bytes(digests), size)
    there = size - len(wanted) * BLOCK_BYTES
    moved = 0

    async def get(numbers: list[int]) -> None:
        nonlocal moved
        message = GetBlocks(
            id=new_request_id(),
            organization=organization,
            transfer_id=transfer.transfer_id,
            blocks=numbers,
        )
        data = (await request(message, _COPY_S)).data
        with _local(path, "writing"):
            await asyncio.to_thread(_write_blocks, unfinished, numbers, data, digests, size)
        moved += len(data)
        _notify(on_bytes, there + moved, size)

    await _in_window(get, wanted)
    close = CloseTransfer(
        id=new_request_id(), organization=organization, transfer_id=transfer.transfer_id
    )
    await request(close, _COPY_S)
    with _local(path, "writing"):
        if await asyncio.to_thread(_read_digests, unfinished) != digests:
            raise damaged(str(unfinished))
    _notify(on_bytes, size, size)
    return size, transfer.digest, moved


def _prepare(unfinished: Path, path: Path, digests: bytes, size: int) -> list[int]:
    """Fill the unfinished file with blocks that an earlier attempt or an older file has.

    Returns the numbers of the missing blocks.
    """
    descriptor = open_private_file(unfinished)
    try:
        os.ftruncate(descriptor, size)
    finally:
        os.close(descriptor)
    missing = set(differing(digests, _read_digests(unfinished)))
    older = set(missing) - set(differing(digests, _read_digests(path))) if missing else set()
    if older:
        with path.open("rb", buffering=0) as source, unfinished.open("r+b", buffering=0) as target:
            for number in sorted(older):
                block = os.pread(source.fileno(), BLOCK_BYTES, number * BLOCK_BYTES)
                os.pwrite(target.fileno(), block, number * BLOCK_BYTES)
    return sorted(missing - older)


def _write_blocks(
    unfinished: Path, numbers: list[int], data: bytes, digests: bytearray, size: int
) -> None:
    taken = 0
    with unfinished.open("r+b", buffering=0) as file:
        for number in numbers:
            block = data[taken : taken + min(BLOCK_BYTES, size - number * BLOCK_BYTES)]
            taken += len(block)
            if digests_of(block) != digests[number * DIGEST_BYTES : (number + 1) * DIGEST_BYTES]:
                raise damaged(f"block {number}")
            os.pwrite(file.fileno(), block, number * BLOCK_BYTES)


def _finish(unfinished: Path, path: Path) -> None:
    """Check the fetched file with SQLite, sync it to the disk and rename it."""
    from schedproto import sqlite_files  # noqa: PLC0415 - only pulls need it

    fault = sqlite_files.quick_check(unfinished)
    if fault is not None:
        unfinished.unlink()
        raise damaged(f"the downloaded file ({fault})")

    _refuse_if_in_use(path)
    sqlite_files.replace_database(unfinished, path)


# Both ---------------------------------------------------------------------------------------------


def _check_block_size(transfer: Transfer) -> None:
    """Raise if the daemon uses other blocks: then none of the digests could be equal."""
    if transfer.block_bytes != BLOCK_BYTES:
        info = ErrorInfo(
            code=ErrorCode.UNSUPPORTED_PROTOCOL,
            message=f"the daemon uses blocks of {transfer.block_bytes} bytes, not {BLOCK_BYTES}",
            hint="Client and daemon have different versions; upgrade the older one.",
        )
        raise from_info(info)


def damaged(what: str) -> TransferError:
    """Return the error for data that was corrupted in transfer."""
    cause = SchedulerError(
        ErrorCode.TRANSFER_DAMAGED,
        f"{what} was corrupted in transfer",
        hint="Retry; received blocks are kept.",
    )
    return TransferError(cause.info())


def _notify_sent(on_bytes: OnBytes | None, there: int, size: int, sent: int) -> None:
    _notify(on_bytes, there + sent, size)


def _notify(on_bytes: OnBytes | None, there: int, size: int) -> None:
    if on_bytes is not None:
        on_bytes(max(0, min(there, size)), size)


async def _in_window(work: Callable[[list[int]], Any], numbers: list[int]) -> None:
    """Do the work for all blocks, several in a message, several messages concurrently."""
    pieces = iter(
        [numbers[start : start + MAX_BLOCKS] for start in range(0, len(numbers), MAX_BLOCKS)]
    )

    async def worker() -> None:
        for piece in pieces:
            await work(piece)

    async with asyncio.TaskGroup() as group:
        for _ in range(_WINDOW):
            group.create_task(worker())


async def _retry(transfer: Callable[[], Any]) -> Any:
    """Run a transfer, and retry it if the daemon restarted. Received blocks are not sent again."""
    for left in reversed(range(_ATTEMPTS)):
        try:
            return await _first_error(transfer)
        except TransferError as error:
            if not (left and error.retryable):
                raise
        except ConnectionFailedError as error:
            if not (left and error.retryable):
                raise
        await asyncio.sleep(0.2)
    raise AssertionError("unreachable")


async def _first_error(transfer: Callable[[], Any]) -> Any:
    """Run a transfer; if several messages fail at once, raise the first error as it is."""
    try:
        return await transfer()
    except* Exception as group:  # noqa: BLE001 - the first is raised below
        found: BaseException = group
        while isinstance(found, BaseExceptionGroup):
            found = found.exceptions[0]
        failed = found
    raise failed
