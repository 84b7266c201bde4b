"""Costs of runs on a machine that runs only for them, from measured times and a dated price."""

from __future__ import annotations

import msgspec

#: Seconds of a complete run in mode reliable on 2 processors: contacts -> (first plan, next day's
#: run). Medians of `make bench` (tests/bench/results.jsonl has every run and the machine; a test
#: compares).
MEASURED: dict[int, tuple[float, float]] = {
    10_000: (0.17, 0.14),
    100_000: (1.17, 0.60),
    1_000_000: (13.32, 5.78),
    3_000_000: (43.29, 16.48),
}
#: How long the machine stays up after a job (fly.toml, SCHEDD_IDLE_TIMEOUT); billed like the job.
IDLE_S = 60.0
HOURS_OF_A_YEAR, DAYS_OF_A_YEAR = 8760, 365


class CostRow(msgspec.Struct, frozen=True, kw_only=True):
    """The cost of a kind of run, in US dollars.

    with_idle_usd: including the idle time until the machine stops.
    """

    contacts: int
    kind: str
    run_s: float
    run_usd: float
    with_idle_usd: float
    year_usd: float


class CostTable(msgspec.Struct, frozen=True, kw_only=True):
    """Costs at a price; year_usd of a row: one such run a day.

    always_on_usd: a year of a machine that never stops.
    """

    size: str
    region: str
    usd_per_hour: float
    price_as_of: str
    price_source: str
    idle_s: float
    rows: list[CostRow] = []
    always_on_usd: float = 0.0
    volume_gb: int = 0
    volume_year_usd: float = 0.0


def row(contacts: int, kind: str, run_s: float, usd_per_s: float, idle_s: float) -> CostRow:
    """Return the costs of a run of `run_s` seconds."""
    with_idle = (run_s + idle_s) * usd_per_s
    return CostRow(
        contacts=contacts,
        kind=kind,
        run_s=run_s,
        run_usd=run_s * usd_per_s,
        with_idle_usd=with_idle,
        year_usd=with_idle * DAYS_OF_A_YEAR,
    )


def measured_rows(usd_per_s: float, idle_s: float) -> list[CostRow]:
    """Return the rows of the measured times."""
    return [
        row(contacts, kind, run_s, usd_per_s, idle_s)
        for contacts, times in MEASURED.items()
        for kind, run_s in zip(("first plan", "next day"), times, strict=True)
    ]
