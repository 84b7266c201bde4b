"""Dataclasses of numpy arrays in files that processes map into memory.

The processes of a job exchange their columns this way. `save` writes a dataclass, `load` maps the
file and returns the same dataclass. The files are in the job's scratch folder (in memory, if the
machine has such a folder). The pool removes the folder, so a killed process leaves nothing behind.

A field is an array, a dataclass of the same kind, such a dataclass or None, or a small value of any
type that msgspec can encode. A dataclass of arrays alone is an array field each.

    @dataclass
    class Dates:
        contact_id: NDArray[np.int64]
        dates: NDArray[np.int32]
        note: str

    save(path, Dates(np.arange(3), np.zeros(3, np.int32), "new"))
    load(path, Dates).note  # "new"
"""

from __future__ import annotations

import mmap
import os
import types
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import msgspec
import numpy as np
from numpy.typing import NDArray

#: Arrays begin at multiples of this number of bytes, a cache line of the processor.
_ALIGNMENT = 64
_LENGTH_BYTES = 8

_T = TypeVar("_T")


class _Column(msgspec.Struct, frozen=True, array_like=True):
    """One array of a file: its type as numpy writes it, elements, and offset in bytes."""

    dtype: str
    count: int
    offset: int


class _Header(msgspec.Struct, frozen=True, array_like=True):
    """The beginning of a file: its arrays and its values, in the order of the fields."""

    columns: list[_Column]
    values: list[msgspec.Raw]


@dataclass(frozen=True)
class _Field:
    """A field of a dataclass: an array, a dataclass (`nested`), or else a value of type `kind`."""

    name: str
    kind: Any
    is_array: bool = False
    nested: type | None = None
    optional: bool = False


@lru_cache
def _fields_of(kind: type) -> tuple[_Field, ...]:
    """Return the fields of a dataclass, by their annotations."""
    hints = get_type_hints(kind)
    return tuple(_field(field.name, hints[field.name]) for field in fields(kind))


def _field(name: str, kind: Any) -> _Field:
    if get_origin(kind) is np.ndarray:
        return _Field(name, kind, is_array=True)
    alternatives = get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    for item in alternatives:
        if isinstance(item, type) and is_dataclass(item):
            return _Field(name, kind, nested=item, optional=types.NoneType in alternatives)
    return _Field(name, kind)


def save(path: Path, data: object) -> None:
    """Write a dataclass of one-dimensional arrays and small values into a new file."""
    arrays: list[NDArray[Any]] = []
    values: list[msgspec.Raw] = []
    _collect(type(data), data, arrays, values)

    columns, offset = [], 0
    for array in arrays:
        columns.append(_Column(array.dtype.str, len(array), offset))
        offset += -(-array.nbytes // _ALIGNMENT) * _ALIGNMENT
    header = msgspec.msgpack.encode(_Header(columns, values))
    start = _first_array(len(header))

    with path.open("wb") as file:
        file.write(len(header).to_bytes(_LENGTH_BYTES, "little") + header)
        for array, column in zip(arrays, columns, strict=True):
            if len(array):
                file.seek(start + column.offset)
                file.write(np.ascontiguousarray(array).data.cast("B"))
        file.truncate(start + offset)


def _first_array(header_bytes: int) -> int:
    """Return the offset of the arrays in a file."""
    return -(-(_LENGTH_BYTES + header_bytes) // _ALIGNMENT) * _ALIGNMENT


def _collect(
    kind: type, data: object, arrays: list[NDArray[Any]], values: list[msgspec.Raw]
) -> None:
    """Append the arrays and the encoded values of a dataclass, in the order of its fields."""
    for field in _fields_of(kind):
        item = getattr(data, field.name)
        if field.is_array:
            arrays.append(item)
            continue
        if field.optional:
            values.append(msgspec.Raw(msgspec.msgpack.encode(item is not None)))
        if field.nested is None:
            values.append(msgspec.Raw(msgspec.msgpack.encode(item)))
        elif item is not None:
            _collect(field.nested, item, arrays, values)


def load(path: Path, kind: type[_T]) -> _T:
    """Map a file that `save` has written from a dataclass of this kind.

    Its arrays can be changed in place, which all processes that map the file see.
    """
    with path.open("r+b") as file:
        size = os.fstat(file.fileno()).st_size
        mapped = mmap.mmap(file.fileno(), size)
    length = int.from_bytes(mapped[:_LENGTH_BYTES], "little")
    header = msgspec.msgpack.decode(mapped[_LENGTH_BYTES : _LENGTH_BYTES + length], type=_Header)

    start = _first_array(length)
    arrays = (
        np.frombuffer(mapped, np.dtype(column.dtype), column.count, start + column.offset)
        for column in header.columns
    )
    data: _T = _build(kind, arrays, iter(header.values))
    return data


def _build(kind: Any, arrays: Iterator[NDArray[Any]], values: Iterator[msgspec.Raw]) -> Any:
    """Return a dataclass of the next arrays and values."""
    items: list[Any] = []
    for field in _fields_of(kind):
        if field.is_array:
            items.append(next(arrays))
        elif field.optional and not msgspec.msgpack.decode(next(values), type=bool):
            items.append(None)
        elif field.nested is not None:
            items.append(_build(field.nested, arrays, values))
        else:
            items.append(msgspec.msgpack.decode(next(values), type=field.kind))
    return kind(*items)
