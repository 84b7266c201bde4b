"""One contact, one day; the frequency limit; one row per key (rules, section 10)."""

from __future__ import annotations

from collections import defaultdict
from datetime import date

from .configuration import Configuration
from .records import HistoryRow
from .rows import Row

SAME_DAY, FREQUENCY = "same_day_conflict", "frequency_limit"


def limit_contact(
    rows: list[Row], dispatched: list[HistoryRow], configuration: Configuration
) -> None:
    """Skip the planned rows of one contact that come too close to others."""
    taken: list[date] = [row.day for row in dispatched if row.day is not None and not row.followup]
    candidates = [row for row in rows if row.planned and not row.followup]
    candidates.sort(
        key=lambda row: (row.priority, row.day, row.instance_order, row.email_type, row.turn)
    )
    for row in candidates:
        near = sum(abs((row.day - day).days) < configuration.period_days for day in taken)
        if row.day in taken:
            row.skip(SAME_DAY)
        elif near >= configuration.max_emails_per_period:
            row.skip(FREQUENCY)
        else:
            taken.append(row.day)


def one_per_key(rows: list[Row]) -> list[Row]:
    """Return the rows with one for each key.

    The row that is sent stays, else the first by priority and instance.
    """
    by_key: dict[tuple[int, str, date], list[Row]] = defaultdict(list)
    for row in rows:
        by_key[row.key].append(row)
    return [
        min(same, key=lambda row: (not row.planned, row.priority, row.instance_order, row.turn))
        for same in by_key.values()
    ]
