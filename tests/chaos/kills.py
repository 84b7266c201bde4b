"""SIGKILL of daemon, workers and clients at random moments of `submit --all`."""

from __future__ import annotations

import random
import re
import subprocess
import sys
import time
from pathlib import Path

import psutil

from .world import AS_OF, ClientProcess, Tally, World, kill

#: Clients that submit everything at the same time.
CLIENTS = 2
#: Kills between two checks of all promises.
KILLS_BETWEEN_CHECKS = 25
TARGETS = ("daemon", "worker", "client")
#: Another program that changes and publishes an organization of the bucket, all the time.
_PUBLISHER = """
import random, sqlite3, sys, time
from pathlib import Path
from schedclient import Client
from schedclient.errors import SchedulerClientError
rng, folder, names = random.Random(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
client = Client("ipc:///nowhere")
while True:
    name = rng.choice(names)
    path = folder / f"{name}.db"
    try:
        with client.lease(name, wait_s=20) as lease:
            lease.fetch(path)
            connection = sqlite3.connect(path)
            with connection:
                [(low, high)] = connection.execute("SELECT min(id), max(id) FROM contacts")
                zip_code = rng.choice(["94107", "10001", "60601", "63101", "73301"])
                connection.execute(
                    "UPDATE contacts SET zip_code = ? WHERE id = ?",
                    (zip_code, rng.randint(low, high)),
                )
            connection.close()
            lease.publish(path, note="the other program")
    except SchedulerClientError as error:
        print(error, file=sys.stderr, flush=True)
    time.sleep(rng.uniform(0.1, 1.0))
"""


def _targets(world: World, clients: list[ClientProcess]) -> dict[str, list[psutil.Process]]:
    daemons, workers = world.daemons_and_workers()
    own = []
    for client in clients:
        try:
            own.append(psutil.Process(client.pid))
        except psutil.NoSuchProcess:
            continue
    return {"daemon": daemons, "worker": workers, "client": own}


def _replace_ended(world: World, clients: list[ClientProcess], tally: Tally) -> None:
    """Collect the clients that have ended, and start others in their place."""
    for client in [client for client in clients if client.poll() is not None]:
        clients.remove(client)
        tally.outcomes[_outcome(client)] += 1
    while len(clients) < CLIENTS:
        clients.append(world.start_client("submit", "--all", "--as-of", AS_OF, "--json"))


def _outcome(client: ClientProcess) -> str:
    """Return how a client has ended, with the codes of its errors, and remove its output."""
    path = client.output
    text = path.read_text(errors="replace")
    path.unlink()
    if client.returncode == 0:
        return "succeeded"
    if client.returncode < 0:
        return "killed"
    codes = sorted(set(re.findall(r'"code": ?"(\w+)"', text)))
    return f"exit {client.returncode}: {', '.join(codes) or text[-200:]}"


def _end_clients(clients: list[ClientProcess], tally: Tally) -> None:
    for client in clients:
        try:
            client.wait(300)
        except subprocess.TimeoutExpired:
            text = client.output.read_text()[-400:]
            tally.broken.append(f"a client hangs although nothing is killed any more: {text}")
            client.kill()
            client.wait()
        tally.outcomes[_outcome(client)] += 1
    clients.clear()


def kills(root: Path, rounds: int, seed: int, *, bucket: bool) -> Tally:
    """Kill `rounds` processes at random moments, and check all promises between."""
    tally = Tally("submit --all over a bucket" if bucket else "submit --all over plain files")
    rng = random.Random(seed)
    environment = {
        "SCHEDD_IDLE_TIMEOUT": "30",
        "SCHEDD_WORKERS": "2",
        "SCHEDD_WORKER_RETRIES": "50",
    }
    if bucket:
        environment |= {"SCHEDD_BUCKET_FOLDER": str(root / "bucket"), "SCHEDD_LEASE": "3"}
    world = World(root, environment=environment)
    if bucket:
        publish_all(world)
    first: dict[str, int] | None = None
    clients: list[ClientProcess] = []
    try:
        while tally.faults.total() < rounds:
            _start_other_program(world, rng, bucket=bucket)
            wanted = min(KILLS_BETWEEN_CHECKS, rounds - tally.faults.total())
            _kill_some(world, clients, tally, rng, wanted)
            _end_clients(clients, tally)
            world.pause_writers()
            world.settle(tally)
            inventory = world.inventory()
            first = first or inventory
        assert first is not None, "no round was run"
        tally.require_no_growth(first, inventory)
        world.stop_daemons(tally)
    finally:
        world.pause_writers()
        world.end()
    return tally


def _kill_some(
    world: World,
    clients: list[ClientProcess],
    tally: Tally,
    rng: random.Random,
    wanted: int,
) -> None:
    done = 0
    while done < wanted:
        _replace_ended(world, clients, tally)
        time.sleep(rng.uniform(0.0, 0.8))
        target = rng.choice(TARGETS)
        if kill(_targets(world, clients)[target], rng):
            tally.faults[f"{target} killed"] += 1
            done += 1


def _start_other_program(world: World, rng: random.Random, *, bucket: bool) -> None:
    seed = rng.randrange(10**6)
    if not bucket:
        world.start_writer(seed)
        return
    folder = world.root / "application"
    folder.mkdir(exist_ok=True)
    with (world.root / "application.log").open("ab") as log:
        world.writers.append(
            subprocess.Popen(
                [sys.executable, "-c", _PUBLISHER, str(seed), str(folder), *world.organizations],
                env=world.environment,
                stderr=log,
            )
        )


def publish_all(world: World) -> None:
    """Move the synthetic organizations into the bucket."""
    script = (
        "import sys\nfrom pathlib import Path\nfrom schedclient import Client\n"
        "client = Client('ipc:///nowhere')\n"
        "for path in map(Path, sys.argv[1:]):\n"
        "    with client.lease(path.stem) as lease:\n"
        "        lease.publish(path, note='new')\n"
    )
    paths = [world.data / f"{name}.db" for name in world.organizations]
    there = world.root / "new"
    there.mkdir()
    moved = [path.rename(there / path.name) for path in paths]
    subprocess.run(
        [sys.executable, "-c", script, *map(str, moved)],
        env=world.environment,
        check=True,
        timeout=120,
    )
