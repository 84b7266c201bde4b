"""A data folder, its daemon, its clients and another program, all of them real processes.

Every process that a `World` starts, and every process that those start, carries the world's name
in its environment. So the world finds each of them again, and can show that none is left.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from schedctl.synthetic import make_organization
from tests.support.command_line import SCHEDCTL
from tests.support.waiting import wait_until

AS_OF = "2026-11-23"
MARK = "CHAOS_WORLD"
#: A client that has to wait for a killed daemon, or for one that is slow on a loaded machine.
CLIENT_TIMEOUT_S = 300
#: A lease of a killed program has expired by then.
LEASE_TIMEOUT_S = 120
#: Files of one kind that may be there more often at the last check than at the first.
_ALLOWED_GROWTH = 4
#: Another program that changes contacts, commits or rolls back, and waits, again and again.
_WRITER = """
import random, sqlite3, sys, time
rng = random.Random(sys.argv[1])
while True:
    path = rng.choice(sys.argv[2:])
    try:
        connection = sqlite3.connect(path, timeout=20, isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        [(low, high)] = connection.execute("SELECT min(id), max(id) FROM contacts")
        for _ in range(rng.randint(1, 5)):
            zip_code = rng.choice(["94107", "10001", "60601", "63101", "73301"])
            connection.execute(
                "UPDATE contacts SET zip_code = ? WHERE id = ?",
                (zip_code, rng.randint(low, high)),
            )
        time.sleep(rng.uniform(0, 0.05))
        connection.execute(rng.choice(["COMMIT", "COMMIT", "ROLLBACK"]))
        connection.close()
    except sqlite3.OperationalError as error:
        if "locked" not in str(error) and "busy" not in str(error):
            raise
    time.sleep(rng.uniform(0.02, 0.2))
"""


@dataclass
class Tally:
    """The counts of a scenario, and every promise that it found broken.

    faults: kind of fault -> how often it was done.   checks: how often all promises were checked.
    """

    scenario: str
    faults: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    checks: int = 0
    broken: list[str] = field(default_factory=list)

    def require_no_growth(self, first: dict[str, int], last: dict[str, int]) -> None:
        """Note kinds of files that pile up. Backups do by design: they are kept for some days."""
        grown = {
            kind: count
            for kind, count in last.items()
            if "/backups/" not in kind and count > first.get(kind, 0) + _ALLOWED_GROWTH
        }
        self.require(not grown, f"files pile up: {grown} (at first {first})")

    def require(self, condition: object, text: str) -> None:
        """Note a broken promise unless the condition holds."""
        if not condition:
            self.broken.append(text)


class ClientProcess(subprocess.Popen[bytes]):
    """A client whose output goes into a file of its own."""

    def __init__(self, command: list[str], output: Path, environment: dict[str, str]) -> None:
        self.output = output
        with output.open("wb") as file:
            super().__init__(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )


class World:
    """A folder `root` with a data folder of synthetic organizations."""

    def __init__(
        self,
        root: Path,
        organizations: int = 4,
        contacts: int = 200,
        environment: dict[str, str] | None = None,
    ) -> None:
        self.root, self.data = root, root / "data"
        self.data.mkdir(parents=True, exist_ok=True)
        self.name = uuid.uuid4().hex
        own = ("SCHEDD_", "SCHEDCTL_", "BUCKET_", "AWS_")
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith(own)
        } | {MARK: self.name, "PYTHONWARNINGS": "ignore"}
        self.environment |= environment or {}
        self.organizations = [f"org-{number}" for number in range(organizations)]
        for number, name in enumerate(self.organizations):
            make_organization(
                self.data / f"{name}.db", contacts, number, dt.date.fromisoformat(AS_OF)
            )
        #: Words before each command line of a client, and so of the daemon that it starts.
        self.prefix: list[str] = []
        self.writers: list[subprocess.Popen[bytes]] = []

    # Processes -------------------------------------------------------------------------------

    def schedctl(self, *arguments: str, data: Path | None = None) -> list[str]:
        """Return the command line of `schedctl` over the data folder."""
        return [*self.prefix, *SCHEDCTL, *arguments, "--data", str(data or self.data)]

    def start_client(self, *arguments: str) -> ClientProcess:
        """Start a client whose output goes into a file of its own."""
        path = self.root / f"client-{uuid.uuid4().hex[:8]}.json"
        return ClientProcess(self.schedctl(*arguments), path, self.environment)

    def run(self, *arguments: str, data: Path | None = None) -> tuple[int, dict[str, Any]]:
        """Run a client to its end and return its exit code and its JSON document."""
        done = subprocess.run(
            [*self.schedctl(*arguments, data=data), "--json"],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=CLIENT_TIMEOUT_S,
            check=False,
        )
        try:
            document = json.loads(done.stdout)
        except ValueError:
            document = {
                "error": {"code": "no JSON", "message": done.stdout[-300:] + done.stderr[-900:]}
            }
        return done.returncode, document

    def processes(self) -> list[psutil.Process]:
        """Return the living processes of this world, this very process aside."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                    continue
                if process.environ().get(MARK) == self.name:
                    found.append(process)
        return found

    def daemons_and_workers(self) -> tuple[list[psutil.Process], list[psutil.Process]]:
        """Return the daemons of this world, and the processes that these have started."""
        daemons, workers = [], []
        for process in self.processes():
            with suppress(psutil.Error):
                command = process.cmdline()
                if "serve" in command and "schedd" in command:
                    daemons.append(process)
                elif any("multiprocessing" in word for word in command):
                    workers.append(process)
        return daemons, workers

    def start_writer(self, seed: int) -> None:
        """Start another program that changes contacts in every file, all the time."""
        paths = [str(self.data / f"{name}.db") for name in self.organizations]
        self.writers.append(
            subprocess.Popen(
                [sys.executable, "-c", _WRITER, str(seed), *paths], env=self.environment
            )
        )

    def pause_writers(self) -> None:
        """End the other programs, as a deployment of theirs does."""
        for writer in self.writers:
            writer.terminate()
            writer.wait(60)
        self.writers.clear()

    def stop_daemons(self, tally: Tally) -> None:
        """Ask every daemon to end, and check that no process is left afterwards."""
        for daemon in self.daemons_and_workers()[0]:
            with suppress(psutil.Error):
                daemon.send_signal(signal.SIGTERM)
        left = came_true(lambda: not self.processes(), 90)
        names = [] if left else [describe(process) for process in self.processes()]
        tally.require(left, f"processes are left after the daemon was stopped: {names}")

    def end(self) -> None:
        """Kill whatever is left of this world."""
        for process in self.processes():
            with suppress(psutil.Error):
                process.kill()

    # Promises --------------------------------------------------------------------------------

    def check_files(self, tally: Tally, organizations: Iterable[str] | None = None) -> None:
        """Check that SQLite finds every file and the journal sound."""
        for name in organizations or self.organizations:
            found = integrity(self.data / f"{name}.db")
            tally.require(found == "ok", f"{name}: integrity_check says {found}")
        journal = self.data / ".schedd" / "journal.db"
        if journal.exists():
            found = integrity(journal)
            tally.require(found == "ok", f"journal: integrity_check says {found}")

    def settle(self, tally: Tally) -> None:
        """Schedule everything once more in peace, then check every promise.

        After it each file is sound, and a dry run of each organization changes nothing.
        """
        code, document = self.run("submit", "--all", "--as-of", AS_OF)
        deadline = time.monotonic() + LEASE_TIMEOUT_S
        while code != 0 and "lease_held" in brief(document) and time.monotonic() < deadline:
            # A program that was killed leaves its lease, which expires.
            time.sleep(1)
            code, document = self.run("submit", "--all", "--as-of", AS_OF)
        tally.require(code == 0, f"submit --all in peace ended with {code}: {brief(document)}")
        for name in self.organizations:
            code, document = self.run("submit", name, "--as-of", AS_OF, "--dry-run")
            result = document.get("result", document)
            changes = [result.get(f"rows_{kind}") for kind in ("inserted", "updated", "deleted")]
            tally.require(
                code == 0 and changes == [0, 0, 0],
                f"{name}: a dry run says {changes}, exit code {code}: {brief(document)}",
            )
        self.check_files(tally)
        tally.checks += 1

    def inventory(self) -> dict[str, int]:
        """Return kind of file -> number of files below the data folder, with numbers left out."""
        kinds: Counter[str] = Counter()
        for path in self.data.rglob("*"):
            if path.is_file():
                name = str(path.relative_to(self.data))
                kinds["".join("#" if c.isdigit() else c for c in name)] += 1
        return dict(kinds)


def integrity(path: Path) -> str:
    """Return what SQLite's integrity_check says of a file."""
    try:
        with closing(sqlite3.connect(path, timeout=60)) as connection:
            [(found,), *_] = connection.execute("PRAGMA integrity_check").fetchall()
            return str(found)
    except sqlite3.Error as error:
        return f"{type(error).__name__}: {error}"


def brief(document: dict[str, Any]) -> str:
    """Return the errors of a JSON document of `schedctl`, shortened."""
    errors = [document.get("error")]
    errors += [outcome.get("error") for outcome in document.get("outcomes", [])]
    return json.dumps([error for error in errors if error])[:1500]


def describe(process: psutil.Process) -> str:
    """Return a process as its id and its command line."""
    try:
        return f"{process.pid} {' '.join(process.cmdline())[-120:]}"
    except psutil.Error:
        return f"{process.pid} (ended)"


def came_true(condition: Callable[[], object], timeout_s: float) -> bool:
    """Return whether a condition came true in time."""
    try:
        wait_until(condition, timeout_s=timeout_s)
    except AssertionError:
        return False
    return True


def kill(processes: Sequence[psutil.Process], rng: Any) -> bool:
    """Kill one of these processes; returns whether there was one to kill."""
    if not processes:
        return False
    try:
        rng.choice(processes).kill()
    except psutil.Error:
        return False
    return True
