"""Put the newest results of each size and mode into docs/PERFORMANCE.md.

`python -m tests.bench.table`.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from tests.bench.run import NAMES, RESULTS

PAGE = Path(__file__).parent.parent.parent / "docs" / "PERFORMANCE.md"
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"


def _median(entry: dict[str, Any], name: str, figure: str) -> float:
    return statistics.median(run[figure] for run in entry["figures"][name])


def _table(entry: dict[str, Any]) -> list[str]:
    floor, first = (_median(entry, name, "wall_s") for name in ("floor", "first"))
    title = (
        f"**{entry['contacts']:,} contacts, mode {entry['mode']}** (median of {entry['repeats']})"
    )
    lines = [
        "",
        title,
        "",
        "| | wall s | x floor | x (b) | CPU s | contacts/s | peak MB | written MB |",
    ]
    lines.append("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name, label in NAMES.items():
        wall = _median(entry, name, "wall_s")
        lines.append(
            f"| {label} | {wall:.2f} | {wall / floor:.2f} | {wall / first:.2f} | "
            f"{_median(entry, name, 'cpu_s'):.2f} | "
            f"{entry['contacts'] / wall:,.0f} | {_median(entry, name, 'peak_bytes') / 1e6:,.0f} | "
            f"{_median(entry, name, 'written_bytes') / 1e6:,.0f} |"
        )
    return lines


def main() -> None:
    """Replace the page between its two marks."""
    newest: dict[tuple[str, int], dict[str, Any]] = {}
    for line in RESULTS.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        if "contacts" in entry:
            newest[entry["mode"], entry["contacts"]] = entry
    lines = []
    for key in sorted(newest):
        lines += _table(newest[key])
    last = newest[max(newest)]
    lines += [
        "",
        (
            f"Machine: {last['machine']['cpus']} processors, "
            f"{last['machine']['memory_bytes'] / 1e9:.0f} GB, "
        ),
    ]
    lines[-1] += (
        f"{last['machine']['system']}; "
        + ", ".join(f"{k} {v}" for k, v in last["versions"].items())
        + "."
    )
    text = PAGE.read_text(encoding="utf-8")
    head, rest = text.split(BEGIN)
    tail = rest.split(END)[1]
    PAGE.write_text(head + BEGIN + "\n".join(lines) + "\n\n" + END + tail, encoding="utf-8")


if __name__ == "__main__":
    main()
