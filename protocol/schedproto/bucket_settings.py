"""The settings of the bucket that the daemon and `schedbucket` have in common.

Each function returns a new dataclass field (see `settings.setting`), so that both tables agree.
"""

from __future__ import annotations

from typing import Any

from .settings import choice, number, path, setting

LAYOUTS = ("versions", "plain")
DEFAULT_TIMEOUT_S = 120.0


def folder_field() -> Any:
    """Return the field of the folder that replaces a bucket."""
    return setting(
        None,
        path,
        "a folder",
        "Folder to use instead of a bucket. To use a bucket, set BUCKET_NAME, "
        "AWS_ENDPOINT_URL_S3, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION, "
        "as `fly storage create` does (docs/BUCKET.md).",
    )


def layout_field() -> Any:
    """Return the field of the storage layout."""
    return setting(
        LAYOUTS[0],
        choice(*LAYOUTS),
        "versions or plain",
        "Storage layout in the bucket. versions: snapshots and patches; plain: one SQLite file.",
    )


def timeout_field() -> Any:
    """Return the field of a request's timeout."""
    return setting(
        DEFAULT_TIMEOUT_S,
        number(1, 3600),
        "seconds, 1 to 3600",
        "Timeout of one request to the bucket, including its data.",
    )
