"""An organization's file in a bucket: what docs/BUCKET.md describes, for all who take part.

Imports only `schedproto`, msgspec, numpy, zstandard and obstore: neither the daemon nor SQLite beyond Python's own.
"""

from __future__ import annotations

from .copies import Copy, Moved
from .lease import Lease
from .repository import Repository, open_repository
from .settings import BucketSettings, load_settings

__all__ = ["BucketSettings", "Copy", "Lease", "Moved", "Repository", "load_settings", "open_repository"]
