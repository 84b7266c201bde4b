"""The commands on the machine, called as the image calls them.

By their names, over the daemon's data folder.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from schedclient import Client
from schedctl.synthetic import make_organization
from tests.support.paths import ROOT

AS_OF = "2026-11-01"


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A folder with the program under its names, as the binary's links."""
    script = tmp_path / "bin" / "email-scheduler"
    script.parent.mkdir()
    main = ROOT / "deploy" / "binary" / "main.py"
    script.write_text(f"#!{sys.executable}\n" + main.read_text())
    script.chmod(0o755)
    for name in (
        "scheduler-help",
        "db-info",
        "run-reliable-scheduler",
        "run-highperf-scheduler",
        "schedctl",
        "schedd",
    ):
        (script.parent / name).symlink_to(script.name)
    return script.parent


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    make_organization(folder / "org-123.db", 300, 1, dt.date.fromisoformat(AS_OF))
    return folder


def call(
    program: Path, name: str, *arguments: str, data: Path | None = None
) -> subprocess.CompletedProcess[str]:
    environment = {
        n: v for n, v in os.environ.items() if not n.startswith(("SCHEDD_", "SCHEDCTL_"))
    }
    environment["SCHEDCTL_IDLE_TIMEOUT"] = "2"
    if data is not None:
        environment["SCHEDD_DATA"] = str(data)
    return subprocess.run(
        [str(program / name), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
    )


def test_help(program: Path, data: Path) -> None:
    """`scheduler-help` names every command and the data folder."""
    done = call(program, "scheduler-help", data=data)
    assert done.returncode == 0
    for word in (
        "db-info",
        "run-reliable-scheduler DB",
        "run-highperf-scheduler DB",
        "sqlite3",
        str(data),
    ):
        assert word in done.stdout


def test_db_info(program: Path, data: Path) -> None:
    """`db-info` tells the volume's room, its databases, and the daemon."""
    done = call(program, "db-info", data=data)
    assert done.returncode == 0, done.stderr
    assert "org-123" in done.stdout
    assert "not on a separate volume" in done.stdout
    document = json.loads(call(program, "db-info", "--json", data=data).stdout)
    assert document["volume"]["organizations"]
    missing = call(program, "db-info", data=data / "nowhere")
    assert missing.returncode == 2
    assert "mounts" in missing.stderr


@pytest.mark.parametrize(
    ("name", "mode"),
    [("run-reliable-scheduler", "reliable"), ("run-highperf-scheduler", "highperf")],
)
def test_run(program: Path, data: Path, name: str, mode: str) -> None:
    """A run by path or by id is an ordinary job, with mode and workers in the journal."""
    first = call(program, name, str(data / "org-123.db"), "1", "--as-of", AS_OF, "--json")
    assert first.returncode == 0, first.stderr
    assert json.loads(first.stdout)["contacts"] == 300
    second = call(program, name, "org-123", "--as-of", AS_OF, data=data)
    assert second.returncode == 0, second.stderr
    assert "of 300 contacts eligible" in second.stdout
    with Client(data=data) as client:
        jobs = client.list("org-123")
    assert [job.spec.mode for job in jobs] == [mode, mode]
    assert [job.spec.workers for job in jobs] == [len(os.sched_getaffinity(0)), 1]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["nosuch.db"], 2, "no such file: "),
        (["nosuch"], 1, "nosuch"),
        (["org-123", "33"], 2, "1<=x<=32"),
        (["org-123", "0"], 2, "1<=x<=32"),
        ([], 2, "Missing argument"),
        (["/etc/passwd"], 2, "is not a valid name for an organization's file"),
    ],
)
def test_usage_errors(
    program: Path, data: Path, arguments: list[str], code: int, said: str
) -> None:
    """A wrong file, id or number of workers is said, with what to do."""
    done = call(program, "run-reliable-scheduler", *arguments, data=data)
    assert said in done.stderr
    assert done.returncode == code


def test_under_another_name(program: Path, data: Path) -> None:
    """Under any other name, the first argument names the command.

    Else the names are listed.
    """
    assert call(program, "email-scheduler", "schedctl", "version").returncode == 0
    done = call(program, "email-scheduler", "nosuch")
    assert done.returncode == 2
    assert "run-reliable-scheduler" in done.stderr
