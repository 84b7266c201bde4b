"""The base of all messages, and those that carry an organization's file in blocks (`push`, `pull`)."""

from __future__ import annotations

import msgspec

from .transfers import Transfer


class Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """The base of all messages: `id` pairs a reply with its request."""

    id: str


# Requests ------------------------------------------------------------------------------------------------


class OpenPull(Message, tag="open_pull", frozen=True, kw_only=True):
    """Begin to fetch an organization's file, as it is now; refused while a job of it waits or runs."""

    organization: str


class OpenPush(Message, tag="open_push", frozen=True, kw_only=True):
    """Begin to send an organization's file; refused while a job of it waits or runs. digest: `whole_digest`."""

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
    """Tell the digests of blocks of a push, from `first` on; answered with those that are wanted."""

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
    """Make what was sent the organization's file, all of it or nothing; refused while a job of it waits or runs."""

    organization: str
    transfer_id: str


class CloseTransfer(Message, tag="close_transfer", frozen=True, kw_only=True):
    """End a pull, so that its copy is removed."""

    organization: str
    transfer_id: str


# Replies -------------------------------------------------------------------------------------------------


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
