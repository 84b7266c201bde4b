"""Run a job repeatedly, each time with one fault at one operation, and check the file.

A separate process, without threads, that forks a child for each attempt: `python -m
tests.faults.harness SCENARIO MODE KIND` prints one JSON document. Used by the tests, and by `make
faults` for docs/FAULTS.md.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import shutil
import sqlite3
import sys
import tempfile
import traceback
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw

from schedctl.synthetic import make_organization
from schedd.run import runner
from schedd.store import connection as connection_module
from schedproto import Mode, SchedulerError
from tests.faults.vfs import KINDS, FaultyVFS, Plan
from tests.support.plans import read_plan, run_locally

AS_OF = "2026-11-23"
#: scenario -> contacts, whether there is a plan already, whether the main application uses a
#: write-ahead log
SCENARIOS = {
    "first plan, filled in bulk": (6500, False, False),
    "1 % of the contacts changed": (1500, True, False),
    "main application in WAL mode": (1500, True, True),
}
#: What an injected error may come out as.
EXPECTED_CODES = {
    "io_error": {"database_unreadable"},
    "short": {"database_unreadable"},
    "full": {"disk_full"},
}


@dataclass
class State:
    """The contents of a file: the plan, and everything that is not the scheduler's."""

    plan: list[list[Any]]
    others: list[Any]


def state_of(path: Path) -> State:
    """Open a file as the next program would, so that SQLite recovers it, and read it.

    Raises if it is damaged.
    """
    connection = apsw.Connection(str(path))
    [(found,)] = connection.execute("PRAGMA integrity_check(1)")
    if found != "ok":
        raise AssertionError(f"damaged: {found}")
    others = []
    for table in (
        "contacts",
        "campaign_types",
        "campaign_instances",
        "contact_campaigns",
        "contact_events",
    ):
        others += connection.execute(f"SELECT count(*), sum(rowid) FROM {table}").fetchall()
    others += connection.execute(
        "SELECT sum(length(email)), group_concat(birth_date, '') FROM contacts"
    ).fetchall()
    others += connection.execute(
        "SELECT count(*), sum(id) FROM email_schedules WHERE status NOT IN ('pre-scheduled', "
        "'skipped')"
    ).fetchall()
    connection.close()
    return State(read_plan(path), others)


def write_without_syncs() -> None:
    """Make runs as they must not be, to see whether the harness notices."""
    original = connection_module.open_writer

    def open_unsafe(path: Path, mode: Mode) -> apsw.Connection:
        connection = original(path, mode)
        connection.execute("PRAGMA synchronous = OFF")
        return connection

    setattr(runner, "open_writer", open_unsafe)  # noqa: B010 - no export of that module


