"""Lease of an organization: one writer at a time, across machines.

Safety does not depend on clocks. A holder publishes by compare-and-swap of the document that has
the lease, and only while its own nonce is in it. A writer that was paused, or whose clock is wrong,
finds another nonce and gives up. Clocks only decide how long others wait for a crashed holder.

Waiting writers queue in the document, so that one that takes the lease again and again cannot keep
the others out.
"""

from __future__ import annotations

import os
import random
import secrets
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Self

import msgspec

from schedproto import ErrorCode, SchedulerError

from .head import Head, HeadDocument, LeaseRequest, LeaseState

DURATION_S = 30.0
#: How far two machines' clocks may differ. A lease that expired longer ago by our clock is taken at
#: once. Any other is taken only after it was watched for its duration, by the monotonic clock, and
#: not renewed.
SKEW_S = 10.0
#: A request in the queue counts for this long after its last renewal.
REQUEST_S = 10.0
_POLL_S = 0.25
_FORMAT = "%Y-%m-%dT%H:%M:%S.%fZ"


def utc_now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)


def time_text(moment: datetime) -> str:
    """Return a time as documents have it: RFC 3339, UTC."""
    return moment.astimezone(UTC).strftime(_FORMAT)


def time_of(text: str) -> datetime:
    """Return the time in a text; 1970 if it cannot be read."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        return datetime.fromtimestamp(0, UTC)


def patience_s(duration_s: float) -> float:
    """Return how long to wait for a lease by default: long enough to outlive a crashed holder's."""
    return duration_s + SKEW_S + 5.0


class Lease:
    """The right to write one organization's file. Made by `acquire`.

        with Lease.acquire(repository.head_document, "app-7") as lease:   # renewed by a thread
            copy.refresh()
            ...
            copy.publish(lease=lease, release=True)

    lost: set once somebody else has taken it.   last_error: of the last renewal or the release.
    """

    def __init__(
        self, head_document: HeadDocument, state: LeaseState, now: Callable[[], datetime] = utc_now
    ) -> None:
        self._head_document, self._state, self._now = head_document, state, now
        self.lost = False
        self.last_error: SchedulerError | None = None
        self._pid = os.getpid()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    @classmethod
    def acquire(
        cls,
        head_document: HeadDocument,
        holder: str,
        *,
        duration_s: float = DURATION_S,
        wait_s: float | None = None,
        exclusive: bool = False,
        check: Callable[[], None] = lambda: None,
        now: Callable[[], datetime] = utc_now,
    ) -> Lease:
        """Wait for the lease and return it. Raises `SchedulerError` (`lease_held`) after `wait_s`.

        holder: a name that no other living process has. A lease of the same holder, which must have
        crashed, is taken at once.
        wait_s: default: long enough to outlive a crashed holder. 0: do not queue.
        exclusive: as in `make_exclusive`.
        check: called often; an exception that it raises ends the wait.
        """
        deadline = time.monotonic() + (patience_s(duration_s) if wait_s is None else wait_s)
        attempt = _Attempt(
            holder, duration_s, now, exclusive=exclusive, queues=deadline > time.monotonic()
        )
        try:
            state = attempt.wait(head_document, deadline, check)
        except BaseException:
            attempt.withdraw(head_document)
            raise
        return cls(head_document, state, now)

    @property
    def fencing_token(self) -> int:
        """Return the fencing token, which increases with every lease of the organization."""
        return self._state.fencing_token

    @property
    def released(self) -> bool:
        """Return whether the lease was released, or a write that releases it was sent."""
        return self._ended.is_set()

    def renew(self) -> None:
        """Extend the lease by its duration from now. Raises `SchedulerError` (`lease_lost`)."""

        def edit(head: Head) -> Head:
            held = self.check(head)
            state = msgspec.structs.replace(
                held,
                renewals=held.renewals + 1,
                expires_at=time_text(self._now() + timedelta(seconds=held.duration_s)),
            )
            return msgspec.structs.replace(head, lease=state)

        self._head_document.change(edit)

    def make_exclusive(self) -> None:
        """Have writers without a lease wait until this lease ends (see `ExclusiveWait`).

        Raises `SchedulerError` (`lease_lost`).
        """

        def edit(head: Head) -> Head:
            held = self.check(head)
            if held.exclusive:
                return head
            state = msgspec.structs.replace(held, exclusive=True)
            return msgspec.structs.replace(head, lease=state)

        self._head_document.change(edit)

    def check_process(self) -> None:
        """Raise `SchedulerError` (`lease_lost`) in a child that was forked from the holder.

        The thread that renews the lease is the parent's, and so is the right to write.
        """
        if self._pid != os.getpid():
            raise SchedulerError(
                ErrorCode.LEASE_LOST,
                f"the lease of {self._head_document.organization} is held by the process "
                f"{self._pid}, from which this process was forked",
                hint="Take a lease in the process that writes.",
            )

    def check(self, head: Head) -> LeaseState:
        """Return this lease as the document has it. Raises `SchedulerError` (`lease_lost`)."""
        self.check_process()
        if head.lease is None or head.lease.nonce != self._state.nonce:
            self.lost = True
            other = "nobody" if head.lease is None else head.lease.holder
            raise SchedulerError(
                ErrorCode.LEASE_LOST,
                f"the lease of {head.organization} was lost to {other} because it was not renewed "
                "in time",
                hint="Nothing was published; submit the job again.",
            )
        return head.lease

    def start_renewing(self) -> Self:
        """Renew in a thread, three times in each duration, until the release."""
        self._thread = threading.Thread(target=self._renew_repeatedly, name="lease", daemon=True)
        self._thread.start()
        return self

    def _renew_repeatedly(self) -> None:
        while not self._ended.wait(self._state.duration_s / 3):
            try:
                self.renew()
            except SchedulerError as error:
                self.last_error = error
                if error.code == ErrorCode.LEASE_LOST:
                    return

    def released_from(self, head: Head) -> Head:
        """Return a head without this lease, for a write that publishes and releases at once."""
        self.check(head)
        self._ended.set()
        return msgspec.structs.replace(head, lease=None)

    def release(self) -> None:
        """Give the lease back, unless it was lost. Never raises `SchedulerError`.

        In a child that was forked from the holder it does nothing.
        """
        if self._pid != os.getpid():
            return
        self._ended.set()

        def edit(head: Head) -> Head:
            if head.lease is None or head.lease.nonce != self._state.nonce:
                return head
            return msgspec.structs.replace(head, lease=None)

        try:
            self._head_document.change(edit)
        except SchedulerError as error:
            self.last_error = error  # it expires automatically

    def __enter__(self) -> Self:
        return self.start_renewing()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


