"""Packed integers that SQLite and numpy share: event dates, existing rows, bit fields.

SQLite reduces each existing row of `email_schedules` to one number, and unpacks the rows that it
writes from one number each. Each field is defined once here, with its SQL and its numpy side.
`engine.packing` has the packings that SQLite never sees.

>>> FIELD = DecimalField(exponent=2, digits=3)
>>> FIELD.of(np.array([12_345_67]))
array([345])
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schedd.engine import calendar
from schedd.engine.calendar import NONE, Ordinals

from .blocks import Block, MisalignedError

# Event dates -------------------------------------------------------------------------------------

#: Months of 31 days and years of 12 such months: a packed event date is in the order of the
#: calendar, and a date that does not exist, such as 30 February, still has its own number.
_MONTH, _YEAR = 31, 372
#: The packed event date of a row without one. Year 1 begins at 404, so no real date has it.
NO_EVENT = 0


def pack_event(year: NDArray[Any], month: NDArray[Any], day: NDArray[Any]) -> NDArray[Any]:
    """Return event dates packed into one number each."""
    packed: NDArray[Any] = year * _YEAR + month * _MONTH + day
    return packed


def event_sql(year: str, month: str, day: str) -> str:
    """Return the SQL of `pack_event`, from the SQL of its three parts."""
    return f"{year} * {_YEAR} + {month} * {_MONTH} + {day}"


def unpack_events(events: NDArray[Any]) -> Ordinals:
    """Return the ordinals of packed event dates, `NONE` for `NO_EVENT` and for unreal dates."""
    # Months and days count from 1. Counted from 0, they are remainders.
    from_zero = events - (_MONTH + 1)
    years, days = from_zero // _YEAR, from_zero % _YEAR
    ordinals = calendar.ordinal_of_parts(years, days // _MONTH + 1, days % _MONTH + 1)
    return np.where(events > NO_EVENT, ordinals, NONE).astype(np.int32)


# Existing rows -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class DecimalField:
    """A field of a decimal number: `digits` digits, before the last `exponent` ones.

    Existing rows are packed in decimal, not in bits: SQLite writes the number of each row as text,
    and numpy reads a field from its characters without parsing the rest.
    """

    exponent: int
    digits: int

    @property
    def _unit(self) -> int:
        unit: int = 10**self.exponent
        return unit

    @property
    def limit(self) -> int:
        """Return the first number that does not fit."""
        limit: int = 10**self.digits
        return limit

    def weighted(self, value: int) -> int:
        """Return a constant value of the field as a summand of the number."""
        return value * self._unit

    def sql(self, expression: str) -> str:
        """Return the SQL of a value of the field as a summand of the number."""
        return f"({expression}) * {self._unit}"

    def of(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the field's value in each number."""
        values: NDArray[np.int64] = numbers // self._unit % self.limit
        return values

    def read(self, texts: Block) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return the field in each text of `ROW_DIGITS` characters, and which are digits."""
        end = ROW_DIGITS - self.exponent
        return texts.number(end - self.digits, end)

    def read_digit(self, texts: Block) -> NDArray[np.uint8]:
        """Return the value of a field of one digit in each text."""
        return texts.column(ROW_DIGITS - self.exponent - 1) - np.uint8(ord("0"))


#: The fields of an existing row, from the right: packed event date; 1 if all other columns are as
#: in a new row; class or type; number of the skip reason; status. A leading 1 keeps the width.
EVENT = DecimalField(0, 7)
REGULAR = DecimalField(7, 1)
CODE = DecimalField(8, 6)
REASON = DecimalField(14, 3)
STATUS = DecimalField(17, 1)
_LEADING = DecimalField(18, 1)
ROW_DIGITS = 19
#: Packed event dates are below this number.
EVENT_LIMIT = EVENT.limit

# Values of `CODE`: a class; from `TYPES` on, a type of the run without a class; a type that is
# known but not planned by this run; anything else, which is evaluated in Python.
TYPES, NOT_PLANNED, UNKNOWN = 900_000, 999_998, 999_999
#: The value of `REASON` for a text that is none of `SKIP_REASONS`.
OTHER_REASON = 999


def row_sql(status: str, reason: str, code: str) -> str:
    """Return the SQL of an existing row without its event date, from the SQL of its summands.

    status, reason, code: summands made by `weighted` or `sql`; `code` includes `REGULAR`.
    """
    return f"{_LEADING.weighted(1)} + {status} + {reason} + {code}"


@dataclass
class RowFields:
    """The fields of some existing rows, one element a row; `event` is `NO_EVENT` for none."""

    status: NDArray[Any]
    reason: NDArray[np.int64]
    code: NDArray[np.int64]
    regular: NDArray[np.bool_]
    event: NDArray[np.int64]


def unpack_rows(without_event: NDArray[np.int64], event: NDArray[np.int64]) -> RowFields:
    """Return the fields of numbers that came without their event dates."""
    return RowFields(
        status=STATUS.of(without_event),
        reason=REASON.of(without_event),
        code=CODE.of(without_event),
        regular=REGULAR.of(without_event) == 1,
        event=event,
    )


def unpack_row_texts(texts: Block) -> RowFields:
    """Return the fields of numbers that came as texts.

    Raises `MisalignedError` if an event column has damaged a number: a value that is not an
    integer turns the sum into a REAL, whose text has other characters in its last digits.
    """
    event, clean = EVENT.read(texts)
    if not clean.all():
        raise MisalignedError
    return RowFields(
        status=STATUS.read_digit(texts),
        reason=REASON.read(texts)[0],
        code=CODE.read(texts)[0],
        regular=REGULAR.read_digit(texts) == 1,
        event=event,
    )


def pack_contents(kinds: NDArray[np.int64], event: NDArray[Any]) -> NDArray[np.int64]:
    """Return what a row says besides its key as one number, to be compared.

    kinds: as `engine.packing.pack_kinds`.   event: packed event dates.
    """
    contents: NDArray[np.int64] = kinds * EVENT_LIMIT + event
    return contents


# Bit fields --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BitField:
    """`bits` bits of a 64-bit integer, `shift` bits from its right end.

    >>> day = BitField(shift=40, bits=22)
    >>> int(day.of(day.put(np.array([7])) | 3)[0]), day.sql("v")
    (7, '((v >> 40) & 4194303)')
    """

    shift: int
    bits: int

    @property
    def limit(self) -> int:
        """Return the first number that does not fit."""
        return 1 << self.bits

    def put(self, values: NDArray[Any]) -> NDArray[np.int64]:
        """Return values at their place in the integer."""
        return values.astype(np.int64, copy=False) << self.shift

    def of(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the field's value in each integer."""
        return (numbers >> self.shift) & (self.limit - 1)

    def sql(self, expression: str) -> str:
        """Return the SQL of the field's value in an integer."""
        return f"(({expression} >> {self.shift}) & {self.limit - 1})"
