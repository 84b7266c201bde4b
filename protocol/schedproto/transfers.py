"""Files on their way.

A file is a row of blocks, and each side tells the other what its blocks are by their digests.

Only blocks that differ travel. As everything is told by content, a transfer that broke off is
resumed by beginning it again: what arrived is there already, and is found to be.
"""

from __future__ import annotations

import hashlib

import msgspec

from .message import Message

#: The size of a block: SQLite's usual page. The last block of a file may be shorter.
BLOCK_BYTES = 4096
#: The size of a block's digest (BLAKE2b): 128 bits, beyond any chance of two blocks having the
#: same.
DIGEST_BYTES = 16
#: Most blocks of which digests go in one message, and most whose content does: both fit a request
#: (1 MiB).
MAX_DIGESTS, MAX_BLOCKS = 32_768, 192


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
    """Return the numbers of blocks whose digests differ, or that `right` lacks.

    Counted from 0 in `left`.
    """
    return [
        index // DIGEST_BYTES
        for index in range(0, len(left), DIGEST_BYTES)
        if left[index : index + DIGEST_BYTES] != right[index : index + DIGEST_BYTES]
    ]


# Requests -----------------------------------------------------------------------------------------


class OpenPull(Message, tag="open_pull", frozen=True, kw_only=True):
    """Begin to fetch an organization's file, as it is now.

    Refused while a job of it waits or runs.
    """

    organization: str


class OpenPush(Message, tag="open_push", frozen=True, kw_only=True):
    """Begin to send an organization's file; refused while a job of it waits or runs.

    digest: `whole_digest`.
    """

    organization: str
    size_bytes: int
    digest: str


class GetDigests(Message, tag="get_digests", frozen=True, kw_only=True):
    """Ask for the digests of blocks of a pull, from `first` on."""

    organization: str
    transfer_id: str
    first: int
    count: int


class GetBlocks(Message, tag="get_blocks", frozen=True, kw_only=True):
    """Ask for blocks of a pull by their numbers."""

    organization: str
    transfer_id: str
    blocks: list[int]


class OfferDigests(Message, tag="offer_digests", frozen=True, kw_only=True):
    """Tell the digests of blocks of a push, from `first` on.

    Answered with those that are wanted.
    """

    organization: str
    transfer_id: str
    first: int
    digests: bytes


class PutBlocks(Message, tag="put_blocks", frozen=True, kw_only=True):
    """Send blocks of a push, in the order of their numbers; each is checked against its digest."""

    organization: str
    transfer_id: str
    blocks: list[int]
    data: bytes


class CommitPush(Message, tag="commit_push", frozen=True, kw_only=True):
    """Make what was sent the organization's file, all of it or nothing.

    Refused while a job of it waits or runs.
    """

    organization: str
    transfer_id: str


class CloseTransfer(Message, tag="close_transfer", frozen=True, kw_only=True):
    """End a pull, so that its copy is removed."""

    organization: str
    transfer_id: str


# Replies ------------------------------------------------------------------------------------------


class TransferReply(Message, tag="transfer", frozen=True, kw_only=True):
    """Answers `OpenPull` and `OpenPush`."""

    transfer: Transfer


class DigestsReply(Message, tag="digests", frozen=True, kw_only=True):
    """Answers `GetDigests`."""

    digests: bytes


class BlocksReply(Message, tag="blocks", frozen=True, kw_only=True):
    """Answers `GetBlocks`: their content in the order asked for."""

    data: bytes


class WantedReply(Message, tag="wanted", frozen=True, kw_only=True):
    """Answers `OfferDigests`: the numbers of the blocks that are not there yet."""

    blocks: list[int]
