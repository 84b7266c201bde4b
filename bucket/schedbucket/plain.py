"""Layout `plain`: one SQLite file per organization that any tool can open.

The file is replaced completely, by a conditional write. The lease is in a document next to it. The
condition of the write is the version that was fetched under the lease, so a writer that has lost
its lease cannot replace what a later one has written.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from pathlib import Path

from schedproto import ErrorCode, SchedulerError

from .head import Entry, HeadDocument, LeaseState
from .lease import ExclusiveWait, Lease, time_text
from .object_store import (
    Condition,
    ConditionFailedError,
    MissingObjectError,
    ObjectInfo,
    ObjectStore,
    digest_of,
    uncertain,
    unreachable,
)
from .repository import ROOT, OtherVersionError, VersionRef, verify

SUFFIX = ".db"
#: Attempts of a replacement that gets no answer, or meets another write in progress.
TRIES, _PAUSE_S = 4, 0.2


class PlainRepository:
    """One organization in the layout `plain`; see `repository.Repository`.

    Example:

        repository = PlainRepository(open_store(settings), "org-123")
        label = repository.newest().label  # the object's ETag
    """

    def __init__(self, store: ObjectStore, organization: str) -> None:
        self.store, self.organization = store, organization
        self._key = f"{ROOT}{organization}{SUFFIX}"
        self.head_document = HeadDocument(store, f"{ROOT}{organization}.lease.json", organization)

    def newest(self, *, cached: bool = False) -> VersionRef | None:  # noqa: ARG002 - nothing is cached
        """Return the only version."""
        info = self._info()
        return None if info is None else _ref(info)

    def history(self) -> list[Entry]:
        """Return the only version."""
        info = self._info()
        if info is None:
            return []
        sha256 = info.metadata.get("sha256", "")
        return [
            Entry(
                version=0,
                kind="whole",
                key=self._key,
                stored_bytes=info.size_bytes,
                stored_sha256=sha256,
                size_bytes=info.size_bytes,
                sha256=sha256,
                write_id=info.metadata.get("write-id", ""),
                created_at=time_text(info.modified),
                created_by=info.metadata.get("created-by", ""),
            )
        ]

    def lease(self) -> LeaseState | None:
        """Return the lease, None if nobody has it."""
        return self.head_document.read().lease

    def fetch(
        self,
        wanted: VersionRef,
        have: VersionRef | None,  # noqa: ARG002 - the file is fetched completely
        local_file: Path | None,  # noqa: ARG002
        target: Path,
    ) -> int:
        """Download the file if it still is the version that is wanted."""
        try:
            info = self.store.get_file(self._key, target)
        except (MissingObjectError, ConditionFailedError):
            raise OtherVersionError from None
        if info.etag != wanted.label:
            raise OtherVersionError
        if target.stat().st_size != info.size_bytes:
            raise unreachable(self.store.describe(), f"{self._key} was truncated")
        verify(target, self._key, info.size_bytes, info.metadata.get("sha256", ""))
        return info.size_bytes

    def publish(
        self,
        new: Path,
        base_file: Path | None,  # noqa: ARG002 - the file is sent completely
        base: VersionRef | None,
        work: Path,  # noqa: ARG002
        *,
        lease: Lease | None = None,
        release: bool = False,
        by: str = "",
        note: str = "",  # noqa: ARG002 - there is no history that could have it
        check: Callable[[], None] = lambda: None,
    ) -> tuple[VersionRef, int]:
        """Replace the file if it still is `base`."""
        sha256 = digest_of(new)
        if base is not None and sha256 == base.sha256:
            return base, 0
        # Checked before the upload as well, because the file is sent completely.
        newest = self.newest()
        if (newest and newest.label) != (base and base.label):
            raise OtherVersionError
        write_id = secrets.token_hex(8)
        metadata = {"sha256": sha256, "write-id": write_id}
        if by.isascii():
            metadata["created-by"] = by

        condition = Condition(None if base is None else base.label)
        published = self._replace(new, condition, metadata, lease, check)
        if lease is not None and release:
            lease.release()
        return _ref(published), new.stat().st_size

    def _replace(
        self,
        new: Path,
        condition: Condition,
        metadata: dict[str, str],
        lease: Lease | None,
        check: Callable[[], None],
    ) -> ObjectInfo:
        """Replace the file and return the object; repeats a write that had no effect."""
        exclusive = ExclusiveWait(self.head_document, check)
        last_error: SchedulerError | None = None
        for number in range(TRIES):
            if number:
                time.sleep(_PAUSE_S * number)
            check()
            if lease is not None:
                lease.check(self.head_document.read())
            else:
                exclusive.wait()

            last_error = self._put(new, condition, metadata)
            # Read after a success, too: the object's ETag is the version's label.
            info = self._info_after(last_error)
            if info is not None and info.metadata.get("write-id") == metadata["write-id"]:
                return info
            if (None if info is None else info.etag) != condition.etag:
                raise OtherVersionError
        raise last_error or unreachable(self.store.describe(), "a conditional write had no effect")

    def _put(
        self, new: Path, condition: Condition, metadata: dict[str, str]
    ) -> SchedulerError | None:
        """Send the file, or return the error after which it is unknown whether it arrived."""
        try:
            self.store.put_file(self._key, new, condition, metadata)
        except ConditionFailedError:
            return None  # the next read tells who was faster, perhaps our own first attempt
        except SchedulerError as error:
            if error.code != ErrorCode.BUCKET_UNREACHABLE:
                raise
            return error
        return None

    def _info(self) -> ObjectInfo | None:
        try:
            return self.store.head(self._key)
        except MissingObjectError:
            return None

    def _info_after(self, last_error: SchedulerError | None) -> ObjectInfo | None:
        """Return the object after a write that may have been done. last_error: of that write."""
        try:
            return self._info()
        except SchedulerError as error:
            raise uncertain(last_error or error) from None

    def collect(self) -> int:
        """Do nothing: there is only one object."""
        return 0


def _ref(info: ObjectInfo) -> VersionRef:
    return VersionRef(
        label=info.etag,
        number=0,
        size_bytes=info.size_bytes,
        sha256=info.metadata.get("sha256", ""),
    )
