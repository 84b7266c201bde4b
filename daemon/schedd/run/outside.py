"""The rows that no range of contact ids finds, handed to all processes of a run in its scratch folder."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from schedd.store.outside_rows import OutsideRows

from . import shared_arrays

_NAME = "outside"


def save_outside(folder: Path, rows: OutsideRows) -> None:
    """Leave the rows for the other processes."""
    arrays = {
        "row_id": rows.row_id,
        "contact_id": rows.contact_id,
        "exact": rows.exact,
        "nobody": rows.nobody,
    }
    shared_arrays.save(folder / _NAME, arrays, rows.converted)


def load_outside(folder: Path) -> OutsideRows:
    """Return the rows of a run."""
    info = (folder / _NAME).stat()
    return _load(folder, info.st_ino, info.st_mtime_ns)


@lru_cache(maxsize=1)
def _load(folder: Path, _inode: int, _changed_ns: int) -> OutsideRows:
    arrays, converted = shared_arrays.load(folder / _NAME)
    return OutsideRows(**arrays, converted=converted)
