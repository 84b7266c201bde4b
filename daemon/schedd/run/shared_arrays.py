"""Named arrays in one file, mapped into memory.

How big columns travel between the processes of a job.

The files lie in the job's scratch folder (memory-backed where the machine has that), so nothing has
to be cleaned up in a process that is killed: the pool removes the folder.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

_ALIGNMENT = 64
_LENGTH_BYTES = 8


def save(path: Path, arrays: Mapping[str, NDArray[Any]], extra: Any = None) -> None:
    """Write arrays and a small value that MessagePack can hold into a new file."""
    index, offset = {}, 0
    for name, array in arrays.items():
        index[name] = (array.dtype.str, len(array), offset)
        offset += -(-array.nbytes // _ALIGNMENT) * _ALIGNMENT
    head = msgspec.msgpack.encode((index, extra))
    start = -(-(_LENGTH_BYTES + len(head)) // _ALIGNMENT) * _ALIGNMENT
    with path.open("wb") as file:
        file.write(len(head).to_bytes(_LENGTH_BYTES, "little") + head)
        for name, array in arrays.items():
            file.seek(start + index[name][2])
            file.write(np.ascontiguousarray(array).data.cast("B") if len(array) else b"")
        file.truncate(start + offset)


def load(path: Path) -> tuple[dict[str, NDArray[Any]], Any]:
    """Map a file.

    Its arrays, which can be changed in place for all processes, and the small value.
    """
    with path.open("r+b") as file:
        size = os.fstat(file.fileno()).st_size
        mapped = mmap.mmap(file.fileno(), size)
    length = int.from_bytes(mapped[:_LENGTH_BYTES], "little")
    index, extra = msgspec.msgpack.decode(mapped[_LENGTH_BYTES : _LENGTH_BYTES + length])
    start = -(-(_LENGTH_BYTES + length) // _ALIGNMENT) * _ALIGNMENT
    arrays = {
        name: np.frombuffer(mapped, np.dtype(kind), count, start + offset)
        for name, (kind, count, offset) in index.items()
    }
    return arrays, extra
