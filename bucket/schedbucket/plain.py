"""The layout `plain`.

One SQLite file per organization that any tool can open, replaced whole and conditionally.

The lease lies in a document beside it. The file's replacement is conditional on the version that
was fetched, which was fetched under the lease; so a writer that has lost its lease can replace
nothing that a later one has written.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path

from schedproto import ErrorCode, SchedulerError

from .head import Entry, LeaseState, Register
from .lease import Lease, time_text
from .object_store import (
    Condition,
    ConditionFailedError,
    MissingObjectError,
    ObjectStore,
    Stored,
    digest_of,
    uncertain,
    unreachable,
)
from .repository import ROOT, Known, OtherVersionError, verify

SUFFIX = ".db"
#: How often a replacement is tried whose answer does not come.
TRIES = 4


class PlainRepository:
    """One organization in the layout `plain`; see `repository.Repository`."""

    def __init__(self, store: ObjectStore, organization: str) -> None:
        self.store, self.organization = store, organization
        self._key = f"{ROOT}{organization}{SUFFIX}"
        self.register = Register(store, f"{ROOT}{organization}.lease.json", organization)

    def newest(self, *, seen: bool = False) -> Known | None:  # noqa: ARG002 - only the object itself tells
        """Return the only version there is."""
        try:
            return _known(self.store.look(self._key))
        except MissingObjectError:
            return None

    def history(self) -> list[Entry]:
        """Return the only version there is."""
        try:
            stored = self.store.look(self._key)
        except MissingObjectError:
            return []
        return [
            Entry(
                version=0,
                kind="whole",
                key=self._key,
                stored_bytes=stored.size_bytes,
                stored_sha256=stored.metadata.get("sha256", ""),
                size_bytes=stored.size_bytes,
                sha256=stored.metadata.get("sha256", ""),
                write_id=stored.metadata.get("write-id", ""),
                created_at=time_text(stored.modified),
                created_by=stored.metadata.get("created-by", ""),
            )
        ]

    def lease(self) -> LeaseState | None:
        """Return who may write."""
        return self.register.read().lease

    def fetch(self, wanted: Known, have: Known | None, copy: Path | None, target: Path) -> int:  # noqa: ARG002
        """Make a file the version that is wanted, whole."""
        try:
            stored = self.store.get_file(self._key, target)
        except (MissingObjectError, ConditionFailedError):
            raise OtherVersionError from None
        if stored.etag != wanted.label:
            raise OtherVersionError
        if target.stat().st_size != stored.size_bytes:
            raise unreachable(self.store.describe(), f"{self._key} was truncated")
        verify(target, self._key, stored.size_bytes, stored.metadata.get("sha256", ""))
        return stored.size_bytes

    def publish(
        self,
        new: Path,
        base: Path | None,  # noqa: ARG002 - this layout has no patches
        known: Known | None,
        work: Path,  # noqa: ARG002
        *,
        lease: Lease | None = None,
        release: bool = False,
        by: str = "",
        note: str = "",  # noqa: ARG002 - nor a history
        check: Callable[[], None] = lambda: None,
    ) -> tuple[Known, int]:
        """Replace the file on the condition that it still is `known`."""
        write_id = secrets.token_hex(8)
        sha256 = digest_of(new)
        if known is not None and sha256 == known.sha256:
            return known, 0
        metadata = {"sha256": sha256, "write-id": write_id}
        if by.isascii():
            metadata["created-by"] = by
        condition = Condition(None if known is None else known.label)
        trouble: SchedulerError | None = None
        for _ in range(TRIES):
            check()
            if lease is not None:
                lease.check(self.register.read())
            trouble = self._put(new, condition, metadata)
            # Also after a success: this is where the version's label comes from.
            found = self._found(trouble)
            if found is not None and found.metadata.get("write-id") == write_id:
                if lease is not None and release:
                    lease.release()
                return _known(found), new.stat().st_size
            if (None if found is None else found.etag) != condition.etag:
                raise OtherVersionError
        raise trouble or unreachable(self.store.describe(), "a conditional write had no effect")

    def _put(
        self, new: Path, condition: Condition, metadata: dict[str, str]
    ) -> SchedulerError | None:
        """Replace the file, or return why it is not known whether that happened."""
        try:
            self.store.put_file(self._key, new, condition, metadata)
        except ConditionFailedError:
            return None  # who was faster, perhaps we ourselves, is seen by looking
        except SchedulerError as error:
            if error.code != ErrorCode.BUCKET_UNREACHABLE:
                raise
            return error
        return None

    def _found(self, trouble: SchedulerError | None) -> Stored | None:
        """Return the file as the bucket has it now.

        trouble: of the write before, which may have happened.
        """
        try:
            return self.store.look(self._key)
        except MissingObjectError:
            return None
        except SchedulerError as error:
            raise uncertain(trouble or error) from None

    def collect(self) -> int:
        """Do nothing: there is only ever one object."""
        return 0


def _known(stored: Stored) -> Known:
    return Known(
        label=stored.etag,
        number=0,
        size_bytes=stored.size_bytes,
        sha256=stored.metadata.get("sha256", ""),
    )
