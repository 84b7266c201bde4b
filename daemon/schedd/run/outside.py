"""The rows whose contact id is in no range, shared with all processes of a run."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from schedd.store.outside_rows import OutsideRows

from . import shared_arrays

_NAME = "outside"


def save_outside(folder: Path, rows: OutsideRows) -> None:
    """Write the rows for the other processes."""
    shared_arrays.save(folder / _NAME, rows)


def load_outside(folder: Path) -> OutsideRows:
    """Return the rows of a run; the last run's are kept."""
    info = (folder / _NAME).stat()
    return _load(folder, info.st_ino, info.st_mtime_ns)


@lru_cache(maxsize=1)
def _load(folder: Path, _inode: int, _changed_ns: int) -> OutsideRows:
    return shared_arrays.load(folder / _NAME, OutsideRows)
