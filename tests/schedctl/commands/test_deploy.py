"""`schedctl deploy`, the scripts of deploy/, and fly.toml."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from schedctl import costs as cost
from tests.support.command_line import SCHEDCTL
from tests.support.machines import Site
from tests.support.machines_api import Fault
from tests.support.paths import ROOT

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
