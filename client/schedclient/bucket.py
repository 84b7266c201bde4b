"""Access to the bucket for programs that write organizations' files themselves.

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

from schedproto import ErrorCode, SchedulerError

from .errors import SettingsError, from_info

if TYPE_CHECKING:
    from schedbucket import BucketSettings, Copy, Lease, Moved, Repository

#: Suffix of the folder next to a fetched file that records which version the file is.
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
        from schedbucket import load_settings  # noqa: PLC0415 - an extra, and only where it is used

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
    """Return an organization's part of the bucket."""
    settings = settings or bucket_settings()
    with translated():
        from schedbucket import open_repository, open_store  # noqa: PLC0415

        return open_repository(settings, open_store(settings), organization)


def copy_of(path: Path, repository: Repository) -> Copy:
    """Return a file here as a copy of what the bucket has."""
    from schedbucket import Copy  # noqa: PLC0415

    return Copy(path, path.with_name(path.name + SIDECAR_SUFFIX), repository)


class OrganizationLease:
    """The exclusive right to write an organization's file, for a `with` block.

        with OrganizationLease("org-123", wait_s=10) as lease:
            lease.fetch("org-123.db")
            ...  # change the file
            lease.publish("org-123.db", note="new contacts")

    A thread renews it. Entering raises `LeaseError` (`lease_held`) if somebody else holds it for
    longer than `wait_s` seconds.
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
        self._holder = holder or f"{socket.gethostname()}/{os.getpid()}/{id(self):x}"
        self._lease: Lease | None = None

    def __enter__(self) -> Self:
        with translated():
            from schedbucket import Lease  # noqa: PLC0415

            self._lease = Lease.acquire(
                self._repository.register,
                self._holder,
                duration_s=self._duration_s,
                wait_s=self._wait_s,
            ).keep()
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
    def token(self) -> int:
        """Return the fencing token: it rises with every lease of the organization."""
        return self._held().token

    def _held(self) -> Lease:
        if self._lease is None:
            raise SettingsError("the lease is not held", "Use it in a `with` block.")
        return self._lease

    def parts(self) -> tuple[Repository, Lease]:
        """Return the organization's repository and its lease, for other operations on them."""
        return self._repository, self._held()

    def check(self) -> None:
        """Raise `LeaseError` (`lease_lost`) if somebody else has taken over the lease."""
        with translated():
            self._held().check(self._repository.register.read())

    def fetch(self, path: str | PathLike[str]) -> Moved:
        """Download the newest version to `path`; if an older one is there, only what changed."""
        return self._moved(copy_of(Path(path), self._repository), publish=False)

    def publish(self, path: str | PathLike[str], note: str = "") -> Moved:
        """Publish the file as the newest version. Raises `LeaseError` if the lease was lost.

        note: recorded with the version.
        """
        return self._moved(copy_of(Path(path), self._repository), publish=True, note=note)

    def _moved(self, copy: Copy, *, publish: bool, note: str = "") -> Moved:
        lease = self._held()
        with translated():
            from schedbucket import Moved  # noqa: PLC0415
            from schedbucket.repository import OtherVersionError  # noqa: PLC0415

            with copy.locked():
                if not publish:
                    got = copy.refresh()
                    copy.begin()
                    known = copy.known
                    return Moved(
                        version=None if known is None else known.number,
                        bytes_down=got,
                        whole_bytes=copy.path.stat().st_size,
                    )
                try:
                    known, sent = copy.publish(lease=lease, by=self._holder, note=note)
                except OtherVersionError:
                    raise from_info(_conflict(self.organization).info()) from None
                copy.begin()
                return Moved(version=known.number, bytes_up=sent, whole_bytes=known.size_bytes)


def _conflict(organization: str) -> SchedulerError:
    return SchedulerError(
        ErrorCode.BUCKET_CONFLICT,
        f"{organization} was published by someone else after it was downloaded",
        hint="Download it again and repeat the changes. Hold a lease during both to keep other "
        "writers out.",
    )
