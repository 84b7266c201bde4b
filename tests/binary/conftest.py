"""The compiled program in both its forms."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.binaries import BUILT, Program, end
from tests.support.waiting import wait_until


@pytest.fixture(params=["folder", "one-file"])
def program(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Program]:
    if not (BUILT / ".stamp").exists():
        pytest.fail("the program is not built; run `make binary`")
    folder = tmp_path_factory.mktemp("program")
    path = (
        BUILT / "folder" / "email-scheduler"
        if request.param == "folder"
        else BUILT / "email-scheduler"
    )
    home, temp = folder / "home", folder / "temp"
    home.mkdir()
    temp.mkdir()
    found = Program(request.param, path, home, temp)
    yield found
    for process in found.started:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait(120)
    wait_until(lambda: not found.family() or end(found), "the end of all processes")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder
