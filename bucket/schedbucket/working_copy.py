"""A copy of an organization's file on a disk here: brought up to date, changed, published.

Beside the copy lies a folder with what is known of it: which version it is, and how the file looked
then, so that a copy that anybody has changed is noticed. A kill at any moment leaves the copy
clean, or noticed as changed.
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
from .repository import Known, OtherVersionError, Repository

STATE, BASE, COMING, LOCK = "state.json", "base.db", "coming.db", "lock"
#: How often a fetch begins anew because the bucket went on meanwhile.
TRIES = 5
_BUSY_TIMEOUT_S = 5.0


class Moved(msgspec.Struct, frozen=True, kw_only=True):
    """What went over the wire.

    version: its number now, 0 in the layout `plain`; whole_bytes: the file's size.
    """

    version_before: int | None = None
    version: int | None = None
    bytes_down: int = 0
    bytes_up: int = 0
    whole_bytes: int = 0


class State(msgspec.Struct, frozen=True, kw_only=True):
    """The version that the copy is as long as it looks like `fingerprint`.

    `base.db` is the same one.
    """

    known: Known
    fingerprint: str


def fingerprint(path: Path) -> str:
    """Return a text that changes when SQLite changes a file.

    Empty while a part of it lies in a log or journal.
    """
    if sqlite_files.unmerged_sidecar(path) is not None:
        return ""
    with path.open("rb") as file:
        info = os.fstat(file.fileno())
        header = os.pread(file.fileno(), 100, 0)
    return f"{info.st_size:x}-{info.st_mtime_ns:x}-{header[24:28].hex()}-{info.st_ino:x}"


class Copy:
    """One organization's copy. Use it under `locked`; every call may raise `SchedulerError`.

    path: the SQLite file.   folder: for what is known of it.   keep_changed: called with a copy
    that somebody has changed and not published, before it is replaced; by default that is an error.
    """

    def __init__(
        self,
        path: Path,
        folder: Path,
        repository: Repository,
        *,
        keep_changed: Callable[[Path], None] | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self.path, self.folder, self.repository = path, folder, repository
        self._keep_changed, self._check = keep_changed or _refuse, check
        self._base = folder / BASE

    @contextmanager
    def locked(self, *, wait: bool = True) -> Iterator[None]:
        """Keep other processes and threads from this copy.

        Raises `BlockingIOError` where it may not wait.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self.folder / LOCK).open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            yield

    @property
    def known(self) -> Known | None:
        """Return the version that the copy is, None if it is none."""
        state = self._state()
        with suppress(OSError):
            if (
                state is not None
                and state.fingerprint
                and state.fingerprint == fingerprint(self.path)
            ):
                return state.known
        return None

    def refresh(self, *, seen: bool = False) -> int:
        """Make the copy the newest version and return the bytes that came.

        None, patches, or a snapshot.

        seen: take the newest version for what it was when it was looked at last.
        Where the bucket has no version yet, the copy stays as it is, to become the first one.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._sweep()
        for _ in range(TRIES):
            self._check()
            newest = self.repository.newest(seen=seen)
            seen = False
            if newest is None:
                if self.path.exists():
                    return 0
                raise _missing(self.repository.organization)
            have = self._settled(newest)
            if have is not None and have.label == newest.label:
                os.utime(self.folder / STATE)
                return 0
            coming = self.folder / COMING
            coming.unlink(missing_ok=True)
            try:
                got = self.repository.fetch(newest, have, self.path, coming)
            except OtherVersionError:
                coming.unlink(missing_ok=True)
                continue
            except BaseException:
                coming.unlink(missing_ok=True)
                raise
            self._replace(coming, newest)
            return got
        raise SchedulerError(
            ErrorCode.BUCKET_BUSY,
            f"{self.repository.organization} changed in the bucket during all {TRIES} downloads",
            hint="Retry later.",
        )

    def _settled(self, newest: Known) -> Known | None:
        """Return the version that the copy is.

        One that was changed here is kept elsewhere first.
        """
        if not self.path.exists():
            return None
        known = self.known
        if known is not None:
            return known
        if (
            fingerprint(self.path)
            and self.path.stat().st_size == newest.size_bytes
            and newest.sha256
        ):
            # A kill between a write of the bucket or the file and the note of it.
            mark = fingerprint(self.path)
            if digest_of(self.path) == newest.sha256:
                self._note(State(known=newest, fingerprint=mark))
                return newest
        self._keep_changed(self.path)
        return self.discard()

    def discard(self) -> Known | None:
        """Put back what the copy was before it was changed here, if that is kept.

        Returns which version it is.
        """
        state = self._state()
        if state is None or not self._base.exists():
            return None
        self._replace(self._base, state.known)
        return state.known

    def begin(self) -> None:
        """Before the copy is changed.

        Keep what it is, so that a patch can be made and the change can be undone.
        """
        if self.known is None:
            return  # it is no version yet; publishing it sends it whole
        self._base.unlink(missing_ok=True)
        coming = self.folder / COMING
        coming.unlink(missing_ok=True)
        try:
            duplicate(self.path, coming)
            coming.rename(self._base)
        except OSError:
            coming.unlink(missing_ok=True)  # on a full volume others need the room
            raise

    def publish(
        self, *, lease: Lease | None = None, release: bool = False, by: str = "", note: str = ""
    ) -> tuple[Known, int]:
        """Make the copy, changed since `begin`, the newest version; returns it and the bytes sent.

        A copy that has not changed stays the version that it is.
        Raises `OtherVersionError` if the bucket has another version than the one that was changed.
        """
        mark = self._quiet()
        unchanged = self.known
        if unchanged is not None:
            self._settle(unchanged, mark)
            return unchanged, 0
        base = self._base if self._base.exists() else None
        state = self._state() if base is not None else None
        known = None if state is None else state.known

        def check() -> None:
            self._check()
            if fingerprint(self.path) != mark:
                raise _in_use(self.path)

        published, sent = self.repository.publish(
            self.path,
            base,
            known,
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
        """Remove the copy if it is a version that the bucket has.

        Returns the bytes that became free.
        """
        if self.known is None:
            return 0
        size = self.path.stat().st_size
        sqlite_files.remove_database(self.path)
        for name in (STATE, BASE, COMING):
            (self.folder / name).unlink(missing_ok=True)
        return size

    # ----------------------------------------------------------------------------------------------

    def _quiet(self) -> str:
        """Have the file hold everything, and return its fingerprint."""
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

    def _settle(self, known: Known, mark: str) -> None:
        self._note(State(known=known, fingerprint=mark))
        self._base.unlink(missing_ok=True)

    def _replace(self, new: Path, known: Known) -> None:
        """Make a verified file the copy.

        Killed before the note, the copy is recognised by its SHA-256.
        """
        # Personal data: for this user alone, whatever the umask of the calling program.
        new.chmod(FILE_MODE)
        sqlite_files.replace_database(new, self.path)
        self._note(State(known=known, fingerprint=fingerprint(self.path)))

    def _state(self) -> State | None:
        try:
            return msgspec.json.decode((self.folder / STATE).read_bytes(), type=State)
        except (OSError, msgspec.DecodeError):
            return None

    def _note(self, state: State) -> None:
        sqlite_files.write_file(self.folder / STATE, msgspec.json.encode(state))

    def _sweep(self) -> None:
        """Remove what a kill has left."""
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
        hint="Check the organization's id (`schedctl bucket list`), or upload its file (`schedctl push`).",
    )


def _in_use(path: Path) -> SchedulerError:
    return SchedulerError(
        ErrorCode.DATABASE_LOCKED,
        f"another program writes to {path.name} on this machine",
        hint="With a bucket, only the scheduler may write to its copy. Stop the other program and retry.",
        details={"path": str(path)},
    )
