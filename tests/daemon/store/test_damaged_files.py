"""Files that are damaged, truncated, or on a full disk."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from schedproto import ErrorCode, SchedulerError
from tests.support.plans import GOLDEN, expect_error, make_database, run_locally


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.mkdir()
    return path


@pytest.mark.parametrize("page", [1, 3, 6, 9])
def test_damaged(folder: Path, tmp_path: Path, page: int) -> None:
    """Pages overwritten with noise are found before anything is written."""
    path = make_database(folder / "org.db", (GOLDEN / "08-crowded.sql").read_text())
    with path.open("r+b") as file:
        file.seek(page * 4096 + 8)
        file.write(bytes(range(251)) * 16)
    expect_error(path, tmp_path, ErrorCode.DATABASE_DAMAGED)


def test_truncated(folder: Path, tmp_path: Path) -> None:
    """A file that was cut off is found before anything is written."""
    path = make_database(folder / "org.db", (GOLDEN / "08-crowded.sql").read_text())
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    expect_error(path, tmp_path, ErrorCode.DATABASE_DAMAGED)


@pytest.mark.slow
@pytest.mark.skipif(
    os.getuid() != 0 or not shutil.which("mount"),
    reason="a small file system can only be mounted by root",
)
@pytest.mark.parametrize("mode", ["reliable", "highperf"])
def test_full_disk(tmp_path: Path, mode: str) -> None:
    """On a full file system the run fails with a clear error, and the file is as it was before."""
    mount = tmp_path / "small"
    mount.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=9m", "tmpfs", str(mount)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip("file systems cannot be mounted here")
    try:
        path = mount / "org.db"
        script = (
            "from schedctl.synthetic import make_organization; import sys, datetime; from pathlib "
            "import Path;"
            "make_organization(Path(sys.argv[1]), 30000, 1, datetime.date(2026, 11, 23))"
        )
        subprocess.run(
            [sys.executable, "-c", script, str(tmp_path / "org.db")], check=True, timeout=120
        )
        shutil.copy(tmp_path / "org.db", path)
        before = (
            sqlite3.connect(path)
            .execute("SELECT count(*), max(id) FROM email_schedules")
            .fetchone()
        )
        with pytest.raises(SchedulerError) as caught:
            run_locally(path, tmp_path / "scratch", "2026-11-23", mode=mode)
        assert caught.value.code == ErrorCode.DISK_FULL
        connection = sqlite3.connect(path)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert (
            connection.execute("SELECT count(*), max(id) FROM email_schedules").fetchone() == before
        )
        assert (
            connection.execute(
                "SELECT name FROM sqlite_schema WHERE name = 'scheduler_runs'"
            ).fetchone()
            is None
        )
        connection.close()
    finally:
        subprocess.run(["umount", "-l", str(mount)], check=True)
