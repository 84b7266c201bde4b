"""Backups: every kept state comes back byte by byte, whatever happened meanwhile."""

from __future__ import annotations

import datetime as dt
import errno
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import apsw
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schedd.backups import pages
from schedd.backups.backups import Backups
from schedd.backups.restore import rebuild, restore
from schedproto import ErrorCode, SchedulerError

DAY = dt.timedelta(days=1)


class Clock:
    def __init__(self) -> None:
        self.now = dt.datetime(2026, 11, 23, 12, 0, tzinfo=dt.UTC)

    def __call__(self) -> dt.datetime:
        return self.now


def make(backups: Backups, path: Path, run_id: str = "run") -> str:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return backups.make(descriptor, run_id)
    finally:
        os.close(descriptor)


def small_database(path: Path, rows: int = 200) -> Path:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, text TEXT)")
    connection.executemany("INSERT INTO t VALUES (?, ?)", [(n, f"{n:0200d}") for n in range(rows)])
    connection.commit()
    connection.close()
    return path


def change(path: Path, seed: int) -> None:
    """A transaction of the main application: some rows change, come and go."""
    source = random.Random(seed)
    connection = sqlite3.connect(path)
    for _ in range(source.randint(1, 8)):
        row = source.randrange(400)
        connection.execute(
            "INSERT OR REPLACE INTO t VALUES (?, ?)", (row, source.randbytes(100).hex())
        )
    if seed % 5 == 0:
        connection.execute("DELETE FROM t WHERE id > ?", (source.randrange(400),))
    connection.commit()
    if seed % 7 == 0:
        connection.execute("VACUUM")
    connection.close()


def restored(backups: Backups, backup_id: str, folder: Path) -> bytes:
    target = folder / "rebuilt.db"
    rebuild(backups, backup_id, target)
    content = target.read_bytes()
    target.unlink()
    return content


@settings(max_examples=25, deadline=None)
@given(
    steps=st.lists(st.tuples(st.integers(0, 1000), st.floats(0, 4)), min_size=1, max_size=14),
    keep_days=st.sampled_from([1.0, 3.0, 7.0]),
)
def test_every_kept_state_comes_back(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, float]], keep_days: float
) -> None:
    """Every listed state is restored byte for byte, and none is deleted too early."""
    folder = tmp_path_factory.mktemp("backups")
    clock, path = Clock(), small_database(folder / "org.db")
    backups = Backups(folder / "kept", keep_days, clock)
    states: dict[str, tuple[bytes, dt.datetime]] = {}
    for seed, days in steps:
        change(path, seed)
        backup_id = make(backups, path)
        assert backup_id not in states
        states[backup_id] = (path.read_bytes(), clock.now)
        assert make(backups, path) == backup_id
        clock.now += days * DAY
    kept = [entry.backup_id for entry in backups.list()]
    last = max(when for _, when in states.values())
    young = {name for name, (_, when) in states.items() if when >= last - keep_days * DAY}
    assert young <= set(kept)
    assert kept == sorted(kept, reverse=True)
    for backup_id in kept:
        assert restored(backups, backup_id, folder) == states[backup_id][0]
    stored = {path.name for path in (folder / "kept").iterdir()}
    assert len(stored) == len(kept) + 2


def test_expired_chains_are_deleted(tmp_path: Path) -> None:
    """After the retention time a new copy begins, and the expired chain is deleted."""
    clock, path = Clock(), small_database(tmp_path / "org.db", 20_000)
    backups = Backups(tmp_path / "kept", 7, clock)
    ids = []
    for day in range(24):
        change(path, 100 * day + 1)
        ids.append(make(backups, path))
        clock.now += DAY
    kept = [entry.backup_id for entry in backups.list()]
    assert ids[-8:] == sorted(kept)[-8:]
    assert ids[0] not in kept
    assert len(list((tmp_path / "kept").glob("*.db"))) <= 2
    assert len(kept) <= 17


def test_only_changed_pages_are_kept(tmp_path: Path) -> None:
    """A patch holds the pages that changed, and little more."""
    path = small_database(tmp_path / "org.db", 20_000)
    backups = Backups(tmp_path / "kept", 7, Clock())
    make(backups, path)
    connection = sqlite3.connect(path)
    connection.execute("UPDATE t SET text = 'changed' WHERE id = 7")
    connection.commit()
    connection.close()
    make(backups, path)
    newest, oldest = backups.list()
    assert oldest.stored_bytes == path.stat().st_size
    assert newest.stored_bytes < 4 * 4096


def test_digest_shows_every_changed_word() -> None:
    """Whatever one word of a page becomes, the page's digest is another."""
    source = np.random.default_rng(1)
    page = source.integers(0, 256, (1, 4096), np.uint8)
    digester = pages.Digester(4096)
    before = digester.digest(page)
    for _ in range(2000):
        other = page.copy()
        place = int(source.integers(0, 4096))
        other[0, place] ^= np.uint8(source.integers(1, 256))
        assert not np.array_equal(digester.digest(other), before)
    swapped = page.reshape(2, 2048)[::-1].reshape(1, 4096)
    assert not np.array_equal(digester.digest(swapped), before)


