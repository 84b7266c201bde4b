"""What an operator types.

Machine, doctor, cost, deploy and the scripts, over the API's server and real daemons.
"""

from __future__ import annotations

import json
import os
import re
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from schedctl import costs as cost
from schedproto import prices
from tests.support.machines import SCHEDCTL, Site
from tests.support.machines_api import Fault
from tests.support.paths import ROOT

Call = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def call(site: Site) -> Call:
    """Run `schedctl` with the site in its environment."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*SCHEDCTL, *arguments],
            env=site.environment() | environment,
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run


def with_volume(site: Site) -> None:
    site.server.volumes.append(
        {"id": "vol_1", "name": "data", "state": "created", "size_gb": 10, "region": "iad"}
    )


# machine ------------------------------------------------------------------------------------------


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
        ({"SCHEDCTL_APP": "Not An App"}, 2, "not a valid app name"),
        ({"FLY_API_TOKEN": ""}, 2, "fly tokens create deploy"),
        ({"FLY_API_TOKEN": "FlyV1 fm2_wrong"}, 3, "rejected the token"),
        ({"SCHEDCTL_APP": "other"}, 3, "does not exist"),
        ({"SCHEDCTL_MACHINE": "nosuch"}, 3, "does not exist"),
        ({"SCHEDCTL_FLY_API": "ftp://x"}, 2, "not a valid address"),
        ({"SCHEDCTL_RESOLVER": "x"}, 2, "fdaa::3"),
        ({"SCHEDCTL_PORT": "0"}, 2, "not a port"),
        ({"SCHEDCTL_MACHINE_METADATA": "x"}, 2, "KEY=VALUE"),
        ({"SCHEDCTL_START_TIMEOUT": "0"}, 2, "from 1 to"),
    ],
)
def test_wrong_settings(call: Call, environment: dict[str, str], code: int, says: str) -> None:
    """Each wrong setting is said before anything is done, with what it should be."""
    done = call("machine", "start", **environment)
    assert done.returncode == code, done.stderr
    assert says in done.stderr


# doctor -------------------------------------------------------------------------------------------


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


# cost ---------------------------------------------------------------------------------------------


def test_measured_times_are_measured() -> None:
    """The table's times are the medians of the newest benchmark in the repository."""
    found: dict[int, dict[str, list[float]]] = {}
    for line in (ROOT / "tests" / "bench" / "results.jsonl").read_text().splitlines():
        entry = json.loads(line)
        if entry["mode"] == "reliable" and entry["workers"] is None:
            found[entry["contacts"]] = {
                name: [run["wall_s"] for run in runs] for name, runs in entry["figures"].items()
            }
    medians = {
        contacts: tuple(round(statistics.median(figures[name]), 2) for name in ("first", "next"))
        for contacts, figures in found.items()
    }
    assert medians == cost.MEASURED


def test_cost_table(call: Call) -> None:
    """The table's arithmetic, its price with date and source, and other prices."""
    document = json.loads(call("cost", "--json").stdout)
    per_s = prices.PER_SECOND["performance-8x"]["iad"]
    assert document["price_as_of"] == prices.AS_OF
    for row in document["rows"]:
        assert row["run_usd"] == pytest.approx(row["run_s"] * per_s)
        assert row["year_usd"] == pytest.approx((row["run_s"] + document["idle_s"]) * per_s * 365)
    other = json.loads(call("cost", "--json", "--price-per-hour", "1", "--idle", "0").stdout)
    assert other["rows"][0]["with_idle_usd"] == pytest.approx(other["rows"][0]["run_s"] / 3600)
    unknown = call("cost", "--region", "nrt")
    assert unknown.returncode == 2
    assert "--price-per-hour" in unknown.stderr


