"""The layout `versions`.

A head document that names immutable objects, snapshots and the patches after them.
"""

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
from .head import Entry, Garbage, Head, LeaseState, Register
from .lease import Lease, time_of, time_text, utc_now
from .object_store import (
    ConditionFailedError,
    MissingObjectError,
    ObjectStore,
    damaged,
    digest_of,
    duplicate,
)
from .repository import ROOT, Known, OtherVersionError, verify

#: A snapshot is made in place of a patch where the patches of its chain would be more than so many,
#: or weigh more than so much of the snapshot.
MAX_PATCHES, MAX_SHARE = 32, 0.5
#: So many versions at least can be fetched; older ones go when their whole chain is older.
KEEP_VERSIONS = 50
#: An object is removed so long after nothing needs it any more: whoever reads it began before that.
GRACE_S = 3600.0
#: An object that no head has ever named is removed after so long: its writer died before it told of
#: it.
ORPHAN_S = 24 * 3600.0


class VersionsRepository:
    """One organization in the layout `versions`; see `repository.Repository`."""

    def __init__(self, store: ObjectStore, organization: str) -> None:
        self.store, self.organization = store, organization
        self._folder = f"{ROOT}{organization}/"
        self.register = Register(store, f"{self._folder}head.json", organization)

    def newest(self, *, seen: bool = False) -> Known | None:
        """Return the newest version."""
        head = self.register.last if seen and self.register.last.write_id else self.register.read()
        return None if head.newest is None else known_of(head.newest)

    def history(self) -> list[Entry]:
        """Return the versions that can be fetched, newest first."""
        return list(reversed(self.register.read().versions))

    def lease(self) -> LeaseState | None:
        """Return who may write."""
        return (self.register.last if self.register.last.write_id else self.register.read()).lease

    def fetch(self, wanted: Known, have: Known | None, copy: Path | None, target: Path) -> int:
        """Make a file a version.

        By the patches after the version that is here, else from the snapshot on.
        """
        head = self.register.last
        if _entry(head, wanted) is None:
            head = self.register.read()
        entry = _entry(head, wanted)
        if entry is None:
            raise OtherVersionError
        chain = head.chain_of(entry.version)
        mine = None if have is None or copy is None else _entry(head, have)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix="fetch-") as name:
            folder = Path(name)
            if mine is not None and mine in chain:
                after = chain[chain.index(mine) + 1 :]
                assert copy is not None
                duplicate(copy, target)
                got = 0
            else:
                after = chain[1:]
                got = self._get(chain[0], folder / "snapshot")
                _unpack(chain[0], folder / "snapshot", target)
            for number, step in enumerate(after):
                got += self._get(step, folder / str(number))
                try:
                    patches.apply_patch(folder / str(number), target)
                except patches.PatchError as error:
                    raise damaged(step.key, str(error)) from None
        verify(target, entry.key, entry.size_bytes, entry.sha256)
        return got

    def _get(self, entry: Entry, path: Path) -> int:
        """Fetch an object and return its size; what arrives spoilt is fetched once more."""
        why = ""
        for _ in range(2):
            path.unlink(missing_ok=True)
            try:
                self.store.get_file(entry.key, path)
            except MissingObjectError:
                if _entry(self.register.read(), known_of(entry)) is None:
                    raise OtherVersionError from None  # it was collected while we fetched
                raise damaged(entry.key, "it is missing, but the head refers to it") from None
            except ConditionFailedError:
                why = "it changed during the download; objects of this layout must not change"
                continue
            size = path.stat().st_size
            if size != entry.stored_bytes:
                why = f"received {size} bytes instead of {entry.stored_bytes}"
            elif digest_of(path) != entry.stored_sha256:
                why = "SHA-256 mismatch"
            else:
                return size
        raise damaged(entry.key, why)

    def publish(
        self,
        new: Path,
        base: Path | None,
        known: Known | None,
        work: Path,
        *,
        lease: Lease | None = None,
        release: bool = False,
        by: str = "",
        note: str = "",
        check: Callable[[], None] = lambda: None,
    ) -> tuple[Known, int]:
        """Send the patch, or a snapshot where that is due, then change the head."""
        self._must_be_newest(
            self.register.last if self.register.last.write_id else self.register.read(), known
        )
        with tempfile.TemporaryDirectory(dir=work, prefix="publish-") as name:
            made = self._entry_of(new, base, known, Path(name), by, note, check)
            if made is None:
                assert known is not None  # there was something to compare with
                return known, 0
            entry, path = made
            check()
            self.store.put_file(entry.key, path)
        done: list[Head] = []

        def edit(head: Head) -> Head:
            if any(made.write_id == entry.write_id for made in head.versions):
                done.append(head)
                return head  # the answer to the write was lost
            self._must_be_newest(head, known)
            if lease is not None:
                head = lease.without(head) if release else _checked(head, lease)
            return _with(head, entry)

        try:
            self.register.change(edit, seen=True)
        except OtherVersionError:
            self.store.delete(entry.key)
            raise
        if done and lease is not None and release:
            lease.release()
        if entry.kind == "snapshot":
            self._collect_quietly()
        return known_of(entry), entry.stored_bytes

    @staticmethod
    def _must_be_newest(head: Head, known: Known | None) -> None:
        if (None if head.newest is None else known_of(head.newest).label) != (
            None if known is None else known.label
        ):
            raise OtherVersionError

    def _entry_of(
        self,
        new: Path,
        base: Path | None,
        known: Known | None,
        folder: Path,
        by: str,
        note: str,
        check: Callable[[], None],
    ) -> tuple[Entry, Path] | None:
        """Return the new version and the file to be sent for it; None where nothing has changed."""
        write_id = secrets.token_hex(8)
        number = 1 if known is None else known.number + 1
        with ThreadPoolExecutor(1) as beside:
            digest = beside.submit(digest_of, new)
            kind, path = "patch", self._patch(new, base, known, folder, check)
            if path is None:
                kind, path = "snapshot", folder / "snapshot"
                patches.compress(new, path, check)
            sha256 = digest.result()
        if known is not None and sha256 == known.sha256:
            return None
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

    def _patch(
        self,
        new: Path,
        base: Path | None,
        known: Known | None,
        folder: Path,
        check: Callable[[], None],
    ) -> Path | None:
        """Make the patch to the newest version, None where a snapshot is due."""
        chain = [] if known is None else self.register.last.chain_of(known.number)
        if base is None or not chain or len(chain) > MAX_PATCHES:
            return None
        room = chain[0].stored_bytes * MAX_SHARE - sum(entry.stored_bytes for entry in chain[1:])
        path = folder / "patch"
        try:
            patches.make_patch(base, new, path, check, room)
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
        """Remove what no version needs.

        What left the head a while ago, and what no head has ever named.
        """
        head = self.register.read()
        objects = self.store.objects(self._folder)
        # By the store's own clock, which also dates the objects: our own may be wrong.
        now = max((stored.modified for stored in objects), default=datetime.now(UTC))
        named = {self.register.key, *(entry.key for entry in head.versions)}
        waiting = {item.key for item in head.garbage}
        due = {
            item.key
            for item in head.garbage
            if time_of(item.since) < now - timedelta(seconds=GRACE_S)
        }
        due |= {
            stored.key
            for stored in objects
            if stored.key not in named | waiting
            and stored.modified < now - timedelta(seconds=ORPHAN_S)
        }
        due -= named
        present = {stored.key for stored in objects}
        for key in sorted(due & present):
            self.store.delete(key)
        if due & waiting:
            self.register.change(
                lambda head: msgspec.structs.replace(
                    head, garbage=[item for item in head.garbage if item.key not in due]
                )
            )
        return len(due & present)


