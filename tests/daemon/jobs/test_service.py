"""Jobs in a real daemon.

Tests the journal, the queue, cancellation, crashed workers, and the end of the daemon.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from schedclient import Client, errors
from schedproto import Job
from tests.support.daemons import AS_OF, RunningDaemon
from tests.support.other_programs import locked
from tests.support.plans import read_plan
from tests.support.waiting import wait_until


def test_schedule_and_result(daemon: RunningDaemon, data: Path) -> None:
    """A job's result counts what is in the file afterwards; the second run changes nothing."""
    with daemon.client() as client:
        result = client.schedule("org-a", as_of=AS_OF)
        assert result.rows_inserted == len(read_plan(data / "org-a.db")) > 300
        again = client.schedule("org-a", as_of=AS_OF, workers=5, mode="highperf")
        assert (again.rows_inserted, again.rows_updated, again.rows_deleted) == (0, 0, 0)
        assert again.workers == 5


def test_idempotency_key(daemon: RunningDaemon) -> None:
    """A repeated submit returns the first job; the same key for another job is refused."""
    with daemon.client() as client:
        first = client.submit("org-a", as_of=AS_OF, idempotency_key="k")
        assert client.submit("org-a", as_of=AS_OF, idempotency_key="k").job_id == first.job_id
        with pytest.raises(errors.IdempotencyError):
            client.submit("org-b", as_of=AS_OF, idempotency_key="k")
        first.wait(120)
        assert client.submit("org-a", as_of=AS_OF, idempotency_key="k").job.state == "succeeded"
        assert len(client.list()) == 1


def test_journal_survives(daemons: Callable[..., RunningDaemon]) -> None:
    """Jobs that a killed daemon had accepted are finished by the next, in their order.

    Ended ones are remembered.
    """
    first = daemons()
    with first.client() as client:
        done = client.schedule("org-b", as_of=AS_OF)
        accepted = [client.submit("org-a", as_of=f"2026-11-{day}").job_id for day in (23, 24, 25)]
        first.kill()
        first.wait()
        second = daemons()
        results = [client.job(job_id).wait(120) for job_id in accepted]
        assert [result.as_of for result in results] == ["2026-11-23", "2026-11-24", "2026-11-25"]
        listed = client.list("org-b")[0].result
        assert listed is not None
        assert listed.run_id == done.run_id
        assert second.stop() == 0


def test_queue_limits(daemons: Callable[..., RunningDaemon]) -> None:
    """A full queue refuses with a retryable error that names the limit."""
    daemon = daemons("--organization-queue-limit", "2")
    with daemon.client() as client:
        with daemon.stopped_job(client, "org-a") as running:
            jobs = [running, *(client.submit("org-a", as_of=AS_OF) for _ in range(2))]
            assert [client.status(job.job_id).position for job in jobs] == [None, 0, 1]
            with pytest.raises(errors.BusyError) as caught:
                client.submit("org-a", as_of=AS_OF)
            assert caught.value.retryable
            assert "2" in caught.value.message
            assert client.schedule("org-b", as_of=AS_OF).contacts == 300
            assert client.cancel(jobs[1].job_id).state == "cancelled"
        jobs[0].wait(120)
        jobs[2].wait(120)


@pytest.mark.slow
def test_cancel_running(daemon: RunningDaemon, data: Path) -> None:
    """A running job that is cancelled ends as cancelled and leaves the file's plan as it was."""
    before = read_plan(data / "org-a.db")
    with locked(data / "org-a.db"), daemon.client() as client:
        job = client.submit("org-a", as_of=AS_OF)
        wait_until(lambda: client.status(job.job_id).state == "running")
        job.cancel()
        with pytest.raises((errors.JobCancelledError, errors.DatabaseLockedError)):
            job.wait(120)
    assert read_plan(data / "org-a.db") == before


def _begun(client: Client, job_id: str) -> Job:
    """Wait until a job no longer waits in the queue; return it."""
    wait_until(lambda: client.status(job_id).state != "queued")
    return client.status(job_id)


