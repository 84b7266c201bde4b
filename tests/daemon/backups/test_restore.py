"""Backups of runs, and their restoration, by the job and through the daemon."""

from __future__ import annotations

import datetime as dt
import errno
import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from schedclient import errors
from schedctl.synthetic import make_organization
from schedd.backups.backups import Backups
from schedd.backups.restore import rebuild
from schedd.run.runner import run_job
from schedproto import ErrorCode, JobSpec, RunResult, SchedulerError
from tests.support.command_line import schedctl
from tests.support.daemons import AS_OF, RunningDaemon
from tests.support.other_programs import locked, other_program
from tests.support.plans import LocalContext, read_plan


def organization(folder: Path, contacts: int = 400) -> Path:
    path = folder / "org-a.db"
    make_organization(path, contacts, 1, dt.date.fromisoformat(AS_OF))
    return path


def run(path: Path, backups: Backups, **spec: Any) -> RunResult:
    context = LocalContext(path.parent / "scratch")
    context.backups = backups
    return run_job(JobSpec(organization="org-a", as_of=AS_OF, **spec), path, "", context)


def dump(path: Path) -> list[str]:
    connection = sqlite3.connect(path)
    rows = list(connection.iterdump())
    connection.close()
    return rows


def dump_of(backups: Backups, backup_id: str, folder: Path) -> list[str]:
    target = folder / "rebuilt.db"
    rebuild(backups, backup_id, target)
    content = dump(target)
    target.unlink()
    return content


def test_run_keeps_the_state_before_it(tmp_path: Path) -> None:
    """A reliable run keeps the file as it was.

    One that changes nothing, a dry run and highperf keep nothing.
    """
    path = organization(tmp_path)
    backups = Backups(tmp_path / "kept", 7, lambda: dt.datetime.now(dt.UTC))
    before = dump(path)
    assert run(path, backups, dry_run=True).backup_id is None
    result = run(path, backups)
    assert result.backup_id is not None
    assert [entry.backup_id for entry in backups.list()] == [result.backup_id]
    assert dump_of(backups, result.backup_id, tmp_path) == before
    assert run(path, backups).backup_id is None
    assert run(path, backups, mode="highperf", config={"send_time": "10:00:00"}).backup_id is None
    middle = dump(path)
    second = run(path, backups, config={"send_time": "11:00:00"})
    assert second.backup_id not in {None, result.backup_id}
    assert dump_of(backups, str(second.backup_id), tmp_path) == middle


_READER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN")
connection.execute("SELECT count(*) FROM contacts").fetchone()
print("reading", flush=True)
sys.stdin.readline()
"""


_APPLICATION = """
import sqlite3, sys, os
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA journal_mode = WAL")
connection.execute("UPDATE contacts SET email = 'changed@example.org' WHERE id = 5")
print(os.path.getsize(sys.argv[1] + "-wal"), flush=True)
sys.stdin.readline()
"""


@pytest.mark.slow
@pytest.mark.parametrize("reader", [False, True])
def test_file_in_wal_mode(reader: bool, tmp_path: Path) -> None:
    """A backup includes the write-ahead log, also if a reader keeps the log in use."""
    path = organization(tmp_path)
    backups = Backups(tmp_path / "kept", 7, lambda: dt.datetime.now(dt.UTC))
    with ExitStack() as others:
        if reader:
            connection = sqlite3.connect(path)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.close()
            assert others.enter_context(other_program(_READER, path)).said == "reading"
        assert int(others.enter_context(other_program(_APPLICATION, path)).said) > 0
        result = run(path, backups)
    assert result.backup_id is not None
    target = tmp_path / "rebuilt.db"
    rebuild(backups, result.backup_id, target)
    connection = sqlite3.connect(target)
    [(email,)] = connection.execute("SELECT email FROM contacts WHERE id = 5")
    [(runs,)] = connection.execute(
        "SELECT count(*) FROM sqlite_schema WHERE name = 'scheduler_runs'"
    )
    connection.close()
    assert (email, runs) == ("changed@example.org", 0)


def test_backup_that_fails_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without room for the backup there is no run: the error says so and the file is untouched."""
    path = organization(tmp_path)
    before = dump(path)

    def fail(*_: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "copy_file_range", fail)
    with pytest.raises(SchedulerError) as caught:
        run(path, Backups(tmp_path / "kept", 7, lambda: dt.datetime.now(dt.UTC)))
    assert caught.value.code == ErrorCode.DISK_FULL
    assert dump(path) == before


