"""Working copy of an organization's file on a local disk: update, change, publish.

A folder next to the copy records which version it is, and how the file looked then, so that a
change by anybody is noticed. After a kill at any moment, the copy is either intact or noticed as
changed.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import msgspec

from schedproto import ErrorCode, SchedulerError, sqlite_files
from schedproto.private import FILE_MODE

from .lease import Lease
from .object_store import digest_of, duplicate
from .repository import OtherVersionError, Repository, VersionRef

#: Files in the copy's folder: its version; the file as it was before a change; a download.
STATE_FILE, BASE_FILE, INCOMING_FILE = "state.json", "base.db", "incoming.db"
LOCK_FILE = "lock"
#: Attempts of a download that is overtaken by newer versions.
TRIES = 5
_BUSY_TIMEOUT_S = 5.0


class CopyState(msgspec.Struct, frozen=True, kw_only=True):
    """Version of the copy, valid while the file has this fingerprint; `base.db` is the same."""

    version: VersionRef
    fingerprint: str


def fingerprint(path: Path) -> str:
    """Return a text that changes when SQLite changes a file.

    Empty while a part of the content is in a write-ahead log or a journal.
    """
    if sqlite_files.unmerged_sidecar(path) is not None:
        return ""
    with path.open("rb") as file:
        info = os.fstat(file.fileno())
        header = os.pread(file.fileno(), 100, 0)
    # Bytes 24 to 27 are the file change counter (SQLite's file format, section 1.3.7).
    return f"{info.st_size:x}-{info.st_mtime_ns:x}-{header[24:28].hex()}-{info.st_ino:x}"


class WorkingCopy:
    """One organization's local file. Use it under `locked`; calls block.

        copy = WorkingCopy(Path("org-1.db"), Path("org-1.db.bucket"), repository)
        with copy.locked():
            copy.refresh()                  # the newest version; transfers only what changed
            copy.begin()
            ...                             # change the file with any SQLite library, and close it
            copy.publish(lease=lease)       # one patch; or copy.discard() to undo the changes

    Every call may raise `SchedulerError`.

    path: the SQLite file.   folder: for the copy's state.   preserve_changes: called with a copy
    that has unpublished changes before it is replaced; default: an error.   check: called often; an
    exception that it raises ends the call.
    """

    def __init__(
        self,
        path: Path,
        folder: Path,
        repository: Repository,
        *,
        preserve_changes: Callable[[Path], None] | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self.path, self.folder, self.repository = path, folder, repository
        #: the file as it was at `begin`; exists only until `publish` or `discard`
        self.base_path = folder / BASE_FILE
        self._preserve_changes, self._check = preserve_changes or _refuse, check

    @contextmanager
    def locked(self, *, wait: bool = True) -> Iterator[None]:
        """Exclude other processes and threads. Raises `BlockingIOError` if it may not wait."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self.folder / LOCK_FILE).open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            yield

    @property
    def version(self) -> VersionRef | None:
        """Return the version that the copy is, None if it has changes or never was one."""
        state = self._read_state()
        with suppress(OSError):
            if (
                state is not None
                and state.fingerprint
                and state.fingerprint == fingerprint(self.path)
            ):
                return state.version
        return None

    def refresh(self, *, cached: bool = False) -> int:
        """Make the copy the newest version and return the bytes transferred.

        If the bucket has no version yet, the copy stays as it is, to become the first one.

        cached: use the newest version as it was read last. Raises `SchedulerError`
        (`database_missing`, `bucket_busy`).
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._remove_leftovers()
        for number in range(TRIES):
            self._check()
            newest = self.repository.newest(cached=cached and not number)
            if newest is None:
                if self.path.exists():
                    return 0
                raise _missing(self.repository.organization)

            have = self._version_before(newest)
            if have is not None and have.label == newest.label:
                os.utime(self.folder / STATE_FILE)  # the time of last use, for the volume's cache
                return 0
            with suppress(OtherVersionError):
                return self._download(newest, have)
        raise SchedulerError(
            ErrorCode.BUCKET_BUSY,
            f"{self.repository.organization} changed in the bucket during all {TRIES} downloads",
            hint="Retry later.",
        )

    def _download(self, newest: VersionRef, have: VersionRef | None) -> int:
        incoming = self.folder / INCOMING_FILE
        incoming.unlink(missing_ok=True)
        try:
            got = self.repository.fetch(newest, have, self.path, incoming)
        except BaseException:
            incoming.unlink(missing_ok=True)
            raise
        self._replace(incoming, newest)
        return got

    def _version_before(self, newest: VersionRef) -> VersionRef | None:
        """Return the copy's version before an update; preserves unpublished changes first."""
        if not self.path.exists():
            return None
        version = self.version
        if version is not None:
            return version

        mark = fingerprint(self.path)
        same_size = self.path.stat().st_size == newest.size_bytes
        if mark and newest.sha256 and same_size and digest_of(self.path) == newest.sha256:
            # A kill came between a write of the bucket or the file and that of the state.
            self._write_state(CopyState(version=newest, fingerprint=mark))
            return newest
        self._preserve_changes(self.path)
        return self.discard()

    def begin(self) -> None:
        """Prepare for changes: keep the file as it is, for a patch and for `discard`."""
        if self.version is None:
            return  # it is not a version yet; publishing sends the complete file
        self.base_path.unlink(missing_ok=True)
        incoming = self.folder / INCOMING_FILE
        incoming.unlink(missing_ok=True)
        try:
            duplicate(self.path, incoming)
            incoming.rename(self.base_path)
        except OSError:
            incoming.unlink(missing_ok=True)  # on a full volume, others need the space
            raise

    def discard(self) -> VersionRef | None:
        """Undo the changes since `begin`; return the version that the copy is again."""
        state = self._read_state()
        if state is None or not self.base_path.exists():
            return None
        self._replace(self.base_path, state.version)
        return state.version

    def publish(
        self, *, lease: Lease | None = None, release: bool = False, by: str = "", note: str = ""
    ) -> tuple[VersionRef, int]:
        """Make the copy the newest version; return it and the bytes transferred.

        An unchanged copy makes no version. For the arguments see `Repository.publish`.

        Raises `OtherVersionError` if the bucket has another version than the one that was changed.
        """
        mark = self._checkpoint()
        unchanged = self.version
        if unchanged is not None:
            self._settle(unchanged, mark)
            return unchanged, 0

        base_file = self.base_path if self.base_path.exists() else None
        state = self._read_state() if base_file is not None else None

        def check() -> None:
            self._check()
            if fingerprint(self.path) != mark:
                raise _in_use(self.path)

        published, sent = self.repository.publish(
            self.path,
            base_file,
            None if state is None else state.version,
            self.folder,
            lease=lease,
            release=release,
            by=by,
            note=note,
            check=check,
        )
        self._settle(published, mark)
        return published, sent

    def evict(self) -> int:
        """Delete the copy unless it has changes of its own; return the bytes freed."""
        if self.version is None:
            return 0
        size = self.path.stat().st_size
        sqlite_files.remove_database(self.path)
        for name in (STATE_FILE, BASE_FILE, INCOMING_FILE):
            (self.folder / name).unlink(missing_ok=True)
        return size

    # ----------------------------------------------------------------------------------------------

    def _checkpoint(self) -> str:
        """Move the write-ahead log into the file, and return the file's fingerprint."""
        try:
            with closing(
                sqlite3.connect(self.path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
            ) as connection:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except sqlite3.Error as error:
            raise SchedulerError(
                ErrorCode.DATABASE_UNREADABLE,
                f"cannot publish {self.path.name}: {error}",
                hint="Check the file; nothing was published.",
            ) from None
        mark = fingerprint(self.path)
        if not mark:
            raise _in_use(self.path)
        return mark

    def _settle(self, version: VersionRef, mark: str) -> None:
        self._write_state(CopyState(version=version, fingerprint=mark))
        self.base_path.unlink(missing_ok=True)

    def _replace(self, new: Path, version: VersionRef) -> None:
        """Make a verified file the copy.

        After a kill before the state is written, the copy is recognized by its SHA-256.
        """
        # Personal data: for this user alone, whatever the umask of the calling program.
        new.chmod(FILE_MODE)
        sqlite_files.replace_database(new, self.path)
        self._write_state(CopyState(version=version, fingerprint=fingerprint(self.path)))

    def _read_state(self) -> CopyState | None:
        try:
            return msgspec.json.decode((self.folder / STATE_FILE).read_bytes(), type=CopyState)
        except (OSError, msgspec.DecodeError):
            return None

    def _write_state(self, state: CopyState) -> None:
        sqlite_files.write_file(self.folder / STATE_FILE, msgspec.json.encode(state))

    def _remove_leftovers(self) -> None:
        """Remove the temporary folders of a killed process."""
        for pattern in ("fetch-*", "publish-*"):
            for left in self.folder.glob(pattern):
                shutil.rmtree(left, ignore_errors=True)


def _refuse(path: Path) -> None:
    raise SchedulerError(
        ErrorCode.ORGANIZATION_BUSY,
        f"{path.name} has local changes that are not published",
        hint="Publish it, or delete it to download it again.",
        retryable=False,
        details={"path": str(path)},
    )


def _missing(organization: str) -> SchedulerError:
    return SchedulerError(
        ErrorCode.DATABASE_MISSING,
        f"{organization} is neither in the bucket nor on the volume",
        hint="Check the organization's id (`schedctl bucket list`), or upload its file "
        "(`schedctl push`).",
    )


def _in_use(path: Path) -> SchedulerError:
    return SchedulerError(
        ErrorCode.DATABASE_LOCKED,
        f"another program writes to {path.name} on this machine",
        hint="With a bucket, only the scheduler may write to its copy. Stop the other program and "
        "retry.",
        details={"path": str(path)},
    )
