"""Random contacts: crowded around a few days, in states with rules, with odd values where they are asked for."""

from __future__ import annotations

import functools
from datetime import date, timedelta
from random import Random

from .organization import zip_states
from .sql import Table, without
from .values import Value

BUSY_STATES = ("CA", "NV", "MO", "NY", "ID", "OK", "OR", "VA", "MD", "KY", "TX", "FL", "OH", "GU", "MA")
CARRIERS: tuple[Value, ...] = ("Aetna", "aetna", "UHC", "uhc", "Cigna", None, "")

ODD_EMAILS: tuple[Value, ...] = (
    *(
        None,
        "",
        "   ",
        "\t",
        "@x.example.org",
        "a@",
        "a@b",
        "a@.org",
        "a@org.",
        "a b@c.example.org",
        "a@@b.example.org",
    ),
    *("a@b@c.example.org", " padded@example.org ", "tab@example.org\t", "in\nner@example.org", "a@b..org", "a@.b.org"),
    *("quote'd@example.org", "ünï@example.org", "plain", 5, 2.5, b"\x00\xff"),
)
ODD_ZIPS: tuple[Value, ...] = (
    *(None, "", "   ", "501", "00501", 501, 90210, 99999, -501, 0, 123456, "90210-1234", "90210-12", "90210-12345"),
    *(" 90210 ", "9021O", 90210.0, 501.0, "90210 1234", "902101234", b"\x00\xff", "٩٠٢١٠"),
)
ODD_DATES: tuple[Value, ...] = (
    *(None, "", " ", "not a date", "2020-13-01", "1950-02-30", "1950-02-29", "1900-02-29", "2000-02-29", "1948-02-29"),
    *(
        "1948-02-29 10:11",
        "1948-02-29T10:11:12Z",
        "1955-03-01T",
        "1955-03-01 ",
        " 1955-03-01",
        "1955-03-01x",
        "1955-3-1",
    ),
    *("19550301", "1955/03/01", "0000-01-01", "0001-01-01", "9999-12-31", "2099-01-01", "-1955-03-01", "1955-00-10"),
    *(1955, -20610, 2.5, b"\x00\xff", "1955-03-00", "1955-03-32", "1955-03"),
)
ODD_STATUSES: tuple[Value, ...] = (
    None,
    "",
    "active",
    "ACTIVE",
    "Active",
    "bounced",
    "deleted",
    " active",
    "inactive",
    1,
)
ODD_TRUTHS: tuple[Value, ...] = (None, 0, 1, 2, -1, 0.0, 0.5, "1", "0", "true", "false", "TRUE", "yes", "no", "")


@functools.cache
def _zips_by_state() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for code, state in sorted(zip_states().items()):
        found.setdefault(state, []).append(code)
    return found


def random_contacts(source: Random, as_of: date, size: int, *, odd: float, odd_ids: bool) -> Table:
    """Return the table `contacts`; `odd` is the share of odd values in each column."""
    carrier_columns = source.choice([["carrier"], ["current_carrier"], ["current_carrier", "carrier"]])
    table = Table(
        "contacts",
        {
            "id": "INTEGER PRIMARY KEY",
            "first_name": "TEXT",
            "email": source.choice(["TEXT", "", "VARCHAR(200)"]),
            "zip_code": source.choice(["TEXT", "TEXT", "INTEGER", ""]),
            "state": "TEXT",
            "birth_date": source.choice(["TEXT", "DATE", ""]),
            "effective_date": source.choice(["TEXT", "DATE", ""]),
            "status": "TEXT",
            "failed_underwriting": source.choice(["INTEGER DEFAULT 0", "BOOLEAN", "TEXT", ""]),
            **dict.fromkeys(carrier_columns, "TEXT"),
        },
    )
    busy_days = [as_of + timedelta(days=source.randint(-20, 70)) for _ in range(3)]
    for contact_id in random_ids(source, size, odd=odd_ids):
        state = source.choice(BUSY_STATES) if source.random() < 0.7 else source.choice(sorted(_zips_by_state()))
        table.add(
            id=contact_id,
            first_name="Ann",
            email=_odd(source, odd, ODD_EMAILS, f"user{contact_id}@example.org"),
            zip_code=_odd(source, odd, ODD_ZIPS, source.choice(_zips_by_state()[state])),
            state=source.choice(["TX", state, None]),
            birth_date=_odd(source, odd, ODD_DATES, _date_near(source, as_of, busy_days, years=(30, 95))),
            effective_date=_odd(source, odd, ODD_DATES, _date_near(source, as_of, busy_days, years=(-1, 12))),
            status=_odd(source, odd, ODD_STATUSES, source.choice([None, "active"])),
            failed_underwriting=_odd(source, odd, ODD_TRUTHS, int(source.random() < 0.2)),
            carrier=source.choice(CARRIERS),
            current_carrier=source.choice(CARRIERS),
        )
    if odd:
        optional = ("birth_date", "effective_date", "status", "failed_underwriting", *carrier_columns)
        return without(table, {name for name in optional if source.random() < 0.06})
    return table


def random_ids(source: Random, size: int, *, odd: bool) -> list[int]:
    """Return so many different contact ids, in order; odd ones may be 0, negative or huge."""
    if odd:
        huge = [0, -1, -7, 2**31, 2**32 + 5, 2**53 + 1, 2**63 - 1, -(2**63)]
        found = {*source.sample(huge, 3), *source.sample(range(1, 4 * size + 9), size)}
        return sorted(source.sample(sorted(found), min(size, len(found))))
    if source.random() < 0.5:
        return list(range(1, size + 1))
    start = source.choice([1, 100, 2_999_000])
    return sorted(source.sample(range(start, start + 3 * size + 3), size))


def _odd(source: Random, share: float, odd_values: tuple[Value, ...], usual: Value) -> Value:
    return source.choice(odd_values) if source.random() < share else usual


def _date_near(source: Random, as_of: date, busy_days: list[date], years: tuple[int, int]) -> str | None:
    """Return a date some years ago whose anniversary is often near `as_of`, on a busy day, or on 29 February."""
    draw = source.random()
    if draw < 0.04:
        return None
    if draw < 0.10:
        return date(source.choice([1948, 1960, 2000, 2016, 2020]), 2, 29).isoformat()
    if draw < 0.5:
        near = source.choice(busy_days)
    elif draw < 0.8:
        near = as_of + timedelta(days=source.randint(-120, 120))
    else:
        near = as_of + timedelta(days=source.randint(0, 364))
    year = near.year - source.randint(*years)
    try:
        return near.replace(year=year).isoformat()
    except ValueError:
        return date(year, 2, 28).isoformat()
