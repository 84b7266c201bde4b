"""`schedctl doctor`, for machines and for a local folder."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.support.command_line import SCHEDCTL
from tests.support.machines import Call, Site


def with_volume(site: Site) -> None:
    site.server.volumes.append(
        {"id": "vol_1", "name": "data", "state": "created", "size_gb": 10, "region": "iad"}
    )


def states(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    return {check["name"]: check["state"] for check in json.loads(done.stdout)["checks"]}


def test_doctor_with_the_machine_down(site: Site, call: Call) -> None:
    """With the machine down, what can be looked at is.

    The rest is skipped, and the machine stays down.
    """
    with_volume(site)
    done = call("doctor", "--json")
    assert done.returncode == 0, done.stdout
    found = states(done)
    for name in ("settings", "keys", "token", "machine", "volume of the machine"):
        assert found[name] == "ok", name
    for name in ("DNS", "daemon", "versions", "clock", "databases"):
        assert found[name] == "skipped", name
    assert site.machine.starts == 0


@pytest.mark.slow
def test_doctor_with_the_machine_up(site: Site, call: Call) -> None:
    """With --start all is looked at.

    Here the data folder is not a mount, and one of the two databases is damaged.
    """
    with_volume(site)
    for name in ("org-good", "org-bad"):
        made = call("demo", "--out", str(site.body.volume / f"{name}.db"), "--contacts", "500")
        assert made.returncode == 0
    with (site.body.volume / "org-bad.db").open("r+b") as file:
        file.seek(3 * 4096)
        file.write(os.urandom(8192))
    done = call("doctor", "--start", "--json")
    found = states(done)
    assert done.returncode == 1
    for name in ("DNS", "daemon", "versions", "clock", "writing", "room", "database org-good"):
        assert found[name] in {"ok", "warning"}, name
    assert found["volume"] == "failed"
    assert found["database org-bad"] == "failed"
    shown = call("doctor", "org-good")
    assert "org-good.db opens and passes integrity_check" in shown.stdout
    assert "org-bad" not in shown.stdout
    assert "1 of 14 checks failed" in shown.stdout


@pytest.mark.parametrize(
    ("environment", "name", "remedy"),
    [
        ({"FLY_API_TOKEN": "FlyV1 fm2_wrong"}, "token", "fly tokens create"),
        ({"FLY_API_TOKEN": ""}, "token", "fly tokens create"),
        ({"SCHEDCTL_APP": "other"}, "app and machine", "schedctl deploy"),
        ({"SCHEDCTL_KEY": "", "SCHEDCTL_SERVER_KEY": ""}, "keys", "schedctl keys new"),
        ({"SCHEDCTL_KEY": "x"}, "settings", "schedctl keys new"),
        ({"SCHEDCTL_FLY_API": "http://127.0.0.1:9"}, "Machines API", "network"),
    ],
)
def test_doctor_reports_each_fault(
    site: Site, call: Call, environment: dict[str, str], name: str, remedy: str
) -> None:
    """Each thing that is wrong is one failed check with its remedy, and exit code 1."""
    with_volume(site)
    done = call("doctor", "--json", **environment)
    assert done.returncode == 1, done.stdout
    failed = [check for check in json.loads(done.stdout)["checks"] if check["state"] == "failed"]
    assert [check["name"] for check in failed] == [name]
    assert remedy in failed[0]["remedy"]


@pytest.mark.slow
def test_doctor_looks_at_the_machine(site: Site, call: Call) -> None:
    """Machines without a volume, stuck, crashed, or on a lost host are found."""
    assert states(call("doctor", "--json"))["volume of the machine"] == "failed"
    with_volume(site)
    site.machine.config = {}
    assert states(call("doctor", "--json"))["volume of the machine"] == "failed"
    site.machine.to("replacing", "update")
    site.machine.events[0]["timestamp"] -= 3_600_000
    assert states(call("doctor", "--json"))["machine"] == "failed"
    site.machine.to("stopped", "exit", exit_event={"exit_code": 137, "oom_killed": True})
    assert states(call("doctor", "--json"))["machine"] == "warning"


def test_doctor_over_a_local_folder(tmp_path: Path) -> None:
    """Over a data folder on this machine doctor works as well."""
    done = subprocess.run(
        [*SCHEDCTL, "doctor", "--data", str(tmp_path), "--json"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout
    assert states(done)["writing"] == "ok"


def test_doctor_without_a_machine(site: Site, call: Call) -> None:
    """An app that has no machine is found, with what makes one."""
    site.server.machines.clear()
    done = call("doctor", "--json")
    assert done.returncode == 1
    assert states(done)["app and machine"] == "failed"