class ExclusiveLeaseError(Exception):
    """Another writer holds an exclusive lease, so a writer without a lease must wait."""


class ExclusiveWait:
    """Has a writer without a lease wait while another writer's lease is exclusive.

    Example:

        wait = ExclusiveWait(head_document, check)
        wait.check(head)    # raises `ExclusiveLeaseError`
        wait.wait()         # blocks until that lease ends
    """

    def __init__(
        self,
        head_document: HeadDocument,
        check: Callable[[], None] = lambda: None,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._head_document, self._check = head_document, check
        self._expiry = _Expiry(now)

    def check(self, head: Head) -> None:
        """Raise `ExclusiveLeaseError` if the head has an exclusive lease that has not expired."""
        if head.lease is not None and head.lease.exclusive and not self._expiry.passed(head.lease):
            raise ExclusiveLeaseError

    def wait(self) -> None:
        """Wait until no lease is exclusive. Raises `SchedulerError` (`lease_held`)."""
        deadline: float | None = None
        while True:
            self._check()
            head = self._head_document.read()
            try:
                self.check(head)
            except ExclusiveLeaseError:
                assert head.lease is not None
            else:
                return
            deadline = deadline or time.monotonic() + patience_s(head.lease.duration_s)
            if time.monotonic() >= deadline:
                raise _held_error(head.organization, head.lease)
            _pause()


class _Expiry:
    """Judges whether a lease, or a request for one, of another writer has expired."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        #: nonce -> renewals, and since when they have been so by our monotonic clock
        self._seen: dict[str, tuple[int, float]] = {}

    def passed(self, held: LeaseState | LeaseRequest) -> bool:
        seen = self._seen.get(held.nonce)
        if seen is None or seen[0] != held.renewals:
            seen = self._seen[held.nonce] = (held.renewals, time.monotonic())
        if self._now() > time_of(held.expires_at) + timedelta(seconds=SKEW_S):
            return True
        return time.monotonic() - seen[1] >= held.duration_s


class _Attempt:
    """One writer's wait for the lease."""

    def __init__(
        self,
        holder: str,
        duration_s: float,
        now: Callable[[], datetime],
        *,
        exclusive: bool,
        queues: bool,
    ) -> None:
        self._holder, self._duration_s, self._now = holder, duration_s, now
        self._exclusive, self._queues = exclusive, queues
        self._nonce = secrets.token_hex(8)
        self._expiry = _Expiry(now)
        self._blocker: LeaseState | LeaseRequest | None = None
        self._request_renewals = 0
        self._requested_at: float | None = None

    def wait(
        self, head_document: HeadDocument, deadline: float, check: Callable[[], None]
    ) -> LeaseState:
        """Take the lease when it is free and our turn. Raises `SchedulerError` (`lease_held`)."""
        while True:
            check()
            state = self._take(head_document)
            if state is not None:
                return state
            if time.monotonic() >= deadline:
                assert self._blocker is not None
                raise _held_error(head_document.organization, self._blocker)
            _pause()

    def _take(self, head_document: HeadDocument) -> LeaseState | None:
        """Take the lease and return it, or queue for it and return None."""
        try:
            head = head_document.change(self._edit)
        except _HeldError:
            return None
        if head.lease is not None and head.lease.nonce == self._nonce:
            return head.lease
        self._requested_at = time.monotonic()
        self._request_renewals += 1
        return None

    def withdraw(self, head_document: HeadDocument) -> None:
        """Leave the queue, so that the others need not wait for the request to expire."""
        if self._requested_at is None:
            return

        def edit(head: Head) -> Head:
            waiting = [request for request in head.waiting if request.nonce != self._nonce]
            if len(waiting) == len(head.waiting):
                return head
            return msgspec.structs.replace(head, waiting=waiting)

        try:
            head_document.change(edit)
        except SchedulerError:
            return  # it expires automatically

    def _edit(self, head: Head) -> Head:
        """Return the head with our lease, or with our request. Raises `_HeldError`."""
        if head.lease is not None and head.lease.nonce == self._nonce:
            return head  # taken already: the reply to the write was lost
        self._blocker = self._blocker_in(head)
        if self._blocker is None:
            return self._with_lease(head)
        if self._queues and self._request_is_due(head):
            return self._with_request(head)
        raise _HeldError

    def _blocker_in(self, head: Head) -> LeaseState | LeaseRequest | None:
        """Return the lease, or the request before ours, that is in the way."""
        if head.lease is not None:
            if head.lease.holder == self._holder:
                return None  # we crashed with it, and continue
            if not self._expiry.passed(head.lease):
                return head.lease
        for request in head.waiting:
            if self._is_ours(request):
                return None
            if not self._expiry.passed(request):
                return request
        return None

    def _is_ours(self, request: LeaseRequest) -> bool:
        return request.nonce == self._nonce or request.holder == self._holder

    def _request_is_due(self, head: Head) -> bool:
        if self._requested_at is None or all(r.nonce != self._nonce for r in head.waiting):
            return True
        return time.monotonic() - self._requested_at >= self._request_s / 3

    @property
    def _request_s(self) -> float:
        return min(REQUEST_S, self._duration_s)

    def _with_lease(self, head: Head) -> Head:
        state = LeaseState(
            holder=self._holder,
            nonce=self._nonce,
            fencing_token=head.last_fencing_token + 1,
            renewals=0,
            duration_s=self._duration_s,
            expires_at=time_text(self._now() + timedelta(seconds=self._duration_s)),
            exclusive=self._exclusive,
        )
        waiting = [
            request
            for request in head.waiting
            if not self._is_ours(request) and not self._expiry.passed(request)
        ]
        return msgspec.structs.replace(
            head, lease=state, last_fencing_token=state.fencing_token, waiting=waiting
        )

    def _with_request(self, head: Head) -> Head:
        """Return the head with our request at the end of the queue, or renewed in its position."""
        ours = LeaseRequest(
            holder=self._holder,
            nonce=self._nonce,
            renewals=self._request_renewals,
            duration_s=self._request_s,
            expires_at=time_text(self._now() + timedelta(seconds=self._request_s)),
        )
        waiting = [ours if self._is_ours(request) else request for request in head.waiting]
        if ours not in waiting:
            waiting.append(ours)
        return msgspec.structs.replace(head, waiting=waiting)


class _HeldError(Exception):
    """The lease cannot be taken, and there is nothing to write."""


def _held_error(organization: str, held: LeaseState | LeaseRequest) -> SchedulerError:
    kind = "leased by" if isinstance(held, LeaseState) else "requested before by"
    return SchedulerError(
        ErrorCode.LEASE_HELD,
        f"{organization} is {kind} {held.holder} until {held.expires_at}",
        hint="Retry when it has ended. The lease of a crashed holder expires automatically.",
        details={"holder": held.holder, "expires_at": held.expires_at},
    )


def _pause() -> None:
    # Jitter only keeps waiting writers from polling in step.
    time.sleep(_POLL_S * (0.8 + 0.4 * random.random()))  # noqa: S311