@pytest.mark.slow
def test_cost_of_runs(site: Site, call: Call) -> None:
    """A run's result says what it cost, and `cost --runs` what the organizations' last runs did."""
    made = call("demo", "--out", str(site.body.volume / "org-123.db"), "--contacts", "500")
    assert made.returncode == 0
    done = call("submit", "org-123", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["cost_usd"] is None  # this machine's size is none that has a price
    rows = json.loads(call("cost", "--runs", "--json").stdout)["rows"]
    assert [(row["contacts"], row["kind"]) for row in rows] == [(500, "last run of org-123")]
    assert rows[0]["run_s"] == pytest.approx(result["wall_s"])


def test_cost_in_the_result(tmp_path: Path) -> None:
    """Where a price is set, each result has its cost."""
    data = tmp_path / "data"
    environment = os.environ | {"SCHEDD_PRICE_PER_HOUR": "3.6", "SCHEDCTL_IDLE_TIMEOUT": "1"}
    command = [*SCHEDCTL, "demo", "--data", str(data), "--contacts", "500", "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["cost_usd"] == pytest.approx(result["wall_s"] * 0.001)


# deploy -------------------------------------------------------------------------------------------

FLYCTL = """#!{python}
# Stands in for flyctl: keeps apps, volumes and secrets in a file, as far as they are asked for
# here.
import json, os, sys
path = os.environ["FAKE_FLY"]
state = {{"apps": [], "volumes": [], "secrets": {{}}, "calls": []}}
if os.path.exists(path):
    state = json.load(open(path))
words = sys.argv[1:]
state["calls"].append(words)
code, out = 0, None
if os.environ.get("FAKE_FLY_FAILS") == " ".join(words[:2]):
    print(os.environ["FAKE_FLY_SAYS"], file=sys.stderr); code = 1
elif words[:2] == ["auth", "token"]: print("fm2_from_flyctl")
elif words[:2] == ["apps", "list"]: out = [{{"Name": name}} for name in state["apps"]]
elif words[:2] == ["apps", "create"]: state["apps"].append(words[2])
elif words[:2] == ["volumes", "list"]: out = state["volumes"]
elif words[:2] == ["volumes", "create"]:
    size, region = (words[words.index(name) + 1] for name in ("--size", "--region"))
    volume = {{"id": "vol_1", "name": words[2], "size_gb": int(size), "region": region}}
    state["volumes"].append(volume)
elif words[:2] == ["secrets", "list"]: out = [{{"name": name}} for name in state["secrets"]]
elif words[:2] == ["secrets", "import"]:
    for line in sys.stdin.read().splitlines():
        name, value = line.split("=", 1)
        quoted = value.startswith('"')
        state["secrets"][name] = value.strip('"') if quoted else value.split("#")[0]
elif words[0] == "deploy": print("building ...")
elif words[:2] == ["ssh", "console"]: print("shell", words[2:])
if out is not None: print(json.dumps(out))
json.dump(state, open(path, "w"))
sys.exit(code)
"""


@pytest.fixture
def flyctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], dict[str, Any]]:
    """A program that stands in for flyctl on the PATH; returns what it was asked so far."""
    program = tmp_path / "bin" / "flyctl"
    program.parent.mkdir()
    program.write_text(FLYCTL.format(python=sys.executable))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_FLY", str(tmp_path / "fly.json"))
    return lambda: json.loads((tmp_path / "fly.json").read_text())


def deploy(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *SCHEDCTL,
            "deploy",
            "--app",
            "my-app",
            "--config",
            str(ROOT / "fly.toml"),
            "--keys",
            str(folder),
            *arguments,
        ],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def new_keys(folder: Path) -> None:
    subprocess.run(
        [*SCHEDCTL, "keys", "new", "--out", str(folder)],
        check=True,
        capture_output=True,
        timeout=120,
    )


def test_deploy(flyctl: Callable[[], dict[str, Any]], tmp_path: Path) -> None:
    """From nothing: app, volume, secrets, image; again: the image alone.

    The keys arrive as they are.
    """
    keys = tmp_path / "keys"
    for _ in range(8):  # keys are random; some have a #, which begins a comment for flyctl
        new_keys(keys)
        if "#" in (keys / "server.secret").read_text().splitlines()[-1]:
            break
        keys = tmp_path / f"keys{_}"
    else:
        new_keys(keys)
    done = deploy(keys, "--region", "ams")
    assert done.returncode == 0, done.stderr
    state = flyctl()
    assert state["apps"] == ["my-app"]
    assert state["volumes"] == [{"id": "vol_1", "name": "data", "size_gb": 10, "region": "ams"}]
    secrets = state["secrets"]
    assert isinstance(secrets, dict)
    assert secrets["SCHEDD_SERVER_KEY"] in (keys / "server.secret").read_text()
    assert secrets["SCHEDD_ALLOW_CLIENTS"] in (keys / "clients" / "client.public").read_text()
    calls = state["calls"]
    assert isinstance(calls, list)
    assert calls[-1][0] == "deploy"
    assert "--ha=false" in calls[-1]
    assert calls[-1][calls[-1].index("--primary-region") + 1] == "ams"
    assert not any(secrets["SCHEDD_SERVER_KEY"] in word for words in calls for word in words)
    again = deploy(keys)
    assert again.returncode == 0, again.stderr
    repeated = [words[:2] for words in flyctl()["calls"][len(calls) :]]
    assert [words for words in repeated if words[1] in {"create", "import"}] == []
    last = flyctl()["calls"][-1]
    assert last[last.index("--primary-region") + 1] == "ams"
    rotated = tmp_path / "rotated"
    new_keys(rotated)
    assert deploy(rotated, "--rotate-keys").returncode == 0
    assert flyctl()["secrets"]["SCHEDD_SERVER_KEY"] in (rotated / "server.secret").read_text()


