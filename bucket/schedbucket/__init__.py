"""Organizations' files in a bucket, as docs/BUCKET.md specifies them.

Shared by the daemon, the client library and `schedctl bucket`. Imports only `schedproto`, msgspec,
numpy, zstandard and obstore: neither the daemon nor SQLite beyond Python's own.
"""

from __future__ import annotations

from schedproto import TransferStats

from .layouts import open_repository, open_store
from .lease import Lease
from .repository import OtherVersionError, Repository, VersionRef
from .settings import BucketSettings, S3Settings, load_settings
from .working_copy import WorkingCopy

__all__ = [
    "BucketSettings",
    "Lease",
    "OtherVersionError",
    "Repository",
    "S3Settings",
    "TransferStats",
    "VersionRef",
    "WorkingCopy",
    "load_settings",
    "open_repository",
    "open_store",
]
