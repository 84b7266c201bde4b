"""Questions and changes that are not jobs, on organizations that live in a bucket.

Fetched before, published after.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from schedbucket import Lease
from schedbucket.repository import OtherVersionError
from schedd.backups.backups import Backups
from schedproto import ErrorCode, SchedulerError

from .cache import make_room
from .location import ReplicaPlace, keeper_of_changed

#: How long a change waits for a lease that somebody else has.
WAIT_S = 10.0


@contextmanager
def reading(place: ReplicaPlace, organization: str, backups: Backups | None) -> Iterator[None]:
    """Have the volume's copy up to date; while a job has it, it is left as it is."""
    copy = place.copy(organization, keeper_of_changed(backups, place, organization))
    with ExitStack() as stack:
        with suppress(BlockingIOError):
            stack.enter_context(copy.locked(wait=False))
            newest = copy.repository.newest()
            if newest is not None:
                make_room(place, organization, newest.size_bytes)
            copy.refresh(seen=True)
        yield


@contextmanager
def writing(
    place: ReplicaPlace, organization: str, backups: Backups | None, note: str, *, new: bool = False
) -> Iterator[None]:
    """Change the newest version and publish that. new: there may be no file yet.

    Raises `SchedulerError`.
    """
    copy = place.copy(organization, keeper_of_changed(backups, place, organization))
    try:
        with copy.locked(wait=False):
            lease = Lease.acquire(
                copy.repository.register, place.holder, duration_s=place.lease_s, wait_s=WAIT_S
            )
            with lease:
                try:
                    copy.refresh(seen=True)
                except SchedulerError as error:
                    if not new or error.code != ErrorCode.DATABASE_MISSING:
                        raise
                copy.begin()
                try:
                    yield
                    copy.publish(lease=lease, release=True, by=place.holder, note=note)
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