def test_deploy_refuses(flyctl: Callable[[], dict[str, Any]], tmp_path: Path) -> None:
    """Missing keys, a failing flyctl and a missing one are said, each with what to do."""
    done = deploy(tmp_path / "nokeys")
    assert done.returncode == 2
    assert "schedctl keys new" in done.stderr
    done = deploy(
        tmp_path,
        FAKE_FLY_FAILS="apps list",
        FAKE_FLY_SAYS="Error: No access token available. Please login",
    )
    assert done.returncode == 3
    assert "fly auth login" in done.stderr
    done = deploy(tmp_path, PATH=str(Path(sys.executable).parent))
    assert done.returncode == 3
    assert "flyctl is not installed" in done.stderr
    assert deploy(tmp_path, "--config", "/nosuch").returncode == 2


# The scripts --------------------------------------------------------------------------------------


def script(
    name: str, *arguments: str, environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(ROOT / "deploy" / f"{name}-scheduler.sh"), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.slow
def test_scripts(site: Site, flyctl: Callable[[], dict[str, Any]]) -> None:
    """start, status, ssh and stop do their part and can be repeated."""
    environment = site.environment() | {
        "PATH": os.environ["PATH"],
        "FAKE_FLY": os.environ["FAKE_FLY"],
    }
    for _ in range(2):
        assert script("start", environment=environment).returncode == 0
    assert "started" in script("status", environment=environment).stdout
    shell = script("ssh", "db-info", environment=environment)
    assert shell.returncode == 0, shell.stderr
    assert "'--command', 'db-info '" in shell.stdout
    assert script("ssh", environment=environment).returncode == 0
    for _ in range(2):
        assert script("stop", environment=environment).returncode == 0
    site.server.token = "FlyV1 fm2_from_flyctl"
    del environment["FLY_API_TOKEN"]
    assert script("status", environment=environment).returncode == 0
    site.server.faults.append(Fault("list", 401, "unauthorized"))
    refused = script("status", environment=environment)
    assert refused.returncode == 3
    assert "rejected the token" in refused.stderr


@pytest.mark.slow
def test_scripts_without_flyctl(site: Site) -> None:
    """Without flyctl or a token the scripts say which is missing and how to get it."""
    environment = {
        name: value for name, value in site.environment().items() if name != "FLY_API_TOKEN"
    }
    environment["PATH"] = "/usr/bin:/bin"
    for name in ("deploy", "start", "stop", "ssh", "status"):
        done = script(name, environment=environment)
        assert done.returncode == 2, name
        assert "flyctl is not installed" in done.stderr


def test_fly_toml() -> None:
    """fly.toml has no public service, and its settings fit each other."""
    import tomllib

    from schedd.settings import SETTINGS, load

    document = tomllib.loads((ROOT / "fly.toml").read_text())
    assert not {"services", "http_service"} & set(document)
    variables = {setting.variable: setting.name for setting in SETTINGS}
    assert set(document["env"]) <= set(variables)
    settings = load({}, document["env"])
    assert settings.drain_s < document["kill_timeout"] <= 300
    assert settings.idle_timeout_s == cost.IDLE_S
    assert document["metrics"]["port"] == int(str(settings.metrics_listen))
    assert document["mounts"]["destination"] == "/data"
    assert re.search(r":7300$", settings.listen[0])
