"""What goes over the wire: a whole file, compressed, or what makes one file of another.

A patch is one zstd frame. In it: the magic, the sizes of the old and the new file (two u64), then groups: a count
(u32), so many block numbers (u32, rising), so many blocks of 4096 bytes, each the new block XOR the old one; a count
of 0 ends it. All numbers are little-endian; blocks beyond the old file's end, and the rest of a last block, are zeros.
A row that changes in place leaves most of its block zero, which compresses to almost nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np
import zstandard
from numpy.typing import NDArray

MAGIC = b"SCHEDXOR"
BLOCK = 4096
#: Blocks that are compared at once, which is also the most in a group.
_GROUP = 1024
_LEVEL = 3
_STEP_BYTES = 1 << 20


class PatchError(ValueError):
    """What was read is no patch, or not one for this file."""


def _read(file: BinaryIO, count: int) -> NDArray[np.uint64]:
    """Return the next so many blocks as 64-bit words; what the file lacks is zero."""
    buffer = bytearray(count * BLOCK)
    view = memoryview(buffer)  # in a statement of its own: Nuitka cannot clone it in a tuple's assignment
    done = 0
    while done < len(buffer) and (got := file.readinto(view[done:])):  # type: ignore[attr-defined]
        done += got
    return np.frombuffer(buffer, np.uint64).reshape(count, BLOCK // 8)


def make_patch(old: Path, new: Path, target: Path, check: Callable[[], None] = lambda: None) -> int:
    """Write the patch from one file to another into a new file; returns the number of blocks in it."""
    size = new.stat().st_size
    total = 0
    with (
        old.open("rb", buffering=0) as before,
        new.open("rb", buffering=0) as after,
        target.open("xb") as file,
        zstandard.ZstdCompressor(level=_LEVEL).stream_writer(file, closefd=False) as out,
    ):
        out.write(MAGIC + np.array([old.stat().st_size, size], "<u8").tobytes())
        blocks = -(-size // BLOCK)
        for first in range(0, blocks, _GROUP):
            check()
            count = min(_GROUP, blocks - first)
            changes = _read(after, count) ^ _read(before, count)
            numbers = np.flatnonzero(changes.any(axis=1))
            if len(numbers):
                total += len(numbers)
                out.write(np.array([len(numbers)], "<u4").tobytes() + (numbers + first).astype("<u4").tobytes())
                out.write(np.ascontiguousarray(changes[numbers]).tobytes())
        out.write(np.zeros(1, "<u4").tobytes())
    return total


def apply_patch(patch: Path, file: Path) -> None:
    """Make the old file the new one, in place. Raises `PatchError`; the file is then neither."""
    try:
        with (
            patch.open("rb") as source,
            zstandard.ZstdDecompressor().stream_reader(source) as stream,
            file.open("rb+", buffering=0) as target,
        ):
            if _take(stream, len(MAGIC)) != MAGIC:
                raise PatchError("it does not begin as a patch does")
            old_size, new_size = np.frombuffer(_take(stream, 16), "<u8").tolist()
            if old_size != os.fstat(target.fileno()).st_size:
                raise PatchError(f"it is for a file of {old_size} bytes")
            target.truncate(-(-max(old_size, new_size) // BLOCK) * BLOCK)
            while count := int.from_bytes(_take(stream, 4), "little"):
                if count > _GROUP:
                    raise PatchError(f"a group of {count} blocks")
                numbers = np.frombuffer(_take(stream, 4 * count), "<u4")
                changes = np.frombuffer(_take(stream, BLOCK * count), np.uint64).reshape(count, -1)
                if int(numbers[-1]) * BLOCK >= new_size:
                    raise PatchError("a block beyond the end")
                for number, change in zip(numbers.tolist(), changes, strict=True):
                    block = np.frombuffer(os.pread(target.fileno(), BLOCK, number * BLOCK), np.uint64)
                    os.pwrite(target.fileno(), (block ^ change).data, number * BLOCK)
            target.truncate(new_size)
    except zstandard.ZstdError as error:
        raise PatchError(str(error)) from None


def _take(stream: zstandard.ZstdDecompressionReader, count: int) -> bytes:
    data = bytearray()
    while len(data) < count and (piece := stream.read(count - len(data))):
        data += piece
    if len(data) < count:
        raise PatchError("it is cut off")
    return bytes(data)


def compress(source: Path, target: Path, check: Callable[[], None] = lambda: None) -> None:
    """Write a file into a new one, as one zstd frame."""
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
    """Write what a zstd frame holds into a new file. Raises `PatchError` if it is not so many bytes."""
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
        raise PatchError(f"it holds {'more than ' if done > size_bytes else ''}{min(done, size_bytes)} bytes")
