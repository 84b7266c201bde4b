"""Random contacts.

Crowded around a few days, in states with rules, with odd values where they are asked for.
"""

from __future__ import annotations

import functools
from datetime import date, timedelta
from random import Random

from .sql import RawText, Table, without
from .states import zip_states
from .values import Value

BUSY_STATES = (
    "CA",
    "NV",
    "MO",
    "NY",
    "ID",
    "OK",
    "OR",
    "VA",
    "MD",
    "KY",
    "TX",
    "FL",
    "OH",
    "GU",
    "MA",
)
CARRIERS: tuple[Value, ...] = (
    "Aetna",
    "aetna",
    "UHC",
    "uhc",
    "Cigna",
    None,
    "",
    " AETNA\n",
    b"Cigna",
    7,
)

ODD_EMAILS: tuple[Value, ...] = (
    *(
        None,
        "",
        "   ",
        "\t",
        "\0",
        "\ufeff",
        "@x.example.org",
        "a@",
        "a@b",
        "a@.org",
        "a@org.",
        "plain",
        5,
        2.5,
    ),
    *(
        "a b@c.example.org",
        "a@@b.example.org",
        "a@b@c.example.org",
        "in\nner@example.org",
        "a@b..org",
        "a@.b.org",
    ),
    *(
        " padded@example.org ",
        "tab@example.org\t",
        "\u200bspace@example.org\0",
        "\ufeffbom@example.org\xa0",
    ),
    *(
        "quote'd@example.org",
        "ünï@example.org",
        "a@exämple.org",
        "a@日本.example.org",
        "a@example.१२",
        "a@2.4.6",
    ),
    *(
        ".a@example.org",
        "a.@example.org",
        "a..b@example.org",
        "a.b@example.org",
        "a(b)@example.org",
        "a+b@example.org",
    ),
    *(
        "mailto:a@example.org",
        "<a@example.org>",
        "a@example.org;",
        "a@-b.org",
        "a@b-.org",
        "a@b-c.org",
        "a@b_c.org",
    ),
    *(
        "a" * 64 + "@example.org",
        "a" * 65 + "@example.org",
        "a@" + "b" * 63 + ".org",
        "a@" + "b" * 64 + ".org",
    ),
    *(
        "a@" + "b." * 124 + "org",
        "a@" + "b." * 125 + "org",
        "a@example.123",
        "a@example.x1",
        "a@123.org",
    ),
    *(
        b"\x00\xff",
        b"blob@example.org",
        RawText(b"b\xffd@example.org"),
        RawText(b" raw@example.org"),
    ),
)
ODD_ZIPS: tuple[Value, ...] = (
    *(
        None,
        "",
        "   ",
        "\0",
        "501",
        "00501",
        501,
        90210,
        99999,
        -501,
        0,
        123456,
        "90210-1234",
        "90210-12",
    ),
    *(
        " 90210 ",
        "9021O",
        90210.0,
        501.0,
        "90210 1234",
        "902101234",
        "21391234",
        21391234,
        902101234,
        90210.5,
    ),
    *(
        "'02139",
        '="02139"',
        '="2139"',
        "2139.0",
        "90210.00",
        "90210-12345",
        "90210  1234",
        "90210-",
        "'",
        '="',
    ),
    *(
        "\ufeff90210",
        "90210\n",
        "٩٠٢١٠",
        "9e4",
        "1234567",
        "+90210",
        b"90210",
        b"\x00\xff",
        RawText(b"902\xff10"),
    ),
)
ODD_DATES: tuple[Value, ...] = (
    *(
        None,
        None,
        "",
        " ",
        "\0",
        "not a date",
        "2020-13-01",
        "1950-02-30",
        "1950-02-29",
        "1900-02-29",
        "2000-02-29",
    ),
    *(
        "1948-02-29",
        "1948-02-29 10:11",
        "1948-02-29T10:11:12Z",
        "1955-03-01T",
        "1955-03-01 ",
        " 1955-03-01",
    ),
    *(
        "\ufeff1955-03-01",
        "1955-03-01\n",
        "\xa01955-03-01",
        "1955-03-01x",
        "1955-3-1",
        "1955/3/1",
        "19550301",
    ),
    *(
        "1955/03/01",
        "3/9/1950",
        "03-09-1950",
        "3-9-1950",
        "03091950",
        "3091950",
        "13/12/1950",
        "1.2.1950",
        "3/9/50",
    ),
    *(
        "0000-01-01",
        "0001-01-01",
        "9999-12-31",
        "2099-01-01",
        "-1955-03-01",
        "1955-00-10",
        "1955-03-00",
        "1955-03",
    ),
    *(
        3091950,
        19500309,
        9031950,
        1955,
        -20610,
        0,
        2.5,
        19500309.0,
        "1700000000",
        1_700_000_000_000,
        "1955-03-32",
    ),
    *(b"\x00\xff", b"1955-12-20", RawText(b"1955-03-0\xff"), RawText(b"1955-03-01 \xff")),
)
ODD_STATUSES: tuple[Value, ...] = (
    *(
        None,
        "",
        " ",
        "\0",
        "active",
        "ACTIVE",
        "Active",
        " active\t",
        "bounced",
        "deleted",
        "inactive",
    ),
    *("requested_follow_up", "REQUESTED_FOLLOW_UP ", 1, 0, b"active", RawText(b"act\xffive")),
)
READABLE_TRUTHS: tuple[Value, ...] = (
    *(None, 0, 1, 2, -1, 0.0, 0.5, "1", "0", "true", "false", "TRUE", "yes", "no", "", " "),
    *(" Y ", "off", "N", "on\0", b"true"),
)
UNREADABLE_TRUTHS: tuple[Value, ...] = (
    "maybe",
    "2.5x",
    "ja",
    b"\xff",
    RawText(b"tru\xff"),
    "true!",
    "nan",
)
ODD_TRUTHS: tuple[Value, ...] = READABLE_TRUTHS + UNREADABLE_TRUTHS
OPT_OUT_COLUMNS = (
    *(
        "deleted_at",
        "unsubscribed",
        "unsubscribed_at",
        "do_not_email",
        "do_not_contact",
        "opted_out",
        "deceased",
    ),
    *("stop", "left_at"),
)
OPT_OUT_TIMES: tuple[Value, ...] = (
    *(
        None,
        None,
        "",
        " ",
        "\0",
        0,
        0.0,
        "0",
        "2025-01-01",
        1730000000,
        "never",
        "no",
        b"0",
        b"",
        1,
    ),
)