def test_lock_is_held_through_the_backup(tmp_path: Path) -> None:
    """Making the backup does not drop SQLite's locks.

    Another process cannot write before the run has ended.
    """
    path = organization(tmp_path)
    probe = (
        "import sqlite3, sys\n"
        "c = sqlite3.connect(sys.argv[1], timeout=0, isolation_level=None)\n"
        "try:\n    c.execute('BEGIN IMMEDIATE'); print('free')\n"
        "except sqlite3.OperationalError as error:\n    print(error)\n"
    )
    seen = []

    class Watched(Backups):
        def make(self, descriptor: int, run_id: str) -> str:
            backup_id = super().make(descriptor, run_id)
            done = subprocess.run(
                [sys.executable, "-c", probe, str(path)], capture_output=True, text=True, check=True
            )
            seen.append(done.stdout.strip())
            return backup_id

    run(path, Watched(tmp_path / "kept", 7, lambda: dt.datetime.now(dt.UTC)))
    assert seen == ["database is locked"]


def test_restore_through_the_daemon(data: Path, daemons: Callable[..., RunningDaemon]) -> None:
    """A run is undone by restoring the backup that it names; that can be undone in turn."""
    daemon, path = daemons(), data / "org-a.db"
    before = dump(path)
    with daemon.client() as client:
        result = client.schedule("org-a", as_of=AS_OF)
        assert result.backup_id is not None
        planned = dump(path)
        assert planned != before
    listed = schedctl("backup", "list", "org-a", data=data)
    assert result.backup_id in listed.stdout
    done = schedctl("backup", "restore", "org-a", result.backup_id, data=data)
    assert done.returncode == 0, done.stderr
    assert dump(path) == before
    document = json.loads(schedctl("backup", "list", "org-a", "--json", data=data).stdout)
    assert document["backups"][0]["run_id"] == "before a restore"
    again = schedctl(
        "backup", "restore", "org-a", document["backups"][0]["backup_id"], "--json", data=data
    )
    assert json.loads(again.stdout)["restored"] == document["backups"][0]["backup_id"]
    assert dump(path) == planned
    wrong = schedctl("backup", "restore", "org-a", "nonsense", data=data)
    assert wrong.returncode == 4
    assert "Newest backups: " in wrong.stderr
    assert "no backups" in schedctl("backup", "list", "org-b", data=data).stdout


def test_restore_of_a_damaged_file(data: Path, daemons: Callable[..., RunningDaemon]) -> None:
    """A file that SQLite cannot open any more, or that is gone, is replaced by the backup."""
    daemon, path = daemons(), data / "org-a.db"
    with daemon.client() as client:
        before = dump(path)
        backup_id = str(client.schedule("org-a", as_of=AS_OF).backup_id)
        path.write_bytes(b"not a database" * 1000)
        with pytest.raises(errors.DatabaseUnusableError):
            client.schedule("org-a", as_of=AS_OF)
        assert client.restore("org-a", backup_id).restored == backup_id
        assert dump(path) == before
        path.unlink()
        client.restore("org-a", backup_id)
        assert dump(path) == before
        assert client.schedule("org-a", as_of=AS_OF).rows_inserted == len(read_plan(path))


def test_restore_waits_for_no_job(data: Path, daemons: Callable[..., RunningDaemon]) -> None:
    """While a job of the organization waits or runs, a restore is refused; others are free."""
    daemon = daemons()
    with daemon.client() as client:
        backup_id = str(client.schedule("org-a", as_of=AS_OF).backup_id)
        other = str(client.schedule("org-b", as_of=AS_OF).backup_id)
        with daemon.stopped_job(client, "org-a") as job:
            with pytest.raises(errors.BusyError) as caught:
                client.restore("org-a", backup_id)
            assert caught.value.code == "organization_busy"
            assert caught.value.retryable
            assert client.restore("org-b", other).restored == other
        job.wait(120)
        assert client.restore("org-a", backup_id).restored == backup_id


@pytest.mark.slow
def test_restore_of_a_locked_file(data: Path, daemons: Callable[..., RunningDaemon]) -> None:
    """A restore waits for a lock as long as SQLite does, beyond the idle timeout."""
    daemon = daemons("--idle-timeout", "3")
    with daemon.client() as client:
        backup_id = str(client.schedule("org-a", as_of=AS_OF).backup_id)
        plan = read_plan(data / "org-a.db")
        with locked(data / "org-a.db"):
            start = time.monotonic()
            with pytest.raises(errors.DatabaseLockedError):
                client.restore("org-a", backup_id)
            assert time.monotonic() - start > 4
        assert read_plan(data / "org-a.db") == plan
        assert client.restore("org-a", backup_id).restored == backup_id


def test_no_backups_when_turned_off(data: Path, daemons: Callable[..., RunningDaemon]) -> None:
    """With --backup-days 0 runs make no backups."""
    daemon = daemons("--backup-days", "0")
    with daemon.client() as client:
        assert client.schedule("org-a", as_of=AS_OF).backup_id is None
        assert client.backups("org-a").backups == []
    assert not (data / ".schedd" / "backups").exists()
