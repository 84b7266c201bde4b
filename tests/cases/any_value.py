"""Organizations of a few contacts whose columns hold values of any type, for Hypothesis.

A base organization with ordinary values comes from a number; a few of its columns are declared
otherwise, and a few of its cells get another value: one out of a list, or the cell's own in another
spelling or type. So what fails shrinks to a single cell.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any

from hypothesis import strategies as st

from tests.reference import random_campaigns, random_contacts, random_history
from tests.reference.organizations import RandomOrganization
from tests.reference.random_configuration import random_as_of, random_overrides
from tests.reference.sql import RawText, Table
from tests.reference.values import Value

BASES = 400
AFFINITIES = ("INTEGER", "TEXT", "REAL", "NUMERIC", "")
ENCODINGS = ("UTF-8", "UTF-8", "UTF-8", "UTF-16le", "UTF-16be")
#: Trimmed at both ends (section 0), and some characters that look as if they were.
SPACES = (
    *(
        " ",
        "\t",
        "\n",
        "\r",
        "\x0b",
        "\x0c",
        "\x1c",
        "\x1f",
        "\x85",
        "\xa0",
        "\u1680",
        "\u2003",
        "\u2028",
        "\u202f",
    ),
    *("\u3000", "\0", "\ufeff", "\u200b", " \0\ufeff\n", "\u2060", "\u180e", "\u200d", "'", "\x01"),
)
BAD_BYTES = (
    b"\xe9",
    b"\xff\xfe",
    b"\xc3",
    b"\xed\xa0\x80",
    b"\xc0\xaf",
    b"\xf4\x90\x80\x80",
    b"\x80",
)
WORDS = (
    *(
        "",
        " ",
        "x",
        "NULL",
        "nan",
        "inf",
        "1e3",
        "0x10",
        "1_000",
        "-",
        "+",
        "12",
        " 12",
        "-5",
        "007",
        "3.0",
        "2.5",
    ),
    *(
        "99999999999999999999",
        "9" * 5000,
        "x" * 5000,
        "{}",
        "[]",
        "[1",
        '["a"]',
        "null",
        "true",
        "no",
        "José",
        "日本",
    ),
    *(
        "١٢",
        "ünï",
        "İ",
        "ß",
        "a\0b",
        "\0",
        "2026-11-17",
        "2026-11-17 25:99",
        "0000-00-00",
        "9999-12-31",
        "0001-01-01",
    ),
    *(
        "12/01/2026",
        "1795219200",
        "1795219200000",
        "1795219200.5",
        "birthday",
        "pre-scheduled",
        "skipped",
        "sent",
    ),
    *(
        "campaign_",
        "followup_",
        "followup_9",
        "failed",
        "ALL",
        "TX,FL",
        "eligibility_answered",
        "pending",
    ),
)
NUMBERS = (
    *(
        0,
        1,
        2,
        3,
        -1,
        7,
        31,
        366,
        2026,
        2139,
        75001,
        20_261_117,
        10**8,
        1_795_219_200,
        1_795_219_200_000,
        10**14,
    ),
    *(2**31, -(2**31), 2**53 + 1, 2**62, 2**63 - 1, -(2**63), 10**12),
    *(
        0.0,
        -0.0,
        1.0,
        3.0,
        2.5,
        75001.0,
        2139.0,
        1e300,
        -1e300,
        float("inf"),
        float("-inf"),
        1795219200.25,
        1e14,
        9.3e18,
    ),
)
BYTES = (
    b"",
    b"\0",
    b"12",
    b"3",
    b"2026-11-17",
    b"sent",
    b"birthday",
    b"\xff\xfe\xfd",
    b"true",
    b"ann@example.org",
)
#: Values that the columns of one name are likely to read in a way of their own.
OF_COLUMN: dict[str, tuple[Value, ...]] = {
    "email": random_contacts.ODD_EMAILS,
    "zip_code": random_contacts.ODD_ZIPS,
    "birth_date": random_contacts.ODD_DATES,
    "effective_date": random_contacts.ODD_DATES,
    "failed_underwriting": random_contacts.ODD_TRUTHS,
    "status": (
        *random_contacts.ODD_STATUSES,
        *random_history.ODD_STATUSES,
        *random_campaigns.STATUSES,
    ),
    "target_states": (*random_campaigns.STATES, *random_campaigns.UNREADABLE_STATES),
    "target_carriers": random_campaigns.CARRIERS,
    "metadata": random_history.METADATA,
    "email_type": (
        *random_history.OTHER_TYPES,
        *random_history.FOLLOWUPS,
        *random_history.OWN_TYPES,
        "Birthday",
    ),
    **dict.fromkeys(
        random_contacts.OPT_OUT_COLUMNS,
        (*random_contacts.ODD_TRUTHS, *random_contacts.OPT_OUT_TIMES),
    ),
    **dict.fromkeys(
        (
            "active",
            "spread_evenly",
            "target_all_contacts",
            "respect_exclusion_windows",
            "enable_followups",
        ),
        random_contacts.ODD_TRUTHS,
    ),
}


def padded(value: Value, source: Random) -> Value:
    """Return a value as text with characters around it."""
    text = _text(value)
    before, after = source.choice(("", *SPACES)), source.choice(SPACES)
    return source.choice([before + text + after, text + after, before + text])


def corrupted(value: Value, source: Random) -> Value:
    """Return a value as a text with bytes that are not valid UTF-8."""
    text, bad = _text(value).encode(), source.choice(BAD_BYTES)
    return RawText(source.choice([text + bad, bad + text, text[:4] + bad + text[4:]]))


def retyped(value: Value, source: Random) -> Value:
    """Return a value as text, as a BLOB, and a number as INTEGER or REAL."""
    forms: list[Value] = [_text(value), _text(value).encode()]
    with suppress(ValueError):
        forms += [int(_text(value)), float(_text(value))] if abs(int(_text(value))) < 2**63 else []
    return source.choice(forms)


def recased(value: Value, source: Random) -> Value:
    """Return a value as text in another case."""
    text = _text(value)
    return source.choice([text.upper(), text.title(), text.swapcase(), text.lower()])


def redated(value: Value, source: Random) -> Value:
    """Return a date as unix time, in another format or with a time part."""
    try:
        day = date.fromisoformat(_text(value)[:10])
        noon = int(datetime(day.year, day.month, day.day, 18, tzinfo=UTC).timestamp())
    except ValueError:
        return padded(value, source)
    text = day.isoformat()
    forms: list[Value] = [
        *(
            noon,
            noon * 1000,
            str(noon),
            f"{noon}.75",
            float(noon),
            noon + 0.5,
            text + "T23:59:59Z",
            text + " ",
        ),
        *(
            f" {text}",
            text + " x" * 2000,
            text + "x",
            day.strftime("%m/%d/%Y"),
            text.replace("-", "/"),
            text[:-1],
        ),
        *(
            text + "T\0",
            int(text.replace("-", "")),
            text.encode(),
            text + "\xa0",
            RawText(text.encode() + b" \xe9"),
        ),
    ]
    return source.choice(forms)


def _text(value: Value) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return "" if value is None else str(value)


TRANSFORMATIONS: tuple[Callable[[Value, Random], Value], ...] = (
    padded,
    corrupted,
    retyped,
    recased,
    redated,
)


@dataclass(frozen=True)
class Column:
    """One column of the base organization."""

    table: str
    name: str


@dataclass
class OddOrganization:
    """A base with what is changed in it.

    cells: (column, row, value or how the cell's own is written).
    """

    base: int
    encoding: str
    declared: dict[Column, str]
    cells: list[tuple[Column, int, Any]]

    @property
    def as_of(self) -> date:
        """The date of the run."""
        return base_organization(self.base)[1]

    @property
    def overrides(self) -> dict[str, Any]:
        """The job's configuration."""
        return base_organization(self.base)[2]

    def write(self, path: Path) -> Path:
        """Write the organization's file."""
        tables = {table.name: _copy(table) for table in base_organization(self.base)[0]}
        for column, declared in self.declared.items():
            tables[column.table].columns[column.name] = declared
        for number, (column, row, change) in enumerate(self.cells):
            table = tables[column.table]
            if "PRIMARY KEY" in table.columns[column.name]:
                table.columns[column.name] = ""
            if table.rows:
                cells = table.rows[row % len(table.rows)]
                source = Random(number)
                cells[column.name] = (
                    change(cells[column.name], source) if callable(change) else change
                )
        with closing(sqlite3.connect(path)) as connection:
            connection.execute(f"PRAGMA encoding = '{self.encoding}'")
            for table in tables.values():
                _fill(connection, table)
            connection.commit()
        return path


def _copy(table: Table) -> Table:
    columns = {name: declared.replace(" NOT NULL", "") for name, declared in table.columns.items()}
    return Table(table.name, columns, [dict(row) for row in table.rows], table.constraints)


def _fill(connection: sqlite3.Connection, table: Table) -> None:
    declarations = [f"{name} {declared}" for name, declared in table.columns.items()]
    constraints = [table.constraints] if table.constraints else []
    connection.execute(f"CREATE TABLE {table.name} ({', '.join([*declarations, *constraints])})")
    for row in table.rows:
        marks = ["CAST(? AS TEXT)" if isinstance(value, RawText) else "?" for value in row.values()]
        values = [bytes(value) if isinstance(value, RawText) else value for value in row.values()]
        # A changed cell may repeat a key that the table has as unique.
        connection.execute(
            f"INSERT OR IGNORE INTO {table.name} VALUES ({', '.join(marks)})", values
        )


@lru_cache(maxsize=BASES)
def base_organization(number: int) -> tuple[list[Table], date, dict[str, Any]]:
    """Return the tables of a base organization, its date and its configuration."""
    source = Random(number)
    as_of = random_as_of(source)
    overrides = random_overrides(source) if source.random() < 0.5 else {}
    contacts = random_contacts.random_contacts(
        source, as_of, source.randint(3, 6), odd=0.0, odd_ids=number % 10 == 0
    )
    ids = [row["id"] for row in contacts.rows]
    campaigns = random_campaigns.random_campaigns(
        source, as_of, ids, odd=0.0, odd_ids=number % 10 == 1
    )
    types, instances, _ = campaigns
    if number % 3 == 0 and instances.rows:
        # A second type whose name differs in case alone.
        twin = {**types.rows[0], "name": str(types.rows[0]["name"]).swapcase()}
        types.rows.append(twin)
        instances.rows.append({**instances.rows[0], "id": 900, "campaign_type": twin["name"]})
    history = random_history.History(source, random_history.empty_schedules(source, 0.0))
    history.fill(as_of, ids, [row["id"] for row in instances.rows], 0.0)
    tables = [contacts, *campaigns, *random_history.random_engagement(source, as_of, ids, odd=0.0)]
    _add_plan(history, [*tables, history.table], as_of, overrides)
    return [*tables, history.table], as_of, overrides


def _add_plan(
    history: random_history.History, tables: list[Table], as_of: date, overrides: dict[str, Any]
) -> None:
    """Add the planned rows as they are, as a sender's and as failed ones, in equal parts."""
    script = "".join(table.script() for table in tables)
    for number, row in enumerate(RandomOrganization("base", script, as_of, overrides).plan().rows):
        content = row._asdict()
        for name in ("contact_id", "email_type", "scheduled_send_date", "parent_id"):
            content.pop(name)
        content["status"] = (row.status, row.status, "scheduled", "failed")[number % 4]
        history.add(row.contact_id, row.email_type, row.scheduled_send_date, **content)


def columns_of(number: int) -> list[Column]:
    """Return the columns of a base that are read or written, but for the row ids."""
    return [
        Column(table.name, name)
        for table in base_organization(number)[0]
        for name, declared in table.columns.items()
        if name != "id" or table.name == "campaign_instances"
    ]


CHANGES = st.one_of(
    st.sampled_from(TRANSFORMATIONS),
    st.sampled_from(TRANSFORMATIONS),
    st.sampled_from(WORDS),
    st.sampled_from(NUMBERS),
    st.sampled_from(BYTES),
    st.none(),
    st.text(max_size=12).filter(lambda text: not any("\ud800" <= c <= "\udfff" for c in text)),
    st.binary(max_size=12),
    st.binary(max_size=12).map(RawText),
)


@st.composite
def odd_organizations(draw: st.DrawFn) -> OddOrganization:
    """Return a strategy for organizations with odd values."""
    base = draw(st.integers(0, BASES - 1))
    columns = st.sampled_from(columns_of(base))
    cells = []
    for _ in range(draw(st.integers(1, 14))):
        column = draw(columns)
        change = draw(CHANGES)
        if column.name in OF_COLUMN and draw(st.booleans()):
            change = draw(st.sampled_from(OF_COLUMN[column.name]))
        cells.append((column, draw(st.integers(0, 40)), change))
    declared = draw(st.dictionaries(columns, st.sampled_from(AFFINITIES), max_size=8))
    return OddOrganization(base, draw(st.sampled_from(ENCODINGS)), declared, cells)
