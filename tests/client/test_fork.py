"""Objects of the library in forked processes: each works, or raises at once with a clear error."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from schedbucket import BucketSettings, open_repository, open_store
from schedclient import AsyncClient, Client
from schedclient.bucket import OrganizationLease, working_copy
from tests.support.folders import AS_OF, Folder
from tests.support.s3_server import S3Server

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
#: A child that takes longer hangs.
CHILD_S = 90.0


def in_fork(work: Callable[[], Any]) -> str:
    """Run something in a forked child; return its result or its error as text."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            text = f"{work()}"
        except BaseException as error:  # the child must not return
            text = f"{type(error).__name__}: {error}"
        os.write(write, text.encode()[:2000])
        os._exit(0)
    os.close(write)
    deadline = time.monotonic() + CHILD_S
    while os.waitpid(pid, os.WNOHANG)[0] == 0:
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            pytest.fail("the child hangs")
        time.sleep(0.01)
    with os.fdopen(read) as answer:
        return answer.read()


# Clients ------------------------------------------------------------------------------------------


def test_job_handle(shared: Folder) -> None:
    """A handle of the parent's client works in the child, and still in the parent."""
    with shared.client() as client:
        handle = client.submit("org-1", as_of=AS_OF)
        assert in_fork(lambda: handle.wait(60).contacts) == "300"
        assert handle.wait(60).contacts == 300


def test_batch(shared: Folder) -> None:
    """A batch belongs to the process that submits it; a child gets an error at once."""
    with shared.client() as client:
        batch = client.submit_many(["org-1", "org-2"], as_of=AS_OF)
        for call in (batch.wait, batch.snapshot, batch.stop, batch.cancel):
            assert in_fork(call).startswith("RuntimeError: this batch belongs to the process")
        assert batch.wait().succeeded == 2


def test_fork_while_another_thread_calls(shared: Folder) -> None:
    """A lock that another thread holds at the moment of the fork does not stop the child."""
    with shared.client() as client:
        client.health()
        with client._lock:
            assert in_fork(lambda: client.health().status) == "serving"
        assert client.health().status == "serving"


def test_child_throws_the_client_away(shared: Folder) -> None:
    """Garbage collection in a child that lives on does not disturb the parent's event loop."""
    clients = [shared.client()]
    boot = clients[0].welcome().boot_id

    def throw_away() -> str:
        clients[0].health()
        clients.clear()
        gc.collect()
        return "done"

    parent = clients[0]
    del parent
    with clients[0] as kept:
        assert in_fork(throw_away) == "done"
        assert kept.welcome().boot_id == boot
        assert kept.health().status == "serving"


def test_async_client(shared: Folder) -> None:
    """A client that the parent has used in a loop that has ended works in the child's loop."""
    client: AsyncClient = AsyncClient(data=shared.path)

    async def status() -> str:
        return (await client.health()).status

    async def last() -> None:
        await client.health()
        await client.close()

    assert asyncio.run(status()) == "serving"
    assert in_fork(lambda: asyncio.run(last())) == "None"
    assert asyncio.run(status()) == "serving"
    asyncio.run(client.close())


def test_fork_inside_a_running_loop(shared: Folder) -> None:
    """The child shares the parent's loop, so a call raises at once; the parent continues."""

    async def main() -> tuple[str, str]:
        client: AsyncClient = AsyncClient(data=shared.path)
        await client.health()
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                call = client.health()
                call.send(None)
                text = "it waits"
            except BaseException as error:
                text = f"{type(error).__name__}: {error}"
            os.write(write, text.encode())
            os._exit(0)
        os.waitpid(pid, 0)  # noqa: ASYNC222 - the loop stands still on purpose
        after = (await client.health()).status
        await client.close()
        return os.read(read, 1000).decode(), after

    text, after = asyncio.run(main())
    assert text == "RuntimeError: no running event loop"  # asyncio knows the process
    assert after == "serving"


_shared: list[Client] = []


def _status(_: int) -> str:
    return str(_shared[0].health().status)


def test_preload(shared: Folder) -> None:
    """The pattern of `gunicorn --preload` and of Celery's prefork pool.

    The master imports the application, makes the client and uses it; its children serve at once.
    """
    with shared.client() as client:
        client.health()
        _shared[:] = [client]
        try:
            context = multiprocessing.get_context("fork")
            with ProcessPoolExecutor(4, mp_context=context) as pool:
                assert set(pool.map(_status, range(40), timeout=CHILD_S)) == {"serving"}
        finally:
            _shared.clear()
        assert client.health().status == "serving"


# Buckets ------------------------------------------------------------------------------------------


@pytest.fixture
def folder_bucket(tmp_path: Path) -> BucketSettings:
    return BucketSettings(folder=tmp_path / "bucket")


def test_lease_belongs_to_its_process(folder_bucket: BucketSettings, tmp_path: Path) -> None:
    """A child can neither use nor release the lease of its parent."""
    assert folder_bucket.folder is not None
    folder_bucket.folder.mkdir()
    with OrganizationLease("org-1", settings=folder_bucket) as lease:
        for call in (
            lease.check,
            lambda: lease.fetch(tmp_path / "a.db"),
            lambda: lease.publish(tmp_path / "a.db"),
            lambda: lease.fencing_token,
        ):
            assert "LeaseError" in (text := in_fork(call)), text
            assert "forked" in text
        assert in_fork(lambda: lease.__exit__(None, None, None)) == "None"
        lease.check()


def test_leases_entered_in_children_exclude_each_other(folder_bucket: BucketSettings) -> None:
    """A lease that the parent makes and a child enters has a holder of its own."""
    assert folder_bucket.folder is not None
    folder_bucket.folder.mkdir()
    lease = OrganizationLease("org-1", settings=folder_bucket, wait_s=0)
    with lease:

        def enter() -> str:
            lease.__enter__()  # the same object, as in every child of a prefork server
            return "entered"

        assert in_fork(enter).startswith("LeaseError")


def test_folder_bucket_in_a_child(folder_bucket: BucketSettings, tmp_path: Path) -> None:
    """Repository and working copy over a folder work in a child."""
    assert folder_bucket.folder is not None
    folder_bucket.folder.mkdir()
    repository = open_repository(folder_bucket, open_store(folder_bucket), "org-1")
    copy = working_copy(tmp_path / "org-1.db", repository)
    assert repository.newest() is None
    assert in_fork(repository.newest) == "None"
    assert in_fork(lambda: copy.version) == "None"


@pytest.mark.slow
def test_s3_bucket_in_a_child(s3_server: S3Server) -> None:
    """Once the parent has used the store, a child gets an error at once. Its calls would hang."""
    s3_settings = s3_server.settings()
    store = open_store(s3_settings)
    repository = open_repository(s3_settings, store, "org-1")
    assert repository.newest() is None
    for call in (
        repository.newest,
        lambda: store.names(""),
        lambda: open_store(s3_settings).names(""),
    ):
        text = in_fork(call)
        assert text.startswith("SchedulerError"), text
        assert "forked" in text
    assert repository.newest() is None
