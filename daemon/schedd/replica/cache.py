"""The volume as a cache of the bucket: removal of the least recently used intact copies."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

from schedproto.layout import database_path, replica_folders

from .location import BucketLocation

#: A job needs space for this many times the file: its copy, the base of a patch, and what is
#: fetched or sent.
SPACE_FACTOR = 3


def _copies(location: BucketLocation) -> Iterator[tuple[float, str, int]]:
    """Yield (time of last use, organization, bytes) of every copy on the volume."""
    data = Path(location.data)
    for folder in replica_folders(data):
        with suppress(OSError):
            size = database_path(data, folder.name).stat().st_size
            yield (folder / "state.json").stat().st_mtime, folder.name, size


def make_room(location: BucketLocation, organization: str, size_bytes: int) -> list[str]:
    """Remove copies until there is space for a file of this size; return their organizations.

    Copies that are in use, or have changes that the bucket does not have, are kept, so there may
    still be too little space.
    """
    copies = sorted(_copies(location))
    total = sum(size for _, name, size in copies if name != organization) + size_bytes
    removed = []
    for _, name, size in copies:
        stats = os.statvfs(location.data)
        short = stats.f_bavail * stats.f_frsize < size_bytes * SPACE_FACTOR
        if not short and not 0 < location.cache_bytes < total:
            break
        if name == organization:
            continue

        with ExitStack() as stack:
            copy = location.copy(name, lambda _path: None)
            try:
                stack.enter_context(copy.locked(wait=False))
            except BlockingIOError:
                continue
            if copy.evict():
                total -= size
                removed.append(name)
    return removed
