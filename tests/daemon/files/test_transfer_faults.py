"""Push and pull with kills, damaged blocks, full disks and concurrent pushes."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from schedclient import Client, aio
from schedclient.errors import (
    BusyError,
    DatabaseError,
    DatabaseUnusableError,
    LocalFileError,
    TransferError,
)
from schedproto.layout import transfer_folder
from schedproto.transfers import (
    BLOCK_BYTES,
    CommitPush,
    OfferDigests,
    OpenPush,
    PutBlocks,
    digests_of,
    whole_digest,
)
from tests.support.databases import content, leftovers, table
from tests.support.folders import Folder
from tests.support.waiting import wait_until


@pytest.mark.slow
@pytest.mark.parametrize("direction", ["push", "pull"])
def test_daemon_killed(folder: Folder, tmp_path: Path, direction: str) -> None:
    """The daemon is killed in the middle.

    The next one continues, and what had arrived is not sent again.
    """
    source = table(tmp_path / "source.db", 60_000)
    if direction == "pull":
        shutil.copy(source, folder.path / "org-new.db")
    killed = threading.Event()

    def on_bytes(there: int, size: int) -> None:
        if there > size / 2 and not killed.is_set():
            killed.set()
            folder.kill_daemon()

    with folder.client() as client:
        client.health()
        if direction == "push":
            result = client.push(source, "org-new", on_bytes=on_bytes)
        else:
            result = client.pull("org-new", tmp_path / "back.db", on_bytes=on_bytes)
    assert killed.is_set()
    assert content(
        folder.path / "org-new.db" if direction == "push" else tmp_path / "back.db"
    ) == content(source)
    assert result.moved_bytes < result.size_bytes * 0.6


@pytest.mark.slow
@pytest.mark.parametrize("direction", ["push", "pull"])
def test_client_killed(folder: Folder, tmp_path: Path, direction: str) -> None:
    """The client is killed in the middle.

    Nothing is visible, and the same command continues.
    """
    source, back = table(tmp_path / "source.db", 60_000), tmp_path / "back.db"
    if direction == "pull":
        shutil.copy(source, folder.path / "org-new.db")
    call = (
        "client.push(sys.argv[2], 'org-new', "
        if direction == "push"
        else "client.pull('org-new', sys.argv[3], "
    )
    code = (
        "import sys, os, signal; from schedclient import Client\n"
        "client = Client(data=sys.argv[1])\n"
        "def on_bytes(there, size):\n    if there > size / 2: os.kill(os.getpid(), "
        "signal.SIGKILL)\n"
        f"{call}on_bytes=on_bytes)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder.path), str(source), str(back)], timeout=120
    )
    assert done.returncode == -signal.SIGKILL
    assert not (folder.path / "org-new.db" if direction == "push" else back).exists()
    with folder.client() as client:
        result = (
            client.push(source, "org-new") if direction == "push" else client.pull("org-new", back)
        )
    assert content(folder.path / "org-new.db" if direction == "push" else back) == content(source)
    assert result.moved_bytes < result.size_bytes * 0.6
    assert direction == "pull" or leftovers(folder, back.parent) == []


def test_damaged_blocks(folder: Folder, tmp_path: Path) -> None:
    """A block with another digest is refused; so is an incomplete file."""
    source = table(tmp_path / "source.db", 100)
    data = source.read_bytes()
    digests = digests_of(data)

    async def send(client: aio.AsyncClient, block: bytes, complete: str) -> None:
        opening = OpenPush(id="1", organization="org-new", size_bytes=len(data), digest=complete)
        transfer = (await client._session.request(opening)).transfer.transfer_id
        offer = OfferDigests(
            id="2", organization="org-new", transfer_id=transfer, first=0, digests=digests
        )
        await client._session.request(offer)
        put = PutBlocks(
            id="3", organization="org-new", transfer_id=transfer, blocks=[0], data=block
        )
        await client._session.request(put)
        await client._session.request(
            CommitPush(id="4", organization="org-new", transfer_id=transfer)
        )

    with folder.client() as client:
        wrong = bytes(BLOCK_BYTES)
        with pytest.raises(TransferError, match="block 0 was corrupted in transfer"):
            client._run(send(client._client, wrong, whole_digest(digests)))
        with pytest.raises(TransferError, match="differs from the announced one"):
            client._run(send(client._client, data[:BLOCK_BYTES], whole_digest(digests)))
    assert not (folder.path / "org-new.db").exists()


def test_damaged_on_the_disk(folder: Folder, tmp_path: Path) -> None:
    """A partial file that was changed between two attempts is repaired."""
    source = table(tmp_path / "source.db", 5000)
    partial = transfer_folder(folder.path, "org-new") / "push.partial"
    partial.parent.mkdir(parents=True)
    data = bytearray(source.read_bytes())
    data[10_000:10_100] = bytes(100)
    partial.write_bytes(data)
    with folder.client() as client:
        result = client.push(source, "org-new")
    assert content(folder.path / "org-new.db") == content(source)
    # What is sent is a fresh copy, in which SQLite resets its counters.
    assert result.moved_bytes <= 3 * BLOCK_BYTES


@pytest.mark.parametrize(
    ("name", "make", "error", "says"),
    [
        ("nosuch.db", None, LocalFileError, "no such file"),
        ("text.db", b"hello, this is not a database" * 100, LocalFileError, "not a database"),
        ("empty.db", b"", LocalFileError, "empty"),
        ("folder.db", "folder", LocalFileError, "no such file"),
    ],
)
def test_not_a_database(
    folder: Folder,
    tmp_path: Path,
    name: str,
    make: bytes | str | None,
    error: type[Exception],
    says: str,
) -> None:
    """A file that is not a database is not sent."""
    path = tmp_path / name
    if isinstance(make, bytes):
        path.write_bytes(make)
    elif make:
        path.mkdir()
    with folder.client() as client, pytest.raises(error, match=says):
        client.push(path, "org-new")
    assert not (folder.path / "org-new.db").exists()
    assert leftovers(folder, tmp_path) == []


def test_damaged_database(folder: Folder, tmp_path: Path) -> None:
    """The daemon refuses a damaged database; the existing file stays."""
    good, bad = table(tmp_path / "good.db", 2000), table(tmp_path / "bad.db", 2000, seed=5)
    with bad.open("r+b") as file:
        file.seek(5 * 4096)
        file.write(os.urandom(4096))
    with folder.client() as client:
        client.push(good, "org-new")
        with pytest.raises(DatabaseUnusableError, match="damaged"):
            client.push(bad, "org-new")
        with pytest.raises(DatabaseError, match="there is no file"):
            client.pull("org-nosuch", tmp_path / "x.db")
    assert content(folder.path / "org-new.db") == content(good)


@pytest.mark.slow
def test_full_volume(make_folder: Callable[..., Folder], tmp_path: Path) -> None:
    """On a full volume a push says so and leaves nothing half done.

    A full disk here says so as well.
    """
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(small)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        source = table(tmp_path / "source.db", 40_000)
        with Client(data=small, idle_timeout=1) as client:
            with pytest.raises(DatabaseError, match="not enough space") as caught:
                client.push(source, "org-new")
            assert caught.value.code == "disk_full"
        folder = make_folder()
        shutil.copy(source, folder.path / "org-new.db")
        with folder.client() as client, pytest.raises(LocalFileError, match="No space left"):
            client.pull("org-new", small / "back.db")
        assert not (small / "back.db").exists()
        wait_until(lambda: Folder(small).daemon() is None, "the daemon's end")
    finally:
        with contextlib.suppress(subprocess.SubprocessError):
            subprocess.run(["umount", "-l", str(small)], check=True)


def test_two_pushes_at_once(folder: Folder, tmp_path: Path) -> None:
    """Of two that push the same organization at once, each ends well or says why.

    The file is one of the two.
    """
    sources = [table(tmp_path / f"{n}.db", 20_000, seed=n) for n in (1, 2)]
    errors: list[Exception] = []

    def push(source: Path) -> None:
        try:
            with folder.client() as client:
                client.push(source, "org-new")
        except (TransferError, BusyError) as error:
            errors.append(error)

    threads = [threading.Thread(target=push, args=(source,)) for source in sources]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(errors) < 2
    assert content(folder.path / "org-new.db") in {content(source) for source in sources}


def test_old_copies_are_removed(folder: Folder) -> None:
    """The copy that a killed daemon made for a pull is removed when the next transfer begins."""
    left = transfer_folder(folder.path, "org-old") / "pull-0123.db"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"x")
    table(folder.path / "org-new.db", 10)
    with folder.client() as client:
        client.pull("org-new", folder.path.parent / "back.db")
    assert not left.exists()
