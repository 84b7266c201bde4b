"""Leases and working copies for programs that write organizations, mostly the main application.

    with client.lease("org-123") as lease:
        lease.fetch("org-123.db")
        ...  # write to org-123.db with any SQLite library, and close it
        lease.publish("org-123.db")

Talks to the bucket, not to a daemon. Needs the extra `email-scheduler[bucket]`.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from schedproto import ErrorCode, SchedulerError, TransferStats

from .errors import SettingsError, from_info

if TYPE_CHECKING:
    from schedbucket import BucketSettings, Lease, Repository, WorkingCopy

#: The folder with a local file's state has the file's name with this suffix.
SIDECAR_SUFFIX = ".bucket"


@contextmanager
def translated() -> Iterator[None]:
    """Raise the bucket's errors as the client's."""
    try:
        yield
    except SchedulerError as error:
        raise from_info(error.info()) from None
    except ImportError as error:
        raise SettingsError(
            f"bucket access requires a package that is not installed: {error.name}",
            "Install the extra: pip install 'email-scheduler[bucket]'.",
        ) from None


def bucket_settings() -> BucketSettings:
    """Return the bucket's settings from the environment (docs/BUCKET.md).

    Raises `SettingsError`.
    """
    with translated():
        from schedbucket import load_settings  # noqa: PLC0415 - an extra, loaded when it is used

        try:
            settings = load_settings(os.environ)
        except SchedulerError as error:
            raise SettingsError(error.message, error.hint) from None
        if settings is None:
            from schedbucket.settings import not_configured  # noqa: PLC0415

            missing = not_configured()
            raise SettingsError(missing.message, missing.hint)
        return settings


def repository_of(organization: str, settings: BucketSettings | None = None) -> Repository:
    """Return an organization's repository. settings: default: from the environment."""
    settings = settings or bucket_settings()
    with translated():
        from schedbucket import open_repository, open_store  # noqa: PLC0415

        return open_repository(settings, open_store(settings), organization)


def working_copy(path: Path, repository: Repository) -> WorkingCopy:
    """Return a local file as a working copy; its state is in a folder next to it."""
    from schedbucket import WorkingCopy  # noqa: PLC0415

    return WorkingCopy(path, path.with_name(path.name + SIDECAR_SUFFIX), repository)


class OrganizationLease:
    """The right to write an organization's file, for the time of a `with` block.

        with OrganizationLease("org-123", wait_s=60) as lease:
            lease.fetch("org-123.db")
            ...  # write to org-123.db with any SQLite library, and close it
            lease.publish("org-123.db", note="import")

    A thread renews the lease. Entering the block waits for its turn: jobs and other writers that
    asked for the lease before come first. If that takes longer than `wait_s`, it raises
    `LeaseError` (`lease_held`). Calls block.

    wait_s: default: long enough to outlive a crashed holder (`duration_s` + 15).   holder: a name
    that no other living process has; default: host, process and object.
    """

    def __init__(
        self,
        organization: str,
        *,
        wait_s: float | None = None,
        duration_s: float = 30.0,
        holder: str | None = None,
        settings: BucketSettings | None = None,
    ) -> None:
        self.organization = organization
        self._repository = repository_of(organization, settings)
        self._wait_s, self._duration_s = wait_s, duration_s
        self._given_holder, self._holder = holder, ""
        self._lease: Lease | None = None

    def __enter__(self) -> Self:
        with translated():
            from schedbucket import Lease  # noqa: PLC0415

            # Not named before: forked children must not share a holder.
            self._holder = (
                self._given_holder or f"{socket.gethostname()}/{os.getpid()}/{id(self):x}"
            )
            self._lease = Lease.acquire(
                self._repository.head_document,
                self._holder,
                duration_s=self._duration_s,
                wait_s=self._wait_s,
            ).start_renewing()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._lease is not None:
            self._lease.release()

    @property
    def fencing_token(self) -> int:
        """Return the fencing token, which increases with every lease of the organization."""
        return self._held().fencing_token

    def _held(self) -> Lease:
        if self._lease is None:
            raise SettingsError("the lease is not held", "Use it in a `with` block.")
        with translated():
            self._lease.check_process()
        return self._lease

    def parts(self) -> tuple[Repository, Lease]:
        """Return the repository and the lease itself, for what these methods do not cover."""
        return self._repository, self._held()

    def check(self) -> None:
        """Raise `LeaseError` (`lease_lost`) if somebody else has taken the lease."""
        with translated():
            self._held().check(self._repository.head_document.read())

    def fetch(self, path: str | PathLike[str]) -> TransferStats:
        """Make a local file the newest version. If an older one is there, only changes are fetched.

        Raises `BucketError`, and `BusyError` if the file has changes that are not published.
        """
        self._held()
        with translated():
            copy = working_copy(Path(path), self._repository)
            with copy.locked():
                before = copy.version
                got = copy.refresh()
                copy.begin()
                after = copy.version
                return TransferStats(
                    version_before=None if before is None else before.number,
                    version=None if after is None else after.number,
                    bytes_down=got,
                    bytes_whole=copy.path.stat().st_size,
                )

    def publish(self, path: str | PathLike[str], note: str = "") -> TransferStats:
        """Make the file, changed since `fetch`, the newest version. note: for the history.

        Raises `LeaseError` (`lease_lost`), or `BucketError` (`bucket_conflict`) if somebody
        published without the lease.
        """
        lease = self._held()
        with translated():
            from schedbucket import OtherVersionError  # noqa: PLC0415

            copy = working_copy(Path(path), self._repository)
            with copy.locked():
                try:
                    version, sent = copy.publish(lease=lease, by=self._holder, note=note)
                except OtherVersionError:
                    raise from_info(_conflict(self.organization).info()) from None
                copy.begin()
                return TransferStats(
                    version=version.number, bytes_up=sent, bytes_whole=version.size_bytes
                )


def _conflict(organization: str) -> SchedulerError:
    return SchedulerError(
        ErrorCode.BUCKET_CONFLICT,
        f"{organization} was published by someone else after it was downloaded",
        hint="Download it again and repeat the changes. Hold a lease during both to keep other "
        "writers out.",
    )
