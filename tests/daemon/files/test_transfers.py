"""Push and pull.

What arrives is what was sent, whatever happens on the way, and only what is missing travels.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schedclient import Client, aio
from schedclient.errors import (
    BusyError,
    DatabaseError,
    DatabaseUnusableError,
    LocalFileError,
    TransferError,
)
from schedclient.transfers import _copy
from schedproto.layout import transfer_folder
from schedproto.transfers import (
    BLOCK_BYTES,
    CommitPush,
    OfferDigests,
    OpenPush,
    PutBlocks,
    blocks_of,
    digests_of,
    whole_digest,
)
from tests.support.folders import AS_OF, SCHEDCTL, Folder
from tests.support.waiting import wait_until

MakeFolder = Callable[..., Folder]


@pytest.fixture
def folder(make_folder: MakeFolder) -> Folder:
    return make_folder()


def table(
    path: Path, rows: int, seed: int = 1, page_size: int = 4096, journal: str = "DELETE"
) -> Path:
    """Write a database of about `rows` times 200 bytes."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(f"PRAGMA page_size = {page_size}")
    connection.execute(f"PRAGMA journal_mode = {journal}")
    source = random.Random(seed)
    connection.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, text TEXT)")
    connection.execute("BEGIN")
    connection.executemany(
        "INSERT INTO t VALUES (?, ?)", ((n, source.randbytes(100).hex()) for n in range(rows))
    )
    connection.execute("COMMIT")
    connection.close()
    return path


def change(path: Path, rows: range, seed: int = 2) -> None:
    connection = sqlite3.connect(path)
    source = random.Random(seed)
    connection.executemany(
        "UPDATE t SET text = ? WHERE id = ?", ((source.randbytes(100).hex(), n) for n in rows)
    )
    connection.commit()
    connection.close()