@pytest.mark.parametrize("damage", ["copy", "patch", "cut", "missing"])
def test_damage_is_found(damage: str, tmp_path: Path) -> None:
    """A backup that is not what it was is refused, and the organization's file stays as it is."""
    path = small_database(tmp_path / "org.db", 2000)
    backups = Backups(tmp_path / "kept", 7, Clock())
    make(backups, path)
    change(path, 1)
    newest = make(backups, path)
    copy, patch = next((tmp_path / "kept").glob("*.db")), next((tmp_path / "kept").glob("*.patch"))
    if damage == "missing":
        copy.unlink()
    elif damage == "cut":
        patch.write_bytes(patch.read_bytes()[:-100])
    else:
        target = copy if damage == "copy" else patch
        content = bytearray(target.read_bytes())
        content[-1500] ^= 1
        target.write_bytes(content)
    before = path.read_bytes()
    with pytest.raises(SchedulerError) as caught:
        restore(backups, newest, path)
    assert caught.value.code == ErrorCode.BACKUP_DAMAGED
    assert path.read_bytes() == before
    assert not list((tmp_path / ".schedd" / "temporary").iterdir())
    # The next backup does not build on what is damaged, where that shows.
    change(path, 2)
    again = make(backups, path)
    if damage == "missing":
        assert restored(backups, again, tmp_path) == path.read_bytes()


def test_unknown_backup(tmp_path: Path) -> None:
    """Asking for a backup that is not there names those that are."""
    path = small_database(tmp_path / "org.db")
    backups = Backups(tmp_path / "kept", 7, Clock())
    known = make(backups, path)
    with pytest.raises(SchedulerError, match="no backup") as caught:
        restore(backups, "20200101-0001", path)
    assert known in caught.value.hint


@pytest.mark.parametrize("call", ["copy_file_range", "fsync", "preadv"])
def test_failing_disk(call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full or failing disk is reported; earlier backups stay, none is half-made."""
    path = small_database(tmp_path / "org.db")
    backups = Backups(tmp_path / "kept", 7, Clock())
    first = make(backups, path)
    content = path.read_bytes()
    change(path, 3)
    if call == "copy_file_range":
        (tmp_path / "kept" / f"{first}.digests").unlink()  # so that the next one is a copy

    def fail(*_: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, call, fail)
        with pytest.raises(SchedulerError) as caught:
            make(backups, path)
    assert caught.value.code == ErrorCode.DISK_FULL
    assert "SCHEDD_BACKUP_DAYS" in caught.value.hint
    assert [entry.backup_id for entry in backups.list()] == [first]
    assert restored(backups, first, tmp_path) == content
    newest = make(backups, path)
    assert restored(backups, newest, tmp_path) == path.read_bytes()


_KILLED = """
import os, sys, datetime as dt
from pathlib import Path
from schedd.backups.backups import Backups
backups = Backups(Path(sys.argv[2]), 7, lambda: dt.datetime.now(dt.UTC))
descriptor = os.open(sys.argv[1], os.O_RDONLY)
print("ready", flush=True)
sys.stdin.readline()
backups.make(descriptor, "killed")
"""


@pytest.mark.slow
def test_killed_while_making(tmp_path: Path) -> None:
    """kill -9 at any moment leaves the earlier backups and at most a complete new one."""
    path = small_database(tmp_path / "org.db", 30_000)
    folder = tmp_path / "kept"
    backups = Backups(folder, 7, lambda: dt.datetime.now(dt.UTC))
    states = {make(backups, path): path.read_bytes()}
    source = random.Random(5)
    outcomes = set()
    # About as long as a backup takes on this machine at this moment, learnt from the outcomes.
    limit_s = 0.06
    for round_ in range(40):
        connection = sqlite3.connect(path)
        connection.execute(
            "UPDATE t SET text = ? WHERE id % ? = 0", (f"{round_:0200d}", source.choice([2, 50]))
        )
        connection.commit()
        connection.close()
        process = subprocess.Popen(
            [sys.executable, "-c", _KILLED, str(path), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        process.stdin.write(b"\n")
        process.stdin.flush()
        time.sleep(source.uniform(0, limit_s))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        listed = [entry.backup_id for entry in backups.list()]
        known = set(states)
        assert len(set(listed) - known) <= 1
        made = bool(set(listed) - known)
        outcomes.add(made)
        limit_s *= 0.8 if made else 1.25
        for backup_id in set(listed) - known:
            states[backup_id] = path.read_bytes()
        newest = make(backups, path)
        states.setdefault(newest, path.read_bytes())
        assert restored(backups, newest, tmp_path) == path.read_bytes()
        chosen = source.choice([entry.backup_id for entry in backups.list()])
        assert restored(backups, chosen, tmp_path) == states[chosen]
    assert outcomes == {True, False}


def test_restored_file_is_a_database(tmp_path: Path) -> None:
    """A rebuilt file passes SQLite's own check, and any tool can open the copy alone."""
    path = small_database(tmp_path / "org.db")
    backups = Backups(tmp_path / "kept", 7, Clock())
    make(backups, path)
    copy = next((tmp_path / "kept").glob("*.db"))
    shutil.copy(copy, tmp_path / "any.db")
    connection = apsw.Connection(str(tmp_path / "any.db"))
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()
