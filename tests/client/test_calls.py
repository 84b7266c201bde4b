"""Calls of both clients, against a daemon that the local launcher starts."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time

import pytest

from schedclient import AsyncClient, AsyncJobHandle, Client, JobHandle, JobState
from schedclient.errors import (
    ConfigurationError,
    DatabaseMissingError,
    IdempotencyError,
    InvalidArgumentError,
    InvalidOrganizationError,
    JobCancelledError,
    UnknownJobError,
    UnreachableError,
    WaitTimeoutError,
)

AS_OF = "2026-11-01"


def calls(kind: type) -> dict[str, inspect.Signature]:
    return {
        name: inspect.signature(member)
        for name, member in inspect.getmembers(kind, callable)
        if not name.startswith("_")
    }


def parameters(signature: inspect.Signature) -> list[tuple[str, object, object]]:
    return [(p.name, p.kind, p.default) for p in signature.parameters.values()]


@pytest.mark.parametrize(
    ("sync", "asynchronous"), [(Client, AsyncClient), (JobHandle, AsyncJobHandle)]
)
def test_both_clients_have_the_same_calls(sync: type, asynchronous: type) -> None:
    """Every public call is there in both kinds, with the same parameters and defaults."""
    ours, theirs = calls(sync), calls(asynchronous)
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert parameters(ours[name]) == parameters(theirs[name]), name
    if sync is Client:
        assert parameters(inspect.signature(sync)) == parameters(inspect.signature(asynchronous))


def test_both_clients_document_the_same_calls() -> None:
    """Nobody has to look up the other client to learn what a call does."""
    for kind in (Client, AsyncClient, JobHandle, AsyncJobHandle):
        for name in calls(kind):
            assert getattr(kind, name).__doc__, f"{kind.__name__}.{name}"


def test_schedule(shared) -> None:
    """A result comes back typed and adds up; the second run changes nothing."""
    with shared.client() as client:
        first = client.schedule("org-1", as_of=AS_OF)
        second = client.schedule("org-1", as_of=AS_OF)
    assert (first.organization, first.as_of, first.contacts, first.dry_run) == (
        "org-1",
        AS_OF,
        300,
        False,
    )
    planned = sum(sum(counts.values()) for counts in first.counts.values())
    assert first.rows_planned == planned > 0
    assert sum(first.skipped.values()) == sum(
        counts.get("skipped", 0) for counts in first.counts.values()
    )
    assert sum(first.volume.values()) == sum(
        counts.get("pre-scheduled", 0) for counts in first.counts.values()
    )
    assert first.stages
    assert first.wall_s > 0
    assert first.contacts_per_s > 0
    assert (second.rows_inserted, second.rows_updated, second.rows_deleted) == (0, 0, 0)
    assert second.rows_unchanged == first.rows_planned


def test_handle(shared) -> None:
    """A handle reports the progress, the result as often as requested, and the last state."""
    with shared.client() as client:
        handle = client.submit("org-2", as_of=AS_OF)
        seen = list(handle.progress())
        result = handle.wait()
        assert handle.wait(120) == result
        again = client.job(handle.job_id)
        assert again.status().result == result
        assert again.wait() == result
    assert seen[-1].final
    assert all(not job.final for job in seen[:-1])
    assert handle.job.state == JobState.SUCCEEDED
    assert handle.job.result == result


def test_progress_is_told_in_the_callers_thread(shared) -> None:
    """`wait` runs its callback in the caller's thread."""
    threads: set[int] = set()
    with shared.client() as client:
        client.schedule(
            "org-1", as_of=AS_OF, on_progress=lambda _: threads.add(threading.get_ident())
        )
    assert threads == {threading.get_ident()}


def test_progress_can_be_left_early(shared) -> None:
    """A caller that stops after the first event leaves the client usable."""
    with shared.client() as client:
        handle = client.submit("org-1", as_of=AS_OF)
        for _ in handle.progress():
            break
        assert handle.wait(120).organization == "org-1"


def test_error_in_the_callback_reaches_the_caller(shared) -> None:
    """`wait` raises an exception of the callback; the client stays usable."""

    def fail(_: object) -> None:
        raise LookupError("mine")

    with shared.client() as client:
        handle = client.submit("org-1", as_of=AS_OF)
        with pytest.raises(LookupError, match="mine"):
            handle.wait(on_progress=fail)
        assert handle.wait(120).contacts == 300


