"""The volume as a cache of the bucket.

Copies that were not used for longest go first, and only clean ones.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

from schedproto.layout import database_path, replica_folders

from .location import ReplicaPlace

#: A job needs room for so many times the file: its copy, what it was before, and what is fetched or
#: sent.
ROOM = 3


def _used(place: ReplicaPlace) -> Iterator[tuple[float, str, int]]:
    """Yield (when it was used last, organization, bytes) of every copy on the volume."""
    data = Path(place.data)
    for folder in replica_folders(data):
        with suppress(OSError):
            size = database_path(data, folder.name).stat().st_size
            yield (folder / "state.json").stat().st_mtime, folder.name, size


def make_room(place: ReplicaPlace, organization: str, size_bytes: int) -> list[str]:
    """Remove copies until a file of so many bytes has its place.

    Returns the organizations that had to go.

    A copy in use, or one with changes that the bucket does not have, is left alone: it may then be
    too little.
    """
    copies = sorted(_used(place))
    total = sum(size for _, name, size in copies if name != organization) + size_bytes
    gone = []
    for _, name, size in copies:
        stats = os.statvfs(place.data)
        short = stats.f_bavail * stats.f_frsize < size_bytes * ROOM
        if not short and not 0 < place.cache_bytes < total:
            break
        if name == organization:
            continue
        with ExitStack() as stack:
            copy = place.copy(name, lambda _path: None)
            try:
                stack.enter_context(copy.locked(wait=False))
            except BlockingIOError:
                continue
            if copy.evict():
                total -= size
                gone.append(name)
    return gone
