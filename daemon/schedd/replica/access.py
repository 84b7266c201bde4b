"""Requests that are not jobs, over an organization in a bucket: fetch before, publish after."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from schedbucket import Lease
from schedbucket.repository import OtherVersionError
from schedd.backups.backups import Backups
from schedproto import ErrorCode, SchedulerError

from .cache import make_room
from .location import BucketLocation, preserve_local_changes

#: How long a change waits for a lease that somebody else has.
WAIT_S = 10.0


@contextmanager
def read_access(
    location: BucketLocation, organization: str, backups: Backups | None
) -> Iterator[None]:
    """Bring the volume's copy up to date for a read. While a job uses it, it is read as it is.

    Example:

        with read_access(location, "org-123", None):
            ...  # read DATA/org-123.db
    """
    copy = location.copy(organization, preserve_local_changes(backups, location, organization))
    with ExitStack() as stack:
        with suppress(BlockingIOError):
            stack.enter_context(copy.locked(wait=False))
            newest = copy.repository.newest()
            if newest is not None:
                make_room(location, organization, newest.size_bytes)
            copy.refresh(cached=True)
        yield


@contextmanager
def write_access(
    location: BucketLocation,
    organization: str,
    backups: Backups | None,
    note: str,
    *,
    new: bool = False,
) -> Iterator[None]:
    """Have the block change the newest version, and publish the result.

        with write_access(location, "org-123", backups, "configuration"):
            ...  # write to DATA/org-123.db

    new: the organization need not exist yet. Raises `SchedulerError` (`organization_busy`,
    `lease_held`, `bucket_conflict`, ...); the copy is then as it was.
    """
    copy = location.copy(organization, preserve_local_changes(backups, location, organization))
    try:
        with copy.locked(wait=False):
            lease = Lease.acquire(
                copy.repository.head_document,
                location.holder,
                duration_s=location.lease_s,
                wait_s=WAIT_S,
                exclusive=True,  # it takes less time than a repetition would
            )
            with lease:
                try:
                    copy.refresh(cached=True)
                except SchedulerError as error:
                    if not new or error.code != ErrorCode.DATABASE_MISSING:
                        raise
                copy.begin()
                try:
                    yield
                    copy.publish(lease=lease, release=True, by=location.holder, note=note)
                except BaseException:
                    copy.discard()
                    raise
    except BlockingIOError:
        raise SchedulerError(
            ErrorCode.ORGANIZATION_BUSY,
            f"a job of {organization} is running, or its file is being changed",
            hint="Retry when it has ended (`schedctl list`).",
        ) from None
    except OtherVersionError:
        raise SchedulerError(
            ErrorCode.BUCKET_CONFLICT,
            f"another writer published {organization} at the same time",
            hint="Retry; nothing was changed.",
        ) from None