def test_worker_killed(daemons: Callable[..., RunningDaemon], data: Path) -> None:
    """The job of a killed worker is retried and succeeds.

    One whose workers die too often fails, not the daemon.
    """
    daemon = daemons("--worker-retries", "1")
    with locked(data / "org-a.db") as holder, daemon.client() as client:
        job = client.submit("org-a", as_of=AS_OF)
        # One round or two: the worker that takes the job over may be one of those just killed.
        while not _begun(client, job.job_id).final:
            for pid in daemon.workers():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
        assert client.status(job.job_id).attempts == 2
        with pytest.raises(errors.ExecutionError) as caught:
            job.wait(120)
        assert caught.value.code == "worker_died"
        other = client.submit("org-b", as_of=AS_OF)
        assert other.wait(120).contacts == 300
        holder.end()
        assert client.schedule("org-a", as_of=AS_OF).contacts == 300


def test_no_orphans(daemon: RunningDaemon) -> None:
    """Workers of a killed daemon exit."""
    with daemon.client() as client:
        client.health()
        workers = wait_until(daemon.workers)
        daemon.kill()
        daemon.wait()
        wait_until(lambda: not any(psutil.pid_exists(pid) for pid in workers))


def test_second_daemon(daemons: Callable[..., RunningDaemon]) -> None:
    """A second daemon on the folder leaves with exit code 3 and names the first."""
    first = daemons()
    with first.client() as client:
        client.health()
        second = daemons()
        assert second.wait() == 3
        assert f"pid {first.process.pid}" in second.log()
        assert client.health().status == "serving"


def test_idle_exit(daemons: Callable[..., RunningDaemon]) -> None:
    """Without jobs and messages the daemon exits with 0 and says why; its socket is gone."""
    daemon = daemons("--idle-timeout", "5", "--log-format", "json")
    with daemon.client() as client:
        client.schedule("org-a", as_of=AS_OF)
    assert daemon.wait() == 0
    assert any(json.loads(line)["event"].startswith("idle") for line in daemon.log().splitlines())
    assert not Path(daemon.endpoint.removeprefix("ipc://")).exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_drain(daemons: Callable[..., RunningDaemon], number: signal.Signals) -> None:
    """A signal lets the running job end; what waits is finished by the next daemon."""
    daemon = daemons("--drain", "120")
    with daemon.client() as client:
        with daemon.stopped_job(client, "org-a") as running:
            waiting = client.submit("org-a", as_of="2026-11-24")
            daemon.process.send_signal(number)
            wait_until(lambda: "draining" in daemon.log())
            with pytest.raises(errors.BusyError):
                client.submit("org-b")
        assert daemon.wait() == 0
        daemons()
        assert client.status(running.job_id).state == "succeeded"
        assert waiting.wait(120).as_of == "2026-11-24"


def test_forced(daemons: Callable[..., RunningDaemon]) -> None:
    """A job that outlasts the drain time is stopped (exit code 6); the next start repeats it."""
    daemon = daemons("--drain", "0.3")
    with daemon.client() as client:
        with daemon.stopped_job(client, "org-a") as job:
            daemon.process.send_signal(signal.SIGTERM)
            assert daemon.wait() == 6
        daemons()
        assert job.wait(120).contacts == 300
        assert client.status(job.job_id).attempts == 2


def test_links_do_not_lead_out(daemon: RunningDaemon, data: Path) -> None:
    """A symbolic link to a file elsewhere is refused."""
    outside = data.parent / "outside.db"
    os.rename(data / "org-c.db", outside)
    (data / "org-c.db").symlink_to(outside)
    with daemon.client() as client, pytest.raises(errors.InvalidOrganizationError):
        client.submit("org-c")


def test_logs_carry_the_run(daemons: Callable[..., RunningDaemon]) -> None:
    """Elsewhere than on a terminal each line is JSON, and a job's lines carry its run id."""
    daemon = daemons()
    with daemon.client() as client:
        run_id = client.schedule("org-a", as_of=AS_OF).run_id
    assert daemon.stop() == 0
    lines = [json.loads(line) for line in daemon.log().splitlines()]
    assert [line["event"] for line in lines if line.get("run_id") == run_id] == [
        "job begins",
        "job ended",
    ]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--workers", "99"], ["--workers", "1 to 32"]),
        (["--drain", "x"], ["--drain", "seconds"]),
        (["--listen", "http://x"], ["not a valid endpoint"]),
        (["--settings", "/nonexistent.toml"], ["cannot be read"]),
        (["--server-key", "short"], ["--server-key-file"]),
    ],
)
def test_bad_settings(
    daemons: Callable[..., RunningDaemon], options: list[str], words: list[str]
) -> None:
    """A wrong setting is named with what it takes (exit code 2)."""
    daemon = daemons(*options)
    assert daemon.wait() == 2
    for word in words:
        assert word in daemon.log()
