"""Full disks, clock jumps, paused lease holders, a second daemon and damaged files."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import psutil

from schedclient import Client
from schedclient.errors import DaemonError, SchedulerClientError
from schedproto.layout import socket_endpoint

from .kills import publish_all
from .world import AS_OF, ClientProcess, Tally, World, came_true, integrity

#: What a run may say when a disk is full; anything else is a fault of ours.
FULL_CODES = {"disk_full", "backup_failed", "launch"}
#: Errors that say that the daemon did not expect what it met.
UNEXPECTED_CODES = {"internal", "worker_died", "unreachable", "wait_timeout"}
_SHM_SCRIPT = (
    'mount -t tmpfs -o size=4k tmpfs /dev/shm && head -c 4096 /dev/zero >/dev/shm/full; exec "$@"'
)
#: Runs a command whose /dev/shm is a file system that is full.
_FULL_SHM = ["unshare", "-m", "sh", "-c", _SHM_SCRIPT, "sh"]
DAY_S = 86_400


@contextmanager
def tmpfs(folder: Path, size_mib: int) -> Iterator[None]:
    """Mount a small file system of its own on a folder (needs root)."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_mib}m", "tmpfs", str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True, capture_output=True)


def can_mount(folder: Path) -> bool:
    """Return whether this process may mount file systems."""
    try:
        with tmpfs(folder, 1):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


# Full disks --------------------------------------------------------------------------------------


def full_disks(root: Path, rounds: int, seed: int) -> Tally:
    """Fill the data folder and the temporary folder at random points; /dev/shm is always full.

    Each is a file system of its own, in which a file of random size leaves little or nothing.
    """
    tally = Tally("disks full at random points")
    rng = random.Random(seed)
    folders = {name: root / name for name in ("data", "tmp")}
    for folder in folders.values():
        folder.mkdir(parents=True)
    with tmpfs(folders["data"], 64), tmpfs(folders["tmp"], 32):
        environment = {
            "TMPDIR": str(folders["tmp"]),
            "SCHEDD_IDLE_TIMEOUT": "60",
            "SCHEDD_WORKERS": "2",
        }
        world = World(root, organizations=2, environment=environment)
        world.prefix = _FULL_SHM
        try:
            for number in range(rounds):
                name = rng.choice(list(folders))
                free_kib = rng.choice([0, 4, 64, rng.randrange(1, 6000)])
                _fill(folders[name] / "ballast", free_kib)
                mode = rng.choice(["reliable", "highperf"])
                day = f"2026-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}"
                code, document = world.run("submit", "--all", "--as-of", day, "--mode", mode)
                _note_full(tally, name, code, document)
                for folder in folders.values():
                    (folder / "ballast").unlink(missing_ok=True)
                if number % 5 == 4 or number == rounds - 1:
                    world.settle(tally)
            world.stop_daemons(tally)
        finally:
            world.end()
            came_true(lambda: not world.processes(), 10)
    return tally


def _fill(path: Path, free_kib: int) -> None:
    """Write a file that leaves this much free space in its file system."""
    stats = os.statvfs(path.parent)
    size = max(0, stats.f_bavail * stats.f_frsize - free_kib * 1024)
    with path.open("wb", buffering=0) as file, suppress(OSError):
        os.posix_fallocate(file.fileno(), 0, max(1, size))


def _note_full(tally: Tally, name: str, code: int, document: dict[str, object]) -> None:
    tally.faults[f"{name} full"] += 1
    outcomes = document.get("outcomes")
    errors = [document.get("error")]
    if isinstance(outcomes, list):
        errors += [outcome.get("error") for outcome in outcomes]
    found = sorted({error["code"] for error in errors if isinstance(error, dict)})
    tally.outcomes[", ".join(found) or f"exit {code}"] += 1
    unexpected = [
        error for error in errors if isinstance(error, dict) and error["code"] not in FULL_CODES
    ]
    tally.require(not unexpected, f"{name} full: {unexpected}")


# Clocks ------------------------------------------------------------------------------------------


def clock_jumps(root: Path, rounds: int, seed: int) -> Tally:
    """Move the wall clock of daemon, workers and clients by a day and a year, forwards and back."""
    tally = Tally("clock jumps of a day and a year")
    rng = random.Random(seed)
    root.mkdir(parents=True, exist_ok=True)
    clock = root / "clock"
    _set(clock, 0)
    environment = {
        "LD_PRELOAD": str(_clock_library(root)),
        "CLOCK_OFFSET_FILE": str(clock),
        "SCHEDD_IDLE_TIMEOUT": "60",
        "SCHEDD_WORKERS": "2",
    }
    world = World(root, organizations=2, environment=environment)
    try:
        for number in range(rounds):
            client = world.start_client("submit", "--all", "--as-of", AS_OF, "--json")
            while client.poll() is None:
                days = rng.choice([0, 1, -1, 365, -365])
                _set(clock, days * DAY_S)
                tally.faults[f"clock at {days:+} days"] += 1
                with suppress(subprocess.TimeoutExpired):
                    client.wait(rng.uniform(0.05, 0.3))
            tally.outcomes[f"exit {client.returncode}"] += 1
            text = client.output.read_text()
            tally.require(client.returncode == 0, f"a client ended with {text[-500:]}")
            if number % 5 == 4 or number == rounds - 1:
                _set(clock, 0)
                world.settle(tally)
        world.stop_daemons(tally)
    finally:
        world.end()
    return tally