def test_read_only_calls(shared) -> None:
    """status, list, info, volume, health and welcome answer, and agree with each other."""
    with shared.client() as client:
        handle = client.submit("org-1", as_of=AS_OF)
        handle.wait(120)
        job = client.status(handle.job_id)
        assert job.state == JobState.SUCCEEDED
        listed = client.list("org-1", states=["succeeded"], limit=1)
        assert [found.job_id for found in listed] == [handle.job_id]
        older = client.list("org-1", limit=1000, before=handle.job_id)
        assert handle.job_id not in [found.job_id for found in older]
        info = client.info("org-1")
        assert (info.organization, info.contacts) == ("org-1", 300)
        assert info.last_run is not None
        assert info.last_run.run_id == job.result.run_id
        volume = client.volume()
        assert volume.organizations.keys() == {"org-1", "org-2"}
        health, welcome = client.health(), client.welcome()
        assert health.boot_id == welcome.boot_id
        assert welcome.pid == shared.daemon()
        assert health.jobs["succeeded"] >= 1


def test_dry_run_changes_nothing(folder) -> None:
    """A dry run counts what a run would do and leaves the file as it is, byte for byte."""
    path = folder.path / "org-1.db"
    before = path.read_bytes()
    with folder.client() as client:
        dry = client.schedule("org-1", as_of=AS_OF, dry_run=True)
        assert path.read_bytes() == before
        wet = client.schedule("org-1", as_of=AS_OF)
    assert dry.dry_run
    assert dry.counts == wet.counts
    assert dry.rows_inserted == wet.rows_inserted > 0


def test_configuration_overrides_reach_the_run(shared) -> None:
    """Settings in `config` change the plan; an error names a key that does not exist."""
    with shared.client() as client:
        usual = client.schedule("org-1", as_of=AS_OF, dry_run=True)
        changed = client.schedule(
            "org-1", as_of=AS_OF, dry_run=True, config={"anniversary": {"birthday_days_before": 30}}
        )
        assert usual.volume != changed.volume
        with pytest.raises(ConfigurationError, match=r"birthday_days_befor\b"):
            client.schedule("org-1", config={"anniversary": {"birthday_days_befor": 30}})


def test_bad_requests(shared) -> None:
    """Each bad argument has its own exception, with a hint."""
    with shared.client() as client:
        for error, call in (
            (InvalidOrganizationError, lambda: client.submit("../org-1")),
            (InvalidArgumentError, lambda: client.submit("org-1", workers=33)),
            (InvalidArgumentError, lambda: client.submit("org-1", as_of="yesterday")),
            (InvalidArgumentError, lambda: client.submit("org-1", mode="magic")),
            (InvalidArgumentError, lambda: client.list(states=["asleep"])),
            (UnknownJobError, lambda: client.status("job-unknown")),
            (UnknownJobError, lambda: client.cancel("job-unknown")),
            (UnknownJobError, lambda: client.job("job-unknown")),
            (DatabaseMissingError, lambda: client.info("org-99")),
            (DatabaseMissingError, lambda: client.schedule("org-99")),
        ):
            with pytest.raises(error) as caught:
                call()
            assert caught.value.message
            assert caught.value.hint, error


def test_idempotency_key(shared) -> None:
    """The same key gives the first job; with another request it is refused."""
    with shared.client() as client:
        first = client.submit("org-1", as_of=AS_OF, idempotency_key="monday")
        again = client.submit("org-1", as_of=AS_OF, idempotency_key="monday")
        assert first.job_id == again.job_id
        with pytest.raises(IdempotencyError):
            client.submit("org-2", as_of=AS_OF, idempotency_key="monday")
        first.wait(120)


