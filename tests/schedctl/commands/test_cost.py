"""`schedctl cost`, and the cost in results."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
from pathlib import Path

import pytest

from schedctl import costs as cost
from schedproto import prices
from tests.support.command_line import SCHEDCTL
from tests.support.machines import Call, Site
from tests.support.paths import ROOT


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
    """If a price is set, each result has its cost."""
    data = tmp_path / "data"
    environment = os.environ | {"SCHEDD_PRICE_PER_HOUR": "3.6", "SCHEDCTL_IDLE_TIMEOUT": "1"}
    command = [*SCHEDCTL, "demo", "--data", str(data), "--contacts", "500", "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["cost_usd"] == pytest.approx(result["wall_s"] * 0.001)
