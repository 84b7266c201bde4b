"""Measure the gain from the process pool: `make bench-pool`.

1. How many organizations of one size a daemon with one worker process schedules in a second, and
   one with two.
2. One organization of a size, with one worker and with two.
3. How long a warm daemon takes from submit to result for 10,000 contacts.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from schedclient import Client
from schedctl.synthetic import make_organization
from schedproto.layout import socket_endpoint

AS_OF = dt.date(2026, 11, 23)
RESULTS = Path(__file__).with_name("results.jsonl")


@contextmanager
def daemon(data: Path, workers: int) -> Iterator[Client]:
    """Run a daemon, warm: its workers have led a job each."""
    command = [sys.executable, "-m", "schedd", "serve", "--data", str(data), "--log-level", "error"]
    process = subprocess.Popen([*command, "--workers", str(workers), "--backup-days", "0"])
    try:
        with Client(socket_endpoint(data), timeout_s=60) as client:
            for job in [client.submit("warm", as_of=AS_OF.isoformat()) for _ in range(workers)]:
                job.wait()
            yield client
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def many(folder: Path, organizations: int, contacts: int, workers: int) -> float:
    """Return the seconds for all organizations, none of which has a plan."""
    data = folder / f"many-{workers}"
    data.mkdir()
    make_organization(data / "warm.db", 300, 1, AS_OF)
    for number in range(organizations):
        shutil.copy(folder / f"{contacts}.db", data / f"org-{number}.db")
    os.sync()
    with daemon(data, workers) as client:
        start = time.perf_counter()
        jobs = [
            client.submit(f"org-{number}", as_of=AS_OF.isoformat(), workers=1)
            for number in range(organizations)
        ]
        for job in jobs:
            job.wait()
        seconds = time.perf_counter() - start
    shutil.rmtree(data)
    return seconds


def one(folder: Path, contacts: int, workers: int) -> dict[str, float]:
    """Return the seconds of one organization: first without a plan, then again."""
    data = folder / f"one-{workers}"
    data.mkdir()
    make_organization(data / "warm.db", 300, 1, AS_OF)
    shutil.copy(folder / f"{contacts}.db", data / "org.db")
    with daemon(data, 2) as client:
        found = {}
        for name in ("first", "again"):
            start = time.perf_counter()
            result = client.schedule("org", as_of=AS_OF.isoformat(), workers=workers)
            found[name] = time.perf_counter() - start
            found |= {f"{name} {stage}": seconds for stage, seconds in result.stages.items()}
    shutil.rmtree(data)
    return found


def latency(folder: Path, times: int) -> list[float]:
    """Return the seconds from submit to result for 10,000 contacts, over a warm daemon."""
    data = folder / "latency"
    data.mkdir()
    make_organization(data / "warm.db", 300, 1, AS_OF)
    make_organization(folder / "small.db", 10_000, 1, AS_OF)
    found = []
    with daemon(data, 2) as client:
        for number in range(times):
            shutil.copy(folder / "small.db", data / f"org-{number}.db")
            start = time.perf_counter()
            client.schedule(f"org-{number}", as_of=AS_OF.isoformat())
            found.append(time.perf_counter() - start)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--organizations", type=int, default=20)
    parser.add_argument("--contacts", type=int, default=50_000)
    parser.add_argument(
        "--large", type=int, default=500_000, help="contacts of the one organization"
    )
    arguments = parser.parse_args()
    figures: dict[str, object] = {}
    with tempfile.TemporaryDirectory(prefix="scheduler-bench-") as name:
        folder = Path(name)
        for contacts in {arguments.contacts, arguments.large}:
            make_organization(folder / f"{contacts}.db", contacts, 1, AS_OF)
        seconds = {w: many(folder, arguments.organizations, arguments.contacts, w) for w in (1, 2)}
        figures["many_s"] = seconds
        print(f"{arguments.organizations} organizations of {arguments.contacts:,} contacts:")
        for workers, took in seconds.items():
            rate = arguments.organizations * arguments.contacts / took
            print(
                f"  {workers} worker{'s' * (workers > 1)}: {took:6.2f} s, {rate:9,.0f} contacts/s"
            )
        print(f"  ratio: {seconds[1] / seconds[2]:.2f}")
        large = {w: one(folder, arguments.large, w) for w in (1, 2)}
        figures["one_s"] = large
        print(f"\none organization of {arguments.large:,} contacts, seconds:")
        for stage in large[1]:
            print(
                f"  {stage:16} 1 worker {large[1][stage]:6.2f}   2 workers {large[2][stage]:6.2f}"
            )
        times = latency(folder, 15)
        figures["latency_s"] = times
        print(
            f"\n10,000 contacts, warm, submit to result: median {statistics.median(times):.3f} s, "
            f"most {max(times):.3f} s"
        )
    entry = {
        "at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "pool": vars(arguments),
        "machine": {"cpus": os.cpu_count(), "system": platform.platform()},
        "figures": figures,
    }
    with RESULTS.open("a") as file:
        file.write(json.dumps(entry) + "\n")


if __name__ == "__main__":
    main()
