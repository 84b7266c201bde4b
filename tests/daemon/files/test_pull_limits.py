"""The copies that pulls make: their number, their room, and what is left of them."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from schedd.files import transfers
from schedd.files.transfers import MAX_PULLS, PULL_IDLE_S, Transfers
from schedd.store.maintenance import whole_copy
from schedproto import ErrorCode, SchedulerError
from schedproto.layout import transfer_folder
from schedproto.transfers import GetDigests
from tests.support.waiting import wait_until


@pytest.fixture
def data(tmp_path: Path, organization_file: Path) -> Path:
    shutil.copy(organization_file, tmp_path / "org-1.db")
    shutil.copy(organization_file, tmp_path / "org-2.db")
    return tmp_path


def make(data: Path) -> Transfers:
    return Transfers(data, lambda: dt.datetime.now(dt.UTC))


def pull(served: Transfers, data: Path, organization: str = "org-1") -> str:
    return served.open_pull(organization, data / f"{organization}.db").transfer_id


def digests(served: Transfers, transfer_id: str) -> bytes:
    request = GetDigests(id="1", organization="org-1", transfer_id=transfer_id, first=0, count=1)
    return served.digests(request)


def copies(data: Path) -> list[Path]:
    return sorted((data / ".schedd" / "transfers").glob("*/pull-*"))


def test_number(data: Path) -> None:
    """One more than `MAX_PULLS` is refused, for any organization, until one ends."""
    served = make(data)
    opened = [pull(served, data) for _ in range(MAX_PULLS)]
    for organization in ("org-1", "org-2"):
        with pytest.raises(SchedulerError) as error:
            pull(served, data, organization)
        assert error.value.code == ErrorCode.QUEUE_FULL
        assert error.value.info().retryable
    assert len(copies(data)) == MAX_PULLS
    served.forget(opened[0])
    pull(served, data, "org-2")
    assert len(copies(data)) == MAX_PULLS


def test_idle_one_is_given_up(data: Path) -> None:
    """A pull that nobody uses makes room for a new one, the longest idle first."""
    served = make(data)
    opened = [pull(served, data) for _ in range(MAX_PULLS)]
    for transfer_id in opened:
        served._open[transfer_id].used_at -= PULL_IDLE_S + 1
    served._open[opened[3]].used_at -= 1
    digests(served, opened[0])
    pull(served, data)
    assert len(copies(data)) == MAX_PULLS
    assert digests(served, opened[0])
    with pytest.raises(SchedulerError) as error:
        digests(served, opened[3])
    assert error.value.code == ErrorCode.TRANSFER_UNKNOWN


def test_number_of_simultaneous_copies(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies that are still being made count, and the removal of leftovers spares them."""
    started, go_on = threading.Semaphore(0), threading.Event()

    def slow_copy(source: Path, path: Path) -> None:
        whole_copy(source, path)
        journal = path.with_name(f"{path.name}-journal")
        journal.touch()  # as SQLite does while it writes
        started.release()
        assert go_on.wait(120)
        journal.unlink()

    monkeypatch.setattr(transfers, "whole_copy", slow_copy)
    served = make(data)
    outcomes: list[Any] = []

    def run() -> None:
        try:
            outcomes.append(pull(served, data))
        except SchedulerError as error:
            outcomes.append(error.code)

    threads = [threading.Thread(target=run, daemon=True) for _ in range(MAX_PULLS + 2)]
    for thread in threads:
        thread.start()
    for _ in range(MAX_PULLS):
        assert started.acquire(timeout=120)
    wait_until(lambda: outcomes.count(ErrorCode.QUEUE_FULL) == 2)
    served._sweep()
    go_on.set()
    for thread in threads:
        thread.join(120)
    assert len(copies(data)) == len(outcomes) - 2 == MAX_PULLS


def test_room(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy that would leave too little free space is refused and leaves nothing."""
    size = (data / "org-1.db").stat().st_size
    stats = os.statvfs(data)
    reserved = transfers._MAX_RESERVED_BYTES

    def with_free(bytes_free: int) -> None:
        found = list(stats)
        found[0], found[1] = 4096, 1
        found[2], found[4] = 1 << 40, bytes_free
        monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result(found))

    served = make(data)
    with_free(size + reserved - 1)
    with pytest.raises(SchedulerError) as error:
        pull(served, data)
    assert error.value.code == ErrorCode.DISK_FULL
    assert copies(data) == []
    with_free(size + reserved)
    pull(served, data)
    assert len(copies(data)) == 1


def test_left_by_a_crash(data: Path) -> None:
    """The next daemon removes copies at its start; what a push has sent stays."""
    pull(make(data), data)
    partial = transfer_folder(data, "org-2") / "push.partial"
    partial.parent.mkdir()
    partial.touch()
    assert len(copies(data)) == 1
    make(data)
    assert copies(data) == []
    assert partial.exists()


def test_expiry_without_requests(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy that its client has forgotten goes, though nobody asks for anything."""
    monkeypatch.setattr(transfers, "PULL_EXPIRY_S", -0.8)
    pull(make(data), data)
    wait_until(lambda: copies(data) == [], "removal of the copy")
