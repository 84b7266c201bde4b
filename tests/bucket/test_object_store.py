"""The contract of a store, held by a folder and by two implementations of S3 alike."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from schedbucket import open_store
from schedbucket.conformance import check_conditional_writes
from schedbucket.object_store import (
    Condition,
    ConditionFailedError,
    MissingObjectError,
    ObjectStore,
)
from schedbucket.settings import BucketSettings
from schedproto import ErrorCode, SchedulerError
from tests.support.s3_server import MotoServer, S3Server

NEW = Condition(None)


@pytest.fixture(scope="session")
def moto_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MotoServer]:
    server = MotoServer(tmp_path_factory.mktemp("moto"))
    server.start()
    yield server
    server.close()


@pytest.fixture(
    params=[
        "folder",
        pytest.param("s3", marks=pytest.mark.slow),
        pytest.param("moto", marks=pytest.mark.slow),
    ]
)
def settings_of(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., BucketSettings]:
    """Settings of each store that holds the contract."""

    def make(layout: str = "versions") -> BucketSettings:
        if request.param == "folder":
            return BucketSettings(folder=tmp_path / "bucket", layout=layout)
        name = "s3_server" if request.param == "s3" else "moto_server"
        server: S3Server = request.getfixturevalue(name)
        return server.settings(layout=layout)

    return make


@pytest.fixture
def store(settings_of: Callable[..., BucketSettings]) -> ObjectStore:
    return open_store(settings_of())


@pytest.fixture
def key(organization: str) -> str:
    return f"contract/{organization}/object"


def test_conditions(store: ObjectStore, key: str) -> None:
    """A conditional write happens exactly where its condition holds."""
    with pytest.raises(ConditionFailedError):
        store.put(key, b"0", Condition("1234"))
    first = store.put(key, b"1", NEW)
    with pytest.raises(ConditionFailedError):
        store.put(key, b"2", NEW)
    second = store.put(key, b"2", Condition(first))
    assert second != first
    with pytest.raises(ConditionFailedError):
        store.put(key, b"3", Condition(first))
    data, stored = store.get(key)
    assert (data, stored.etag, stored.size_bytes) == (b"2", second, 1)


def test_files_round_trip(store: ObjectStore, key: str, tmp_path: Path) -> None:
    """A file comes back as it was, with its metadata, below and above the size of a part."""
    for size in (0, 1, 5_000_000, 40_000_000):
        source, target = tmp_path / f"s{size}", tmp_path / f"t{size}"
        source.write_bytes(os.urandom(size))
        etag = store.put_file(f"{key}{size}", source)
        got = store.get_file(f"{key}{size}", target)
        assert target.read_bytes() == source.read_bytes()
        assert (got.size_bytes, got.etag) == (size, etag)
    source = tmp_path / "s1"
    etag = store.put_file(key, source, NEW, {"write-id": "a", "sha256": "b"})
    assert store.head(key).metadata == {"write-id": "a", "sha256": "b"}
    with pytest.raises(ConditionFailedError):
        store.put_file(key, source, NEW, {"write-id": "c"})
    store.put_file(key, source, Condition(etag), {"write-id": "d"})
    assert store.head(key).metadata == {"write-id": "d"}
    with pytest.raises(SchedulerError):
        store.get_file(key, source)  # a file that is there is not overwritten
    assert source.stat().st_size == 1


def test_missing_objects(store: ObjectStore, key: str, tmp_path: Path) -> None:
    """A missing object raises its own error; removing it again is allowed."""
    with pytest.raises(MissingObjectError):
        store.get(key)
    with pytest.raises(MissingObjectError):
        store.head(key)
    with pytest.raises(MissingObjectError):
        store.get_file(key, tmp_path / "x")
    store.delete(key)
    store.put(key, b"1", NEW)
    store.delete(key)
    store.delete(key)
    with pytest.raises(MissingObjectError):
        store.get(key)
    assert store.objects(key + "/") == []
    assert store.names(key + "/") == []


def test_listing(store: ObjectStore, key: str) -> None:
    """Objects are listed below a prefix; names are the next part alone."""
    for name in ("b/2", "a", "b/1", "c.db"):
        store.put(f"{key}/{name}", b"x" * len(name), NEW)
    found = store.objects(f"{key}/")
    assert [(stored.key, stored.size_bytes) for stored in found] == [
        (f"{key}/a", 1),
        (f"{key}/b/1", 3),
        (f"{key}/b/2", 3),
        (f"{key}/c.db", 4),
    ]
    assert all(stored.modified.tzinfo is not None for stored in found)
    assert store.names(f"{key}/") == ["a", "b", "c.db"]


@pytest.mark.parametrize("first", [True, False])
def test_concurrent_conditional_writes(
    store: ObjectStore, settings_of: Callable[..., BucketSettings], key: str, first: bool
) -> None:
    """Of many who write under the same condition exactly one does.

    On a loaded machine a write may get no answer in time: then it may be the one.
    """
    condition = NEW if first else Condition(store.put(key, b"before", NEW))
    won: list[int] = []
    unknown: list[int] = []
    ready = threading.Barrier(8)

    def write(number: int) -> None:
        own = open_store(replace(settings_of(), layout=f"own {number}"))
        ready.wait()
        try:
            own.put(key, str(number).encode(), condition)
        except ConditionFailedError:
            return
        except SchedulerError as error:
            assert error.code == ErrorCode.BUCKET_UNREACHABLE, error
            unknown.append(number)
        else:
            won.append(number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) <= 1
    written = store.get(key)[0]
    assert written in {str(number).encode() for number in (won or unknown)}


class Careless:
    """A store that ignores conditions, as some servers do.

    Another checks them first and then writes.
    """

    def __init__(self, store: ObjectStore, ignored: str, *, racing: bool = False) -> None:
        self._store, self._ignored, self._racing = store, ignored, racing

    def put(self, key: str, data: bytes, condition: Condition) -> str:
        if (condition.etag is None) != (self._ignored == "If-None-Match"):
            return self._store.put(key, data, condition)
        if self._racing:
            if self._present(key) != condition.etag:
                raise ConditionFailedError(key)
            time.sleep(0.05)
        while True:
            try:
                return self._store.put(key, data, Condition(self._present(key)))
            except ConditionFailedError:
                continue

    def _present(self, key: str) -> str | None:
        try:
            return self._store.head(key).etag
        except MissingObjectError:
            return None

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)


@pytest.mark.parametrize("racing", [False, True])
def test_conformance_check(store: ObjectStore, racing: bool) -> None:
    """`doctor` finds a store that ignores conditions, and leaves nothing behind."""
    assert check_conditional_writes(store) is None
    for ignored in ("If-None-Match", "If-Match"):
        assert ignored in str(check_conditional_writes(Careless(store, ignored, racing=racing)))  # type: ignore[arg-type]
    assert store.objects("selftest/") == []