@functools.cache
def _zips_by_state() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for code, state in sorted(zip_states().items()):
        found.setdefault(state, []).append(code)
    return found


def random_contacts(source: Random, as_of: date, size: int, *, odd: float, odd_ids: bool) -> Table:
    """Return the table `contacts`; `odd` is the share of odd values in each column."""
    carrier_columns = source.choice(
        [["carrier"], ["current_carrier"], ["current_carrier", "carrier"]]
    )
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
            **_opt_out_columns(source, odd),
        },
    )
    busy_days = [as_of + timedelta(days=source.randint(-20, 70)) for _ in range(3)]
    for contact_id in random_ids(source, size, odd=odd_ids):
        state = (
            source.choice(BUSY_STATES)
            if source.random() < 0.7
            else source.choice(sorted(_zips_by_state()))
        )
        table.add(
            id=contact_id,
            first_name="Ann",
            email=_odd(source, odd, ODD_EMAILS, f"user{contact_id}@example.org"),
            zip_code=_odd(source, odd, ODD_ZIPS, source.choice(_zips_by_state()[state])),
            state=source.choice(["TX", state, None]),
            birth_date=_date(source, odd, _date_near(source, as_of, busy_days, years=(30, 95))),
            effective_date=_date(source, odd, _date_near(source, as_of, busy_days, years=(-1, 12))),
            status=_odd(source, odd, ODD_STATUSES, source.choice([None, "active"])),
            failed_underwriting=_odd(source, odd, ODD_TRUTHS, int(source.random() < 0.2)),
            carrier=source.choice(CARRIERS),
            current_carrier=source.choice(CARRIERS),
            **{name: _opt_out(source, name) for name in OPT_OUT_COLUMNS},
        )
    if odd:
        optional = (
            "birth_date",
            "effective_date",
            "status",
            "failed_underwriting",
            *carrier_columns,
        )
        return without(table, {name for name in optional if source.random() < 0.06})
    return table


def _opt_out_columns(source: Random, odd: float) -> dict[str, str]:
    """Return some opt-out columns with their declarations."""
    if source.random() > (0.5 if odd else 0.1):
        return {}
    names = source.sample(OPT_OUT_COLUMNS, source.randint(1, 3))
    return {name: source.choice(["", "TEXT", "BOOLEAN", "INTEGER DEFAULT 0"]) for name in names}


def _opt_out(source: Random, column: str) -> Value:
    if source.random() < 0.8:
        return source.choice([None, 0])
    return source.choice(OPT_OUT_TIMES if column.endswith("_at") else ODD_TRUTHS)


def _date(source: Random, odd: float, usual: str | None) -> Value:
    """Return a date as it is, in another format, or something odd."""
    draw = source.random()
    if draw < odd / 2:
        return source.choice(ODD_DATES)
    if usual is None or draw > odd * 1.5:
        return usual
    return rewritten(source, date.fromisoformat(usual))


def rewritten(source: Random, day: date) -> Value:
    """Return a date in one of the formats of section 1, as text or as INTEGER."""
    written = day.strftime(
        source.choice(["%m/%d/%Y", "%m-%d-%Y", "%m%d%Y", "%d.%m.%Y", "%Y/%m/%d", "%Y%m%d"])
    )
    if written.isdigit():
        forms: list[Value] = [written, int(written)]
        return source.choice(forms)
    return written if source.random() < 0.7 else written + " 12:30"


def random_ids(source: Random, size: int, *, odd: bool) -> list[int]:
    """Return this number of different contact ids, in order.

    Odd ones may be 0, negative or huge.
    """
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


def _date_near(
    source: Random, as_of: date, busy_days: list[date], years: tuple[int, int]
) -> str | None:
    """Return an earlier date whose anniversary is often near `as_of` or on 29 February."""
    draw = source.random()
    if draw < 0.06:
        return None
    if draw < 0.12:
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
