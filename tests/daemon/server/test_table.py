"""The table of requests: every request of the protocol has its row."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zmq.asyncio

from schedd.files.requests import FileRequestHandler
from schedd.server.handlers import DaemonRequestHandler, JobRequestHandler
from schedd.server.table import Access, RequestTable, Route
from schedd.server.watches import Peer, Watches
from schedproto import messages
from schedproto.message import Request
from tests.protocol.test_codec import REQUESTS
from tests.support.daemons import RawClient

EXCLUSIVE = {"restore_backup", "adopt_organization", "open_pull", "open_push", "commit_push"}
#: Requests on threads that do not use an organization's file.
NO_FILE = {
    "get_volume",
    "list_organizations",
    "diagnose",
    "get_digests",
    "get_blocks",
    "put_blocks",
    "close_transfer",
}


@pytest.fixture
def table(tmp_path: Path) -> RequestTable:
    """The table over handlers that are not called."""
    return RequestTable(
        DaemonRequestHandler.__new__(DaemonRequestHandler),
        JobRequestHandler.__new__(JobRequestHandler),
        Watches.__new__(Watches),
        FileRequestHandler(tmp_path, "", 0.0),
    )


@pytest.fixture
def peer() -> Iterator[Peer]:
    """A client that is not connected."""
    with zmq.asyncio.Context() as context, context.socket(zmq.ROUTER) as socket:
        yield Peer(socket, b"client")


def handler_name(route: Route) -> str:
    """The name of the function that a row calls."""
    call: Any = route.call
    while isinstance(call, partial):
        call = call.func
    return str(call.__name__)


def tag(request: Request[Any]) -> str:
    return str(type(request).__struct_config__.tag)


def test_one_handler_for_each_request(table: RequestTable, peer: Peer) -> None:
    """Every request has a row with a handler of its own, named for the request's tag."""
    rows = {tag(request): table.route(peer, request) for request in REQUESTS}
    assert len(rows) == len(messages.REQUESTS)
    names = {name: handler_name(row) for name, row in rows.items()}
    assert names == {name: name for name in rows}


@pytest.mark.parametrize("request_", REQUESTS, ids=tag)
def test_access(table: RequestTable, peer: Peer, request_: messages.AnyRequest) -> None:
    """A row says truly whose file its request uses, and that nothing in the event loop uses any."""
    row = table.route(peer, request_)
    name = tag(request_)
    if not row.on_thread:
        assert row.access is Access.NONE
    elif name in EXCLUSIVE:
        assert row.access is Access.EXCLUSIVE
    else:
        assert row.access is (Access.NONE if name in NO_FILE else Access.SHARED)
    if row.access is not Access.NONE:
        assert row.organization == msgspec.structs.asdict(request_)["organization"]


@pytest.mark.parametrize("request_type", messages.REQUESTS, ids=lambda kind: kind.__name__)
def test_reply_and_capability(request_type: type[Request[Any]]) -> None:
    """Every request names a reply and, if newer than version 1, a capability."""
    assert request_type.reply_type() in messages.REPLIES
    basic = {messages.Hello, messages.GetHealth}
    assert (request_type.capability is None) == (request_type in basic)


def test_all_capabilities_are_announced(raw: RawClient) -> None:
    """The daemon announces the capability of every request, and those of fields."""
    welcome = raw.ask(messages.Hello(id="1"))
    announced = {kind.capability for kind in messages.REQUESTS if kind.capability}
    assert set(welcome.capabilities) == announced | set(messages.FIELD_CAPABILITIES)
    assert {"submit", "watch", "cancel", "info", "files", "check"} <= announced


def test_a_request_without_a_reply_is_found() -> None:
    """A request class that does not name its reply cannot be used."""

    class Nameless(Request, tag="nameless", frozen=True, kw_only=True):
        pass

    with pytest.raises(TypeError, match="Nameless"):
        Nameless.reply_type()
