"""Network faults that the S3 store handles.

Parts that break off or arrive corrupted, objects replaced under its feet.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from schedbucket import Lease, open_repository, open_store
from schedbucket.head import Head, HeadDocument
from schedbucket.object_store import Condition, ConditionFailedError, ObjectStore
from schedproto import ErrorCode, SchedulerError
from tests.support.s3_server import Fault, Proxy, S3Server

pytestmark = pytest.mark.slow
PART = 16 << 20


@pytest.fixture
def key(organization: str) -> str:
    return f"parts/{organization}"


@pytest.fixture
def direct(s3_server: S3Server) -> ObjectStore:
    return open_store(s3_server.settings())


@pytest.fixture
def store(s3_server: S3Server, proxy: Proxy) -> ObjectStore:
    return open_store(s3_server.settings(proxy.url, retries=0))


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A file of two parts and a half."""
    path = tmp_path / "large"
    path.write_bytes(os.urandom(PART * 2 + PART // 2))
    return path


def test_a_part_that_breaks_off(
    direct: ObjectStore, store: ObjectStore, proxy: Proxy, key: str, large: Path, tmp_path: Path
) -> None:
    """A fetch resumes: only the missing bytes of a part are requested again."""
    direct.put_file(key, large)
    proxy.faults.extend(Fault("GET", key, "cut") for _ in range(3))
    store.get_file(key, tmp_path / "got")
    assert (tmp_path / "got").read_bytes() == large.read_bytes()
    spans = [tuple(map(int, span.removeprefix("bytes=").split("-"))) for _, _, span in proxy.seen]
    again = [begin for begin, _ in spans if begin % PART]
    assert len(again) == 3
    assert {begin for begin, _ in spans} - set(again) == {0, PART, 2 * PART}


def test_a_part_that_breaks_off_always(
    direct: ObjectStore, store: ObjectStore, proxy: Proxy, key: str, large: Path, tmp_path: Path
) -> None:
    """A fetch that gets nowhere ends, with an error that may be tried again."""
    direct.put_file(key, large)
    proxy.faults.append(Fault("GET", key, "refused", times=1000))
    with pytest.raises(SchedulerError) as caught:
        store.get_file(key, tmp_path / "got")
    assert caught.value.code == ErrorCode.BUCKET_UNREACHABLE
    assert caught.value.retryable


def test_an_object_that_is_replaced_meanwhile(
    direct: ObjectStore, store: ObjectStore, proxy: Proxy, key: str, large: Path, tmp_path: Path
) -> None:
    """Parts of two objects never make one file."""
    direct.put_file(key, large)
    other = tmp_path / "other"
    other.write_bytes(os.urandom(large.stat().st_size))
    proxy.faults.append(Fault("GET", key, "none"))
    proxy.faults.append(Fault("GET", key, "call", action=lambda: direct.put_file(key, other)))
    with pytest.raises(ConditionFailedError):
        store.get_file(key, tmp_path / "got")


def test_a_part_that_arrives_corrupted(
    direct: ObjectStore, store: ObjectStore, proxy: Proxy, key: str, large: Path, tmp_path: Path
) -> None:
    """The server refuses corrupted content, complete or in parts; the store resends it."""
    small = tmp_path / "small"
    small.write_bytes(b"x" * 10_000)
    for number, path in enumerate((small, large)):
        proxy.faults.append(Fault("PUT", key, "corrupt_sent"))
        store.put_file(f"{key}{number}", path)
        assert not proxy.faults
        direct.get_file(f"{key}{number}", tmp_path / f"got{number}")
        assert (tmp_path / f"got{number}").read_bytes() == path.read_bytes()
    proxy.faults.append(Fault("PUT", key, "corrupt_sent"))
    with pytest.raises(SchedulerError) as caught:
        store.put(f"{key}-conditional", b"x" * 1000, Condition(None))
    assert (
        caught.value.code == ErrorCode.BUCKET_UNREACHABLE
    )  # who asked for it decides whether to send it again
    store.put(f"{key}-conditional", b"x" * 1000, Condition(None))


def test_a_document_that_arrives_corrupted(
    direct: ObjectStore, store: ObjectStore, proxy: Proxy, organization: str
) -> None:
    """A corrupted document that still decodes is never written back."""
    head_document = HeadDocument(direct, f"orgs/{organization}/head.json", organization)
    head_document.change(lambda head: msgspec.structs.replace(head, last_fencing_token=12345678))
    data, stored = direct.get(head_document.key)
    corrupted = data.replace(b"12345678", b"12345679")
    plain = HeadDocument(store, head_document.key, organization)
    proxy.faults.append(Fault("GET", "head.json", "corrupt"))
    assert plain.read().last_fencing_token == 12345678
    assert not proxy.faults
    direct.put(head_document.key, corrupted, Condition(stored.etag), dict(stored.metadata))
    with pytest.raises(SchedulerError, match="SHA-256") as caught:
        plain.read()
    assert caught.value.code == ErrorCode.BUCKET_DAMAGED
    _, stored = direct.get(head_document.key)
    direct.put(head_document.key, corrupted, Condition(stored.etag))  # no metadata
    assert plain.read().last_fencing_token == 12345679


def test_write_without_an_answer(
    direct: ObjectStore,
    store: ObjectStore,
    proxy: Proxy,
    organization: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If no answer arrives, the error says whether the write may have happened."""
    monkeypatch.setattr("schedbucket.head._MAX_PAUSE_S", 0.01)
    head_document = HeadDocument(store, f"orgs/{organization}/head.json", organization)

    def edit(head: Head) -> Head:
        return msgspec.structs.replace(head, last_fencing_token=head.last_fencing_token + 1)

    head_document.change(edit)
    proxy.faults.append(Fault("GET", "head.json", "refused", times=10_000))
    with pytest.raises(SchedulerError) as caught:
        head_document.change(edit)
    assert "nothing was changed" in caught.value.hint
    assert HeadDocument(direct, head_document.key, organization).read().last_fencing_token == 1
    proxy.faults.appendleft(Fault("GET", "head.json", "none"))
    proxy.faults.append(Fault("PUT", "head.json", "lost"))
    with pytest.raises(SchedulerError) as caught:
        head_document.change(edit)
    assert caught.value.code == ErrorCode.BUCKET_UNREACHABLE
    assert caught.value.retryable
    assert "it is unknown" in caught.value.message
    assert "nothing was changed" not in caught.value.hint
    assert HeadDocument(direct, head_document.key, organization).read().last_fencing_token == 2


def test_lease_without_an_answer(
    direct: ObjectStore,
    proxy: Proxy,
    s3_server: S3Server,
    organization: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A lease of unknown state can be acquired again by its holder at once."""
    monkeypatch.setattr("schedbucket.head._MAX_PAUSE_S", 0.01)
    settings = s3_server.settings(proxy.url, retries=0)
    repository = open_repository(settings, open_store(settings), organization)
    proxy.faults.append(Fault("GET", "head.json", "none"))
    proxy.faults.append(Fault("PUT", "head.json", "lost"))
    proxy.faults.append(Fault("GET", "head.json", "refused", times=10_000))
    with pytest.raises(SchedulerError, match="it is unknown"):
        Lease.acquire(repository.head_document, "we", duration_s=60.0)
    proxy.faults.clear()
    lease = Lease.acquire(repository.head_document, "we", duration_s=60.0, wait_s=0.0)
    assert lease.fencing_token == 2
    lease.release()


def test_permanent_errors(s3_server: S3Server) -> None:
    """A permanent error is reported at once, for every request."""
    for wrong in ({"bucket": "no-such-bucket"}, {"secret": "wrong"}, {"key": "nobody"}):
        store = open_store(s3_server.settings(**wrong))
        for what, ask in {
            "names": lambda store=store: store.names("orgs/"),
            "objects": lambda store=store: store.objects("orgs/"),
            "get": lambda store=store: store.get("orgs/x"),
            "put": lambda store=store: store.put("orgs/x", b"", Condition(None)),
            "put_file": lambda store=store: store.put_file("orgs/x", Path(__file__)),
        }.items():
            if "bucket" in wrong and what.startswith("put"):
                continue  # this server makes a bucket for whoever may write
            try:
                ask()
            except SchedulerError as error:
                assert error.code == ErrorCode.BUCKET_DENIED, (wrong, what, error)
            else:
                raise AssertionError(f"{what} with {wrong} was not refused")
