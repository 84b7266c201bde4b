"""Messages to ZeroMQ frames and back.

A message is exactly two frames: the magic `MAGIC` (which names the framing, not the protocol
version) and one MessagePack map. ROUTER adds and takes away the peer's identity before the first of
them. Anything else raises `CodecError`, with the `id` of the request if it could be read, so that
the daemon can reply.

>>> from schedproto.messages import GetJob
>>> frames = encode(GetJob(id="1", job_id="job-1"))
>>> decode_request(frames)
GetJob(id='1', job_id='job-1')
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar, Union

import msgspec

from .errors import ErrorCode, SchedulerError
from .message import Message, Reply
from .messages import REPLIES, REQUESTS, AnyRequest

MAGIC = b"sched/1"
#: The largest message a daemon reads (its sockets drop the connection above it) and a client sends.
MAX_REQUEST_BYTES = 1 << 20
#: The largest message a client reads.
MAX_REPLY_BYTES = 16 << 20
#: An `id` longer than this is not echoed.
MAX_ID_LENGTH = 128

_T = TypeVar("_T")
_encoder = msgspec.msgpack.Encoder()


class _Head(msgspec.Struct):
    """The part that is read of a message that cannot be decoded completely."""

    type: str = ""
    id: str = ""


_head = msgspec.msgpack.Decoder(_Head)
_request: msgspec.msgpack.Decoder[AnyRequest] = msgspec.msgpack.Decoder(AnyRequest)
# The union of all replies is not written down; it follows from the requests.
_any_reply: Any = Union[REPLIES]  # noqa: UP007 - a union of a tuple that is known at run time only
_reply: msgspec.msgpack.Decoder[Reply] = msgspec.msgpack.Decoder(_any_reply)
_REQUEST_TAGS = frozenset(t.__struct_config__.tag for t in REQUESTS)
_REPLY_TAGS = frozenset(t.__struct_config__.tag for t in REPLIES)


class CodecError(SchedulerError):
    """A message that could not be read. `request_id` is empty if it is unknown."""

    def __init__(
        self, code: ErrorCode, message: str, *, hint: str = "", request_id: str = ""
    ) -> None:
        super().__init__(code, message, hint=hint)
        self.request_id = request_id


def encode(message: Message, limit_bytes: int = MAX_REPLY_BYTES) -> list[bytes]:
    """Return the frames of a message.

    Raises `CodecError` (`message_too_large`, `invalid_argument`).
    """
    try:
        body = _encoder.encode(message)
    except (OverflowError, TypeError, ValueError, RecursionError) as error:
        raise CodecError(
            ErrorCode.INVALID_ARGUMENT,
            f"the message cannot be encoded: {error}",
            hint="Configuration overrides may contain strings, 64-bit numbers, booleans, arrays "
            "and tables.",
            request_id=message.id,
        ) from None
    if len(body) > limit_bytes:
        raise CodecError(
            ErrorCode.MESSAGE_TOO_LARGE,
            f"the message has {len(body)} bytes; at most {limit_bytes} are allowed",
            hint="Use smaller configuration overrides, or request fewer jobs at once.",
            request_id=message.id,
        )
    return [MAGIC, body]


def encode_request(message: Message, limit_bytes: int = MAX_REQUEST_BYTES) -> list[bytes]:
    """Return the frames of a request; its size is checked against what a daemon accepts."""
    return encode(message, limit_bytes)


def _body(frames: Sequence[bytes], limit_bytes: int) -> bytes:
    if len(frames) != 2 or frames[0] != MAGIC:
        raise CodecError(
            ErrorCode.BAD_MESSAGE,
            "this is not a message of the scheduler's protocol",
            hint="Check the address: another program may be talking to this socket.",
        )
    if len(frames[1]) > limit_bytes:
        raise CodecError(
            ErrorCode.MESSAGE_TOO_LARGE,
            f"the message has {len(frames[1])} bytes; at most {limit_bytes} are allowed",
        )
    return frames[1]


def _decode(body: bytes, decoder: msgspec.msgpack.Decoder[_T], tags: frozenset[object]) -> _T:
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError, OverflowError) as error:
        reason = str(error)[:300]
    try:
        head = _head.decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError, OverflowError):
        raise CodecError(ErrorCode.BAD_MESSAGE, f"the message cannot be read: {reason}") from None
    request_id = head.id if len(head.id) <= MAX_ID_LENGTH else ""
    if head.type and head.type not in tags:
        raise CodecError(
            ErrorCode.UNSUPPORTED_MESSAGE,
            f"unknown message type {head.type!r:.60}",
            hint="The sender is newer; upgrade the receiver.",
            request_id=request_id,
        )
    raise CodecError(
        ErrorCode.BAD_MESSAGE, f"the message cannot be read: {reason}", request_id=request_id
    )


def decode_request(frames: Sequence[bytes]) -> AnyRequest:
    """Return the request in these frames (the identity taken away), or raise `CodecError`."""
    message = _decode(_body(frames, MAX_REQUEST_BYTES), _request, _REQUEST_TAGS)
    if not message.id or len(message.id) > MAX_ID_LENGTH:
        raise CodecError(
            ErrorCode.BAD_MESSAGE, f"a request needs an id of 1 to {MAX_ID_LENGTH} characters"
        )
    return message


def decode_reply(frames: Sequence[bytes]) -> Reply:
    """Return the reply in these frames, or raise `CodecError`."""
    return _decode(_body(frames, MAX_REPLY_BYTES), _reply, _REPLY_TAGS)
