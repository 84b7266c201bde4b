"""Packed integers: SQLite and numpy agree on every packing that they share."""

from __future__ import annotations

import datetime as dt
import doctest
import itertools
from typing import Any

import apsw
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedd.engine import calendar
from schedd.engine.calendar import NONE
from schedd.engine.packing import (
    NO_KEY,
    groups_of,
    pack_groups,
    pack_keys,
    pack_kinds,
    pack_state_types,
    unpack_kind,
    unpack_state_type,
)
from schedd.engine.rows import SKIP_REASONS
from schedd.engine.states import STATES
from schedd.store import blocks, packing
from schedd.store.blocks import Block, MisalignedError
from schedd.store.packing import (
    CODE,
    EVENT,
    EVENT_LIMIT,
    NO_EVENT,
    NOT_PLANNED,
    OTHER_REASON,
    REASON,
    REGULAR,
    ROW_DIGITS,
    STATUS,
    TYPES,
    UNKNOWN,
    BitField,
)

FIELDS = {"status": STATUS, "reason": REASON, "code": CODE, "regular": REGULAR}
EDGES = {
    "status": [0, 1, 5, 9],
    "reason": [0, 1, len(SKIP_REASONS) - 1, OTHER_REASON],
    "code": [0, 1, TYPES - 1, TYPES, NOT_PLANNED, UNKNOWN],
    "regular": [0, 1],
}


