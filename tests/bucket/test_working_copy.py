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
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schedbucket import BucketSettings, Copy, Lease, open_repository, patches, versions
from schedbucket.layouts import open_store, organizations
from schedbucket.object_store import Condition
from schedbucket.repository import OtherVersionError, Repository
from schedproto import ErrorCode, SchedulerError

LAYOUTS = pytest.mark.parametrize("layout", ["versions", "plain"])


def make_database(path: Path, rows: int = 2000) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE contacts(id INTEGER PRIMARY KEY, email TEXT)")
        connection.executemany(
            "INSERT INTO contacts VALUES (?, ?)", ((n, f"c{n}@example.org") for n in range(rows))
        )


def write(path: Path, text: str, row: int = 7) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("INSERT OR REPLACE INTO contacts VALUES (?, ?)", (row, text))


def read(path: Path, row: int = 7) -> str:
    with closing(sqlite3.connect(path)) as connection:
        [(text,)] = connection.execute("SELECT email FROM contacts WHERE id = ?", (row,))
        return str(text)


class Place:
    """One machine: its own disk, the common bucket."""

    def __init__(self, where: BucketSettings, organization: str, folder: Path) -> None:
        folder.mkdir()
        self.repository: Repository = open_repository(where, open_store(where), organization)
        self.copy = Copy(folder / "org.db", folder / "state", self.repository)
        self.path = self.copy.path

    def change(self, text: str, row: int = 7, **options: Any) -> int:
        self.copy.refresh()
        self.copy.begin()
        write(self.path, text, row)
        return self.copy.publish(**options)[1]


@pytest.fixture
def places(
    settings_of: Callable[..., BucketSettings], layout: str, organization: str, tmp_path: Path
) -> tuple[Place, Place]:
    where = settings_of(layout)
    one, two = (Place(where, organization, tmp_path / name) for name in ("one", "two"))
    make_database(one.path)
    one.copy.refresh()
    one.copy.publish()
    return one, two


@LAYOUTS
def test_back_and_forth(places: tuple[Place, Place], layout: str) -> None:
    """What one publishes the other fetches: nothing when current, else what changed.

    The file is the same, bit by bit.
    """
    one, two = places
    whole = two.copy.refresh()
    assert whole > 0
    assert two.copy.refresh() == 0
    for number in range(5):
        giver, taker = (one, two) if number % 2 else (two, one)
        sent = giver.change(f"text {number}")
        got = taker.copy.refresh()
        assert read(taker.path) == f"text {number}"
        assert taker.path.read_bytes() == giver.path.read_bytes()
        if layout == "versions":
            assert sent == got < whole / 5
    known = one.copy.known
    assert known is not None
    assert known.size_bytes == one.path.stat().st_size


@LAYOUTS
def test_nothing_changed(places: tuple[Place, Place], layout: str) -> None:
    """A publish without a change makes no version."""
    one, _ = places
    before = one.repository.newest()
    one.copy.begin()
    assert one.copy.publish()[1] == 0
    assert one.repository.newest() == before
    assert not (one.copy.folder / "base.db").exists(), "a whole file is left lying on the volume"
    one.copy.begin()
    write(one.path, "there")
    write(one.path, "c7@example.org")  # the same rows again, in a file that has been written to
    known, sent = one.copy.publish()
    assert (sent > 0) == (known != before)
    assert one.copy.known == known == one.repository.newest()


@LAYOUTS
def test_other_version(places: tuple[Place, Place], layout: str) -> None:
    """Of two who changed the same version one publishes.

    The other is told, and both files are as they were.
    """
    one, two = places
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
def test_changed_outside(places: tuple[Place, Place], layout: str, tmp_path: Path) -> None:
    """A copy that somebody has changed is not replaced silently.

    It is refused, or kept where the caller says.
    """
    one, two = places
    write(one.path, "by hand")
    two.change("published")
    with pytest.raises(SchedulerError, match="has local changes"):
        one.copy.refresh()
    kept: list[str] = []
    keeping = Copy(
        one.path, one.copy.folder, one.repository, keep_changed=lambda path: kept.append(read(path))
    )
    keeping.refresh()
    assert kept == ["by hand"]
    assert read(one.path) == "published"


