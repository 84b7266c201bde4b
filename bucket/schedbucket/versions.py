"""Layout `versions`: a head document that names immutable objects, snapshots and patches."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from schedproto import SchedulerError

from . import patches
from .head import Entry, Garbage, Head, HeadDocument, LeaseState
from .lease import ExclusiveLeaseError, ExclusiveWait, Lease, time_of, time_text, utc_now
from .object_store import (
    ConditionFailedError,
    MissingObjectError,
    ObjectStore,
    damaged,
    digest_of,
    duplicate,
)
from .repository import ROOT, OtherVersionError, VersionRef, verify

#: A chain with this many patches, or whose patches have this share of the snapshot's size, is
#: followed by a new snapshot.
MAX_PATCHES, MAX_SHARE = 32, 0.5
#: Minimum number of versions that can be fetched. Older ones are removed by complete chains.
KEEP_VERSIONS = 50
#: Grace period before an unreferenced object is deleted: a reader may have started before.
GRACE_S = 3600.0
#: The same for an object that no head has ever named: its writer may not have published it yet.
ORPHAN_S = 24 * 3600.0


class VersionsRepository:
    """One organization in the layout `versions`; see `repository.Repository`.

    Example:

        repository = VersionsRepository(open_store(settings), "org-123")
        number = repository.newest().number  # 1 for the first version, then 2, 3, ...
    """

    def __init__(self, store: ObjectStore, organization: str) -> None:
        self.store, self.organization = store, organization
        self._folder = f"{ROOT}{organization}/"
        self.head_document = HeadDocument(store, f"{self._folder}head.json", organization)

    def newest(self, *, cached: bool = False) -> VersionRef | None:
        """Return the newest version."""
        head = self.head_document.cached() if cached else self.head_document.read()
        return None if head.newest is None else version_ref(head.newest)

    def history(self) -> list[Entry]:
        """Return the versions that can be fetched, newest first."""
        return list(reversed(self.head_document.read().versions))

    def lease(self) -> LeaseState | None:
        """Return the lease, None if nobody has it; as of the last read, if there was one."""
        return self.head_document.cached().lease

    # Download -------------------------------------------------------------------------------------

    def fetch(
        self, wanted: VersionRef, have: VersionRef | None, local_file: Path | None, target: Path
    ) -> int:
        """Download a version: patches after the version that is here, else from the snapshot."""
        head = self.head_document.last
        if _entry(head, wanted) is None:
            head = self.head_document.read()
        entry = _entry(head, wanted)
        if entry is None:
            raise OtherVersionError

        chain = head.chain_of(entry.version)
        here = None if have is None or local_file is None else _entry(head, have)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix="fetch-") as name:
            if here is not None and here in chain:
                assert local_file is not None
                duplicate(local_file, target)
                got, missing = 0, chain[chain.index(here) + 1 :]
            else:
                got = self._unpack(chain[0], Path(name) / "snapshot", target)
                missing = chain[1:]
            for patch in missing:
                got += self._apply(patch, Path(name) / str(patch.version), target)
        verify(target, entry.key, entry.size_bytes, entry.sha256)
        return got

    def _unpack(self, snapshot: Entry, path: Path, target: Path) -> int:
        got = self._get(snapshot, path)
        try:
            patches.decompress(path, target, snapshot.size_bytes)
        except patches.PatchError as error:
            raise damaged(snapshot.key, str(error)) from None
        return got

    def _apply(self, patch: Entry, path: Path, target: Path) -> int:
        got = self._get(patch, path)
        try:
            patches.apply_patch(path, target)
        except patches.PatchError as error:
            raise damaged(patch.key, str(error)) from None
        return got

    def _get(self, entry: Entry, path: Path) -> int:
        """Download an object and return its size; downloads a corrupted one once more."""
        reason = ""
        for _ in range(2):
            path.unlink(missing_ok=True)
            try:
                self.store.get_file(entry.key, path)
            except MissingObjectError:
                if _entry(self.head_document.read(), version_ref(entry)) is None:
                    raise OtherVersionError from None  # it was collected during the download
                raise damaged(entry.key, "it is missing, but the head refers to it") from None
            except ConditionFailedError:
                reason = "it changed during the download; objects of this layout must not change"
                continue

            size = path.stat().st_size
            if size != entry.stored_bytes:
                reason = f"received {size} bytes instead of {entry.stored_bytes}"
            elif digest_of(path) != entry.stored_sha256:
                reason = "SHA-256 mismatch"
            else:
                return size
        raise damaged(entry.key, reason)

    # Publish --------------------------------------------------------------------------------------

    def publish(
        self,
        new: Path,
        base_file: Path | None,
        base: VersionRef | None,
        work: Path,
        *,
        lease: Lease | None = None,
        release: bool = False,
        by: str = "",
        note: str = "",
        check: Callable[[], None] = lambda: None,
    ) -> tuple[VersionRef, int]:
        """Send a patch, or a snapshot if one is due, then change the head."""
        # A race that is lost already is noticed before anything is computed or sent.
        _must_be_newest(self.head_document.read(), base)
        with tempfile.TemporaryDirectory(dir=work, prefix="publish-") as name:
            made = self._make_entry(new, base_file, base, Path(name), by, note, check)
            if made is None:
                assert base is not None  # there was something to compare with
                return base, 0
            entry, path = made
            check()
            self.store.put_file(entry.key, path)
        self._append(entry, base, lease, check, release=release)
        if entry.kind == "snapshot":
            self._collect_quietly()
        return version_ref(entry), entry.stored_bytes

    def _append(
        self,
        entry: Entry,
        base: VersionRef | None,
        lease: Lease | None,
        check: Callable[[], None],
        *,
        release: bool,
    ) -> None:
        """Make an entry, whose object is sent, the head's newest version."""
        exclusive = ExclusiveWait(self.head_document, check)
        was_done = False

        def edit(head: Head) -> Head:
            nonlocal was_done
            if any(version.write_id == entry.write_id for version in head.versions):
                was_done = True
                return head  # the reply to the write was lost
            _must_be_newest(head, base)
            if lease is None:
                exclusive.check(head)
            elif release:
                head = lease.released_from(head)
            else:
                lease.check(head)
            return _with_entry(head, entry)

        while True:
            try:
                self.head_document.change(edit, cached=True)
            except ExclusiveLeaseError:
                exclusive.wait()
            except OtherVersionError:
                self.store.delete(entry.key)
                raise
            else:
                break
        if was_done and lease is not None and release:
            lease.release()

    def _make_entry(
        self,
        new: Path,
        base_file: Path | None,
        base: VersionRef | None,
        folder: Path,
        by: str,
        note: str,
        check: Callable[[], None],
    ) -> tuple[Entry, Path] | None:
        """Return the new version and the file to send for it; None if nothing has changed."""
        with ThreadPoolExecutor(1) as pool:
            digest = pool.submit(digest_of, new)
            kind, path = "patch", self._make_patch(new, base_file, base, folder, check)
            if path is None:
                kind, path = "snapshot", folder / "snapshot"
                patches.compress(new, path, check)
            sha256 = digest.result()
        if base is not None and sha256 == base.sha256:
            return None

        write_id = secrets.token_hex(8)
        number = 1 if base is None else base.number + 1
        entry = Entry(
            version=number,
            kind=kind,
            key=f"{self._folder}{number:08d}-{write_id}.{kind}.zst",
            stored_bytes=path.stat().st_size,
            stored_sha256=digest_of(path),
            size_bytes=new.stat().st_size,
            sha256=sha256,
            write_id=write_id,
            created_at=time_text(utc_now()),
            created_by=by,
            note=note,
        )
        return entry, path

    def _make_patch(
        self,
        new: Path,
        base_file: Path | None,
        base: VersionRef | None,
        folder: Path,
        check: Callable[[], None],
    ) -> Path | None:
        """Write the patch to the newest version; return None if a snapshot is due."""
        chain = [] if base is None else self.head_document.last.chain_of(base.number)
        if base_file is None or not chain or len(chain) > MAX_PATCHES:
            return None
        patch_bytes = sum(entry.stored_bytes for entry in chain[1:])
        path = folder / "patch"
        try:
            patches.make_patch(
                base_file, new, path, check, chain[0].stored_bytes * MAX_SHARE - patch_bytes
            )
        except patches.TooLargeError:
            path.unlink()
            return None
        return path

    # Collection -----------------------------------------------------------------------------------

    def _collect_quietly(self) -> None:
        try:
            self.collect()
        except SchedulerError:
            return  # the next snapshot collects again

    def collect(self) -> int:
        """Delete objects that left the head a while ago, and old ones that no head has named."""
        head = self.head_document.read()
        objects = self.store.objects(self._folder)
        # By the store's own clock, which also dates the objects: ours may be wrong.
        now = max((info.modified for info in objects), default=datetime.now(UTC))
        named = {self.head_document.key, *(entry.key for entry in head.versions)}
        waiting = {item.key for item in head.garbage}

        due = {
            item.key
            for item in head.garbage
            if time_of(item.since) < now - timedelta(seconds=GRACE_S)
        }
        due |= {
            info.key
            for info in objects
            if info.key not in named | waiting and info.modified < now - timedelta(seconds=ORPHAN_S)
        }
        due -= named

        found = due & {info.key for info in objects}
        for key in sorted(found):
            self.store.delete(key)
        if due & waiting:
            self.head_document.change(
                lambda head: msgspec.structs.replace(
                    head, garbage=[item for item in head.garbage if item.key not in due]
                )
            )
        return len(found)


