"""kill -9 of the daemon and of its workers at random moments.

Nothing accepted is lost, nothing is half-written.
"""

from __future__ import annotations

import datetime as dt
import os
import random
import signal
import sqlite3
import time
from pathlib import Path

import psutil
import pytest

from schedclient import Client
from schedctl.synthetic import make_organization
from schedproto.layout import socket_endpoint
from tests.support.daemons import RunningDaemon
from tests.support.plans import read_plan, run_locally
from tests.support.waiting import wait_until

ROUNDS = 50
ORGANIZATIONS = ("org-a", "org-b", "org-c", "org-d")
DATES = ("2026-11-23", "2027-02-01", "2027-08-20")


def wait_for_the_end_of(pids: list[int]) -> None:
    wait_until(lambda: not any(psutil.pid_exists(pid) for pid in pids), "the end of the workers")


def check_journal(data: Path) -> None:
    connection = sqlite3.connect(data / ".schedd" / "journal.db")
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def plan_of(path: Path) -> list[list[object]]:
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
    return read_plan(path)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("mode", ["reliable", "highperf"])
def test_killed_at_random_moments(tmp_path: Path, mode: str) -> None:
    """After many SIGKILLs every file is one of the plans, and every job succeeds."""
    rng = random.Random(f"kill {mode}")
    data = tmp_path / "data"
    data.mkdir()
    plans: dict[str, dict[str, list[list[object]]]] = {}
    for number, name in enumerate(ORGANIZATIONS):
        path = data / f"{name}.db"
        make_organization(path, 1500, number, dt.date(2026, 11, 23))
        copy = tmp_path / f"{name}.db"
        plans[name] = {"": read_plan(path)}
        for date in DATES:
            make_organization(copy, 1500, number, dt.date(2026, 11, 23))
            run_locally(copy, tmp_path / "scratch", date, run_id=f"job-{name}-{date}.1")
            plans[name][date] = read_plan(copy)
        assert len({len(plan) for plan in plans[name].values()}) > 1
    daemon = RunningDaemon(data, "--worker-retries", "100")
    accepted: list[str] = []
    last: dict[str, str] = {}
    killed_daemons = killed_workers = 0
    # Two clients: one that survives all restarts of the daemon is part of what is tested.
    with Client(socket_endpoint(data), timeout_s=120) as client:
        for _ in range(ROUNDS):
            if not daemon.running:
                daemon.start()
            for name in rng.sample(ORGANIZATIONS, rng.randint(1, 3)):
                date = rng.choice(DATES)
                workers = rng.choice([None, 1, 3])
                accepted.append(client.submit(name, as_of=date, mode=mode, workers=workers).job_id)
                last[name] = date
            time.sleep(rng.uniform(0, 0.5))
            victims = daemon.workers()
            if rng.random() < 0.5 and victims:
                killed_workers += 1
                try:
                    os.kill(rng.choice(victims), signal.SIGKILL)
                except ProcessLookupError:
                    continue
            else:
                killed_daemons += 1
                daemon.kill()
                wait_for_the_end_of(victims)
                check_journal(data)
                for name in ORGANIZATIONS:
                    assert plan_of(data / f"{name}.db") in plans[name].values()
        if not daemon.running:
            daemon.start()
        states = {}
        for job_id in accepted:
            client.job(job_id).wait(120)
            states[job_id] = client.status(job_id).state
    assert set(states.values()) == {"succeeded"}
    assert killed_daemons >= 10
    assert killed_workers >= 5
    assert daemon.stop() == 0
    for name, date in last.items():
        assert plan_of(data / f"{name}.db") == plans[name][date]
        connection = sqlite3.connect(data / f"{name}.db")
        runs = connection.execute("SELECT DISTINCT status FROM scheduler_runs").fetchall()
        assert runs == [("completed",)]
        connection.close()
    check_journal(data)
