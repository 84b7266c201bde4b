"""Times what odd values cost: `python tests/bench/odd_values.py --contacts 300000`.

Runs over one synthetic organization: as it is, and with some or all contacts' values in forms that
programs write (dates with a time part or in another format, ZIPs as numbers or of nine digits) or
that cannot be read. Each is a dry run in this process with one worker; the variants take turns, and
the median of the processor seconds is shown with its ratio to the clean file.
"""

from __future__ import annotations

import argparse
import datetime as dt
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from schedctl.synthetic import make_organization
from tests.support.plans import run_locally

AS_OF = dt.date(2026, 11, 23)
_AMERICAN = (
    "substr(birth_date, 6, 2) || '/' || substr(birth_date, 9, 2) || '/' || substr(birth_date, 1, 4)"
)
#: name -> what the application does to the contacts, and the configuration of the run
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "clean": ("", {}),
    "clean, opt-out columns": (
        "ALTER TABLE contacts ADD COLUMN unsubscribed; ALTER TABLE contacts ADD deleted_at",
        {},
    ),
    "all dates with a time part": (
        "UPDATE contacts SET birth_date = birth_date || 'T00:00:00Z'",
        {},
    ),
    "all birth dates MM/DD/YYYY": (
        f"UPDATE contacts SET birth_date = {_AMERICAN}",
        {"contacts": {"date_formats": ["YYYY-MM-DD", "MM/DD/YYYY"]}},
    ),
    "all ZIPs with nine digits": ("UPDATE contacts SET zip_code = zip_code || '-1234'", {}),
    "20 % inactive": ("UPDATE contacts SET status = 'Inactive ' WHERE id % 5 = 0", {}),
    "1 % unreadable": (
        "UPDATE contacts SET birth_date = 'x', email = CAST(x'e94078' AS TEXT) WHERE id % 100 = 0",
        {},
    ),
    "all birth dates unreadable": ("UPDATE contacts SET birth_date = 'unknown'", {}),
}


def seconds(path: Path, config: dict[str, Any], scratch: Path) -> float:
    """Return the processor seconds of a dry run."""
    start = time.process_time()
    run_locally(
        path, scratch, AS_OF.isoformat(), dry_run=True, mode="highperf", workers=1, config=config
    )
    return time.process_time() - start


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--contacts", type=int, default=300_000)
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_organization(folder / "clean.db", arguments.contacts, 1, AS_OF)
        paths = {}
        for number, (variant, (script, _)) in enumerate(VARIANTS.items()):
            paths[variant] = folder / f"org-{number}.db"
            shutil.copy(folder / "clean.db", paths[variant])
            with sqlite3.connect(paths[variant]) as connection:
                connection.executescript(script)
            connection.close()
        times: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
        for _ in range(arguments.repeat):
            for variant, (_, config) in VARIANTS.items():
                times[variant].append(seconds(paths[variant], config, folder / "scratch"))
    clean = statistics.median(times["clean"])
    print(
        f"{arguments.contacts:,} contacts, processor seconds of a dry run, median of "
        f"{arguments.repeat}"
    )
    for variant, measured in times.items():
        median = statistics.median(measured)
        print(f"{variant:30} {median:7.2f} s  x {median / clean:.2f}")


if __name__ == "__main__":
    main()
