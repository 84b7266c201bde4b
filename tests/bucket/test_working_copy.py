"""Copies, versions and leases, without a daemon.

On a folder and on a real S3 server, in both layouts.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schedbucket import BucketSettings, Lease, WorkingCopy, patches, versions
from schedbucket.layouts import open_store, organizations
from schedbucket.object_store import Condition
from schedbucket.repository import OtherVersionError
from schedproto import ErrorCode, SchedulerError
from tests.support.working_copies import Machine, read, write

LAYOUTS = pytest.mark.parametrize("layout", ["versions", "plain"])


@LAYOUTS
def test_publish_and_fetch(machines: tuple[Machine, Machine], layout: str) -> None:
    """A machine fetches what the other published: nothing if it is current, else the changes.

    The files are equal, byte for byte.
    """
    one, two = machines
    complete = two.copy.refresh()
    assert complete > 0
    assert two.copy.refresh() == 0
    for number in range(5):
        giver, taker = (one, two) if number % 2 else (two, one)
        sent = giver.change(f"text {number}")
        got = taker.copy.refresh()
        assert read(taker.path) == f"text {number}"
        assert taker.path.read_bytes() == giver.path.read_bytes()
        if layout == "versions":
            assert sent == got < complete / 5
    known = one.copy.version
    assert known is not None
    assert known.size_bytes == one.path.stat().st_size


@LAYOUTS
def test_publish_without_a_change(machines: tuple[Machine, Machine], layout: str) -> None:
    """A publish without a change makes no version."""
    one, _ = machines
    before = one.repository.newest()
    one.copy.begin()
    assert one.copy.publish()[1] == 0
    assert one.repository.newest() == before
    assert not (one.copy.folder / "base.db").exists(), "a complete file is left on the volume"
    one.copy.begin()
    write(one.path, "there")
    write(one.path, "c7@example.org")  # the same rows again, in a file that has been written to
    known, sent = one.copy.publish()
    assert (sent > 0) == (known != before)
    assert one.copy.version == known == one.repository.newest()


@LAYOUTS
def test_conflicting_publish(machines: tuple[Machine, Machine], layout: str) -> None:
    """Of two who changed the same version one publishes.

    The other gets an error, and both files are unchanged.
    """
    one, two = machines
    two.copy.refresh()
    two.copy.begin()
    write(two.path, "two")
    one.change("one")
    with pytest.raises(OtherVersionError):
        two.copy.publish()
    assert read(two.path) == "two"
    two.copy.discard()
    assert read(two.path) != "two"
    two.change("two again", row=8)
    one.copy.refresh()
    assert (read(one.path), read(one.path, 8)) == ("one", "two again")


@LAYOUTS
def test_changed_outside(machines: tuple[Machine, Machine], layout: str, tmp_path: Path) -> None:
    """A copy that somebody has changed is not replaced silently.

    It is refused, or kept where the caller says.
    """
    one, two = machines
    write(one.path, "by hand")
    two.change("published")
    with pytest.raises(SchedulerError, match="has local changes"):
        one.copy.refresh()
    kept: list[str] = []
    keeping = WorkingCopy(
        one.path,
        one.copy.folder,
        one.repository,
        preserve_changes=lambda path: kept.append(read(path)),
    )
    keeping.refresh()
    assert kept == ["by hand"]
    assert read(one.path) == "published"


@LAYOUTS
def test_copy_without_its_note(machines: tuple[Machine, Machine], layout: str) -> None:
    """A copy without its note is recognised by content and not fetched again."""
    one, two = machines
    two.change("new")
    one.copy.refresh()
    (one.copy.folder / "state.json").unlink()
    assert one.copy.refresh() == 0
    assert one.copy.version == one.repository.newest()


@LAYOUTS
def test_write_ahead_log(machines: tuple[Machine, Machine], layout: str) -> None:
    """A file in WAL mode is published with the content of its log.

    One that somebody holds open is refused.
    """
    one, two = machines
    one.copy.refresh()
    one.copy.begin()
    with closing(sqlite3.connect(one.path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("UPDATE contacts SET email = 'in the log' WHERE id = 7")
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM contacts").fetchall()
        with closing(sqlite3.connect(one.path, isolation_level=None)) as other:
            other.execute("UPDATE contacts SET email = 'in the log, too' WHERE id = 8")
        with pytest.raises(SchedulerError, match="another program") as caught:
            one.copy.publish()
        assert caught.value.code == ErrorCode.DATABASE_LOCKED
    one.copy.publish()
    two.copy.refresh()
    assert (read(two.path), read(two.path, 8)) == ("in the log", "in the log, too")


@LAYOUTS
def test_organizations_are_listed(
    settings_of: Callable[..., BucketSettings], machines: tuple[Machine, Machine], layout: str
) -> None:
    """The bucket tells which organizations it has."""
    where = settings_of(layout)
    assert machines[0].repository.organization in organizations(where, open_store(where))
    assert organizations(where, open_store(where)) == sorted(
        organizations(where, open_store(where))
    )


# The layout `versions` ----------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["versions"])
def test_versions_are_kept_folded_and_collected(
    machines: tuple[Machine, Machine], layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every version kept can be fetched; patches are folded.

    Objects that no version needs are deleted later, and no others.
    """
    monkeypatch.setattr(versions, "MAX_PATCHES", 3)
    monkeypatch.setattr(versions, "KEEP_VERSIONS", 6)
    one, two = machines
    contents = {1: one.path.read_bytes()}
    for number in range(2, 14):
        one.change(f"version {number}")
        contents[number] = one.path.read_bytes()
    history = one.repository.history()
    assert [entry.version for entry in history] == sorted(
        (e.version for e in history), reverse=True
    )
    assert 6 <= len(history) <= 10
    assert {entry.kind for entry in history} == {"snapshot", "patch"}
    for entry in history:
        target = two.path.with_name(f"{entry.version}.db")
        wanted = versions.version_ref(entry)
        two.repository.fetch(wanted, None, None, target)
        assert target.read_bytes() == contents[entry.version]
    head = one.repository.head_document.read()
    assert head.garbage
    store = one.repository.head_document.store
    orphan = f"orgs/{one.repository.organization}/00000099-dead.patch.zst"
    store.put(orphan, b"x", Condition(None))
    objects = {stored.key for stored in store.objects(f"orgs/{one.repository.organization}/")}
    assert {item.key for item in head.garbage} < objects
    assert one.repository.collect() == 0  # all of it is young
    monkeypatch.setattr(versions, "GRACE_S", -5.0)
    monkeypatch.setattr(versions, "ORPHAN_S", -5.0)
    assert one.repository.collect() == len(head.garbage) + 1
    left = {stored.key for stored in store.objects(f"orgs/{one.repository.organization}/")}
    assert left == {entry.key for entry in history} | {one.repository.head_document.key}
    assert one.repository.head_document.read().garbage == []
    two.copy.refresh()
    assert two.path.read_bytes() == contents[13]


