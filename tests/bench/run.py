"""Measure the time of complete runs, and the least time that SQLite needs for their work.

`make bench ARGS="--contacts 100000 1000000"`.

For each size, in one go: (a) the floor: one process reads the contact columns and writes exactly
the plan's rows, with the same keys and indexes, nothing computed; (b) a job on a file without a
plan; (c) the job again; (d) again with 1 % of the contacts changed; (e) the next day's run. (b) to
(e) go through a real daemon. Each is repeated and the median is shown, with its ratio to the floor;
every figure is appended to results.jsonl with machine and versions. "SQLite reads all" is the time
in which SQLite looks at every needed column of contacts and plan once.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import apsw
import numpy as np
import psutil

from schedclient import Client
from schedctl.synthetic import make_organization
from schedd.engine import calendar
from schedd.engine.configuration import Configuration
from schedd.engine.rows import SKIP_REASONS
from schedd.engine.run import Run
from schedd.store import campaigns, schema
from schedd.store.bulk import bulk_load
from schedd.store.connection import open_writer
from schedd.store.contacts import ContactReader, Range
from schedd.store.maintenance import journal_for
from schedd.store.write import PlainRows, PlanWriter
from schedproto import Mode
from schedproto.layout import socket_endpoint

AS_OF = dt.date(2026, 11, 23)
RESULTS = Path(__file__).with_name("results.jsonl")
NAMES = {
    "read": "SQLite reads all",
    "floor": "(a) floor",
    "first": "(b) no plan yet",
    "again": "(c) nothing changed",
    "changed": "(d) 1 % changed",
    "next": "(e) next day",
}


class Meter:
    """Time, CPU, peak memory and written bytes of a process and its children."""

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)
        self._stop = threading.Event()
        self.peak = 0

    def _all(self) -> list[psutil.Process]:
        return [self._root, *self._root.children(recursive=True)]

    def _sums(self) -> tuple[float, int]:
        cpu, written = 0.0, 0
        for process in self._all():
            try:
                times = process.cpu_times()
                cpu += times.user + times.system
                written += process.io_counters().write_bytes
            except psutil.Error:
                continue
        return cpu, written

    def _sample(self) -> None:
        while not self._stop.wait(0.05):
            total = 0
            for process in self._all():
                try:
                    # Proportional: memory that several processes share counts once.
                    total += process.memory_full_info().pss
                except psutil.Error:
                    continue
            self.peak = max(self.peak, total)

    def measure(self, work: Callable[[], Any]) -> tuple[dict[str, float], Any]:
        self.peak = 0
        self._stop.clear()
        sampler = threading.Thread(target=self._sample, daemon=True)
        cpu, written = self._sums()
        sampler.start()
        start = time.perf_counter()
        result = work()
        wall = time.perf_counter() - start
        self._stop.set()
        sampler.join()
        cpu_after, written_after = self._sums()
        return (
            {
                "wall_s": wall,
                "cpu_s": cpu_after - cpu,
                "peak_bytes": self.peak,
                "written_bytes": written_after - written,
            },
            result,
        )


def planned_rows(path: Path, run: Run) -> PlainRows:
    """Return the plan rows of a scheduled file in the order of their keys.

    Follow-ups, few, are left out.
    """
    classes = run.classes
    number = {
        (classes.types[t], int(i)): n
        for n, (t, i) in enumerate(zip(classes.type_number, classes.instance, strict=True))
    }
    reasons = {name or None: n for n, name in enumerate(SKIP_REASONS)}
    connection = apsw.Connection(str(path))
    rows = connection.execute(
        "SELECT contact_id, email_type, coalesce(campaign_instance_id, 0), skip_reason, "
        "scheduled_send_date, "
        "printf('%04d-%02d-%02d', event_year, event_month, event_day) FROM email_schedules "
        "WHERE status IN ('pre-scheduled', 'skipped') AND email_type NOT LIKE 'followup%' "
        "ORDER BY contact_id, email_type, scheduled_send_date"
    )
    days: dict[str, int] = {}

    def day(text: str) -> int:
        if text not in days:
            days[text] = calendar.ordinal(dt.date.fromisoformat(text))
        return days[text]

    packed = np.array(
        [(c, number[t, i], reasons[r], day(d), day(e)) for c, t, i, r, d, e in rows], np.int64
    )
    connection.close()
    row_class, date, event = (packed[:, n].astype(np.int32) for n in (1, 3, 4))
    return PlainRows(packed[:, 0].copy(), row_class, packed[:, 2].astype(np.int16), date, event)


def floor(path: Path, run: Run, rows: PlainRows, mode: Mode) -> None:
    """Read the contact columns and write the rows, nothing else."""
    connection = open_writer(path, mode)
    with journal_for(connection, mode, change=True):
        connection.execute("BEGIN IMMEDIATE")
        present = schema.read_schema(connection)
        ContactReader(connection, present, run.configuration, carriers=True).read(
            Range(-(2**62), None)
        )
        schema.complete(connection, present)
        writer = PlanWriter(
            connection, run.classes, "08:30:00", "job-00000000000000floor.1", "2026-11-23 00:00:00"
        )
        with bulk_load(connection, len(rows), active=True, created=True) as load:
            writer.load = load
            for start in range(0, len(rows), 200_000):
                writer.insert(rows.part(slice(start, start + 200_000)))
        connection.execute("COMMIT")
    connection.close()


def read_all(path: Path) -> None:
    """Have SQLite read the needed columns of contacts and plan once, as values.

    The values stay inside SQLite.
    """
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    present = schema.read_schema(connection)
    for table, names in (
        ("contacts", schema.READ_TABLES["contacts"]),
        (schema.PLAN, tuple(schema.PLAN_COLUMNS)),
    ):
        columns = ", ".join(
            f"max(length({name}))" for name in names if name in present.columns[table]
        )
        connection.execute(f"SELECT {columns} FROM {table} NOT INDEXED").fetchall()
    connection.close()


class Bench:
    def __init__(
        self, folder: Path, contacts: int, mode: str, workers: int | None, repeats: int
    ) -> None:
        self.folder, self.contacts, self.mode, self.workers, self.repeats = (
            folder,
            contacts,
            mode,
            workers,
            repeats,
        )
        self.data = folder / "data"
        self.data.mkdir(parents=True, exist_ok=True)
        self.pristine = folder / f"{contacts}.db"
        self.path = self.data / "org.db"
        self.figures: dict[str, list[dict[str, float]]] = {name: [] for name in NAMES}

    def run(self) -> None:
        make_organization(self.pristine, self.contacts, 1, AS_OF)
        self._without_plan()
        command = [
            sys.executable,
            "-m",
            "schedd",
            "serve",
            "--data",
            str(self.data),
            "--log-level",
            "error",
        ]
        daemon = subprocess.Popen(command)
        try:
            with Client(socket_endpoint(self.data), timeout_s=60) as client:
                client.health()
                meter = Meter(daemon.pid)
                rows: PlainRows | None = None
                run: Run | None = None
                for _ in range(self.repeats):
                    self._fresh()
                    self._job(client, meter, "first", AS_OF)
                    if rows is None or run is None:
                        run = self._engine_run()
                        rows = planned_rows(self.path, run)
                    figures, _ = Meter(os.getpid()).measure(lambda: read_all(self.path))
                    self.figures["read"].append(figures)
                    self._job(client, meter, "again", AS_OF)
                    self._change()
                    self._job(client, meter, "changed", AS_OF)
                    self._job(client, meter, "next", AS_OF + dt.timedelta(days=1))
                    self._fresh()
                    self._floor(run, rows)
        finally:
            daemon.send_signal(signal.SIGTERM)
            daemon.wait(60)

    def _floor(self, run: Run, rows: PlainRows) -> None:
        figures, _ = Meter(os.getpid()).measure(
            lambda: floor(self.path, run, rows, Mode(self.mode))
        )
        self.figures["floor"].append(figures)

    def _without_plan(self) -> None:
        connection = sqlite3.connect(self.pristine)
        connection.execute("DROP TABLE email_schedules")
        connection.commit()
        connection.execute("VACUUM")
        connection.close()

    def _fresh(self) -> None:
        shutil.copy(self.pristine, self.path)
        os.sync()

    def _engine_run(self) -> Run:
        connection = apsw.Connection(str(self.path))
        types, instances = campaigns.campaign_tables(connection, schema.read_schema(connection))
        connection.close()
        return Run(calendar.ordinal(AS_OF), Configuration(), types, instances)

    def _change(self) -> None:
        connection = sqlite3.connect(self.path)
        connection.execute(
            "UPDATE contacts SET birth_date = date(birth_date, '+9 days') WHERE id % 100 = 7"
        )
        connection.commit()
        connection.close()

    def _job(self, client: Client, meter: Meter, name: str, day: dt.date) -> None:
        figures, result = meter.measure(
            lambda: client.schedule(
                "org", as_of=day.isoformat(), mode=self.mode, workers=self.workers
            )
        )
        figures["rows_planned"] = result.rows_planned
        figures["rows_changed"] = result.rows_inserted + result.rows_updated + result.rows_deleted
        self.figures[name].append(
            {**figures, **{f"stage_{stage}_s": s for stage, s in result.stages.items()}}
        )

    def report(self) -> None:
        base = self._median("floor", "wall_s")
        print(f"\n{self.contacts:,} contacts, mode {self.mode}, median of {self.repeats}")
        print(
            f"{'':22}{'wall s':>9}{'x floor':>9}{'CPU s':>9}{'contacts/s':>12}"
            f"{'peak MB':>9}{'written MB':>12}"
        )
        for name, title in NAMES.items():
            wall = self._median(name, "wall_s")
            print(
                f"{title:22}{wall:9.2f}{wall / base:9.2f}{self._median(name, 'cpu_s'):9.2f}"
                f"{self.contacts / wall:12,.0f}{self._median(name, 'peak_bytes') / 1e6:9.0f}"
                f"{self._median(name, 'written_bytes') / 1e6:12.0f}"
            )
        entry = {
            "at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            "contacts": self.contacts,
            "mode": self.mode,
            "workers": self.workers,
            "repeats": self.repeats,
            "machine": {
                "cpus": os.cpu_count(),
                "memory_bytes": psutil.virtual_memory().total,
                "system": platform.platform(),
            },
            "versions": {
                "python": platform.python_version(),
                "sqlite": apsw.sqlite_lib_version(),
                **{name: version(name) for name in ("apsw", "numpy", "email-scheduler")},
            },
            "figures": self.figures,
        }
        with RESULTS.open("a") as file:
            file.write(json.dumps(entry) + "\n")

    def _median(self, name: str, figure: str) -> float:
        return statistics.median(entry[figure] for entry in self.figures[name])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--contacts",
        type=int,
        nargs="+",
        default=[10_000, 100_000, 1_000_000, 3_000_000],
        help="sizes",
    )
    parser.add_argument(
        "--mode", choices=["reliable", "highperf"], nargs="+", default=["reliable", "highperf"]
    )
    parser.add_argument("--workers", type=int, default=None)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    for contacts in arguments.contacts:
        for mode in arguments.mode:
            with tempfile.TemporaryDirectory(prefix="scheduler-bench-") as folder:
                bench = Bench(Path(folder), contacts, mode, arguments.workers, arguments.repeats)
                bench.run()
                bench.report()


if __name__ == "__main__":
    main()