def _clock_library(folder: Path) -> Path:
    """Compile the library that shifts the wall clock (needs gcc)."""
    library = folder / "clock.so"
    source = Path(__file__).with_name("clock.c")
    command = ["gcc", "-shared", "-fPIC", "-O2", "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True, capture_output=True)
    return library


def _set(clock: Path, offset_s: int) -> None:
    """Replace the file of the clock at once: a reader never meets an empty one."""
    new = clock.with_name("clock.new")
    new.write_text(str(offset_s))
    new.replace(clock)


# Leases ------------------------------------------------------------------------------------------


def paused_holder(root: Path, rounds: int, seed: int) -> Tally:
    """Pause a daemon and its workers while they hold a lease, for longer than the lease lasts."""
    tally = Tally("lease holder paused beyond its lease")
    rng = random.Random(seed)
    environment = {
        "SCHEDD_BUCKET_FOLDER": str(root / "bucket"),
        "SCHEDD_LEASE": "1",
        "SCHEDD_IDLE_TIMEOUT": "60",
        "SCHEDD_WORKERS": "1",
    }
    first = World(root / "first", organizations=1, contacts=5000, environment=environment)
    second = World(root / "second", organizations=0, environment=environment)
    second.organizations = first.organizations
    publish_all(first)
    head = root / "bucket" / "orgs" / "org-0" / "head.json"
    try:
        for _ in range(rounds):
            day = f"2026-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}"
            client = first.start_client("submit", "org-0", "--as-of", day, "--json")
            came_true(partial(_ended_or_leased, client, head), 60)
            with suppress(subprocess.TimeoutExpired):
                client.wait(rng.uniform(0, 0.3))
            paused = [process for pair in first.daemons_and_workers() for process in pair]
            for process in paused:
                with suppress(psutil.Error):
                    process.send_signal(signal.SIGSTOP)
            tally.faults["holder paused"] += 1
            code, document = second.run("submit", "org-0", "--as-of", AS_OF)
            tally.outcomes[f"other: exit {code}"] += 1
            tally.require(code == 0, f"the other daemon got no turn: {document}")
            for process in paused:
                with suppress(psutil.Error):
                    process.send_signal(signal.SIGCONT)
            client.wait(120)
            text = client.output.read_text()
            known = client.returncode == 0 or '"lease_lost"' in text or '"bucket_conflict"' in text
            tally.outcomes[
                "holder: succeeded" if client.returncode == 0 else "holder: refused"
            ] += 1
            tally.require(known, f"the paused holder ended with {client.returncode}: {text[-600:]}")
            second.settle(tally)
        first.settle(tally)
        first.stop_daemons(tally)
        second.stop_daemons(tally)
    finally:
        first.end()
        second.end()
    return tally


def _ended_or_leased(client: ClientProcess, head: Path) -> bool:
    """Return whether a client has ended, or somebody holds the organization's lease."""
    return client.poll() is not None or json.loads(head.read_text()).get("lease") is not None


# A second daemon ---------------------------------------------------------------------------------


def second_daemon(root: Path, rounds: int, seed: int) -> Tally:
    """Start a second daemon over the same folder by other paths: each must refuse."""
    tally = Tally("second daemon over the same folder by another path")
    rng = random.Random(seed)
    world = World(root, organizations=1, environment={"SCHEDD_IDLE_TIMEOUT": "60"})
    link = root / "link"
    link.symlink_to(world.data)
    twice = root / "twice"
    twice.symlink_to(link)
    paths = {
        "symbolic link": link,
        "link to a link": twice,
        "dots": world.data / ".." / "data",
        "process root": Path("/proc/self/root") / world.data.relative_to("/"),
    }
    try:
        code, _ = world.run("submit", "org-0", "--as-of", AS_OF)
        tally.require(code == 0, "the first daemon does not run")
        for _ in range(rounds):
            kind = rng.choice(list(paths))
            command = [sys.executable, "-m", "schedd", "serve", "--data", str(paths[kind])]
            done = subprocess.run(
                command, env=world.environment, capture_output=True, timeout=120, check=False
            )
            tally.faults[kind] += 1
            tally.outcomes[f"exit {done.returncode}"] += 1
            text = (done.stdout + done.stderr).decode()
            tally.require(done.returncode != 0, f"{kind}: a second daemon served the folder")
            tally.require("locked" in text, f"{kind}: the error does not say why: {text[-300:]}")
        world.settle(tally)
        world.stop_daemons(tally)
    finally:
        world.end()
    return tally


# Damaged files -----------------------------------------------------------------------------------


def damaged_files(root: Path, rounds: int, seed: int) -> Tally:
    """Flip bytes, truncate, and plant logs and journals.

    Each ends in an answer, none harms others.
    """
    tally = Tally("damaged files, planted logs and journals")
    rng = random.Random(seed)
    environment = {"SCHEDD_IDLE_TIMEOUT": "300", "SCHEDD_WORKERS": "2"}
    world = World(root, organizations=3, environment=environment)
    bad = world.data / "org-bad.db"
    try:
        world.settle(tally)
        template = (world.data / "org-0.db").read_bytes()
        with Client(socket_endpoint(world.data), timeout_s=60) as client:
            for number in range(rounds):
                kind = _damage(rng, template, bad)
                tally.faults[kind] += 1
                _use(client, tally, kind, bad)
                if number % 25 == 24:
                    client.schedule("org-1", as_of=AS_OF, timeout_s=120)
        for path in bad.parent.glob("org-bad.db*"):
            path.unlink()
        shutil.rmtree(world.data / ".schedd" / "backups" / "org-bad", ignore_errors=True)
        world.settle(tally)
        world.stop_daemons(tally)
    finally:
        world.end()
    return tally


def _damage(rng: random.Random, template: bytes, path: Path) -> str:
    """Write a damaged copy of a database, with what is next to it; returns the kind of damage."""
    for left in path.parent.glob(f"{path.name}*"):
        left.unlink()
    content = bytearray(template)
    kind = rng.choice(
        ["bytes flipped", "header flipped", "truncated", "log planted", "journal planted", "zeros"]
    )
    if kind == "bytes flipped":
        for _ in range(rng.choice([1, 3, 30])):
            content[rng.randrange(len(content))] = rng.randrange(256)
    elif kind == "header flipped":
        content[rng.randrange(100)] = rng.randrange(256)
    elif kind == "truncated":
        del content[rng.randrange(len(content)) :]
    elif kind == "zeros":
        start = rng.randrange(len(content))
        content[start : start + 4096] = bytes(len(content[start : start + 4096]))
    else:
        suffix = "-wal" if kind == "log planted" else "-journal"
        path.with_name(path.name + suffix).write_bytes(_planted(rng, suffix, template))
    path.write_bytes(content)
    return kind


def _planted(rng: random.Random, suffix: str, template: bytes) -> bytes:
    """Return random bytes, or the beginning of a log or journal with pages of the file."""
    magic = bytes.fromhex("377f0682" if suffix == "-wal" else "d9d505f920a163d7")
    body = bytes(rng.randrange(256) for _ in range(rng.choice([0, 24, 600])))
    start = rng.randrange(max(1, len(template) - 8192))
    return rng.choice([body, magic + body, magic + body + template[start : start + 8192]])


def _use(client: Client, tally: Tally, kind: str, path: Path) -> None:
    """Ask about the damaged file and schedule it; every answer is a result or a clear error."""
    calls = {
        "info": lambda: client.info("org-bad"),
        "check": lambda: client.check("org-bad", as_of=AS_OF),
        "schedule": lambda: client.schedule("org-bad", as_of=AS_OF, timeout_s=120),
    }
    for name, call in calls.items():
        try:
            call()
        except DaemonError as error:
            tally.outcomes[f"{name}: {error.code}"] += 1
            tally.require(
                error.code not in UNEXPECTED_CODES, f"{kind}, {name}: {error.code}: {error.message}"
            )
        except SchedulerClientError as error:
            tally.broken.append(f"{kind}, {name}: {type(error).__name__}: {error}")
        else:
            tally.outcomes[f"{name}: succeeded"] += 1
            if name == "schedule":
                _require_sound(tally, kind, path)


def _require_sound(tally: Tally, kind: str, path: Path) -> None:
    """Require that a file that was scheduled is sound where the plan is.

    Damage in the tables of others is neither found nor repaired by a run. Nor is an index of a
    large plan that was inconsistent before; `schedctl check` reports it (`damaged_index`).
    """
    found = integrity(path)
    if found == "ok":
        return
    try:
        connection = sqlite3.connect(path)
        for table in ("email_schedules", "contact_issues"):
            [(said,), *_] = connection.execute(f"PRAGMA integrity_check({table})").fetchall()
            tally.require(said == "ok", f"{kind}: scheduled, and {table} says {said}")
        connection.close()
    except sqlite3.Error as error:
        tally.broken.append(f"{kind}: scheduled, and then {error}")
