"""Interface of an object store, its errors, and helpers for files.

A folder (`folder_store`) and an S3 bucket (`s3_store`) implement it; one contract test covers both.

A store may repeat reads, and writes without a condition. It must never repeat a conditional write:
the second attempt would meet the first one's success. The caller reads the object instead.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

from schedproto import ErrorCode, SchedulerError, sqlite_files

_STEP_BYTES = 1 << 20
_COPY_BYTES = 64 << 20


class MissingObjectError(Exception):
    """No object of this name exists.

    Example:

        with suppress(MissingObjectError):
            data, info = store.get("orgs/org-123/head.json")
    """


class ConditionFailedError(Exception):
    """A conditional write was not done, or its caller's own earlier attempt was.

    The object has another ETag than the condition names, or another write was in progress. The
    caller reads the object to find out.

        try:
            store.put("orgs/org-123/head.json", data, Condition(info.etag))
        except ConditionFailedError:
            ...  # another writer has replaced the object: read it again
    """


@dataclass(frozen=True)
class ObjectInfo:
    """An object without its content.

    etag: opaque; changes with every write.   modified: time of the last write, by the store's
    clock.
    """

    key: str
    size_bytes: int
    etag: str
    modified: datetime
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Condition:
    """Condition of a write: the object has this ETag, or, for None, does not exist.

    Example:

        etag = store.put("a", b"1", Condition(None))      # create
        store.put("a", b"2", Condition(etag))             # replace what was just written
    """

    etag: str | None


class ObjectStore(Protocol):
    """Objects by name. Every call blocks, and may raise `SchedulerError`.

    Codes: `bucket_unreachable` (a retry may help) and `bucket_denied` (it does not).

        store = open_store(settings)
        store.put_file("orgs/org-1/00000001-ab.snapshot.zst", path)
        data, info = store.get("orgs/org-1/head.json")
    """

    def describe(self) -> str:
        """Return the store's name for messages."""

    def get(self, key: str) -> tuple[bytes, ObjectInfo]:
        """Return a small object. Raises `MissingObjectError`."""

    def get_file(self, key: str, path: Path) -> ObjectInfo:
        """Download an object to a new file; resumes interrupted downloads.

        Raises `MissingObjectError`, or `ConditionFailedError` if the object was replaced during the
        download.
        """

    def head(self, key: str) -> ObjectInfo:
        """Return an object's size, ETag, time and metadata. Raises `MissingObjectError`."""

    def put(
        self, key: str, data: bytes, condition: Condition, metadata: dict[str, str] | None = None
    ) -> str:
        """Write a small object and return its ETag. Raises `ConditionFailedError`."""

    def put_file(
        self,
        key: str,
        path: Path,
        condition: Condition | None = None,
        metadata: dict[str, str] | None = None,
    ) -> str:
        """Write a file as an object and return its ETag. Raises `ConditionFailedError`."""

    def delete(self, key: str) -> None:
        """Delete an object if it exists."""

    def objects(self, prefix: str) -> list[ObjectInfo]:
        """Return the objects below a prefix that ends with a slash, by name, without metadata."""

    def names(self, prefix: str) -> list[str]:
        """Return the next path component of all objects below a prefix, sorted."""


def digest_of_bytes(data: bytes) -> str:
    """Return the SHA-256 of bytes in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def digest_of(path: Path) -> str:
    """Return a file's SHA-256 in hexadecimal."""
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(_STEP_BYTES))
    with path.open("rb", buffering=0) as file:
        while got := file.readinto(buffer):
            digest.update(buffer[:got])
    return digest.hexdigest()


def duplicate(source: Path, target: Path) -> None:
    """Copy a file to a new one; the kernel shares its blocks if the file system can."""
    with source.open("rb") as old, target.open("xb") as new:
        sqlite_files.copy_content(old.fileno(), new.fileno(), os.fstat(old.fileno()).st_size)


def unreachable(where: str, reason: str) -> SchedulerError:
    """Return the error of a store that does not answer, or not usefully."""
    return SchedulerError(
        ErrorCode.BUCKET_UNREACHABLE,
        f"cannot reach {where}: {reason}",
        hint="Retry later; nothing was changed. "
        "Check with `schedctl bucket list` whether the bucket answers.",
        details={"bucket": where},
    )


def uncertain(error: SchedulerError) -> SchedulerError:
    """Return the error of a store that stopped answering during a write; it may be done."""
    return SchedulerError(
        error.code,
        f"{error.message}; it is unknown whether the last write arrived",
        hint="Submit it again: the next job continues from that write or repeats it.",
        details=error.details,
    )


def denied(where: str, reason: str, hint: str = "") -> SchedulerError:
    """Return the error of a store that refuses a request."""
    return SchedulerError(
        ErrorCode.BUCKET_DENIED,
        f"{where} denied access: {reason}",
        hint=hint
        or "Check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, BUCKET_NAME and "
        "AWS_ENDPOINT_URL_S3 (docs/BUCKET.md).",
        details={"bucket": where},
    )


def damaged(key: str, reason: str) -> SchedulerError:
    """Return the error of an object whose content is not what was written."""
    return SchedulerError(
        ErrorCode.BUCKET_DAMAGED,
        f"the object {key} is damaged: {reason}",
        hint="Retry. If it persists, publish an older version as the newest "
        "(`schedctl bucket history`, `restore`).",
        details={"key": key},
    )
