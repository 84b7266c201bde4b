"""Measures the transfers and the time of a daily run over a bucket.

The main application has changed 1 % of the organization.

    python tests/bench/bucket.py [--contacts 1000000]

A folder stands in for the bucket: bytes are the same, and times are without the network's.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

from schedbucket import BucketSettings, WorkingCopy, open_repository, open_store
from schedclient import Client
from schedctl.synthetic import make_organization
from schedproto.layout import socket_endpoint

DAY = dt.date(2026, 11, 23)


def main() -> None:
    """Print a table: the first run, the main application's write, the next day's run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--contacts", type=int, default=1_000_000)
    contacts = parser.parse_args().contacts
    with tempfile.TemporaryDirectory(prefix="bench-bucket-") as name:
        root = Path(name)
        settings = BucketSettings(folder=root / "bucket")
        data, app = root / "data", root / "app"
        data.mkdir()
        app.mkdir()
        copy = WorkingCopy(
            app / "org-1.db",
            app / "state",
            open_repository(settings, open_store(settings), "org-1"),
        )
        make_organization(copy.path, contacts, 1, DAY)
        copy.refresh()
        copy.publish()
        environment = os.environ | {"SCHEDD_BUCKET_FOLDER": str(settings.folder)}
        command = [
            sys.executable,
            "-m",
            "schedd",
            "serve",
            "--data",
            str(data),
            "--log-level",
            "error",
        ]
        daemon = subprocess.Popen(command, env=environment)
        try:
            print("| step | fetched | sent | complete files | seconds | stages |")
            print("| --- | ---: | ---: | ---: | ---: | --- |")
            with Client(socket_endpoint(data), timeout_s=60) as client:
                show("first run", client.schedule("org-1", as_of=str(DAY)))
                began = time.perf_counter()
                down = copy.refresh()
                copy.begin()
                change(copy.path, contacts)
                _, up = copy.publish()
                took = time.perf_counter() - began
                print(f"| the main application changes 1 % | {down:,} | {up:,} | | {took:.2f} | |")
                show(
                    "the next day's run",
                    client.schedule("org-1", as_of=str(DAY + dt.timedelta(days=1))),
                )
                show(
                    "the same again",
                    client.schedule("org-1", as_of=str(DAY + dt.timedelta(days=1))),
                )
        finally:
            daemon.terminate()
            daemon.wait(30)


def change(path: Path, contacts: int) -> None:
    """Change 1 % of the contacts, as people move and change their address."""
    source = random.Random(7)
    with closing(sqlite3.connect(path)) as connection, connection:
        for contact in source.sample(range(1, contacts + 1), contacts // 100):
            connection.execute(
                "UPDATE contacts SET email = ?, zip_code = ? WHERE id = ?",
                (
                    f"moved{contact}@example.org",
                    source.choice(["75001", "90001", "63101"]),
                    contact,
                ),
            )


def show(step: str, result: object) -> None:
    """Print one run."""
    use = result.replica  # type: ignore[attr-defined]
    seconds: dict[str, float] = result.stages  # type: ignore[attr-defined]
    stages = ", ".join(f"{name} {value:.2f}" for name, value in seconds.items())
    print(
        f"| {step} | {use.bytes_down:,} | {use.bytes_up:,} | {use.bytes_whole:,} | "
        f"{result.wall_s:.2f} | {stages} |",  # type: ignore[attr-defined]
        flush=True,
    )


if __name__ == "__main__":
    main()
