"""Snapshots (compressed files) and patches (the blocks that turn one file into another).

A patch has a header, the changed blocks in groups, and their numbers; docs/BUCKET.md specifies it
byte by byte. The blocks of a group are compressed with the old ones as the dictionary. Content that
only moved within its block, as rows do when others are inserted before them, then costs almost
nothing; a difference of the bytes (XOR) needs more than twice as much (docs/PERFORMANCE.md).
"""

from __future__ import annotations

import os
import struct
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import numpy as np
import zstandard
from numpy.typing import NDArray

MAGIC = b"SCHEDPAT"
BLOCK = 4096
#: Blocks in a group. Patches get larger with fewer and slower with more.
GROUP = 128
#: magic, size of the old file, size of the new file, blocks, offset of their numbers
_HEADER = struct.Struct("<8sQQQQ")
_LENGTH = struct.Struct("<I")
#: Blocks compared at a time.
_STEP_BLOCKS = 1024
_LEVEL = 3
_STEP_BYTES = 1 << 20
_THREADS = min(4, os.cpu_count() or 1)

_Blocks = NDArray[np.uint64]


class PatchError(ValueError):
    """The data is not a patch, or not one for this file."""


class TooLargeError(Exception):
    """The patch would be larger than the caller allows."""


def _read(file: BinaryIO, count: int) -> _Blocks:
    """Return the next blocks as 64-bit words; beyond the end of the file they are zero."""
    buffer = bytearray(count * BLOCK)
    # A separate statement: Nuitka cannot clone a memoryview in a tuple's assignment.
    view = memoryview(buffer)
    done = 0
    while done < len(buffer) and (got := file.readinto(view[done:])):  # type: ignore[attr-defined]
        done += got
    return np.frombuffer(buffer, np.uint64).reshape(count, BLOCK // 8)


def _differences(
    old: Path, new: Path, check: Callable[[], None]
) -> Iterator[tuple[NDArray[np.int64], _Blocks, _Blocks]]:
    """Yield numbers, old and new content of the blocks that differ, in file order."""
    blocks = -(-new.stat().st_size // BLOCK)
    with old.open("rb", buffering=0) as before, new.open("rb", buffering=0) as after:
        for first in range(0, blocks, _STEP_BLOCKS):
            check()
            count = min(_STEP_BLOCKS, blocks - first)
            was, now = _read(before, count), _read(after, count)
            at = np.flatnonzero((was != now).any(axis=1))
            if len(at):
                yield at + first, was[at], now[at]


def _groups(
    differences: Iterator[tuple[NDArray[np.int64], _Blocks, _Blocks]],
    numbers: list[NDArray[np.int64]],
) -> Iterator[tuple[_Blocks, _Blocks]]:
    """Yield the blocks, old and new, in groups of `GROUP`; appends their numbers to `numbers`."""
    empty = np.empty((0, BLOCK // 8), np.uint64)
    was, now = empty, empty
    for at, more_was, more_now in differences:
        numbers.append(at)
        was, now = np.concatenate((was, more_was)), np.concatenate((now, more_now))
        complete = len(was) // GROUP * GROUP
        for first in range(0, complete, GROUP):
            yield was[first : first + GROUP], now[first : first + GROUP]
        was, now = was[complete:], now[complete:]
    if len(was):
        yield was, now


def _pack(was: _Blocks, now: _Blocks) -> bytes:
    """Return new blocks, compressed with the old ones as the dictionary."""
    dictionary = zstandard.ZstdCompressionDict(
        was.tobytes(), dict_type=zstandard.DICT_TYPE_RAWCONTENT
    )
    parameters = zstandard.ZstdCompressionParameters.from_level(
        _LEVEL, source_size=now.nbytes, dict_size=was.nbytes, write_checksum=False
    )
    return zstandard.ZstdCompressor(dict_data=dictionary, compression_params=parameters).compress(
        now.tobytes()
    )


def make_patch(
    old: Path,
    new: Path,
    target: Path,
    check: Callable[[], None] = lambda: None,
    max_bytes: float = float("inf"),
) -> int:
    """Write the patch from one file to another into a new file; return its number of blocks.

        make_patch(Path("old.db"), Path("new.db"), Path("patch"))
        apply_patch(Path("patch"), Path("old.db"))    # old.db now equals new.db

    check: called often; an exception that it raises ends the work.
    Raises `TooLargeError` if the patch exceeds `max_bytes`.
    """
    numbers: list[NDArray[np.int64]] = []
    waiting: deque[Future[bytes]] = deque()
    with target.open("xb") as out, ThreadPoolExecutor(_THREADS) as pool:

        def write_one() -> None:
            packed = waiting.popleft().result()
            out.write(_LENGTH.pack(len(packed)) + packed)
            if out.tell() > max_bytes:
                raise TooLargeError

        out.write(bytes(_HEADER.size))
        for was, now in _groups(_differences(old, new, check), numbers):
            waiting.append(pool.submit(_pack, was, now))
            if len(waiting) > 2 * _THREADS:
                write_one()
        while waiting:
            write_one()
        blocks, begin = sum(map(len, numbers)), out.tell()
        if blocks:
            gaps = np.diff(np.concatenate(numbers), prepend=0).astype("<u4")
            out.write(zstandard.ZstdCompressor(level=_LEVEL).compress(gaps.tobytes()))
        out.seek(0)
        out.write(_HEADER.pack(MAGIC, old.stat().st_size, new.stat().st_size, blocks, begin))
    return blocks


def apply_patch(patch: Path, file: Path) -> None:
    """Turn the old file into the new one, in place. After a `PatchError` the file is neither."""
    try:
        with patch.open("rb") as source, file.open("rb+", buffering=0) as target:
            old_size, new_size, numbers = _contents(source)
            if old_size != os.fstat(target.fileno()).st_size:
                raise PatchError(f"it is for a file of {old_size} bytes")
            if len(numbers) and int(numbers[-1]) * BLOCK >= new_size:
                raise PatchError("a block beyond the end")
            target.truncate(-(-max(old_size, new_size) // BLOCK) * BLOCK)
            for first in range(0, len(numbers), GROUP):
                _apply_group(source, target.fileno(), numbers[first : first + GROUP].tolist())
            target.truncate(new_size)
    except zstandard.ZstdError as error:
        raise PatchError(str(error)) from None


def _contents(source: BinaryIO) -> tuple[int, int, NDArray[np.int64]]:
    """Return the old size, the new size and the blocks' numbers; seeks to the first group."""
    magic, old_size, new_size, blocks, begin = _HEADER.unpack(_take(source, _HEADER.size))
    if magic != MAGIC:
        raise PatchError("it does not start with a patch header")
    if blocks > -(-new_size // BLOCK):
        raise PatchError(f"{blocks} blocks for a file of {new_size} bytes")
    source.seek(begin)
    if not blocks:
        if source.read(1):
            raise PatchError("it is longer than its header says")
        return old_size, new_size, np.empty(0, np.int64)
    gaps = zstandard.ZstdDecompressor().decompress(
        source.read(), max_output_size=4 * blocks, allow_extra_data=False
    )
    if len(gaps) != 4 * blocks:
        raise PatchError("it is truncated")
    source.seek(_HEADER.size)
    return old_size, new_size, np.cumsum(np.frombuffer(gaps, "<u4"), dtype=np.int64)


def _apply_group(source: BinaryIO, target: int, numbers: list[int]) -> None:
    [length] = _LENGTH.unpack(_take(source, _LENGTH.size))
    packed = _take(source, length)
    was = b"".join(os.pread(target, BLOCK, number * BLOCK) for number in numbers)
    dictionary = zstandard.ZstdCompressionDict(was, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    wanted = BLOCK * len(numbers)
    now = zstandard.ZstdDecompressor(dict_data=dictionary).decompress(
        packed, max_output_size=wanted, allow_extra_data=False
    )
    if len(now) != wanted:
        raise PatchError("a group has the wrong size")
    content = memoryview(now)
    for index, number in enumerate(numbers):
        os.pwrite(target, content[index * BLOCK : (index + 1) * BLOCK], number * BLOCK)


def _take(source: BinaryIO, count: int) -> bytes:
    data = source.read(count)
    if len(data) < count:
        raise PatchError("it is truncated")
    return data


def compress(source: Path, target: Path, check: Callable[[], None] = lambda: None) -> None:
    """Write a file to a new one, as one zstd frame."""
    compressor = zstandard.ZstdCompressor(level=_LEVEL, threads=-1)
    with (
        source.open("rb", buffering=0) as file,
        target.open("xb") as out,
        compressor.stream_writer(out, size=source.stat().st_size, closefd=False) as stream,
    ):
        while piece := file.read(_STEP_BYTES):
            check()
            stream.write(piece)


def decompress(source: Path, target: Path, size_bytes: int) -> None:
    """Write the content of a zstd frame to a new file. Raises `PatchError` on another size."""
    done = 0
    try:
        with (
            source.open("rb") as file,
            zstandard.ZstdDecompressor().stream_reader(file) as stream,
            target.open("xb", buffering=0) as out,
        ):
            while piece := stream.read(_STEP_BYTES):
                done += len(piece)
                if done > size_bytes:
                    break
                out.write(piece)
    except zstandard.ZstdError as error:
        raise PatchError(str(error)) from None
    if done != size_bytes:
        raise PatchError(
            f"it contains {'more than ' if done > size_bytes else ''}{min(done, size_bytes)} bytes"
        )
