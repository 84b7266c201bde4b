"""Fixtures that tests of several packages use: daemons, data folders, buckets and machines."""

from __future__ import annotations

import datetime as dt
import itertools
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from schedbucket import BucketSettings
from schedclient.launch import local
from schedctl.synthetic import make_organization
from tests.support.command_line import SCHEDCTL
from tests.support.daemons import RawClient, RunningDaemon
from tests.support.folders import AS_OF, CONTACTS, Folder, Terminal
from tests.support.machines import Site, make_site
from tests.support.machines_api import MachinesApiServer, serving
from tests.support.names_server import NamesServer, naming
from tests.support.s3_server import Proxy, S3Server

#: Hypothesis measures no time: an example takes as long as a loaded machine makes it.
settings.register_profile("project", deadline=None)
settings.load_profile("project")

_numbers = itertools.count(1)


@pytest.fixture(scope="session", autouse=True)
def no_daemon_is_left() -> Iterator[None]:
    """Wait for the daemons that clients in this process started; each test has ended its own."""
    yield
    for child in local._children:
        child.wait(120)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder with three organizations of 300 contacts."""
    folder = tmp_path / "data"
    folder.mkdir()
    for number, name in enumerate(("org-a", "org-b", "org-c")):
        make_organization(folder / f"{name}.db", 300, number, dt.date(2026, 11, 23))
    return folder


@pytest.fixture
def daemons(data: Path) -> Iterator[Callable[..., RunningDaemon]]:
    """Starts daemons over the data folder and ends those that are left."""
    started: list[RunningDaemon] = []

    def start(*options: str, folder: Path = data) -> RunningDaemon:
        started.append(RunningDaemon(folder, *options).start())
        return started[-1]

    yield start
    for daemon in started:
        daemon.clean_up()


@pytest.fixture
def daemon(daemons: Callable[..., RunningDaemon]) -> RunningDaemon:
    return daemons()


@pytest.fixture
def raw(daemon: RunningDaemon) -> Iterator[RawClient]:
    client = RawClient(daemon.endpoint)
    yield client
    client.close()


@pytest.fixture
def clean_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the machine's user reaches a test."""
    for name in list(os.environ):
        if name.startswith(("SCHEDCTL_", "SCHEDD_", "XDG_")) or name in {
            "NO_COLOR",
            "FORCE_COLOR",
            "COLUMNS",
        }:
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture(scope="session")
def organization_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small synthetic organization, to be copied."""
    path = tmp_path_factory.mktemp("organization") / "small.db"
    make_organization(path, CONTACTS, 7, dt.date.fromisoformat(AS_OF))
    return path


@pytest.fixture
def make_folder(tmp_path: Path, organization_file: Path) -> Iterator[Callable[..., Folder]]:
    """Make data folders; their daemons are ended after the test."""
    made: list[Folder] = []

    def make(name: str = "data", organizations: tuple[str, ...] = ("org-1", "org-2")) -> Folder:
        folder = Folder(tmp_path / name)
        folder.path.mkdir()
        for organization in organizations:
            shutil.copy(organization_file, folder.path / f"{organization}.db")
        made.append(folder)
        return folder

    yield make
    for folder in made:
        folder.stop()


@pytest.fixture
def folder(make_folder: Callable[..., Folder]) -> Folder:
    """A data folder with org-1 and org-2."""
    return make_folder()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, organization_file: Path) -> Iterator[Folder]:
    """One data folder with a daemon for all tests of a module that leave it as it is."""
    folder = Folder(tmp_path_factory.mktemp("shared"))
    for name in ("org-1", "org-2"):
        shutil.copy(organization_file, folder.path / f"{name}.db")
    yield folder
    folder.stop()


@pytest.fixture
def schedctl(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `schedctl` as a process without a terminal."""

    def run(
        *arguments: object, timeout_s: float = 60.0, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*SCHEDCTL, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            cwd=tmp_path,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            check=False,
        )

    return run


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    """Run `schedctl` on a terminal."""
    opened: list[Terminal] = []

    def run(*arguments: object, columns: int = 100, **environment: str) -> Terminal:
        complete = {**os.environ, "TERM": "xterm-256color", **environment}
        opened.append(Terminal([*SCHEDCTL, *map(str, arguments)], tmp_path, complete, columns))
        return opened[-1]

    yield run
    for each in opened:
        each.close()


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """One server for all tests of a process; each test has organizations of its own names."""
    server = S3Server(tmp_path_factory.mktemp("s3"))
    server.start()
    yield server
    server.close()


@pytest.fixture
def proxy(s3_server: S3Server) -> Iterator[Proxy]:
    proxy = Proxy(s3_server)
    yield proxy
    proxy.close()


@pytest.fixture
def organization() -> str:
    """A name that no other test of this process has used."""
    return f"org-{next(_numbers)}"


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.slow)])
def settings_of(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., BucketSettings]:
    """Settings of a bucket of either kind: called with the layout."""

    def make(layout: str = "versions") -> BucketSettings:
        if request.param == "folder":
            return BucketSettings(folder=tmp_path / "bucket", layout=layout)
        return request.getfixturevalue("s3_server").settings(layout=layout)

    return make


@pytest.fixture
def server() -> Iterator[MachinesApiServer]:
    with serving() as running:
        yield running


@pytest.fixture
def names(server: MachinesApiServer) -> Iterator[NamesServer]:
    with naming(server) as running:
        yield running


@pytest.fixture
def site(server: MachinesApiServer, names: NamesServer, tmp_path: Path) -> Site:
    return make_site(server, names, tmp_path)
