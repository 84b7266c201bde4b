"""Modes of all files that daemon, client and schedctl create, as documented."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from schedproto.layout import temporary_folder
from tests.support.command_line import SCHEDCTL
from tests.support.daemons import RunningDaemon
from tests.support.folders import AS_OF, Folder
from tests.support.waiting import wait_until

DOCUMENT = Path(__file__).parents[2] / "docs" / "OPERATIONS.md"
#: What the test itself puts into its folder.
NOT_CREATED = {"data", "bucket", "bucketed", "bucketed/org-1.db", "data/org-1.db", "home"}


def documented() -> dict[str, str]:
    """The rows of the table "File modes": a pattern of paths -> mode, "umask" if that decides."""
    section = DOCUMENT.read_text().partition("### File modes")[2].partition("\n## ")[0]
    rows = {}
    for cells in re.findall(r"^\| (`.+?) \| (0[0-7]{3}|umask) \|", section, re.MULTILINE):
        rows.update(dict.fromkeys(re.findall(r"`(.+?)`", cells[0]), cells[1]))
    assert len(rows) > 20
    return rows


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def expected(documented_mode: str, path: Path, umask: int) -> int:
    if documented_mode == "umask":
        return (0o644 if path.suffix == ".db" else 0o666) & ~umask  # SQLite creates files as 0644
    return int(documented_mode, 8) | (0o100 if path.is_dir() else 0)


class Scenario:
    """Uses every command that creates files, under a umask."""

    def __init__(self, root: Path, umask: int) -> None:
        self.root, self.umask = root, umask

    def schedctl(self, *arguments: object, **environment: str) -> None:
        done = subprocess.run(
            [*SCHEDCTL, *map(str, arguments)],
            cwd=self.root,
            env={**os.environ, **environment},
            umask=self.umask,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, (arguments, done.stderr)

    def run(self, data: Path) -> None:
        at = ("--data", data)
        self.schedctl("submit", "org-1", "--as-of", AS_OF, *at)
        self.schedctl("submit", "org-1", "--as-of", "2026-11-02", *at)
        self.schedctl("report", "org-1", "--html", "page.html", *at)
        self.schedctl("preview", "org-1", "--save", "plan.json", *at)
        self.schedctl("pull", "org-1", "pulled.db", *at)
        self.schedctl("push", "pulled.db", "org-2", *at)
        self.schedctl("demo", "--contacts", "100", "--out", "demo.db")
        self.schedctl("keys", "new")

    def run_with_bucket(self, data: Path) -> None:
        bucket = {"SCHEDD_BUCKET_FOLDER": str(self.root / "bucket")}
        (self.root / "bucket").mkdir()
        self.schedctl("submit", "org-1", "--as-of", AS_OF, "--data", data, **bucket)
        self.schedctl("bucket", "fetch", "org-1", "fetched.db", **bucket)


@pytest.mark.usefixtures("clean_environment")
@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_modes(tmp_path: Path, make_folder: Callable[..., Folder], umask: int) -> None:
    """Every file has the documented mode, whatever the umask, and every row of the table is met."""
    folder, bucketed = make_folder("data", ("org-1",)), make_folder("bucketed", ("org-1",))
    scenario = Scenario(tmp_path, umask)
    scenario.run(folder.path)
    scenario.run_with_bucket(bucketed.path)

    rows, met, wrong = documented(), set(), []
    for path in sorted(tmp_path.rglob("*")):
        name = path.relative_to(tmp_path).as_posix()
        if name in NOT_CREATED or name.startswith("home/"):
            continue
        name = re.sub("^(data|bucketed)/", "DATA/", name)
        pattern = next((pattern for pattern in rows if fnmatchcase(name, pattern)), None)
        if pattern is None:
            wrong.append(f"{name}: not in the table, {mode(path):o}")
            continue
        met.add(pattern)
        wanted = expected(rows[pattern], path, umask)
        public = name.endswith(".public")
        if mode(path) != (wanted & ~umask if public else wanted):
            wrong.append(f"{name}: {mode(path):04o} instead of {wanted:04o} ({pattern})")
    assert not wrong, "\n".join(wrong)
    assert set(rows) - met == set()


def test_scratch_folder(folder: Folder) -> None:
    """The folder for shared arrays, with all that is in it while a daemon runs."""
    with folder.client() as client:
        wait_until(lambda: client.health().status == "serving")
    inode = f"{folder.path.stat().st_ino:x}"
    found = list(Path("/dev/shm").glob(f"schedd-{os.getuid()}-*-{inode}"))
    if not found:
        pytest.skip("the shared memory has no room, so the scratch folder is in the state folder")
    for path in (*found, *found[0].rglob("*")):
        assert mode(path) & 0o077 == 0, path


def test_copy_of_a_push(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The copy that a push makes next to the file is private from its first byte."""
    from schedclient import transfers

    seen = []
    real = transfers._read_digests

    def read(path: Path) -> bytes:
        seen.append(mode(path))
        return real(path)

    monkeypatch.setattr(transfers, "_read_digests", read)
    old = os.umask(0)
    try:
        with folder.client() as client:
            client.push(shutil.copy(folder.path / "org-1.db", folder.path.parent), "org-3")
    finally:
        os.umask(old)
    assert seen == [0o600]


def test_temporary_copies_of_a_killed_daemon(
    daemons: Callable[..., RunningDaemon], data: Path
) -> None:
    """Complete copies that a kill left are removed at the next start."""
    left = temporary_folder(data) / "restore-killed"
    left.mkdir()
    (left / "org-a.db").write_bytes(b"copy")
    daemon = daemons()
    with daemon.client() as client:
        assert client.health().status == "serving"
    assert not left.exists()