@LAYOUTS
def test_lost_note(places: tuple[Place, Place], layout: str) -> None:
    """A copy whose note was not written before a kill is recognised by its content and not fetched again."""
    one, two = places
    two.change("new")
    one.copy.refresh()
    (one.copy.folder / "state.json").unlink()
    assert one.copy.refresh() == 0
    assert one.copy.known == one.repository.newest()


@LAYOUTS
def test_write_ahead_log(places: tuple[Place, Place], layout: str) -> None:
    """A file in WAL mode is published with what lies in its log.

    One that somebody holds open is refused.
    """
    one, two = places
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
def test_list(
    settings_of: Callable[..., BucketSettings], places: tuple[Place, Place], layout: str
) -> None:
    """The bucket tells which organizations it has."""
    where = settings_of(layout)
    assert places[0].repository.organization in organizations(where, open_store(where))
    assert organizations(where, open_store(where)) == sorted(
        organizations(where, open_store(where))
    )


# The layout `versions` ----------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["versions"])
def test_versions_are_kept_folded_and_collected(
    places: tuple[Place, Place], layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every version kept can be fetched; patches are folded.

    What nothing needs goes, later, and nothing else.
    """
    monkeypatch.setattr(versions, "MAX_PATCHES", 3)
    monkeypatch.setattr(versions, "KEEP_VERSIONS", 6)
    one, two = places
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
        wanted = versions.known_of(entry)
        two.repository.fetch(wanted, None, None, target)
        assert target.read_bytes() == contents[entry.version]
    head = one.repository.register.read()
    assert head.garbage
    store = one.repository.register.store
    orphan = f"orgs/{one.repository.organization}/00000099-dead.patch.zst"
    store.put(orphan, b"x", Condition(None))
    objects = {stored.key for stored in store.objects(f"orgs/{one.repository.organization}/")}
    assert {item.key for item in head.garbage} < objects
    assert one.repository.collect() == 0  # all of it is young
    monkeypatch.setattr(versions, "GRACE_S", -5.0)
    monkeypatch.setattr(versions, "ORPHAN_S", -5.0)
    assert one.repository.collect() == len(head.garbage) + 1
    left = {stored.key for stored in store.objects(f"orgs/{one.repository.organization}/")}
    assert left == {entry.key for entry in history} | {one.repository.register.key}
    assert one.repository.register.read().garbage == []
    two.copy.refresh()
    assert two.path.read_bytes() == contents[13]


@pytest.mark.parametrize("layout", ["versions"])
def test_version_gone_while_fetching(
    places: tuple[Place, Place], layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader whose version is collected under its feet begins anew with the newest."""
    one, two = places
    original = two.repository.fetch
    calls = []

    def fetch(*arguments: object) -> int:
        calls.append(arguments)
        if len(calls) == 1:
            one.change("newer")
            head = two.repository.register.last
            one.repository.register.change(
                lambda now: (
                    type(now)(
                        organization=now.organization,
                        versions=now.versions[-1:],
                        write_id="x",
                        fence=now.fence,
                    )
                    if now.versions[-1].kind == "snapshot"
                    else now
                )
            )
            one.repository.register.store.delete(head.versions[0].key)
            write_snapshot(one)
        return original(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(two.repository, "fetch", fetch)
    two.copy.refresh()
    assert len(calls) == 2
    assert read(two.path) == "snapshot"


def write_snapshot(place: Place) -> None:
    """Publish a whole file, and leave only that version in the head."""
    place.copy.begin()
    write(place.path, "snapshot")
    (place.copy.folder / "base.db").unlink()
    place.copy._note(place.copy._state())  # type: ignore[arg-type]
    known = place.copy._state().known  # type: ignore[union-attr]
    place.repository.publish(place.path, None, known, place.copy.folder)
    place.repository.register.change(
        lambda head: type(head)(
            organization=head.organization, versions=head.versions[-1:], fence=head.fence
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

    Cut off or spoilt, it is refused or caught by its hash.
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
def test_one_writer(places: tuple[Place, Place], layout: str) -> None:
    """The second waits until the first has released; tokens rise."""
    one, two = places
    first = Lease.acquire(one.repository.register, "one", duration_s=120)
    with pytest.raises(SchedulerError) as caught:
        Lease.acquire(two.repository.register, "two", duration_s=120, wait_s=0.0)
    assert caught.value.code == ErrorCode.LEASE_HELD
    assert caught.value.retryable
    assert caught.value.details["holder"] == "one"
    threading.Timer(0.3, first.release).start()
    second = Lease.acquire(two.repository.register, "two", duration_s=120, wait_s=120)
    assert second.token > first.token
    second.release()


@LAYOUTS
def test_renewal_and_takeover(places: tuple[Place, Place], layout: str) -> None:
    """A lease that is renewed stays.

    One whose holder is dead is taken over, and its holder can publish no more.
    """
    one, two = places
    one.copy.refresh()
    # A loaded machine renews late; with a second in hand it is in time all the same.
    duration_s = 2.0
    dead = Lease.acquire(one.repository.register, "one", duration_s=duration_s)
    with dead:
        with pytest.raises(SchedulerError):
            Lease.acquire(
                two.repository.register, "two", duration_s=duration_s, wait_s=2 * duration_s
            )
        dead._ended.set()  # from here on nothing renews it, as if the process were paused
        began = time.monotonic()
        taken = Lease.acquire(two.repository.register, "two", duration_s=duration_s, wait_s=120)
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
    assert one.repository.register.read().lease is None
    one.copy.discard()
    one.copy.refresh()
    assert read(one.path) == "from the living"


@LAYOUTS
@pytest.mark.parametrize("ahead_s", [-3600.0, -5.0, 5.0, 3600.0])
def test_clock_skew(places: tuple[Place, Place], layout: str, ahead_s: float) -> None:
    """Whatever a machine's clock says: nothing is lost.

    A clock that is hours ahead may take a living lease over, and
    then its holder is the one who cannot publish; one that is little off, or behind, waits."""
    one, two = places
    one.copy.refresh()
    held = Lease.acquire(one.repository.register, "one", duration_s=30.0)

    def skewed() -> datetime:
        return datetime.now(UTC) + timedelta(seconds=ahead_s)

    one.copy.begin()
    write(one.path, "one")
    if ahead_s < 60:
        with pytest.raises(SchedulerError) as caught:
            Lease.acquire(two.repository.register, "two", duration_s=30.0, wait_s=0.0, now=skewed)
        assert caught.value.code == ErrorCode.LEASE_HELD
        one.copy.publish(lease=held, release=True)
    else:
        Lease.acquire(two.repository.register, "two", duration_s=30.0, wait_s=0.0, now=skewed)
        with pytest.raises(SchedulerError) as caught:
            one.copy.publish(lease=held)
        assert caught.value.code == ErrorCode.LEASE_LOST


@LAYOUTS
def test_same_holder(places: tuple[Place, Place], layout: str) -> None:
    """A restarted daemon takes its own lease over at once, and the earlier one's token is worth nothing."""
    one, two = places
    before = Lease.acquire(one.repository.register, "same", duration_s=600.0)
    after = Lease.acquire(two.repository.register, "same", duration_s=600.0, wait_s=0.0)
    assert after.token == before.token + 1
    with pytest.raises(SchedulerError):
        before.renew()
    after.release()


@pytest.mark.parametrize("layout", ["versions"])
def test_many_writers(
    places: tuple[Place, Place],
    settings_of: Callable[..., BucketSettings],
    layout: str,
    tmp_path: Path,
) -> None:
    """Several writers at once, some with leases and some without.

    Every write that was told as done is there.
    """
    where, name = settings_of(layout), places[0].repository.organization
    done: list[int] = []

    def work(number: int) -> None:
        place = Place(where, name, tmp_path / f"w{number}")
        for turn in range(4):
            row = 10_000 + number * 100 + turn
            if number % 2:
                with Lease.acquire(
                    place.repository.register, f"w{number}", duration_s=5.0, wait_s=60.0
                ) as lease:
                    publish_until_done(place, row, lease)
            else:
                publish_until_done(place, row, None)
            done.append(row)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 16
    places[0].copy.refresh()
    with closing(sqlite3.connect(places[0].path)) as connection:
        found = {row for (row,) in connection.execute("SELECT id FROM contacts WHERE id >= 10000")}
    assert found == set(done)


def publish_until_done(place: Place, row: int, lease: Lease | None) -> None:
    for _ in range(100):
        try:
            place.change("here", row, lease=lease)
        except OtherVersionError:
            place.copy.discard()
            time.sleep(0.02)
        except SchedulerError as error:
            if error.code != ErrorCode.BUCKET_BUSY:
                raise
            place.copy.discard()
        else:
            return
    raise AssertionError("never published")