def known_of(entry: Entry) -> Known:
    """Return how an entry of the head is known to who has that version."""
    return Known(
        label=f"{entry.version}-{entry.write_id}",
        number=entry.version,
        size_bytes=entry.size_bytes,
        sha256=entry.sha256,
    )


def _entry(head: Head, known: Known) -> Entry | None:
    return next((entry for entry in head.versions if known_of(entry).label == known.label), None)


def _checked(head: Head, lease: Lease) -> Head:
    lease.check(head)
    return head


def _with(head: Head, entry: Entry) -> Head:
    """Return the head with a newer version, and without the chains that nobody needs to be able to fetch."""
    chains: list[list[Entry]] = []
    for made in [*head.versions, entry]:
        if made.kind == "snapshot":
            chains.append([])
        chains[-1].append(made)
    kept: list[list[Entry]] = []
    for chain in reversed(chains):
        if kept and sum(map(len, kept)) >= KEEP_VERSIONS:
            break
        kept.insert(0, chain)
    since = time_text(utc_now())
    dropped = [
        Garbage(key=made.key, since=since)
        for chain in chains[: len(chains) - len(kept)]
        for made in chain
    ]
    return msgspec.structs.replace(
        head, versions=[made for chain in kept for made in chain], garbage=[*head.garbage, *dropped]
    )


def _unpack(entry: Entry, packed: Path, target: Path) -> None:
    try:
        patches.decompress(packed, target, entry.size_bytes)
    except patches.PatchError as error:
        raise damaged(entry.key, str(error)) from None