def content(path: Path) -> str:
    """What a database holds, as one digest."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    digest = hashlib.sha256("\n".join(connection.iterdump()).encode()).hexdigest()
    connection.close()
    return digest


def leftovers(folder: Folder, *others: Path) -> list[str]:
    """Files of transfers that are still there."""
    found = list((folder.path / ".schedd" / "transfers").glob("*/*"))
    for other in others:
        found += [
            path for path in other.iterdir() if path.name.startswith(".") and path.name != ".schedd"
        ]
    return [path.name for path in found]


def test_push_and_pull_round_trip(folder: Folder, tmp_path: Path) -> None:
    """A database that is pushed is the organization's; pulled, it is what it was.

    Nothing is left lying about.
    """
    here = tmp_path / "here"
    here.mkdir()
    source = table(here / "source.db", 2000)
    with folder.client() as client:
        pushed = client.push(source, "org-new")
        pulled = client.pull("org-new", here / "back.db")
    assert content(here / "back.db") == content(source) == content(folder.path / "org-new.db")
    assert pushed.size_bytes == pushed.moved_bytes == source.stat().st_size
    assert pulled.moved_bytes == pulled.size_bytes
    assert (pushed.direction, pulled.direction) == ("push", "pull")
    assert leftovers(folder, here) == []


def test_only_changed_blocks_are_sent(folder: Folder, tmp_path: Path) -> None:
    """A second push or pull after a small change moves little.

    One without a change moves nothing.
    """
    source, back = table(tmp_path / "source.db", 20_000), tmp_path / "back.db"
    with folder.client() as client:
        complete = client.push(source, "org-new").moved_bytes
        client.pull("org-new", back)
        change(source, range(500, 510))
        assert client.push(source, "org-new").moved_bytes < complete / 50
        assert client.push(source, "org-new").moved_bytes < complete / 50
        assert client.pull("org-new", back).moved_bytes < complete / 50
        assert client.pull("org-new", back).moved_bytes == 0
        assert content(back) == content(source)
        backups = client.backups("org-new").backups
    assert [backup.run_id for backup in backups] == ["before a push"] * len(backups)
    assert backups


def test_push_of_a_file_in_use(folder: Folder, tmp_path: Path) -> None:
    """A file that is written during the transfer arrives in one of its states."""
    source = table(tmp_path / "source.db", 2000, journal="WAL")
    code = (
        "import sqlite3, sys, time\n"
        "c = sqlite3.connect(sys.argv[1], isolation_level=None); n = 0\n"
        "c.execute('CREATE TABLE pair(a, b)'); c.execute('INSERT INTO pair VALUES (0, 0)'); "
        "print('go', flush=True)\n"
        "while True:\n"
        "    n += 1; c.execute('BEGIN'); c.execute('UPDATE pair SET a = ?', (n,)); "
        "c.execute('UPDATE t SET text = ?"
        " WHERE id = ?', (str(n), n % 2000)); c.execute('UPDATE pair SET b = ?', (n,)); "
        "c.execute('COMMIT')\n"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", code, str(source)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "go\n"
        with folder.client() as client:
            for _ in range(3):
                client.push(source, "org-new")
                client.pull("org-new", tmp_path / "back.db")
                connection = sqlite3.connect(tmp_path / "back.db")
                [(a, b)] = connection.execute("SELECT a, b FROM pair").fetchall()
                connection.close()
                assert a == b
    finally:
        writer.kill()
        writer.communicate()


def test_pull_while_it_is_written(folder: Folder, organization_file: Path, tmp_path: Path) -> None:
    """A pull gets one state of a file in use, and does not replace a local file in use."""
    shutil.copy(organization_file, folder.path / "org-123.db")
    writer = sqlite3.connect(folder.path / "org-123.db", isolation_level=None)
    writer.execute("PRAGMA journal_mode = WAL")
    writer.execute("CREATE TABLE note(text)")
    writer.execute("INSERT INTO note VALUES ('in the log')")
    with folder.client() as client:
        client.pull("org-123", tmp_path / "back.db")
        reader = sqlite3.connect(tmp_path / "back.db", isolation_level=None)
        assert reader.execute("SELECT text FROM note").fetchall() == [("in the log",)]
        reader.execute("PRAGMA journal_mode = WAL")
        reader.execute("INSERT INTO note VALUES ('here')")
        with pytest.raises(LocalFileError, match="in use"):
            client.pull("org-123", tmp_path / "back.db")
        reader.close()
    writer.close()


def test_refused_while_a_job_runs(folder: Folder, organization_file: Path, tmp_path: Path) -> None:
    """While a job of the organization waits or runs, its file is neither replaced nor fetched.

    Afterwards it is.
    """
    shutil.copy(organization_file, folder.path / "org-123.db")
    source = table(tmp_path / "source.db", 100)
    with folder.client() as client:
        folder.pause_workers(client)
        handle = client.submit("org-123", as_of=AS_OF)
        with pytest.raises(BusyError, match="queued or running"):
            client.push(source, "org-123")
        with pytest.raises(BusyError, match="queued or running"):
            client.pull("org-123", tmp_path / "back.db")
        client.push(source, "org-other")
        folder.resume_workers()
        handle.wait(120)
        client.push(source, "org-123")
    assert content(folder.path / "org-123.db") == content(source)


def test_no_job_begins_between(folder: Folder, organization_file: Path, tmp_path: Path) -> None:
    """A job that was submitted after a push began keeps that push from its end.

    Nothing is half done.
    """
    shutil.copy(organization_file, folder.path / "org-123.db")
    before = content(folder.path / "org-123.db")
    source = table(tmp_path / "source.db", 100)
    data = source.read_bytes()

    async def begin(client: aio.AsyncClient) -> str:
        digests = digests_of(data)
        opening = OpenPush(
            id="1", organization="org-123", size_bytes=len(data), digest=whole_digest(digests)
        )
        transfer = (await client._session.request(opening)).transfer.transfer_id
        offer = OfferDigests(
            id="2", organization="org-123", transfer_id=transfer, first=0, digests=digests
        )
        await client._session.request(offer)
        numbers = list(range(blocks_of(len(data))))
        await client._session.request(
            PutBlocks(
                id="3", organization="org-123", transfer_id=transfer, blocks=numbers, data=data
            ),
        )
        return transfer

    with folder.client() as client:
        folder.pause_workers(client)
        transfer = client._run(begin(client._client))
        handle = client.submit("org-123", as_of=AS_OF, dry_run=True)
        commit = CommitPush(id="4", organization="org-123", transfer_id=transfer)
        with pytest.raises(BusyError):
            client._run(client._client._session.request(commit))
        assert content(folder.path / "org-123.db") == before
        folder.resume_workers()
        handle.wait(120)
        client._run(client._client._session.request(commit))
    assert content(folder.path / "org-123.db") == content(source)


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
def test_full_volume(make_folder: MakeFolder, tmp_path: Path) -> None:
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
    """What a killed daemon left of a pull goes when the next transfer begins."""
    left = transfer_folder(folder.path, "org-old") / "pull-0123.db"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"x")
    table(folder.path / "org-new.db", 10)
    with folder.client() as client:
        client.pull("org-new", folder.path.parent / "back.db")
    assert not left.exists()


@pytest.mark.slow
def test_from_a_shell(folder: Folder, tmp_path: Path) -> None:
    """The commands show what travelled, as a line or as JSON, and exit by what happened."""
    source = table(tmp_path / "source.db", 500)

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*SCHEDCTL, *arguments, "--data", str(folder.path)],
            capture_output=True,
            text=True,
            timeout=120,
        )

    done = call("push", str(source), "org-new")
    assert done.returncode == 0, done.stderr
    assert "sent to org-new" in done.stdout
    done = call("pull", "org-new", str(tmp_path / "back.db"), "--json")
    assert json.loads(done.stdout)["size_bytes"] == source.stat().st_size
    assert call("push", str(tmp_path / "nosuch.db"), "org-new").returncode == 2
    assert call("pull", "org-nosuch", str(tmp_path / "x.db")).returncode == 4
    assert call("push", str(source), "../etc").returncode == 4


EDITS = st.lists(
    st.tuples(st.sampled_from(["update", "insert", "delete", "vacuum"]), st.integers(0, 3000)),
    min_size=1,
    max_size=6,
)


@pytest.mark.slow
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(edits=EDITS, page_size=st.sampled_from([512, 4096, 16384]), seed=st.integers(0, 1000))
def test_any_edits(
    folder: Folder, tmp_path: Path, edits: list[tuple[str, int]], page_size: int, seed: int
) -> None:
    """Whatever changes between two transfers, both sides end with the same content."""
    name = f"org-{page_size}"
    source, back = tmp_path / f"{name}.db", tmp_path / f"{name}-back.db"
    if not source.exists():
        table(source, 3000, seed, page_size)
    connection = sqlite3.connect(source, isolation_level=None)
    for kind, number in edits:
        rows = range(number, number + 30)
        if kind == "update":
            connection.executemany(
                "UPDATE t SET text = ? WHERE id = ?", ((f"{seed}-{n}", n) for n in rows)
            )
        elif kind == "insert":
            connection.executemany(
                "INSERT OR REPLACE INTO t VALUES (?, ?)", ((n + 3000, "new") for n in rows)
            )
        elif kind == "delete":
            connection.executemany("DELETE FROM t WHERE id = ?", ((n,) for n in rows))
        else:
            connection.execute("VACUUM")
    connection.close()
    with folder.client() as client:
        client.push(source, name)
        client.pull(name, back)
    assert content(source) == content(back)


def test_copy_has_the_log(tmp_path: Path) -> None:
    """The copy that is sent holds what is committed, also where it is still in the log."""
    source = table(tmp_path / "source.db", 10)
    connection = sqlite3.connect(source, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("INSERT INTO t VALUES (99, 'log')")
    _copy(source, tmp_path / "copy.db")
    connection.close()
    assert content(tmp_path / "copy.db") == content(source)