def table_of(columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> apsw.Connection:
    connection = apsw.Connection(":memory:")
    connection.execute(f"CREATE TABLE t({', '.join(columns)})")
    connection.executemany(f"INSERT INTO t VALUES ({', '.join('?' * len(columns))})", rows)
    return connection


def a_row(**values: Any) -> st.SearchStrategy[tuple[int, int, int, int]]:
    edges = [
        st.sampled_from(EDGES[name]) | st.integers(0, min(field.limit - 1, EDGES[name][-1]))
        for name, field in FIELDS.items()
    ]
    return st.tuples(*edges)


DATES = st.dates() | st.sampled_from(
    [dt.date.min, dt.date.max, dt.date(2000, 2, 29), dt.date(1970, 1, 1), dt.date(9999, 1, 31)]
)


@given(st.lists(st.tuples(a_row(), st.none() | DATES), min_size=1, max_size=40))
def test_sql_and_numpy_agree_on_rows(rows: list[Any]) -> None:
    """A row that SQLite packs comes out of numpy as it went in, as a number and as a text."""
    names = (*FIELDS, "year", "month", "day")
    dates = [(0, 0, 0) if date is None else (date.year, date.month, date.day) for _, date in rows]
    connection = table_of(
        names, [(*row, *date) for (row, _), date in zip(rows, dates, strict=True)]
    )
    code = f"{CODE.sql('code')} + {REGULAR.sql('regular')}"
    number = packing.row_sql(STATUS.sql("status"), REASON.sql("reason"), code)
    event = (
        f"CASE WHEN year > 0 THEN {packing.event_sql('year', 'month', 'day')} ELSE {NO_EVENT} END"
    )

    numbers = connection.execute(f"SELECT {number}, {event} FROM t").fetchall()
    [(text,)] = connection.execute(f"SELECT {blocks.text(f'{number} + {event}')} FROM t")
    without_event, events = np.array(numbers, np.int64).T
    found = [
        packing.unpack_rows(without_event, events),
        packing.unpack_row_texts(Block(text, len(rows), ROW_DIGITS)),
    ]

    ordinals = [NONE if date is None else calendar.ordinal(date) for _, date in rows]
    for fields in found:
        for name, column in zip(FIELDS, zip(*(row for row, _ in rows), strict=True), strict=True):
            assert getattr(fields, name).astype(int).tolist() == list(column), name
        assert fields.event.tolist() == events.tolist()
        assert packing.unpack_events(fields.event).tolist() == ordinals


@given(st.lists(DATES, min_size=1, max_size=40))
def test_sql_and_numpy_agree_on_events(dates: list[dt.date]) -> None:
    """An event date that numpy packs is the number that SQLite packs, and fits its field."""
    ordinals = np.array([calendar.ordinal(date) for date in dates], np.int32)
    packed = packing.pack_event(*calendar.parts(ordinals))
    connection = table_of(("y", "m", "d"), [(d.year, d.month, d.day) for d in dates])
    stored = connection.execute(f"SELECT {packing.event_sql('y', 'm', 'd')} FROM t").fetchall()
    assert packed.tolist() == [number for (number,) in stored]
    assert (packed > NO_EVENT).all()
    assert (packed < EVENT_LIMIT).all()
    assert packing.unpack_events(packed).tolist() == ordinals.tolist()


def test_unreal_event_dates() -> None:
    """A day that a month does not have has its own number, which is not a date."""
    years, months, days = (
        np.array(part) for part in zip((2026, 2, 30), (2025, 2, 29), (2026, 4, 31), strict=True)
    )
    packed = packing.pack_event(years, months, days)
    assert len(set(packed.tolist()) | {NO_EVENT}) == 4
    assert packing.unpack_events(packed).tolist() == [NONE] * 3


@pytest.mark.parametrize("year", [2026.5, 2026.0])
def test_spoiled_number(year: float) -> None:
    """A REAL in a column of the event date is noticed: its number has a fraction."""
    connection = table_of(("year",), [(year,)])
    number = packing.row_sql("0", "0", CODE.sql("7"))
    event = packing.event_sql("year", "1", "1")
    [(text,)] = connection.execute(f"SELECT {blocks.text(f'{number} + {event}')} FROM t")
    with pytest.raises(MisalignedError):
        packing.unpack_row_texts(Block(text, 1, ROW_DIGITS))


def test_fields_do_not_overlap() -> None:
    """The fields of a row follow each other without a gap, and every value fits."""
    fields = (EVENT, REGULAR, CODE, REASON, STATUS)
    assert [field.exponent for field in fields] == [0, 7, 8, 14, 17]
    for field, following in itertools.pairwise(fields):
        assert field.exponent + field.digits == following.exponent
    assert STATUS.exponent + STATUS.digits + 1 == ROW_DIGITS
    assert len(SKIP_REASONS) <= OTHER_REASON < REASON.limit
    assert CODE.limit > UNKNOWN


@given(st.data())
def test_bit_fields(data: st.DataObject) -> None:
    """SQLite reads from an integer what numpy put into each of its fields."""
    widths = data.draw(st.lists(st.integers(1, 20), min_size=1, max_size=3))
    fields, shift = [], 0
    for bits in widths:
        fields.append(BitField(shift, bits))
        shift += bits
    number = st.tuples(
        *(st.sampled_from([0, f.limit - 1]) | st.integers(0, f.limit - 1) for f in fields)
    )
    rows = data.draw(st.lists(number, min_size=1, max_size=30))
    columns = np.array(rows, np.int64).T
    packed = np.zeros(len(rows), np.int64)
    for field, column in zip(fields, columns, strict=True):
        packed |= field.put(column)

    connection = table_of(("v",), [(value,) for value in packed.tolist()])
    for field, column in zip(fields, columns, strict=True):
        assert field.of(packed).tolist() == column.tolist()
        stored = connection.execute(f"SELECT {field.sql('v')} FROM t").fetchall()
        assert [value for (value,) in stored] == column.tolist()


KEYS = st.tuples(
    st.integers(0, (1 << 21) - 1),
    st.integers(0, (1 << 20) - 1),
    st.integers(calendar.FIRST, calendar.LAST),
)


@given(st.lists(KEYS | st.just((0, 0, calendar.FIRST)), min_size=1, max_size=40))
def test_keys_sort_as_their_parts(rows: list[tuple[int, int, int]]) -> None:
    """Keys are in the order of (contact, type, date), never `NO_KEY`, and have their groups."""
    contact, number, date = np.array(rows, np.int64).T
    keys = pack_keys(contact, number, date)
    assert np.argsort(keys, kind="stable").tolist() == sorted(
        range(len(rows)), key=rows.__getitem__
    )
    assert (keys > NO_KEY).all()
    assert groups_of(keys).tolist() == pack_groups(contact, number).tolist()
    assert groups_of(np.array([NO_KEY])).tolist() == [NO_KEY]


@given(st.integers(0, 100_000), st.sampled_from(range(len(SKIP_REASONS))))
def test_kinds(row_class: int, reason: int) -> None:
    """A kind has its class and its reason."""
    kinds = pack_kinds(np.array([row_class], np.int32), np.array([reason], np.int16))
    assert unpack_kind(int(kinds[0])) == (row_class, reason)


@given(st.sampled_from(range(len(STATES))), st.integers(1, 5000), st.data())
def test_state_types(state: int, types: int, data: st.DataObject) -> None:
    """A packed state and type has both."""
    number = data.draw(st.integers(0, types - 1))
    packed = pack_state_types(np.array([state], np.int8), np.array([number], np.int32), types)
    assert unpack_state_type(int(packed[0]), types) == (state, number)


def test_examples() -> None:
    """The examples in the docstrings are right."""
    assert doctest.testmod(packing, extraglobs={"np": np}).failed == 0
