"""Push and pull.

The received file equals the sent one, and only missing blocks are transferred.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schedclient import aio
from schedclient.errors import (
    BusyError,
    LocalFileError,
)
from schedclient.transfers import _copy
from schedproto.transfers import (
    CommitPush,
    OfferDigests,
    OpenPush,
    PutBlocks,
    blocks_of,
    digests_of,
    whole_digest,
)
from tests.support.command_line import SCHEDCTL
from tests.support.databases import change, content, leftovers, table
from tests.support.folders import AS_OF, Folder

MakeFolder = Callable[..., Folder]


@pytest.fixture
def folder(make_folder: MakeFolder) -> Folder:
    return make_folder()


def test_push_and_pull_round_trip(folder: Folder, tmp_path: Path) -> None:
    """A database that is pushed is the organization's; pulled, it is what it was.

    No temporary files remain.
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
