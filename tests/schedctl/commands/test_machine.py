"""`schedctl machine`, over the API's server and real daemons."""

from __future__ import annotations

import json
import signal
import subprocess

import pytest

from tests.support.command_line import SCHEDCTL
from tests.support.machines import Call, Site


@pytest.mark.slow
def test_start_status_stop(site: Site, call: Call) -> None:
    """The machine is started, looked at and stopped; doing each again changes nothing."""
    status = call("machine", "status")
    assert status.returncode == 0, status.stderr
    assert "stopped" in status.stdout
    assert site.machine.starts == 0
    for _ in range(2):
        started = call("machine", "start")
        assert started.returncode == 0, started.stderr
        assert "is up; its daemon" in started.stdout
    assert site.machine.starts == 1
    status = call("machine", "status")
    assert "vol_1 at /data" in status.stdout
    assert "is serving" in status.stdout
    for _ in range(2):
        stopped = call("machine", "stop")
        assert stopped.returncode == 0, stopped.stderr
        assert "is stopped" in stopped.stdout
    document = json.loads(call("machine", "status", "--json").stdout)
    assert document["machine"]["state"] == "stopped"
    assert document["machine"]["last_exit"] == {
        "exit_code": 0,
        "oom_killed": False,
        "requested_stop": True,
    }
    assert document["health"] is None


def test_interrupted(site: Site) -> None:
    """Ctrl-C ends the wait for a machine at once, with its own exit code."""
    site.machine.to("replacing")
    process = subprocess.Popen(
        [*SCHEDCTL, "machine", "start"],
        env=site.environment(),
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    assert "is replacing" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=120)
    assert process.returncode == 130, rest
    assert "Interrupted" in rest


def test_list(site: Site, call: Call) -> None:
    """The app's machines are listed; an app without one says what makes one."""
    assert site.machine.id in call("machine", "list").stdout
    assert (
        json.loads(call("machine", "list", "--json").stdout)["machines"][0]["id"] == site.machine.id
    )
    site.server.machines.clear()
    assert "schedctl deploy" in call("machine", "list").stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("environment", "code", "says"),
    [
        ({"SCHEDCTL_APP": ""}, 2, "no app is set"),
        ({"SCHEDCTL_APP": "Not An App"}, 2, "expected an app name"),
        ({"FLY_API_TOKEN": ""}, 2, "fly tokens create deploy"),
        ({"FLY_API_TOKEN": "FlyV1 fm2_wrong"}, 3, "rejected the token"),
        ({"SCHEDCTL_APP": "other"}, 3, "does not exist"),
        ({"SCHEDCTL_MACHINE": "nosuch"}, 3, "does not exist"),
        ({"SCHEDCTL_FLY_API": "ftp://x"}, 2, "expected a URL"),
        ({"SCHEDCTL_RESOLVER": "x"}, 2, "fdaa::3"),
        ({"SCHEDCTL_PORT": "0"}, 2, "from 1 to 65535"),
        ({"SCHEDCTL_MACHINE_METADATA": "x"}, 2, "KEY=VALUE"),
        ({"SCHEDCTL_START_TIMEOUT": "0"}, 2, "from 1 to"),
    ],
)
def test_wrong_settings(call: Call, environment: dict[str, str], code: int, says: str) -> None:
    """Each wrong setting is said before anything is done, with what it should be."""
    done = call("machine", "start", **environment)
    assert done.returncode == code, done.stderr
    assert says in done.stderr
