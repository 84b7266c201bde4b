"""One writer of an organization's file across machines.

A lease in its document, with a token that only rises.

Safety does not rest on clocks. Whoever publishes does so by compare-and-swap of the very document
that holds the lease, and only while its own token stands there: a writer that was paused, or whose
clock is wrong, finds another token and gives up. Clocks only decide how long others wait for one
who has died.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Self

import msgspec

from schedproto import ErrorCode, SchedulerError

from .head import Head, LeaseState, Register

DURATION_S = 30.0
#: How wrong two machines' clocks may be against each other. A lease that ended longer ago by our
#: clock is taken over at once; any other only after it was watched for its duration, by the
#: monotonic clock, and was not renewed.
SKEW_S = 10.0
_POLL_S = 0.5
_FORMAT = "%Y-%m-%dT%H:%M:%S.%fZ"


def utc_now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)


def time_text(moment: datetime) -> str:
    """Return a time as the document has it: RFC 3339, UTC."""
    return moment.astimezone(UTC).strftime(_FORMAT)


def time_of(text: str) -> datetime:
    """Return the time that a text names; one that cannot be read is long ago."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        return datetime.fromtimestamp(0, UTC)


class Lease:
    """The right to write one organization's file.

    Made by `Lease.acquire`; use it as a context manager.

    token: rises with every lease of the organization.   lost: set once somebody else has taken it
    over.
    trouble: why the last renewal or the release failed.
    """

    def __init__(
        self, register: Register, state: LeaseState, now: Callable[[], datetime] = utc_now
    ) -> None:
        self._register, self._state, self._now = register, state, now
        self.lost = False
        self.trouble: SchedulerError | None = None
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    @classmethod
    def acquire(
        cls,
        register: Register,
        holder: str,
        *,
        duration_s: float = DURATION_S,
        wait_s: float | None = None,
        check: Callable[[], None] = lambda: None,
        now: Callable[[], datetime] = utc_now,
    ) -> Lease:
        """Return the lease once it is ours. Raises `SchedulerError` (`lease_held`) after `wait_s`.

        holder: who we are; a lease of the same holder, which has died, is taken over at once, so no
        two that live at the same time may have the same name.   wait_s: by default long enough to
        outlive a dead holder's lease.
        check: called often; what it raises ends the wait.
        """
        attempt = _Attempt(holder, duration_s, now)
        deadline = time.monotonic() + (duration_s + SKEW_S + 5.0 if wait_s is None else wait_s)
        while True:
            check()
            try:
                head = register.change(attempt.edit)
            except _HeldError as held:
                if time.monotonic() >= deadline:
                    raise held.error(register.last.organization) from None
                time.sleep(_POLL_S)
            else:
                assert head.lease is not None  # `edit` put it there
                return cls(register, head.lease, now)

    @property
    def token(self) -> int:
        """Return the fencing token."""
        return self._state.token

    def renew(self) -> None:
        """Make the lease last for its duration from now. Raises `SchedulerError` (`lease_lost`)."""

        def edit(head: Head) -> Head:
            held = self.check(head)
            state = msgspec.structs.replace(
                held,
                beat=held.beat + 1,
                expires_at=time_text(self._now() + timedelta(seconds=held.duration_s)),
            )
            return msgspec.structs.replace(head, lease=state)

        self._register.change(edit)

    def check(self, head: Head) -> LeaseState:
        """Return what the document says of this lease.

        Raises `SchedulerError` (`lease_lost`) if it is not ours.
        """
        if head.lease is None or head.lease.nonce != self._state.nonce:
            self.lost = True
            other = "nobody" if head.lease is None else head.lease.holder
            raise SchedulerError(
                ErrorCode.LEASE_LOST,
                f"the lease of {head.organization} was lost to {other} because it was not renewed in time",
                hint="Nothing was published; submit the job again.",
            )
        return head.lease

    def keep(self) -> Self:
        """Renew in a thread, three times in each duration, until the release."""
        self._thread = threading.Thread(target=self._renew_on, name="lease", daemon=True)
        self._thread.start()
        return self

    def _renew_on(self) -> None:
        while not self._ended.wait(self._state.duration_s / 3):
            try:
                self.renew()
            except SchedulerError as error:
                self.trouble = error
                if error.code == ErrorCode.LEASE_LOST:
                    return

    def without(self, head: Head) -> Head:
        """Return a document in which this lease is released.

        For a write that releases by the way.
        """
        self.check(head)
        self._ended.set()
        return msgspec.structs.replace(head, lease=None)

    def release(self) -> None:
        """Give the lease back; one that is not ours any more is left alone."""
        self._ended.set()

        def edit(head: Head) -> Head:
            if head.lease is None or head.lease.nonce != self._state.nonce:
                return head
            return msgspec.structs.replace(head, lease=None)

        try:
            self._register.change(edit)
        except SchedulerError as error:
            self.trouble = error  # it runs out by itself

    def __enter__(self) -> Self:
        return self.keep()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


class _Attempt:
    """One wait for a lease: what was seen of its holder so far."""

    def __init__(self, holder: str, duration_s: float, now: Callable[[], datetime]) -> None:
        self._holder, self._duration_s, self._now = holder, duration_s, now
        self._nonce = secrets.token_hex(8)
        self._watched: tuple[int, int] | None = None
        self._since = time.monotonic()

    def edit(self, head: Head) -> Head:
        """Return the document with our lease in it. Raises `_HeldError`."""
        if head.lease is not None:
            if head.lease.nonce == self._nonce:
                return head  # ours already: the answer to the write was lost
            if not self._free(head.lease):
                raise _HeldError(head.lease)
        state = LeaseState(
            holder=self._holder,
            nonce=self._nonce,
            token=head.fence + 1,
            beat=0,
            duration_s=self._duration_s,
            expires_at=time_text(self._now() + timedelta(seconds=self._duration_s)),
        )
        return msgspec.structs.replace(head, lease=state, fence=state.token)

    def _free(self, held: LeaseState) -> bool:
        if held.holder == self._holder:
            return True
        if (held.token, held.beat) != self._watched:
            self._watched, self._since = (held.token, held.beat), time.monotonic()
        expired, now = time_of(held.expires_at), self._now()
        if now > expired + timedelta(seconds=SKEW_S):
            return True
        return time.monotonic() - self._since >= held.duration_s


class _HeldError(Exception):
    """Somebody else has the lease."""

    def __init__(self, state: LeaseState) -> None:
        super().__init__(state.holder)
        self.state = state

    def error(self, organization: str) -> SchedulerError:
        return SchedulerError(
            ErrorCode.LEASE_HELD,
            f"{organization} is leased by {self.state.holder} until {self.state.expires_at}",
            hint="Retry when it has ended. The lease of a crashed holder expires automatically.",
            details={"holder": self.state.holder, "expires_at": self.state.expires_at},
        )