def version_ref(entry: Entry) -> VersionRef:
    """Return the reference to a version in the head."""
    return VersionRef(
        label=f"{entry.version}-{entry.write_id}",
        number=entry.version,
        size_bytes=entry.size_bytes,
        sha256=entry.sha256,
    )


def _entry(head: Head, version: VersionRef) -> Entry | None:
    return next(
        (entry for entry in head.versions if version_ref(entry).label == version.label), None
    )


def _must_be_newest(head: Head, base: VersionRef | None) -> None:
    newest = None if head.newest is None else version_ref(head.newest).label
    if newest != (None if base is None else base.label):
        raise OtherVersionError


def _with_entry(head: Head, entry: Entry) -> Head:
    """Return the head with a newer version, and without the chains that need not be kept."""
    chains: list[list[Entry]] = []
    for version in [*head.versions, entry]:
        if version.kind == "snapshot":
            chains.append([])
        chains[-1].append(version)

    kept: list[list[Entry]] = []
    for chain in reversed(chains):
        if kept and sum(map(len, kept)) >= KEEP_VERSIONS:
            break
        kept.insert(0, chain)

    since = time_text(utc_now())
    dropped = [
        Garbage(key=version.key, since=since)
        for chain in chains[: len(chains) - len(kept)]
        for version in chain
    ]
    return msgspec.structs.replace(
        head,
        versions=[version for chain in kept for version in chain],
        garbage=[*head.garbage, *dropped],
    )
