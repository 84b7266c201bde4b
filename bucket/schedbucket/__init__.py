"""An organization's file in a bucket: what docs/BUCKET.md describes, for all who take part.

Imports only `schedproto`, msgspec, numpy, zstandard and obstore: neither the daemon nor SQLite
beyond Python's own.
"""

from __future__ import annotations

from .layouts import open_repository, open_store
from .lease import Lease
from .repository import Repository
from .settings import BucketSettings, load_settings
from .working_copy import Copy, Moved

__all__ = [
    "BucketSettings",
    "Copy",
    "Lease",
    "Moved",
    "Repository",
    "load_settings",
    "open_repository",
    "open_store",
]
