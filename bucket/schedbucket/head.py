"""The small object that says what an organization's file is, and who may write it.

Replaced by compare-and-swap only.

docs/BUCKET.md describes the document for other languages. Each write carries a new `write_id`, so
that a write whose answer was lost is known again: the ETag cannot tell that, and the same content
may come back under the same ETag.
"""

from __future__ import annotations

import random
import secrets
import threading
import time
from collections.abc import Callable

import msgspec

from schedproto import ErrorCode, SchedulerError

from .object_store import (
    Condition,
    ConditionFailedError,
    MissingObjectError,
    ObjectStore,
    Stored,
    damaged,
    digest_of_bytes,
    uncertain,
)

FORMAT = 1
#: The metadata that says what the document's bytes are; a writer may leave it out.
DIGEST = "sha256"
#: How often a change of the document is tried when others change it at the same time, or no answer
#: comes.
TRIES = 12
_PAUSE_S, _MAX_PAUSE_S = 0.05, 2.0


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One version. kind: `snapshot` (the whole file) or `patch` (to the version before it).

    stored_*: the object's own size and SHA-256.   size_bytes, sha256: of the whole file, as it is
    at this version.
    """

    version: int
    kind: str
    key: str
    stored_bytes: int
    stored_sha256: str
    size_bytes: int
    sha256: str
    write_id: str
    created_at: str
    created_by: str = ""
    note: str = ""


class LeaseState(msgspec.Struct, frozen=True, kw_only=True):
    """Who may write.

    token: rises with every lease; beat: with every renewal; expires_at: by the holder's clock.
    """

    holder: str
    nonce: str
    token: int
    beat: int
    duration_s: float
    expires_at: str


class Garbage(msgspec.Struct, frozen=True, kw_only=True):
    """An object that no version needs any more; removed when nobody can be reading it still."""

    key: str
    since: str


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """The document. versions: oldest first, whole chains; fence: the last lease's token."""

    format: int = FORMAT
    organization: str = ""
    versions: list[Entry] = []
    lease: LeaseState | None = None
    fence: int = 0
    garbage: list[Garbage] = []
    write_id: str = ""

    @property
    def newest(self) -> Entry | None:
        """Return the newest version, None where there is none yet."""
        return self.versions[-1] if self.versions else None

    def chain_of(self, version: int) -> list[Entry]:
        """Return the snapshot and the patches that make a version, or nothing."""
        chain: list[Entry] = []
        for entry in self.versions:
            chain = [entry] if entry.kind == "snapshot" else [*chain, entry]
            if entry.version == version:
                return chain
        return []


class Register:
    """The document of one organization in a store; safe for use by several threads."""

    def __init__(self, store: ObjectStore, key: str, organization: str) -> None:
        self.store, self.key = store, key
        self._organization = organization
        self._turn = threading.RLock()
        self._etag: str | None = None
        #: the document as it was read or written last
        self.last = Head(organization=organization)

    def read(self) -> Head:
        """Return the document as it is now; an empty one where there is none."""
        with self._turn:
            try:
                data, stored = self._get()
            except MissingObjectError:
                self.last, self._etag = Head(organization=self._organization), None
                return self.last
            try:
                head = msgspec.json.decode(data, type=Head)
            except msgspec.DecodeError as error:
                raise damaged(self.key, str(error)) from None
            if head.format > FORMAT:
                raise SchedulerError(
                    ErrorCode.BUCKET_DAMAGED,
                    f"{self.key} has format {head.format}; this release supports {FORMAT}",
                    hint="Use the release that wrote it, or a newer one.",
                )
            self.last, self._etag = head, stored.etag
            return head

    def _get(self) -> tuple[bytes, Stored]:
        """Return the document's bytes as they were written.

        What is spoilt on its way is read once more.

        A spoilt number would still be a document, and the next change would write it back.
        """
        for _ in range(2):
            data, stored = self.store.get(self.key)
            told = stored.metadata.get(DIGEST)
            if told is None or told == digest_of_bytes(data):
                return data, stored
        raise damaged(self.key, "SHA-256 mismatch")

    def change(self, edit: Callable[[Head], Head], *, seen: bool = False) -> Head:
        """Replace the document by what `edit` makes of it and return that.

        `edit` may be called again and again.

        edit: gets the document as it is and returns it changed, or itself where nothing is left to
        do (as after a write of its own whose answer was lost); what it raises ends the change.
        seen: begin with `last`. Raises `SchedulerError`: `bucket_busy` when others are always
        faster, `bucket_unreachable`.
        """
        with self._turn:
            pause, trouble = _PAUSE_S, None
            sent: set[str] = set()
            for number in range(TRIES):
                if number:
                    time.sleep(pause * (0.5 + random.random()))  # noqa: S311 - only so that two do not meet again
                    pause = min(pause * 2, _MAX_PAUSE_S)
                try:
                    return self._try(edit, sent, seen=seen and not number)
                except ConditionFailedError:
                    # Either somebody else was faster, or this very write has happened: the next
                    # look tells.
                    trouble = None
                except SchedulerError as error:
                    if error.code != ErrorCode.BUCKET_UNREACHABLE:
                        raise
                    trouble = error
            if trouble is not None:
                raise uncertain(trouble) if sent else trouble
            raise SchedulerError(
                ErrorCode.BUCKET_BUSY,
                f"{self.key}: too much contention; gave up after {TRIES} attempts",
                hint="Retry later.",
            )

    def _try(self, edit: Callable[[Head], Head], sent: set[str], *, seen: bool) -> Head:
        """Change the document once. sent: the `write_id`s of writes that may have happened."""
        head = self.last if seen else self.read()
        if head.write_id in sent:
            return head
        wanted = edit(head)
        if wanted is head:
            return head
        wanted = msgspec.structs.replace(wanted, write_id=secrets.token_hex(8))
        data = msgspec.json.format(msgspec.json.encode(wanted), indent=1)
        sent.add(wanted.write_id)
        self._etag = self.store.put(
            self.key, data, Condition(self._etag), {DIGEST: digest_of_bytes(data)}
        )
        self.last = wanted
        return wanted
