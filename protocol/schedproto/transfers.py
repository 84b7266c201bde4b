"""Files on their way: a file is a row of blocks, and each side tells the other what its blocks are by their digests.

Only blocks that differ travel. As everything is told by content, a transfer that broke off is resumed by beginning
it again: what arrived is there already, and is found to be.
"""

from __future__ import annotations

import hashlib

import msgspec

#: The size of a block: SQLite's usual page. The last block of a file may be shorter.
BLOCK_BYTES = 4096
#: The size of a block's digest (BLAKE2b): 128 bits, beyond any chance of two blocks having the same.
DIGEST_BYTES = 16
#: Most blocks of which digests go in one message, and most whose content does: both fit a request (1 MiB).
MOST_DIGESTS, MOST_BLOCKS = 32_768, 192


class Transfer(msgspec.Struct, frozen=True, kw_only=True):
    """A transfer that was begun. digest: of all blocks' digests, in hexadecimal."""

    transfer_id: str
    organization: str
    size_bytes: int
    digest: str = ""
    block_bytes: int = BLOCK_BYTES


class TransferResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a push or a pull did. moved_bytes: of blocks that travelled, out of size_bytes."""

    organization: str
    path: str
    direction: str
    size_bytes: int
    moved_bytes: int
    digest: str
    wall_s: float


def blocks_of(size_bytes: int) -> int:
    """Return how many blocks a file has."""
    return -(-size_bytes // BLOCK_BYTES)


def digests_of(data: bytes) -> bytes:
    """Return the digests of consecutive blocks, `DIGEST_BYTES` each."""
    view = memoryview(data)
    return b"".join(
        hashlib.blake2b(view[start : start + BLOCK_BYTES], digest_size=DIGEST_BYTES).digest()
        for start in range(0, len(view), BLOCK_BYTES)
    )


def whole_digest(digests: bytes) -> str:
    """Return the digest of a file, given those of all its blocks."""
    return hashlib.blake2b(digests, digest_size=32).hexdigest()


def differing(left: bytes, right: bytes) -> list[int]:
    """Return the numbers of blocks whose digests differ, or that `right` lacks; counted from 0 in `left`."""
    return [
        index // DIGEST_BYTES
        for index in range(0, len(left), DIGEST_BYTES)
        if left[index : index + DIGEST_BYTES] != right[index : index + DIGEST_BYTES]
    ]
