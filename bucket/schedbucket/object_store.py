"""What is asked of a place for objects.

A folder and an S3 bucket both do it, under one contract test.

Reads and writes of objects that never change may be repeated by the store itself. A conditional
write is never repeated by it, as the second try would meet the first one's success: its caller
looks at the object instead.
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


class MissingObjectError(Exception):
    """There is no object of this name."""


class ConditionFailedError(Exception):
    """A conditional write met another object than the one it was meant for (or what an own earlier write made)."""


@dataclass(frozen=True)
class Stored:
    """An object as the store has it. etag: changes with every write; opaque.

    modified: by the store's own clock.
    """

    key: str
    size_bytes: int
    etag: str
    modified: datetime
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Condition:
    """Write only if the object still is the one with this ETag; None: only if there is none."""

    etag: str | None


class ObjectStore(Protocol):
    """Objects by name.

    Every call may raise `SchedulerError` (`bucket_unreachable`, `bucket_denied`).
    """

    def describe(self) -> str:
        """Return what people call this place."""

    def get(self, key: str) -> tuple[bytes, Stored]:
        """Return a small object. Raises `MissingObjectError`."""

    def get_file(self, key: str, path: Path) -> Stored:
        """Write an object to a new file, piece by piece; what is cut off is resumed.

        Raises `MissingObjectError`, or `ConditionFailedError` where the object was replaced
        meanwhile.
        """

    def look(self, key: str) -> Stored:
        """Return what is known of an object, without its content. Raises `MissingObjectError`."""

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
        """Remove an object; one that is not there is none."""

    def objects(self, prefix: str) -> list[Stored]:
        """Return the objects below a prefix that ends with a slash, in order of their names, without metadata."""

    def names(self, prefix: str) -> list[str]:
        """Return the names that follow a prefix immediately.

        Objects and folders of objects, in order.
        """


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
    """Copy a file to a new one, as blocks that the kernel may share where the file system can."""
    with source.open("rb") as old, target.open("xb") as new:
        sqlite_files.copy_content(old.fileno(), new.fileno(), os.fstat(old.fileno()).st_size)


def unreachable(where: str, why: str) -> SchedulerError:
    """Return the error of a store that does not answer, or not usefully."""
    return SchedulerError(
        ErrorCode.BUCKET_UNREACHABLE,
        f"cannot reach {where}: {why}",
        hint="Retry later; nothing was changed. Check with `schedctl bucket list` whether the bucket answers.",
        details={"bucket": where},
    )


def uncertain(error: SchedulerError) -> SchedulerError:
    """Return the error of a store that stopped answering when a write was on its way.

    It may have happened.
    """
    return SchedulerError(
        error.code,
        f"{error.message}; it is unknown whether the last write arrived",
        hint="Submit it again: the next job continues from that write or repeats it.",
        details=error.details,
    )


def denied(where: str, why: str) -> SchedulerError:
    """Return the error of a store that refuses what is asked."""
    hint = "Check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, BUCKET_NAME and AWS_ENDPOINT_URL_S3 (docs/BUCKET.md)."
    if "RequestTimeTooSkewed" in why:
        hint = "Set this machine's clock: the server rejects requests whose signature is minutes off its own time."
    return SchedulerError(
        ErrorCode.BUCKET_DENIED,
        f"{where} denied access: {why}",
        hint=hint,
        details={"bucket": where},
    )


def damaged(key: str, why: str) -> SchedulerError:
    """Return the error of an object that is not what it was when it was written."""
    return SchedulerError(
        ErrorCode.BUCKET_DAMAGED,
        f"the object {key} is damaged: {why}",
        hint="Retry. If it persists, publish an older version as the newest (`schedctl bucket history`, `restore`).",
        details={"key": key},
    )
