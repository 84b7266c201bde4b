"""Digests of a database's pages, computed by numpy.

The digest of a page is two sums of its 64-bit words, each word times an odd factor of its own,
modulo 2**64. A single changed word always changes the digest; other differences collide with a
probability of 2**-128. Computing it takes less time than reading the page. It protects against
accidents, not against deliberate collisions.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from schedd.engine.hashing import mix64

#: Approximate size of the blocks in which pages are read.
BLOCK_BYTES = 4 * 1024 * 1024
#: The first bytes of each SQLite file, and the offsets of the page size and the change counter in
#: its header (SQLite's file format, section 1.3).
MAGIC = b"SQLite format 3\x00"
_PAGE_SIZE_AT, _CHANGES_AT, _HEADER_BYTES = 16, 24, 100

Digests = NDArray[np.uint64]


def page_size_of(header: bytes) -> int:
    """Return the page size in a file's header; 0 if it is not a database."""
    if len(header) < _HEADER_BYTES or not header.startswith(MAGIC):
        return 0
    size = int.from_bytes(header[_PAGE_SIZE_AT : _PAGE_SIZE_AT + 2], "big")
    return 65_536 if size == 1 else size


def fingerprint(descriptor: int) -> str:
    """Return a text that changes with each transaction that changes the file.

    It has the size, the time, SQLite's change counter and the inode.
    """
    info = os.fstat(descriptor)
    header = os.pread(descriptor, _HEADER_BYTES, 0)
    changes = header[_CHANGES_AT : _CHANGES_AT + 4].hex()
    return f"{info.st_size}-{info.st_mtime_ns}-{changes}-{info.st_ino}"


def blocks(
    descriptor: int, size_bytes: int, page_size: int
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Yield blocks of pages of a file that nothing changes meanwhile.

    Each is the number of its first page, from 0, and an array of pages x `page_size` bytes.
    Raises `OSError`.
    """
    step = max(1, BLOCK_BYTES // page_size)
    pages = size_bytes // page_size
    for first in range(0, pages, step):
        count = min(step, pages - first)
        block = bytearray(count * page_size)
        done = 0
        while done < len(block):
            got = os.preadv(descriptor, [memoryview(block)[done:]], first * page_size + done)
            if not got:
                end = first * page_size + done
                raise OSError(f"the file ends at byte {end}, before its {size_bytes} bytes")
            done += got
        yield first, np.frombuffer(block, np.uint8).reshape(count, page_size)


def _factors(words: int) -> NDArray[np.uint64]:
    numbers = mix64(np.arange(1, 2 * words + 1, dtype=np.uint64)) | np.uint64(1)
    return numbers.reshape(words, 2)


class Digester:
    """Computes the digests of pages of one size.

    Example:

        digests = Digester(4096).digest(pages)  # pages: an array of n x 4096 bytes; n x 2 numbers
    """

    def __init__(self, page_size: int) -> None:
        self._factors = _factors(page_size // 8)

    def digest(self, pages: NDArray[np.uint8]) -> Digests:
        """Return the digests of pages x bytes, as pages x 2 numbers."""
        words: Digests = pages.view("<u8") @ self._factors
        return words


def digests_of(descriptor: int, size_bytes: int, page_size: int) -> Digests:
    """Return the digests of all pages of a file."""
    digester = Digester(page_size)
    parts = [digester.digest(pages) for _, pages in blocks(descriptor, size_bytes, page_size)]
    return np.concatenate(parts) if parts else np.zeros((0, 2), np.uint64)


def whole(digests: Digests) -> str:
    """Return the digest of a complete file, given those of its pages."""
    return hashlib.sha256(np.ascontiguousarray(digests).tobytes()).hexdigest()
