"""Clients that are not closed, a second event loop, exceptions across processes."""

from __future__ import annotations

import asyncio
import datetime as dt
import gc
import inspect
import os
import pickle
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

import pytest

import schedclient.connection
import schedproto.codec
import schedproto.errors
import schedproto.keys
import schedproto.settings
from schedclient import Client, errors
from schedclient.aio import AsyncClient
from schedclient.errors import DaemonError, SchedulerClientError, WaitTimeoutError
from schedproto import ErrorCode, ErrorInfo, Job, JobSpec, SchedulerError

MODULES = (
    errors,
    schedclient.connection,
    schedproto.errors,
    schedproto.codec,
    schedproto.keys,
    schedproto.settings,
)
CLASSES = sorted(
    {
        kind
        for module in MODULES
        for kind in vars(module).values()
        if inspect.isclass(kind)
        and issubclass(kind, Exception)
        and kind.__module__.split(".")[0] in {"schedclient", "schedproto"}
    },
    key=lambda kind: f"{kind.__module__}.{kind.__name__}",
)
INFO = ErrorInfo(
    code="queue_full", message="full", hint="wait", retryable=True, details={"limit": "1"}
)
JOB = Job(
    job_id="j1",
    spec=JobSpec(organization="org-1"),
    state="failed",
    submitted_at=dt.datetime(2026, 3, 1, tzinfo=dt.UTC),
)


def example_of(kind: type[Exception]) -> Exception:
    """An exception with everything that its class can carry."""
    if issubclass(kind, DaemonError):
        return kind(INFO, JOB)
    if issubclass(kind, WaitTimeoutError):
        return kind("late", "wait again", retryable=True, job_id="j1")
    if issubclass(kind, SchedulerClientError):
        error = kind("gone", "retry", retryable=True)
        error.details = {"status": "500"}
        return error
    if kind is schedproto.codec.CodecError:
        return schedproto.codec.CodecError(ErrorCode.BAD_MESSAGE, "bad", hint="h", request_id="r1")
    if issubclass(kind, SchedulerError):
        return kind(ErrorCode.DISK_FULL, "full", hint="h", details={"path": "x"})
    return kind("wrong")


def test_all_classes_are_found() -> None:
    """The list has the classes of all modules."""
    assert len(CLASSES) >= 40
    assert {SchedulerError, schedproto.codec.CodecError, errors.HostFullError} <= set(CLASSES)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_pickle(kind: type[Exception]) -> None:
    """Each exception comes back from a pickle as it was."""
    error = example_of(kind)
    found = pickle.loads(pickle.dumps(error))
    assert type(found) is kind
    assert str(found) == str(error)
    assert found.args == error.args
    assert found.__dict__ == error.__dict__


def raise_in_a_worker() -> None:
    raise errors.DatabaseMissingError(INFO, JOB)


def test_process_pool() -> None:
    """An exception of a worker process arrives, and the pool works on."""
    with ProcessPoolExecutor(1) as pool:
        with pytest.raises(errors.DatabaseMissingError) as caught:
            pool.submit(raise_in_a_worker).result(60)
        assert caught.value.job == JOB
        assert caught.value.code == "queue_full"
        assert pool.submit(os.getpid).result(60) != os.getpid()


def client_threads() -> int:
    return sum(thread.name == "schedclient" for thread in threading.enumerate())


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def eventually(holds: Callable[[], bool]) -> bool:
    """Return whether something holds within seconds, after garbage collections."""
    end = time.monotonic() + 10.0
    while not holds():
        if time.monotonic() > end:
            return False
        gc.collect()
        time.sleep(0.02)
    return True


def test_unclosed_clients_are_freed(shared) -> None:
    """Clients that are dropped warn, and their threads and descriptors are freed."""
    with shared.client() as client:
        client.health()
    assert eventually(lambda: client_threads() == 0)
    before = descriptors()

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        for _ in range(5):
            shared.client().health()
        assert eventually(lambda: client_threads() == 0)
    unclosed = [w for w in caught if "unclosed schedclient.Client" in str(w.message)]
    assert len(unclosed) == 5
    assert all(w.category is ResourceWarning for w in unclosed)
    assert eventually(lambda: descriptors() <= before)


def test_closed_clients_do_not_warn(shared) -> None:
    """Neither a closed client nor one that was never used warns."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        Client("ipc:///nowhere")
        with shared.client() as client:
            client.health()
        del client
        asyncio.run(use_and_close(AsyncClient(data=shared.path)))
        gc.collect()


async def use_and_close(client: AsyncClient) -> None:
    async with client:
        await client.health()


def test_second_event_loop(shared) -> None:
    """A client works in the next event loop, whether or not it was closed in the first."""
    client = AsyncClient(data=shared.path)
    boot_ids = {asyncio.run(client.health()).boot_id for _ in range(3)}
    assert len(boot_ids) == 1
    asyncio.run(use_and_close(client))
    assert asyncio.run(client.health()).boot_id in boot_ids
    asyncio.run(client.close())


def test_unclosed_async_client(shared) -> None:
    """An asynchronous client that is dropped warns and frees its descriptors."""
    asyncio.run(use_and_close(AsyncClient(data=shared.path)))
    gc.collect()
    before = descriptors()

    def use_and_drop() -> None:
        asyncio.run(AsyncClient(data=shared.path).health())
        gc.collect()

    with pytest.warns(ResourceWarning, match="unclosed client"):
        use_and_drop()
    assert eventually(lambda: descriptors() <= before)


def test_two_running_event_loops(shared) -> None:
    """A client that another running event loop uses refuses with a clear error."""

    async def outer() -> None:
        async with AsyncClient(data=shared.path) as client:
            await client.health()
            with pytest.raises(RuntimeError, match="one AsyncClient for each loop"):
                await asyncio.to_thread(lambda: asyncio.run(client.health()))
            await client.health()

    asyncio.run(outer())


def test_wait_timeout_names_the_job(folder) -> None:
    """The error of a wait that ended too early has the job's id, to wait again."""
    with folder.client() as client:
        folder.pause_workers(client)
        handle = client.submit("org-1")
        with pytest.raises(WaitTimeoutError) as caught:
            handle.wait(0.1)
        folder.resume_workers()
        assert caught.value.job_id == handle.job_id
        assert client.job(caught.value.job_id).wait(30.0).organization == "org-1"