class Sweep:
    """All tries of one scenario, mode and kind of fault."""

    def __init__(
        self, scenario: str, mode: str, kind: str, most: int, folder: Path, *, unsafe: bool = False
    ) -> None:
        self.scenario, self.mode, self.kind, self.most, self.folder = (
            scenario,
            mode,
            kind,
            most,
            folder,
        )
        self.unsafe = unsafe
        self.origin = folder / "origin" / "org.db"
        self.outcomes: Counter[str] = Counter()
        self.wrong: list[str] = []

    def prepare(self) -> None:
        contacts, planned, wal = SCENARIOS[self.scenario]
        self.origin.parent.mkdir()
        make_organization(self.origin, contacts, 3, dt.date.fromisoformat(AS_OF))
        if planned:
            run_locally(self.origin, self.folder / "scratch", AS_OF)
            connection = sqlite3.connect(self.origin)
            connection.execute(
                "UPDATE contacts SET birth_date = date(birth_date, '+9 days') WHERE id % 100 = 7"
            )
            connection.commit()
            connection.close()
        if wal:
            connection = sqlite3.connect(self.origin)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.close()
        self.old = state_of(self._copy("old"))
        new = self._copy("new")
        run_locally(new, self.folder / "scratch", AS_OF, mode=self.mode)
        self.new = state_of(new)
        assert self.new.plan != self.old.plan

    def _copy(self, name: str) -> Path:
        target = self.folder / name
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        for path in self.origin.parent.iterdir():
            shutil.copy(path, target / path.name)
        return target / "org.db"

    def run(self) -> dict[str, Any]:
        self.prepare()
        log = self._count()
        points = self._points(log)
        for point in points:
            self._try(point, log[point - 1])
        return {
            "scenario": self.scenario,
            "mode": self.mode,
            "kind": self.kind,
            "operations": len(log),
            "tried": len(points),
            "outcomes": dict(self.outcomes),
            "wrong": self.wrong,
        }

    def _count(self) -> list[str]:
        self._child(0, self._copy("try"))
        return json.loads((self.folder / "try" / "log.json").read_text())

    def _points(self, log: list[str]) -> list[int]:
        """All syncs, truncations and deletions, the first and last writes, and evenly some between.

        From 1.
        """
        rare = [n for n, entry in enumerate(log, 1) if not entry.startswith("write")]
        writes = [n for n, entry in enumerate(log, 1) if entry.startswith("write")]
        stride = max(1, len(writes) // self.most)
        chosen = {*rare, *writes[:3], *writes[-3:], *writes[::stride]}
        if self.kind in {"short", "kill_torn"}:
            chosen -= set(rare)
        return sorted(chosen)

    def _child(self, point: int, path: Path) -> int:
        """Run the job in a child with the fault; returns its exit status.

        0 done, 1 an error, 77 gone.
        """
        sys.stdout.flush()
        child = os.fork()
        if child:
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        status = 9
        try:
            plan = Plan(path.parent, self.kind, point, seed=point)
            vfs = FaultyVFS(plan)
            if self.unsafe:
                write_without_syncs()
            try:
                run_locally(path, path.parent / "scratch", AS_OF, mode=self.mode)
                status = 0
            except SchedulerError as error:
                (path.parent / "error.json").write_text(
                    json.dumps([str(error.code), error.message])
                )
                status = 1
            (path.parent / "log.json").write_text(json.dumps(plan.log))
            del vfs
        except BaseException:
            (path.parent / "error.json").write_text(
                json.dumps(["exception", traceback.format_exc()[-2000:]])
            )
            status = 9
        finally:
            os._exit(status)

    def _try(self, point: int, operation: str) -> None:
        path = self._copy("try")
        status = self._child(point, path)
        where = f"{self.kind} at operation {point} ({operation})"
        if self.kind == "power" and (path.parent / "lost").is_dir():
            path = path.parent / "lost" / "org.db"
        try:
            left = state_of(path)
        except (AssertionError, apsw.Error, sqlite3.Error) as error:
            self.wrong.append(f"{where}: {error}")
            return
        if left.others != self.old.others:
            self.wrong.append(f"{where}: tables of others differ")
        outcome = (
            "old plan"
            if left.plan == self.old.plan
            else "new plan"
            if left.plan == self.new.plan
            else "mixture"
        )
        self._judge(status, outcome, where, path)
        again = run_locally(path, self.folder / "scratch", AS_OF, mode=self.mode)
        if read_plan(path) != self.new.plan or again.rows_planned != len(self.new.plan):
            self.wrong.append(f"{where}: the job's repeat does not lead to the new plan")

    def _judge(self, status: int, outcome: str, where: str, path: Path) -> None:
        code, message = "", ""
        if (path.parent / "error.json").exists():
            code, message = json.loads((path.parent / "error.json").read_text())
        if outcome == "mixture" or status == 9:
            self.wrong.append(f"{where}: {outcome}, status {status} {message}")
        if status == 0 and outcome != "new plan":
            self.wrong.append(f"{where}: the job says that it succeeded, but left the {outcome}")
        if status == 1 and code not in EXPECTED_CODES.get(self.kind, set()):
            self.wrong.append(f"{where}: error {code}: {message}")
        if status == 1 and outcome == "new plan":
            outcome = "new plan, error after the commit"
        left_over = [p.name for p in path.parent.iterdir() if p.name.endswith(("-journal", "-wal"))]
        if status in (0, 1) and [name for name in left_over if (path.parent / name).stat().st_size]:
            self.wrong.append(f"{where}: {left_over} left behind")
        self.outcomes[outcome] += 1


def sweep(
    scenario: str, mode: str, kind: str, most: int, *, unsafe: bool = False
) -> dict[str, Any]:
    """Run one sweep in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="scheduler-faults-") as folder:
        return Sweep(scenario, mode, kind, most, Path(folder), unsafe=unsafe).run()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenario", choices=list(SCENARIOS))
    parser.add_argument("mode", choices=["reliable", "highperf"])
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument(
        "--most", type=int, default=20, help="writes that are tried between the first and the last"
    )
    parser.add_argument(
        "--unsafe", action="store_true", help="without syncs, to see that this is noticed"
    )
    arguments = parser.parse_args()
    found = sweep(
        arguments.scenario, arguments.mode, arguments.kind, arguments.most, unsafe=arguments.unsafe
    )
    print(json.dumps(found))


if __name__ == "__main__":
    main()
