"""File names that another user can guess: an existing file is refused, or another name is used."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from schedclient.errors import LaunchError, LocalFileError
from schedclient.launch.local import LocalLauncher
from schedctl.commands.keys import _write_new
from schedd.scratch import scratch_folder
from schedproto.layout import prepare_socket_folder, socket_path, state_folder
from schedproto.private import open_private_file, private_folder
from tests.support.daemons import RunningDaemon
from tests.support.folders import Folder

OTHER = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of another user")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


class TestPrivateFolder:
    """`private_folder`, which creates or checks a folder."""

    def test_new(self, tmp_path: Path) -> None:
        old = os.umask(0)
        try:
            private_folder(tmp_path / "new")
        finally:
            os.umask(old)
        assert mode(tmp_path / "new") == 0o700

    def test_own_with_a_wider_mode(self, tmp_path: Path) -> None:
        """A folder of this user that others could enter is closed to them."""
        (tmp_path / "own").mkdir()
        (tmp_path / "own").chmod(0o777)
        private_folder(tmp_path / "own")
        assert mode(tmp_path / "own") == 0o700

    @pytest.mark.parametrize("kind", ["link", "file"])
    def test_not_a_folder(self, tmp_path: Path, kind: str) -> None:
        (tmp_path / "target").mkdir()
        if kind == "link":
            (tmp_path / "name").symlink_to(tmp_path / "target")
        else:
            (tmp_path / "name").touch()
        with pytest.raises(NotADirectoryError, match="symbolic link or not a folder"):
            private_folder(tmp_path / "name")

    @as_root
    def test_of_another_user(self, tmp_path: Path) -> None:
        """Refused, even by root, unless its owner is named and nobody else can write to it."""
        folder = tmp_path / "other"
        folder.mkdir(0o700)
        os.chown(folder, OTHER, OTHER)
        with pytest.raises(PermissionError, match="belongs to another user"):
            private_folder(folder)
        private_folder(folder, owners=[OTHER])
        folder.chmod(0o770)
        with pytest.raises(PermissionError, match="can write to"):
            private_folder(folder, owners=[OTHER])


class TestPrivateFile:
    """`open_private_file`, which a pull uses for what it has not finished."""

    def test_mode(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        path.touch(mode=0o666)
        os.close(open_private_file(path))
        assert mode(path) == 0o600

    def test_link(self, tmp_path: Path) -> None:
        (tmp_path / "victim").write_text("keep")
        (tmp_path / "file").symlink_to(tmp_path / "victim")
        with pytest.raises(OSError, match="symbolic links"):
            open_private_file(tmp_path / "file")

    def test_hard_link(self, tmp_path: Path) -> None:
        (tmp_path / "victim").write_text("keep")
        os.link(tmp_path / "victim", tmp_path / "file")
        with pytest.raises(PermissionError, match="not a file of this user alone"):
            open_private_file(tmp_path / "file")

    @as_root
    def test_of_another_user(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        os.chown(tmp_path / "file", OTHER, OTHER)
        with pytest.raises(PermissionError, match="not a file of this user alone"):
            open_private_file(tmp_path / "file")

    def test_fifo(self, tmp_path: Path) -> None:
        """A FIFO is refused at once, not waited for."""
        os.mkfifo(tmp_path / "file")
        with pytest.raises(PermissionError, match="not a file"):
            open_private_file(tmp_path / "file")


class TestScratchFolder:
    """The folder in /dev/shm, here in another folder with the sticky bit."""

    @pytest.fixture
    def memory(self, tmp_path: Path) -> Path:
        folder = tmp_path / "shm"
        folder.mkdir()
        folder.chmod(0o1777)
        return folder

    @pytest.fixture
    def state(self, tmp_path: Path) -> Path:
        folder = tmp_path / "data" / ".schedd"
        folder.mkdir(parents=True)
        return folder

    def test_left_by_a_killed_daemon(self, memory: Path, state: Path) -> None:
        """The next start gets the same name, empty; a random name of an earlier start goes too."""
        first = scratch_folder(state.parent, state, memory)
        (first / "left").touch()
        random = memory / f"{first.name}-random"
        random.mkdir()
        assert scratch_folder(state.parent, state, memory) == first
        assert list(memory.rglob("*")) == [first]
        assert mode(first) == 0o700

    @as_root
    def test_squatted(self, memory: Path, state: Path) -> None:
        """A folder of another user is neither used nor removed."""
        squatted = scratch_folder(state.parent, state, memory)
        os.chown(squatted, OTHER, OTHER)
        squatted.chmod(0o777)
        (squatted / "theirs").touch()
        folder = scratch_folder(state.parent, state, memory)
        assert folder != squatted
        assert (folder.lstat().st_uid, mode(folder)) == (os.geteuid(), 0o700)
        assert (squatted / "theirs").exists()

    @pytest.mark.parametrize("room", [True, False])
    def test_link(
        self, memory: Path, state: Path, monkeypatch: pytest.MonkeyPatch, room: bool
    ) -> None:
        """A link is removed; what it points to stays, in memory and in the state folder."""
        if not room:
            monkeypatch.setattr("schedd.scratch.MIN_FREE_BYTES", 1 << 80)
        folder = scratch_folder(state.parent, state, memory)
        folder.rmdir()
        victim = state.parent / "victim"
        victim.mkdir()
        (victim / "file").touch()
        folder.symlink_to(victim)
        assert scratch_folder(state.parent, state, memory) == folder
        assert not folder.is_symlink()
        assert (victim / "file").exists()


class TestSocketFolder:
    """Long data paths have their socket in a folder under the temporary folder."""

    @pytest.fixture
    def data(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        (tmp_path / "run").mkdir()
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
        folder = tmp_path / ("long" * 30)
        folder.mkdir()
        return folder

    def test_new(self, data: Path) -> None:
        prepare_socket_folder(data)
        assert mode(socket_path(data).parent) == 0o700

    def test_squatted_by_a_link(self, data: Path, tmp_path: Path) -> None:
        """Neither the daemon nor a client uses the socket there."""
        (tmp_path / "theirs").mkdir()
        socket_path(data).parent.symlink_to(tmp_path / "theirs")
        with pytest.raises(LaunchError, match="symbolic link"):
            LocalLauncher(data, 1.0)._ensure()
        daemon = RunningDaemon(data).start()
        assert daemon.wait() == 5
        assert "symbolic link" in daemon.log()
        assert list((tmp_path / "theirs").iterdir()) == []

    @as_root
    def test_squatted_by_another_user(self, data: Path) -> None:
        folder = socket_path(data).parent
        folder.mkdir()
        os.chown(folder, OTHER, OTHER)
        with pytest.raises(LaunchError, match="belongs to another user"):
            LocalLauncher(data, 1.0)._ensure()
        daemon = RunningDaemon(data).start()
        assert daemon.wait() == 5
        assert "belongs to another user" in daemon.log()

    @as_root
    def test_of_the_owner_of_the_data(self, data: Path) -> None:
        """Root is a client of the daemon of an ordinary user."""
        os.chown(data, OTHER, OTHER)
        socket_path(data).parent.mkdir(0o700)
        os.chown(socket_path(data).parent, OTHER, OTHER)
        prepare_socket_folder(data)


@pytest.mark.parametrize("as_user", [(), pytest.param(("--user", "nobody"), marks=as_root)])
def test_state_folder_is_a_link(
    daemons: Callable[..., RunningDaemon], data: Path, tmp_path: Path, as_user: tuple[str, ...]
) -> None:
    """The daemon does not start, and nothing is written where the link points to."""
    (tmp_path / "victim").mkdir()
    state_folder(data).symlink_to(tmp_path / "victim")
    daemon = daemons(*as_user)
    assert daemon.wait() == 5
    assert "symbolic link" in daemon.log()
    assert list((tmp_path / "victim").iterdir()) == []
    assert (tmp_path / "victim").stat().st_uid == os.geteuid()


def test_lock_is_a_link(daemons: Callable[..., RunningDaemon], data: Path, tmp_path: Path) -> None:
    """A link in place of the lock is not written through."""
    (tmp_path / "victim").write_text("keep")
    state_folder(data).mkdir()
    (state_folder(data) / "lock").symlink_to(tmp_path / "victim")
    daemon = daemons()
    assert daemon.wait() == 5
    assert (tmp_path / "victim").read_text() == "keep"


@pytest.mark.usefixtures("clean_environment")
def test_pull_into_a_shared_folder(make_folder: Callable[..., Folder], tmp_path: Path) -> None:
    """A link under the name of the unfinished file is not written through."""
    (tmp_path / "victim").write_text("keep")
    (tmp_path / ".out.db.pull").symlink_to(tmp_path / "victim")
    with make_folder().client() as client, pytest.raises(LocalFileError, match="symbolic link"):
        client.pull("org-1", tmp_path / "out.db")
    assert (tmp_path / "victim").read_text() == "keep"


def test_key_folder(tmp_path: Path) -> None:
    """Nobody else can replace a key in the folder that `schedctl keys new` creates."""
    old = os.umask(0)
    try:
        _write_new(tmp_path / "keys" / "server.secret", "text", 0o600)
    finally:
        os.umask(old)
    assert (mode(tmp_path / "keys"), mode(tmp_path / "keys" / "server.secret")) == (0o700, 0o600)
