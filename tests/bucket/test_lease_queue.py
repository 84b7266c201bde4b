"""The queue for the lease, and exclusive leases."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import msgspec
import pytest

from schedbucket import Lease
from schedbucket.head import LeaseRequest
from schedbucket.lease import time_text, utc_now
from schedbucket.repository import OtherVersionError
from schedproto import ErrorCode, SchedulerError
from tests.support.waiting import wait_until
from tests.support.working_copies import Machine, read, write

LAYOUTS = pytest.mark.parametrize("layout", ["versions", "plain"])
VERSIONS = pytest.mark.parametrize("layout", ["versions"])


def in_thread(call: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    return thread


# The queue for the lease --------------------------------------------------------------------------


@LAYOUTS
def test_first_come_first_served(machines: tuple[Machine, Machine], layout: str) -> None:
    """Whoever takes the lease again and again does not keep out one who has asked for it."""
    document, other = machines[0].repository.head_document, machines[1].repository.head_document
    first = Lease.acquire(document, "app", duration_s=30.0)
    taken: list[Lease] = []
    waiter = in_thread(lambda: taken.append(Lease.acquire(other, "job", duration_s=30.0)))
    wait_until(lambda: [r.holder for r in document.read().waiting] == ["job"])
    first.release()
    again = in_thread(lambda: taken.append(Lease.acquire(document, "app", duration_s=30.0)))
    waiter.join(60)
    assert [lease.fencing_token for lease in taken] == [first.fencing_token + 1]
    wait_until(lambda: [r.holder for r in other.read().waiting] == ["app"])
    taken[0].release()
    again.join(60)
    assert taken[1].fencing_token == first.fencing_token + 2
    assert document.read().waiting == []


@LAYOUTS
def test_waiters_that_are_gone(machines: tuple[Machine, Machine], layout: str) -> None:
    """A waiter that gives up leaves the queue; a crashed one blocks it only for a while."""
    document = machines[0].repository.head_document
    lease = Lease.acquire(document, "app", duration_s=30.0)
    with pytest.raises(SchedulerError) as caught:
        Lease.acquire(machines[1].repository.head_document, "job", duration_s=30.0, wait_s=0.3)
    assert caught.value.code == ErrorCode.LEASE_HELD
    assert document.read().waiting == []
    lease.release()

    dead = LeaseRequest(
        holder="crashed", nonce="1", renewals=3, duration_s=0.5, expires_at=time_text(utc_now())
    )
    document.change(lambda head: msgspec.structs.replace(head, waiting=[dead]))
    with pytest.raises(SchedulerError, match="requested before by crashed"):
        Lease.acquire(document, "job", duration_s=30.0, wait_s=0.0)
    Lease.acquire(document, "job", duration_s=30.0, wait_s=30.0)
    assert document.read().waiting == []


@VERSIONS
def test_a_request_before_a_restarted_holder(
    machines: tuple[Machine, Machine],
    layout: str,
) -> None:
    """A restarted holder continues with its lease although others wait."""
    document = machines[0].repository.head_document
    Lease.acquire(document, "job", duration_s=30.0)
    taken: list[Lease] = []
    other = machines[1].repository.head_document
    waiter = in_thread(lambda: taken.append(Lease.acquire(other, "app", duration_s=30.0)))
    wait_until(lambda: bool(document.read().waiting))
    again = Lease.acquire(document, "job", duration_s=30.0, wait_s=0.0)
    assert [request.holder for request in document.read().waiting] == ["app"]
    again.release()
    waiter.join(60)
    assert taken[0].fencing_token == again.fencing_token + 1


# Writers without a lease --------------------------------------------------------------------------


@LAYOUTS
def test_exclusive(machines: tuple[Machine, Machine], layout: str) -> None:
    """A writer without a lease publishes, but waits while a lease is exclusive."""
    holder, writer = machines
    lease = Lease.acquire(holder.repository.head_document, "job", duration_s=60.0)
    writer.change("next to a lease")
    holder.copy.refresh()
    holder.copy.begin()
    write(holder.path, "by the holder")
    lease.make_exclusive()
    outcome: list[str] = []

    def publish() -> None:
        try:
            writer.change("without a lease")
        except OtherVersionError:
            outcome.append("overtaken")

    waiting = in_thread(publish)
    time.sleep(0.5)
    assert outcome == []
    holder.copy.publish(lease=lease, release=True)
    waiting.join(60)
    assert outcome == ["overtaken"]
    writer.copy.discard()
    writer.change("afterwards", row=8)
    holder.copy.refresh()
    assert (read(holder.path), read(holder.path, 8)) == ("by the holder", "afterwards")


@LAYOUTS
def test_exclusive_and_crashed(machines: tuple[Machine, Machine], layout: str) -> None:
    """A crashed holder of an exclusive lease holds a writer up only until the lease expires."""
    holder, writer = machines
    Lease.acquire(holder.repository.head_document, "job", duration_s=0.5, exclusive=True)
    writer.change("after the crash")
    holder.copy.refresh()
    assert read(holder.path) == "after the crash"
