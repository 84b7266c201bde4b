"""Faults of the data folder: a full disk, a damaged journal, the journal of a later release."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from schedclient import errors
from schedctl.synthetic import make_organization
from tests.support.daemons import AS_OF, RunningDaemon


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A data folder on a file system of 3 MB."""
    if os.getuid() != 0 or not shutil.which("mount"):
        pytest.skip("a small file system can only be mounted by root")
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("file systems cannot be mounted here")
    make_organization(folder / "org-a.db", 300, 1, dt.date(2026, 11, 23))
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.slow
def test_submit_on_a_full_disk(daemons: Callable[..., RunningDaemon], small_disk: Path) -> None:
    """A job that cannot be written down is refused.

    The daemon lives and takes it when there is room.
    """
    daemon = daemons(folder=small_disk)
    with daemon.client() as client:
        client.health()
        filler = small_disk / "filler"
        with filler.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(b"x" * 4096)
            except OSError:
                pass

        def submit_many() -> None:
            for _ in range(50):
                client.submit("org-a", as_of=AS_OF, dry_run=True)

        with pytest.raises(errors.DiskFullError) as caught:
            submit_many()
        assert caught.value.hint
        filler.unlink()
        assert client.schedule("org-a", as_of=AS_OF).contacts == 300
    assert daemon.stop() == 0


@pytest.mark.parametrize("content", [b"no database" * 1000, None])
def test_unusable_journal(
    daemons: Callable[..., RunningDaemon], data: Path, content: bytes | None
) -> None:
    """A damaged or newer journal ends the start with code 5 and says what to do."""
    state = data / ".schedd"
    state.mkdir()
    if content is not None:
        (state / "journal.db").write_bytes(content)
    else:
        connection = sqlite3.connect(state / "journal.db")
        connection.execute("PRAGMA user_version = 99")
        connection.close()
    daemon = daemons()
    assert daemon.wait() == 5
    assert "journal" in daemon.log()
    if content is not None:
        assert (state / "journal.db").read_bytes() == content
