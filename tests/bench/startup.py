"""Measure the time from exec to listening, and to two ready workers, warm and cold.

Compares the compiled program (a folder, one file) with Python.

`make bench-startup` (after `make binary`). The data folder exists already, as on a machine that
starts again. The forms take turns within one run. Cold: the page cache is dropped before each start
(needs root); the one file is cold also in another sense, `unpack`: its first start on a machine,
where it unpacks itself.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from schedclient import Client

sys.path.insert(0, str(Path(__file__).parents[2]))
ROOT = Path(__file__).parents[2]
BINARY = ROOT / "build" / "binary"
FORMS = {
    "folder": [str(BINARY / "folder" / "schedd")],
    "one file": [str(BINARY / "email-scheduler"), "schedd"],
    "python": [sys.executable, "-m", "schedd"],
}
WARM_ROUNDS, COLD_ROUNDS = 15, 5
DROP = Path("/proc/sys/vm/drop_caches")


def start(command: list[str], data: Path, cache: Path) -> tuple[float, float]:
    """Return the seconds to `listening`, and to both workers' readiness."""
    began = time.monotonic()
    process = subprocess.Popen(
        [*command, "serve", "--data", str(data), "--workers", "2", "--log-format", "json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "XDG_CACHE_HOME": str(cache)},
    )
    assert process.stdout is not None
    listening = next(
        time.monotonic() - began
        for line in process.stdout
        if json.loads(line)["event"] == "listening"
    )
    ready = 0.0
    with Client(data=data) as client:
        # A dry run over ten contacts, whose two pieces need both workers' modules, ends when a
        # worker is there.
        client.schedule("org-10", as_of="2026-11-01", dry_run=True)
        ready = time.monotonic() - began
    process.terminate()
    process.communicate(timeout=30)
    return listening, ready


def from_a_stopped_machine(command: list[str], folder: Path) -> tuple[float, float]:
    """Return the seconds of `client.schedule` with the machine stopped, and with it up.

    The time includes the API, the name, the socket and the job.

    The machine takes no time of its own to boot: what Fly takes comes on top.
    """
    from datetime import date

    from schedctl.synthetic import make_organization
    from tests.support.machines import make_site
    from tests.support.machines_api import serving
    from tests.support.names_server import naming

    with serving() as server, naming(server) as names:
        site = make_site(server, names, folder, command=command, idle_timeout_s=30.0)
        site.machine.start_s = 0.0
        make_organization(site.body.volume / "org-10.db", 10_000, 1, date(2026, 11, 1))
        seconds = []
        for day in (1, 2):
            began = time.monotonic()
            with Client(**site.settings()) as client:
                client.schedule("org-10", as_of=f"2026-11-0{day}")
            seconds.append(time.monotonic() - began)
        return seconds[0], seconds[1]


def drop_caches() -> bool:
    try:
        os.sync()
        DROP.write_text("3")
    except OSError:
        return False
    return True


def main() -> None:
    from datetime import date

    from schedctl.synthetic import make_organization

    with tempfile.TemporaryDirectory() as name:
        data, cache = Path(name) / "data", Path(name) / "cache"
        data.mkdir()
        make_organization(data / "org-10.db", 10, 1, date(2026, 11, 1))
        times: dict[tuple[str, str], list[tuple[float, float]]] = {}
        for command in FORMS.values():
            start(command, data, cache)
        for _ in range(WARM_ROUNDS):
            for form, command in FORMS.items():
                times.setdefault((form, "warm"), []).append(start(command, data, cache))
        for _ in range(COLD_ROUNDS):
            for form, command in FORMS.items():
                if drop_caches():
                    times.setdefault((form, "cold"), []).append(start(command, data, cache))
            shutil.rmtree(cache, ignore_errors=True)
            times.setdefault(("one file", "unpack"), []).append(
                start(FORMS["one file"], data, cache)
            )
        stories = []
        for number in range(WARM_ROUNDS):
            folder = Path(name) / f"site-{number}"
            folder.mkdir()
            stories.append(from_a_stopped_machine(FORMS["folder"], folder))
    print(
        f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}; "
        "medians in seconds"
    )
    print(f"{'form':10} {'cache':7} {'listening':>10} {'first result':>13} {'runs':>5}")
    for (form, kind), entries in times.items():
        listening, ready = (statistics.median(values) for values in zip(*entries, strict=True))
        print(f"{form:10} {kind:7} {listening:10.3f} {ready:13.3f} {len(entries):5}")
    stopped, up = (statistics.median(values) for values in zip(*stories, strict=True))
    print(
        f"client.schedule, 10,000 contacts: machine stopped {stopped:.3f}, up {up:.3f} "
        f"({len(stories)} runs)"
    )


if __name__ == "__main__":
    main()
