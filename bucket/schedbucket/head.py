"""Head document: an organization's versions, and who may write. Replaced by compare-and-swap only.

docs/BUCKET.md specifies it for other languages. Each write has a new `write_id`, by which a writer
recognizes its own write if the reply was lost. The ETag cannot tell: the same content may come back
under the same ETag.
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
    ObjectInfo,
    ObjectStore,
    damaged,
    digest_of_bytes,
    uncertain,
)

FORMAT = 1
#: Metadata with the SHA-256 of the document. Optional for writers.
DIGEST = "sha256"
#: Attempts of a change while others change the document, or while no answer comes.
TRIES = 12
_PAUSE_S, _MAX_PAUSE_S = 0.05, 2.0


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One version of an organization's file.

    kind: `snapshot` (the complete file) or `patch` (to the version before it).
    stored_bytes, stored_sha256: of the object.   size_bytes, sha256: of the complete file at this
    version.
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
    """The right to write, as the document has it.

    fencing_token: increases with every lease.   renewals: increases with every renewal.
    expires_at: by the holder's clock.   exclusive: writers without a lease must wait, too.
    """

    holder: str
    nonce: str
    fencing_token: int = msgspec.field(name="token")
    renewals: int = msgspec.field(name="beat")
    duration_s: float
    expires_at: str
    exclusive: bool = False


class LeaseRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A writer that waits for the lease; the fields are as in `LeaseState`."""

    holder: str
    nonce: str
    renewals: int = msgspec.field(name="beat")
    duration_s: float
    expires_at: str


class Garbage(msgspec.Struct, frozen=True, kw_only=True):
    """An object that no version needs. Readers may still use it for a while after `since`."""

    key: str
    since: str


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """Content of the document.

    versions: oldest first, in complete chains.   last_fencing_token: of the last lease.
    waiting: who waits for the lease, first come, first served.

        head = head_document.read()
        newest = head.newest  # None before the first version
        parts = head.chain_of(3)  # the snapshot and the patches that version 3 consists of
    """

    format: int = FORMAT
    organization: str = ""
    versions: list[Entry] = []
    lease: LeaseState | None = None
    waiting: list[LeaseRequest] = []
    last_fencing_token: int = msgspec.field(default=0, name="fence")
    garbage: list[Garbage] = []
    write_id: str = ""

    @property
    def newest(self) -> Entry | None:
        """Return the newest version, None if there is none yet."""
        return self.versions[-1] if self.versions else None

    def chain_of(self, version: int) -> list[Entry]:
        """Return the snapshot and the patches that a version consists of, or an empty list."""
        chain: list[Entry] = []
        for entry in self.versions:
            chain = [entry] if entry.kind == "snapshot" else [*chain, entry]
            if entry.version == version:
                return chain
        return []


class HeadDocument:
    """Reads and changes the head of one organization. Thread-safe; calls block.

        document = HeadDocument(store, "orgs/org-1/head.json", "org-1")
        document.read().lease
        document.change(lambda head: msgspec.structs.replace(head, lease=None))

    last: the head as it was read or written last.
    """

    def __init__(self, store: ObjectStore, key: str, organization: str) -> None:
        self.store, self.key, self.organization = store, key, organization
        self.last = Head(organization=organization)
        self._lock = threading.RLock()
        self._etag: str | None = None

    def read(self) -> Head:
        """Return the current head; an empty one if the document does not exist."""
        with self._lock:
            try:
                data, info = self._get()
            except MissingObjectError:
                self.last, self._etag = Head(organization=self.organization), None
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
            self.last, self._etag = head, info.etag
            return head

    def cached(self) -> Head:
        """Return the head as it was read or written last; reads it if it never was."""
        return self.last if self.last.write_id else self.read()

    def _get(self) -> tuple[bytes, ObjectInfo]:
        """Return the document's bytes; reads them again if they arrived corrupted.

        A corrupted number would still be a valid document, and the next change would write it back.
        """
        for _ in range(2):
            data, info = self.store.get(self.key)
            expected = info.metadata.get(DIGEST)
            if expected is None or expected == digest_of_bytes(data):
                return data, info
        raise damaged(self.key, "SHA-256 mismatch")

    def change(self, edit: Callable[[Head], Head], *, cached: bool = False) -> Head:
        """Replace the head by what `edit` makes of it, and return that.

        edit: may be called several times. It gets the head and returns it changed, or the same
        object if nothing is left to do (for instance after a write of its own whose reply was
        lost). An exception that it raises ends the change.
        cached: start with `last` instead of reading.

        Raises `SchedulerError`: `bucket_busy` under too much contention, `bucket_unreachable`.
        """
        with self._lock:
            pause_s, last_error = _PAUSE_S, None
            sent: set[str] = set()
            for number in range(TRIES):
                if number:
                    # Jitter only keeps two writers from meeting again.
                    time.sleep(pause_s * (0.5 + random.random()))  # noqa: S311
                    pause_s = min(pause_s * 2, _MAX_PAUSE_S)
                try:
                    return self._try(edit, sent, cached=cached and not number)
                except ConditionFailedError:
                    # Somebody else was faster, or this very write was done: the next read tells.
                    last_error = None
                except SchedulerError as error:
                    if error.code != ErrorCode.BUCKET_UNREACHABLE:
                        raise
                    last_error = error

            if last_error is not None:
                raise uncertain(last_error) if sent else last_error
            raise SchedulerError(
                ErrorCode.BUCKET_BUSY,
                f"{self.key}: too much contention; gave up after {TRIES} attempts",
                hint="Retry later.",
            )

    def _try(self, edit: Callable[[Head], Head], sent: set[str], *, cached: bool) -> Head:
        """Change the head once. sent: the `write_id`s of writes that may have been done."""
        head = self.last if cached else self.read()
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
