"""Run every chaos scenario at full length and write its table into docs/FAULTS.md: `make chaos`."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.support.sections import keep_section

from .hazards import (
    can_mount,
    clock_jumps,
    damaged_files,
    full_disks,
    paused_holder,
    second_daemon,
)
from .kills import kills
from .world import Tally

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "FAULTS.md"
BEGIN, END = "<!-- chaos: begin -->", "<!-- chaos: end -->"

#: scenario -> (what runs it, rounds of the full length)
SCENARIOS: dict[str, tuple[Callable[[Path, int, int], Tally], int]] = {
    "kills": (partial(kills, bucket=False), 500),
    "bucket-kills": (partial(kills, bucket=True), 500),
    "full-disks": (full_disks, 100),
    "clock-jumps": (clock_jumps, 100),
    "paused-holder": (paused_holder, 30),
    "second-daemon": (second_daemon, 30),
    "damaged-files": (damaged_files, 1000),
}
_EXPLANATION = """\
Real daemons, workers, clients and another program that writes to the same files or to the bucket.
After a number of faults everything is scheduled once more in peace. Then SQLite's
`integrity_check` has to find every file and the journal sound, a dry run of each organization has
to report 0 changes, no process and no growing number of files may be left, and no error may be one
that the daemon did not expect. `make chaos` writes this section (seed {seed})."""


def run(name: str, rounds: int, seed: int) -> Tally:
    """Run one scenario in a temporary folder."""
    scenario, _ = SCENARIOS[name]
    with tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as folder:
        if name == "full-disks" and not can_mount(Path(folder)):
            tally = Tally("disks full at random points")
            tally.outcomes["not run: needs the right to mount"] += 1
            return tally
        return scenario(Path(folder).resolve(), rounds, seed)


def section(tallies: list[Tally], seed: int) -> list[str]:
    """Return the section of docs/FAULTS.md."""
    lines = [
        "## Chaos",
        "",
        _EXPLANATION.format(seed=seed),
        "",
        "| scenario | faults | checks | what clients saw | broken promises |",
        "| --- | --- | ---: | --- | ---: |",
    ]
    for tally in tallies:
        lines.append(
            f"| {tally.scenario} | {_counts(tally.faults)} | {tally.checks} "
            f"| {_counts(tally.outcomes)} | {len(tally.broken)} |"
        )
    return lines


def _counts(counter: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counter.items()))


def main() -> int:
    """Run the scenarios and print what each found; write the page if all of them ran."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenarios", nargs="*", choices=[*SCENARIOS, []], help="default: all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--share", type=float, default=1.0, help="share of the full length")
    options = parser.parse_args()
    tallies = []
    for name in options.scenarios or SCENARIOS:
        started = time.monotonic()
        tally = run(name, max(1, round(SCENARIOS[name][1] * options.share)), options.seed)
        tallies.append(tally)
        print(f"{name}: {tally} in {time.monotonic() - started:.0f} s", flush=True)
    if not options.scenarios and options.share == 1.0:
        PAGE.write_text(keep_section(PAGE.read_text(), section(tallies, options.seed), BEGIN, END))
    return 1 if any(tally.broken for tally in tallies) else 0


if __name__ == "__main__":
    sys.exit(main())
