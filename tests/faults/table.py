"""Write docs/FAULTS.md from full sweeps: `make faults`."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import apsw

from tests.attack.table import BEGIN as ATTACK
from tests.attack.table import END as ATTACK_END
from tests.chaos.table import BEGIN as CHAOS
from tests.chaos.table import END as CHAOS_END
from tests.faults.harness import SCENARIOS
from tests.faults.vfs import KINDS
from tests.support.sections import section_of

ROOT = Path(__file__).parent.parent.parent
MEANING = {
    "io_error": "the operation fails with an input/output error",
    "full": "the operation fails because the disk is full",
    "short": "a write is done by half, then fails",
    "kill": "the process is killed before the operation",
    "kill_torn": "a write is done by half, then the process is killed",
    "power": "power is lost: what was not synced is there, torn or not there, at random",
}


def _sweep(case: tuple[str, str, str]) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.faults.harness", *case, "--most", "150"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    print(case, done.stdout[-80:].strip(), file=sys.stderr)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main() -> None:
    """Run all sweeps and write the page."""
    cases = [
        (scenario, mode, kind)
        for scenario in SCENARIOS
        for mode in ("reliable", "highperf")
        for kind in KINDS
    ]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(pool.map(_sweep, cases))
    lines = [
        "# Faults of the disk, and what they leave",
        "",
        "<!-- Written by tests/faults/table.py: `make faults`. -->",
        "",
        (
            "The same run is repeated, each time with one fault at one operation on the disk (a "
            "write, a sync, a"
        ),
        (
            "truncation or a deletion of database, journal or write-ahead log; "
            "`tests/faults/vfs.py`). After each, the file"
        ),
        (
            "is opened as the next program would open it. It has to pass `PRAGMA integrity_check`, "
            "hold exactly the old plan"
        ),
        (
            "or exactly the new one and the tables of others unchanged, and a repeat of the job "
            "has "
            "to lead to the new plan."
        ),
        "",
        *(f"- `{kind}`: {text}" for kind, text in MEANING.items()),
        "",
        (
            "The new plan after an `io_error`, `full` or `short` means that the fault came after "
            "the "
            "commit."
        ),
        "",
        (
            "| run | mode | fault | operations | tried | old plan left | new plan left | anything "
            "else |"
        ),
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for found in results:
        outcomes = found["outcomes"]
        old = outcomes.get("old plan", 0)
        new = sum(count for name, count in outcomes.items() if name.startswith("new plan"))
        lines.append(
            f"| {found['scenario']} | {found['mode']} | `{found['kind']}` | "
            f"{found['operations']:,} | "
            f"{found['tried']:,} | {old:,} | {new:,} | {len(found['wrong'])} |"
        )
    tried = sum(found["tried"] for found in results)
    wrong = sum(len(found["wrong"]) for found in results)
    lines += [
        "",
        (
            f"{tried:,} faults, {wrong} of them left anything but the old or the new plan. SQLite "
            f"{apsw.sqlite_lib_version()}, "
            f"Python {platform.python_version()}."
        ),
    ]
    page = ROOT / "docs" / "FAULTS.md"
    text = page.read_text(encoding="utf-8")
    for begin, end in ((CHAOS, CHAOS_END), (ATTACK, ATTACK_END)):
        if kept := section_of(text, begin, end):
            lines += ["", kept]
    page.write_text("\n".join(lines) + "\n", encoding="utf-8")
    if wrong:
        sys.exit("\n".join(line for found in results for line in found["wrong"]))


if __name__ == "__main__":
    main()