def test_wait_timeout_and_cancel(folder) -> None:
    """A wait that times out says that the job continues.

    The job then can be waited for again, or cancelled.
    """
    with folder.client() as client:
        folder.pause_workers(client)
        handle = client.submit("org-1", as_of=AS_OF)
        began = time.monotonic()
        with pytest.raises(WaitTimeoutError) as caught:
            handle.wait(0.3)
        assert 0.3 <= time.monotonic() - began < 60
        assert handle.job_id in caught.value.message + caught.value.hint
        assert isinstance(caught.value, TimeoutError)
        with pytest.raises(TimeoutError):
            for _ in handle.progress(0.2):
                pass
        assert not handle.status().final
        waiting = client.submit("org-1", as_of=AS_OF)
        assert waiting.status().state == JobState.QUEUED
        assert waiting.cancel().state == JobState.CANCELLED
        with pytest.raises(JobCancelledError):
            waiting.wait(120)
        folder.resume_workers()
        assert handle.wait(120).contacts == 300


@pytest.mark.slow
def test_cancel_while_running(folder) -> None:
    """A running job that is cancelled raises `JobCancelledError` and changed nothing."""
    before = (folder.path / "org-1.db").read_bytes()
    with folder.client() as client:
        folder.pause_workers(client)
        handle = client.submit("org-1", as_of=AS_OF)
        handle.cancel()
        with pytest.raises(JobCancelledError) as caught:
            handle.wait(120)
        assert caught.value.job is not None
        assert caught.value.job.job_id == handle.job_id
        assert handle.job.state == JobState.CANCELLED
    assert (folder.path / "org-1.db").read_bytes() == before


def test_client_is_usable_after_close(folder) -> None:
    """A closed client reconnects with its next call; closing twice is allowed."""
    client = folder.client()
    first = client.welcome()
    client.close()
    client.close()
    assert client.welcome().boot_id == first.boot_id
    client.close()


def test_many_threads_share_a_client(shared) -> None:
    """Any thread may call; each gets its own answers."""
    found: dict[int, str] = {}

    def work(number: int) -> None:
        name = f"org-{1 + number % 2}"
        found[number] = client.schedule(name, as_of=AS_OF, timeout_s=120).organization

    with shared.client() as client:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
    assert found == {number: f"org-{1 + number % 2}" for number in range(6)}


def test_async_client(shared) -> None:
    """The asynchronous client does the same, several jobs at once in one loop."""

    async def work() -> None:
        async with AsyncClient(data=shared.path) as client:
            results = await asyncio.gather(
                *(client.schedule(f"org-{n}", as_of=AS_OF) for n in (1, 2, 1))
            )
            assert [result.organization for result in results] == ["org-1", "org-2", "org-1"]
            handle = await client.submit("org-1", as_of=AS_OF)
            seen = [job.state async for job in handle.progress()]
            assert seen[-1] == JobState.SUCCEEDED
            assert (await handle.wait()).contacts == 300
            assert (await handle.status()).final
            assert (await client.cancel(handle.job_id)).state == JobState.SUCCEEDED
            assert (await client.list(limit=1))[0].job_id == handle.job_id
            assert (await client.info("org-2")).contacts == 300
            assert set((await client.volume()).organizations) == {"org-1", "org-2"}
            assert (await client.health()).boot_id == (await client.welcome()).boot_id

    asyncio.run(asyncio.wait_for(work(), 240))


def test_async_wait_timeout(folder) -> None:
    """The asynchronous wait ends in time, and cancelling it leaves the client usable."""

    async def work() -> None:
        async with AsyncClient(data=folder.path) as client:
            await client.health()
            await asyncio.to_thread(pause)
            handle = await client.submit("org-1", as_of=AS_OF)
            with pytest.raises(WaitTimeoutError):
                await handle.wait(0.2)
            task = asyncio.create_task(handle.wait())
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            folder.resume_workers()
            assert (await handle.wait(120)).contacts == 300

    def pause() -> None:
        with folder.client() as client:
            folder.pause_workers(client)

    asyncio.run(asyncio.wait_for(work(), 240))


def test_close_while_another_thread_waits(folder) -> None:
    """A wait that is under way when the client is closed ends with an error instead of hanging."""
    caught: list[BaseException] = []
    seen = threading.Event()

    def wait() -> None:
        try:
            handle.wait(on_progress=lambda _: seen.set())
        except BaseException as error:
            caught.append(error)

    client = folder.client()
    folder.pause_workers(client)
    handle = client.submit("org-1", as_of=AS_OF)
    waiting = threading.Thread(target=wait)
    waiting.start()
    assert seen.wait(120)
    client.close()
    waiting.join(120)
    assert not waiting.is_alive()
    assert [type(error) for error in caught] == [UnreachableError]
