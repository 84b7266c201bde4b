"""Files that others remove or replace while the daemon uses them."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from schedclient.errors import DatabaseLockedError
from schedproto.layout import socket_endpoint, state_folder
from tests.support.daemons import AS_OF, RunningDaemon
from tests.support.waiting import wait_until


def planned(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        sql = "SELECT count(*) FROM email_schedules WHERE status = 'pre-scheduled'"
        return int(connection.execute(sql).fetchone()[0])


def test_file_replaced_during_a_run(data: Path, daemons: Callable[..., RunningDaemon]) -> None:
    """A run whose file is renamed over does not report success, and may be repeated."""
    daemon = daemons()
    path = data / "org-a.db"
    other = data / "incoming"
    shutil.copyfile(path, other)
    before = planned(path)
    with daemon.client(timeout_s=60) as client:
        with daemon.stopped_job(client, "org-a") as handle:
            other.replace(path)
        with pytest.raises(DatabaseLockedError) as caught:
            handle.wait(timeout_s=120)
        assert caught.value.code == "database_replaced"
        assert caught.value.retryable
        assert planned(path) == before
        assert client.schedule("org-a", as_of=AS_OF).rows_inserted
        assert planned(path) > before
    assert daemon.stop() == 0


def test_socket_removed(data: Path, daemons: Callable[..., RunningDaemon]) -> None:
    """The daemon listens again when the file of its socket was removed."""
    daemon = daemons()
    with daemon.client(timeout_s=60) as client:
        client.health()
        socket = Path(socket_endpoint(data).removeprefix("ipc://"))
        socket.unlink()
        wait_until(socket.is_socket, "new socket")
        with daemon.client(timeout_s=30) as other:
            assert other.schedule("org-a", as_of=AS_OF).rows_inserted
        assert client.health().status == "serving"
    assert daemon.stop() == 0


def test_state_folder_removed(data: Path, daemons: Callable[..., RunningDaemon]) -> None:
    """A daemon whose state folder is gone says so and exits; the next one serves the folder."""
    daemon = daemons()
    with daemon.client(timeout_s=60) as client:
        client.health()
        shutil.rmtree(state_folder(data), ignore_errors=True)
        assert daemon.wait(60) == 5
    assert "removed or replaced" in daemon.log()
    again = daemons()
    with again.client(timeout_s=60) as client:
        assert client.schedule("org-a", as_of=AS_OF).rows_inserted
    assert again.stop() == 0
