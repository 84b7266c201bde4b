"""A client follows what a daemon of another release says of its limits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from schedclient import Client
from schedclient.errors import IncompatibleError, InvalidMessageError

#: A daemon with a small limit of messages and large blocks.
DAEMON = """
import sys, zmq
from schedproto import OrganizationConfiguration
from schedproto.codec import decode_request, encode
from schedproto.messages import ConfigurationReply, Hello, Welcome
from schedproto.transfers import Transfer, TransferReply
router = zmq.Context().socket(zmq.ROUTER)
router.bind(sys.argv[1])
while True:
    identity, *frames = router.recv_multipart()
    request = decode_request(frames)
    if isinstance(request, Hello):
        reply = Welcome(id=request.id, daemon_version="9", protocol=1, boot_id="b", pid=1,
                        max_message_bytes=2000, capabilities=["files"])
    elif hasattr(request, "toml"):
        reply = ConfigurationReply(
            id=request.id, configuration=OrganizationConfiguration(organization="org-1"))
    else:
        transfer = Transfer(transfer_id="t", organization="org-1", size_bytes=9, block_bytes=8192)
        reply = TransferReply(id=request.id, transfer=transfer)
    router.send_multipart([identity, *encode(reply)])
"""


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    endpoint = f"ipc://{tmp_path}/other.sock"
    other = subprocess.Popen([sys.executable, "-c", DAEMON, endpoint])
    try:
        with Client(endpoint) as client:
            yield client
    finally:
        os.kill(other.pid, signal.SIGKILL)
        other.wait(10)


def test_limit_of_messages(client: Client) -> None:
    """A request above the daemon's own limit is refused here; the connection stays."""
    assert client.check_configuration("org-1", "a" * 1000).organization == "org-1"
    with pytest.raises(InvalidMessageError, match="at most 2000"):
        client.check_configuration("org-1", "a" * 3000)
    assert client.check_configuration("org-1", "b").organization == "org-1"


def test_size_of_blocks(client: Client, tmp_path: Path) -> None:
    """A transfer with a daemon that uses other blocks is refused, instead of sending everything."""
    with pytest.raises(IncompatibleError, match="8192"):
        client.pull("org-1", tmp_path / "org-1.db")
    assert not (tmp_path / "org-1.db").exists()
