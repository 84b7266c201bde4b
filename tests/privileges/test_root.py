"""The start as root: files given to the ordinary user, and the privileges that remain."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from schedclient import Client
from schedd.exitcodes import FatalError
from schedd.privileges import _chown_data
from schedproto.layout import socket_endpoint
from tests.support.waiting import wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change owners and users")

UID = GID = 65534
ROOT = str(Path(__file__).parents[2])
#: The modules of the project and its virtual environment, not the standard library of this Python.
PYTHON_PATH = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path.startswith(ROOT))}
USER = pwd.getpwuid(UID).pw_name


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder of root with a state folder, as an earlier daemon left it."""
    folder = tmp_path / "data"
    (folder / ".schedd" / "backups" / "org-1").mkdir(parents=True)
    (folder / "org-1.db").write_text("database")
    (folder / ".schedd" / "journal.db").write_text("journal")
    (folder / ".schedd" / "backups" / "org-1" / "1.db").write_text("backup")
    (folder / "other").mkdir()
    (folder / "other" / "file").write_text("not the daemon's")
    return folder


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A folder of root outside of the data folder."""
    folder = tmp_path / "victim"
    folder.mkdir()
    (folder / "shadow").write_text("secret")
    return folder


def owners(*paths: Path) -> set[int]:
    return {path.lstat().st_uid for path in paths}


def test_files_are_given(data: Path) -> None:
    """The data folder, its files and everything in the state folder; no other folder."""
    _chown_data(data, UID, GID)
    assert owners(data, data / "org-1.db", *(data / ".schedd").rglob("*")) == {UID}
    assert owners(data / "other", data / "other" / "file") == {0}


def test_first_start(tmp_path: Path) -> None:
    """A new volume has no state folder yet."""
    _chown_data(tmp_path, UID, GID)
    assert owners(tmp_path) == {UID}


def test_data_folder_by_a_link(data: Path, tmp_path: Path) -> None:
    """The operator may name the data folder by a link: the folder itself is given."""
    (tmp_path / "link").symlink_to(data)
    _chown_data(tmp_path / "link", UID, GID)
    assert owners(data, data / "org-1.db") == {UID}


def test_state_folder_is_a_link(data: Path, victim: Path) -> None:
    """A link in place of the state folder is refused; nothing behind it is given away."""
    shutil.rmtree(data / ".schedd")
    (data / ".schedd").symlink_to(victim)
    with pytest.raises(FatalError, match="symbolic link"):
        _chown_data(data, UID, GID)
    assert owners(victim, victim / "shadow") == {0}


def test_links_in_the_folders(data: Path, victim: Path) -> None:
    """Links to files and folders, at any depth, are given themselves and never followed."""
    shutil.rmtree(data / ".schedd" / "backups")
    links = [
        data / "org-2.db",
        data / ".schedd" / "backups",
        data / ".schedd" / "scratch",
        data / ".schedd" / "daemon.log",
    ]
    for link, target in zip(links, ["shadow", ".", ".", "shadow"], strict=True):
        link.symlink_to(victim / target)
    _chown_data(data, UID, GID)
    assert owners(*links) == {UID}
    assert owners(victim, victim / "shadow") == {0}


def test_hard_links(data: Path, victim: Path) -> None:
    """Another name of root's file is not given away."""
    os.link(victim / "shadow", data / ".schedd" / "copy")
    with pytest.raises(FatalError, match="hard links"):
        _chown_data(data, UID, GID)
    assert owners(victim / "shadow") == {0}


DROP = """
import json, os
from pathlib import Path
from schedd.hardening import protect_memory
from schedd.privileges import drop_privileges
import sys
protect_memory()
os.setgroups([0, 4, 27])
dropped = drop_privileges(sys.argv[1], Path(sys.argv[2]))
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
try:
    os.setuid(0)
    regained = True
except PermissionError:
    regained = False
print(json.dumps({"dropped": dropped, "uids": os.getresuid(), "gids": os.getresgid(),
    "groups": os.getgroups(), "regained": regained, "capabilities": status["CapEff"].strip(),
    "permitted": status["CapPrm"].strip(), "new_privileges": status["NoNewPrivs"].strip(),
    "home": os.environ["HOME"]}))
"""


def test_what_is_left_of_root(data: Path) -> None:
    """All user and group ids are the user's, no supplementary group and no capability is left."""
    done = subprocess.run(
        [sys.executable, "-c", DROP, USER, str(data)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "dropped": True,
        "uids": [UID] * 3,
        "gids": [pwd.getpwuid(UID).pw_gid] * 3,
        "groups": [],
        "regained": False,
        "capabilities": "0" * 16,
        "permitted": "0" * 16,
        "new_privileges": "1",
        "home": pwd.getpwuid(UID).pw_dir,
    }


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that the ordinary user can reach, unlike pytest's."""
    folder = Path(tempfile.mkdtemp(prefix="schedd-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def reachable_python() -> str:
    """A Python that the ordinary user may start, with the modules of this one."""
    for program in (sys.executable, "/usr/bin/python3"):
        command = [program, "-c", "import sys, schedd.app; print(sys.version_info[:2])"]
        with suppress(OSError):
            done = subprocess.run(
                command, user=UID, group=GID, extra_groups=[], capture_output=True, env=PYTHON_PATH
            )
            if done.stdout.decode().strip() == str(sys.version_info[:2]):
                return program
    pytest.skip("only root can read this Python and its modules")


def test_daemon_as_an_ordinary_user(public_folder: Path) -> None:
    """The daemon and its workers run as the user, without groups, and the volume is theirs."""
    data, log = public_folder / "data", public_folder / "log"
    data.mkdir()
    command = [reachable_python(), "-m", "schedd", "serve", "--user", USER, "--data", str(data)]
    with log.open("wb") as output:
        daemon = subprocess.Popen(
            [*command, "--workers", "1"], env=PYTHON_PATH, stdout=output, stderr=output
        )
    try:
        with Client(socket_endpoint(data)) as client:
            wait_until(lambda: client.health().status == "serving")
        children = wait_until(lambda: psutil.Process(daemon.pid).children(recursive=True))
        for pid in (daemon.pid, *(child.pid for child in children)):
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            status = {line.split(":")[0]: line.split()[1:] for line in lines}
            assert status["Uid"] == [str(UID)] * 4
            assert status["Groups"] == []
            assert status["NoNewPrivs"] == ["1"]
        assert owners(data, *(data / ".schedd").rglob("*")) == {UID}
    finally:
        daemon.terminate()
        code = daemon.wait(30)
    assert code == 0, log.read_text()