@pytest.mark.parametrize("layout", ["versions"])
def test_version_gone_while_fetching(
    machines: tuple[Machine, Machine], layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader whose version is deleted during the fetch restarts with the newest."""
    one, two = machines
    original = two.repository.fetch
    calls = []

    def fetch(*arguments: object) -> int:
        calls.append(arguments)
        if len(calls) == 1:
            one.change("newer")
            head = two.repository.head_document.last
            one.repository.head_document.change(
                lambda now: (
                    type(now)(
                        organization=now.organization,
                        versions=now.versions[-1:],
                        write_id="x",
                        last_fencing_token=now.last_fencing_token,
                    )
                    if now.versions[-1].kind == "snapshot"
                    else now
                )
            )
            one.repository.head_document.store.delete(head.versions[0].key)
            write_snapshot(one)
        return original(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(two.repository, "fetch", fetch)
    two.copy.refresh()
    assert len(calls) == 2
    assert read(two.path) == "snapshot"


def write_snapshot(machine: Machine) -> None:
    """Publish a complete file, and leave only that version in the head."""
    base = machine.copy.version
    write(machine.path, "snapshot")
    machine.repository.publish(machine.path, None, base, machine.copy.folder)
    machine.repository.head_document.change(
        lambda head: type(head)(
            organization=head.organization,
            versions=head.versions[-1:],
            last_fencing_token=head.last_fencing_token,
        )
    )


CHANGES = st.lists(
    st.tuples(st.integers(0, 40_000), st.binary(min_size=1, max_size=600)), max_size=6
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.binary(max_size=30_000), CHANGES, st.integers(0, 40_000))
def test_patches(
    tmp_path_factory: pytest.TempPathFactory,
    old: bytes,
    changes: list[tuple[int, bytes]],
    size: int,
) -> None:
    """A patch makes the new file of the old one, whatever both are.

    Truncated or corrupted, it is refused or caught by its hash.
    """
    folder = tmp_path_factory.mktemp("patch")
    new = bytearray(old)
    for at, data in changes:
        new[at : at + len(data)] = data
    new = new[:size]
    before, after, patch, made = (folder / name for name in ("before", "after", "patch", "made"))
    before.write_bytes(old)
    after.write_bytes(new)
    patches.make_patch(before, after, patch)
    made.write_bytes(old)
    patches.apply_patch(patch, made)
    assert made.read_bytes() == new
    data = patch.read_bytes()
    for broken in (data[:-1], data[: len(data) // 2], b"", b"junk" + data):
        patch.write_bytes(broken)
        made.write_bytes(old)
        with pytest.raises(patches.PatchError):
            patches.apply_patch(patch, made)
    if old:
        patch.write_bytes(data)
        made.write_bytes(old + b"x")
        with pytest.raises(patches.PatchError, match="for a file of"):
            patches.apply_patch(patch, made)


# Leases -------------------------------------------------------------------------------------------


@LAYOUTS
def test_lease_excludes_others(machines: tuple[Machine, Machine], layout: str) -> None:
    """The second waits until the first has released; tokens rise."""
    one, two = machines
    first = Lease.acquire(one.repository.head_document, "one", duration_s=120)
    with pytest.raises(SchedulerError) as caught:
        Lease.acquire(two.repository.head_document, "two", duration_s=120, wait_s=0.0)
    assert caught.value.code == ErrorCode.LEASE_HELD
    assert caught.value.retryable
    assert caught.value.details["holder"] == "one"
    threading.Timer(0.3, first.release).start()
    second = Lease.acquire(two.repository.head_document, "two", duration_s=120, wait_s=120)
    assert second.fencing_token > first.fencing_token
    second.release()


@LAYOUTS
def test_renewal_and_takeover(machines: tuple[Machine, Machine], layout: str) -> None:
    """A lease that is renewed stays.

    Another holder takes an expired one, and the first cannot publish any more.
    """
    one, two = machines
    one.copy.refresh()
    # A loaded machine renews late; with a second in hand it is in time all the same.
    duration_s = 2.0
    dead = Lease.acquire(one.repository.head_document, "one", duration_s=duration_s)
    with dead:
        with pytest.raises(SchedulerError):
            Lease.acquire(
                two.repository.head_document, "two", duration_s=duration_s, wait_s=2 * duration_s
            )
        dead._ended.set()  # from here on nothing renews it, as if the process were paused
        began = time.monotonic()
        taken = Lease.acquire(
            two.repository.head_document, "two", duration_s=duration_s, wait_s=120
        )
        assert time.monotonic() - began > duration_s / 2
        one.copy.begin()
        write(one.path, "from the dead")
        with pytest.raises(SchedulerError) as caught:
            one.copy.publish(lease=dead)
        assert caught.value.code == ErrorCode.LEASE_LOST
        with pytest.raises(SchedulerError):
            dead.renew()
    assert dead.lost
    two.change("from the living", lease=taken, release=True)
    assert one.repository.head_document.read().lease is None
    one.copy.discard()
    one.copy.refresh()
    assert read(one.path) == "from the living"


@LAYOUTS
@pytest.mark.parametrize("ahead_s", [-3600.0, -5.0, 5.0, 3600.0])
def test_clock_skew(machines: tuple[Machine, Machine], layout: str, ahead_s: float) -> None:
    """Whatever a machine's clock says: nothing is lost.

    A clock that is hours ahead may take a living lease over, and
    then its holder is the one who cannot publish; one that is little off, or behind, waits."""
    one, two = machines
    one.copy.refresh()
    held = Lease.acquire(one.repository.head_document, "one", duration_s=30.0)

    def skewed() -> datetime:
        return datetime.now(UTC) + timedelta(seconds=ahead_s)

    one.copy.begin()
    write(one.path, "one")
    if ahead_s < 60:
        with pytest.raises(SchedulerError) as caught:
            Lease.acquire(
                two.repository.head_document, "two", duration_s=30.0, wait_s=0.0, now=skewed
            )
        assert caught.value.code == ErrorCode.LEASE_HELD
        one.copy.publish(lease=held, release=True)
    else:
        Lease.acquire(two.repository.head_document, "two", duration_s=30.0, wait_s=0.0, now=skewed)
        with pytest.raises(SchedulerError) as caught:
            one.copy.publish(lease=held)
        assert caught.value.code == ErrorCode.LEASE_LOST


@LAYOUTS
def test_holder_reacquires_its_lease(machines: tuple[Machine, Machine], layout: str) -> None:
    """A restarted daemon acquires its own lease at once; the old token is invalid."""
    one, two = machines
    before = Lease.acquire(one.repository.head_document, "same", duration_s=600.0)
    after = Lease.acquire(two.repository.head_document, "same", duration_s=600.0, wait_s=0.0)
    assert after.fencing_token == before.fencing_token + 1
    with pytest.raises(SchedulerError):
        before.renew()
    after.release()


@pytest.mark.parametrize("layout", ["versions"])
def test_concurrent_writers(
    machines: tuple[Machine, Machine],
    settings_of: Callable[..., BucketSettings],
    layout: str,
    tmp_path: Path,
) -> None:
    """Several writers at once, some with leases and some without.

    Every write that was reported as done is there.
    """
    where, name = settings_of(layout), machines[0].repository.organization
    done: list[int] = []

    def work(number: int) -> None:
        machine = Machine(where, name, tmp_path / f"w{number}")
        for turn in range(4):
            row = 10_000 + number * 100 + turn
            if number % 2:
                with Lease.acquire(
                    machine.repository.head_document, f"w{number}", duration_s=5.0, wait_s=60.0
                ) as lease:
                    publish_until_done(machine, row, lease)
            else:
                publish_until_done(machine, row, None)
            done.append(row)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 16
    machines[0].copy.refresh()
    with closing(sqlite3.connect(machines[0].path)) as connection:
        found = {row for (row,) in connection.execute("SELECT id FROM contacts WHERE id >= 10000")}
    assert found == set(done)


def publish_until_done(machine: Machine, row: int, lease: Lease | None) -> None:
    for _ in range(100):
        try:
            machine.change("here", row, lease=lease)
        except OtherVersionError:
            machine.copy.discard()
            time.sleep(0.02)
        except SchedulerError as error:
            if error.code != ErrorCode.BUCKET_BUSY:
                raise
            machine.copy.discard()
        else:
            return
    raise AssertionError("never published")
