"""Run every attack at full length and write its table into docs/FAULTS.md: `make attack`."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.support.paths import ROOT
from tests.support.sections import keep_section

from .attacks import ATTACKS
from .target import Measured, Target, p99

PAGE = ROOT / "docs" / "FAULTS.md"
BEGIN, END = "<!-- attack: begin -->", "<!-- attack: end -->"
#: The daemon's memory under any attack.
MAX_MEMORY_BYTES = 512 << 20
_EXPLANATION = """\
Each attack runs as a process of its own against a fresh daemon, and another client asks for the
daemon's status all the time. The table has the resident memory of the daemon's process before the
attack, at its peak and afterwards, and the 99th percentile of what that client waited. Memory stays
below {most} MB, the daemon never ends, and its descriptors return to what they were. `make attack`
writes this section."""


def run(name: str, size: int, quiet_s: float = 3.0) -> Measured:
    """Run one attack against a daemon in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="attack-", ignore_cleanup_errors=True) as folder:
        target = Target(Path(folder).resolve())
        try:
            measured = target.attack(name, size, quiet_s)
            measured.require(
                measured.peak < MAX_MEMORY_BYTES, f"{measured.peak >> 20} MB of memory"
            )
            measured.require(
                "could not be handled" not in target.daemon.log(), "an error in the daemon's log"
            )
            return measured
        finally:
            target.close()


def section(all_measured: list[Measured]) -> list[str]:
    """Return the section of docs/FAULTS.md."""
    lines = [
        "## Attacks on the sockets",
        "",
        _EXPLANATION.format(most=MAX_MEMORY_BYTES >> 20),
        "",
        (
            "| attack | size | memory before, MB | peak | after | p99 before, ms | during "
            "| broken promises |"
        ),
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {one.attack} | {one.size:,} | {one.before >> 20} | {one.peak >> 20} "
        f"| {one.after >> 20} | {p99(one.quiet) * 1000:.0f} "
        f"| {p99(one.during or [0.0]) * 1000:.0f} | {len(one.broken)} |"
        for one in all_measured
    ]
    return lines


def main() -> int:
    """Run the attacks and print what each did; write the page if all of them ran."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("attacks", nargs="*", choices=[*ATTACKS, []], help="default: all")
    options = parser.parse_args()
    found = []
    for name in options.attacks or ATTACKS:
        found.append(run(name, ATTACKS[name][1]))
        print(section(found)[-1], *found[-1].broken, flush=True)
    if not options.attacks:
        PAGE.write_text(keep_section(PAGE.read_text(), section(found), BEGIN, END))
    return 1 if any(measured.broken for measured in found) else 0


if __name__ == "__main__":
    sys.exit(main())
