"""Base classes of all messages.

A request class names the type of its reply, once, as the parameter of its base:

    class GetJob(Request[JobReply], tag="get_job", frozen=True, kw_only=True):
        job_id: str

From this, the codec derives its unions (`messages.REPLIES`), the client the type of a call's
result, and the daemon checks its table of requests (`schedd.server.table`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, Generic, Self, TypeVar, cast, get_args, get_origin

import msgspec


class Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """Base of all messages: `id` pairs a reply with its request."""

    id: str


class Reply(Message, frozen=True, kw_only=True):
    """Base of all messages that a daemon sends."""


class Done(Reply, tag="done", frozen=True, kw_only=True):
    """Reply to requests that have no result of their own: the request was carried out."""


ReplyT = TypeVar("ReplyT", bound=Reply)


class Request(Message, Generic[ReplyT], frozen=True, kw_only=True):
    """Base of all messages that a client sends, with the type of the reply as its parameter.

    capability: the entry of `Welcome.capabilities` that announces the request; None if every daemon
    knows it.
    """

    capability: ClassVar[str | None] = None

    @classmethod
    def reply_type(cls) -> type[ReplyT]:
        """Return the class of the reply, for example `JobReply` for `GetJob`."""
        for base in cast("Any", cls).__orig_bases__:
            if get_origin(base) is Request:
                return cast("type[ReplyT]", get_args(base)[0])
        raise TypeError(f"{cls.__name__} does not name its reply: derive it from Request[...]")

    def bind(self, handler: Callable[[Self], ReplyT]) -> Callable[[], ReplyT]:
        """Return the call of `handler` with this request.

        The type checker refuses a handler of another request, or one that returns another reply:

            GetJob(id="1", job_id="job-1").bind(service.get_job)  # must return a JobReply
        """
        return partial(handler, self)
