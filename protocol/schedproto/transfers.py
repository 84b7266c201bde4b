"""File transfer (push and pull): messages, and the digests of a file's blocks.

Both sides exchange digests of blocks, and only blocks that differ are sent. Transfers are
content-addressed: retrying an interrupted transfer resumes it.

>>> have, want = digests_of(b"a" * 8192), digests_of(b"a" * 4096 + b"b" * 4096)
>>> differing(want, have)
[1]
"""

from __future__ import annotations

import hashlib

import msgspec

from .message import Done, Reply, Request

#: The size of a block: SQLite's usual page. The last block of a file may be shorter.
BLOCK_BYTES = 4096
#: The size of a block's digest (BLAKE2b): 128 bits, beyond any chance of two blocks having the
#: same.
DIGEST_BYTES = 16
#: Maximum digests in one message, and maximum blocks: both fit a request (1 MiB).
MAX_DIGESTS, MAX_BLOCKS = 32_768, 192


class Transfer(msgspec.Struct, frozen=True, kw_only=True):
    """A started transfer. digest: of all blocks' digests, in hexadecimal."""

    transfer_id: str
    organization: str
    size_bytes: int
    digest: str = ""
    block_bytes: int = BLOCK_BYTES


class TransferResult(msgspec.Struct, frozen=True, kw_only=True):
    """Result of a push or a pull. moved_bytes: transferred, out of size_bytes."""

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


# Replies ------------------------------------------------------------------------------------------


class TransferReply(Reply, tag="transfer", frozen=True, kw_only=True):
    """Reply to `OpenPull` and `OpenPush`."""

    transfer: Transfer


class DigestsReply(Reply, tag="digests", frozen=True, kw_only=True):
    """Reply to `GetDigests`."""

    digests: bytes


class BlocksReply(Reply, tag="blocks", frozen=True, kw_only=True):
    """Reply to `GetBlocks`: their content in the order asked for."""

    data: bytes


class WantedReply(Reply, tag="wanted", frozen=True, kw_only=True):
    """Reply to `OfferDigests`: the numbers of the missing blocks."""

    blocks: list[int]


# Requests -----------------------------------------------------------------------------------------


class OpenPull(Request[TransferReply], tag="open_pull", frozen=True, kw_only=True):
    """Start to fetch an organization's file, as it is now.

    Refused while a job of it is queued or running.
    """

    capability = "files"
    organization: str


class OpenPush(Request[TransferReply], tag="open_push", frozen=True, kw_only=True):
    """Start to send an organization's file; refused while a job of it is queued or running.

    digest: `whole_digest`.
    """

    capability = "files"
    organization: str
    size_bytes: int
    digest: str


class GetDigests(Request[DigestsReply], tag="get_digests", frozen=True, kw_only=True):
    """Ask for the digests of blocks of a pull, from `first` on."""

    capability = "files"
    organization: str
    transfer_id: str
    first: int
    count: int


class GetBlocks(Request[BlocksReply], tag="get_blocks", frozen=True, kw_only=True):
    """Ask for blocks of a pull by their numbers."""

    capability = "files"
    organization: str
    transfer_id: str
    blocks: list[int]


class OfferDigests(Request[WantedReply], tag="offer_digests", frozen=True, kw_only=True):
    """Offer the digests of blocks of a push, from `first` on.

    The reply has the numbers of the missing ones.
    """

    capability = "files"
    organization: str
    transfer_id: str
    first: int
    digests: bytes


class PutBlocks(Request[Done], tag="put_blocks", frozen=True, kw_only=True):
    """Send blocks of a push, in the order of their numbers; each is checked against its digest."""

    capability = "files"
    organization: str
    transfer_id: str
    blocks: list[int]
    data: bytes


class CommitPush(Request[Done], tag="commit_push", frozen=True, kw_only=True):
    """Replace the organization's file by the uploaded one, completely or not at all.

    Refused while a job of it is queued or running.
    """

    capability = "files"
    organization: str
    transfer_id: str


class CloseTransfer(Request[Done], tag="close_transfer", frozen=True, kw_only=True):
    """End a pull, so that its copy is removed."""

    capability = "files"
    organization: str
    transfer_id: str
