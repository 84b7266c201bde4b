"""After a fault of any disk operation the file holds the old plan or the new one."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.faults.harness import SCENARIOS
from tests.faults.vfs import KINDS
from tests.support.paths import ROOT

MODES = ("reliable", "highperf")


def sweep(scenario: str, mode: str, kind: str, *options: str) -> dict[str, Any]:
    """Run the harness in a process of its own, which may fork."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.harness", scenario, mode, kind, *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(
    ("mode", "kind"), [("reliable", "power"), ("highperf", "kill_torn"), ("highperf", "full")]
)
def test_some_operations(mode: str, kind: str) -> None:
    """A few operations of an ordinary run, for `make test`."""
    found = sweep("1 % of the contacts changed", mode, kind, "--most", "3")
    assert found["wrong"] == []
    assert found["tried"] >= 6


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_sweep(scenario: str, mode: str, kind: str) -> None:
    """All syncs, truncations and deletions of a run and many of its writes, each failing once."""
    found = sweep(scenario, mode, kind, "--most", "25" if "bulk" not in scenario else "8")
    assert found["wrong"] == []
    assert found["outcomes"].get("old plan", 0) > 0


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_the_harness_notices(mode: str) -> None:
    """A run that does not sync does lose data when power does, so the sweeps above can fail."""
    found = sweep("1 % of the contacts changed", mode, "power", "--most", "60", "--unsafe")
    assert found["wrong"] != []
