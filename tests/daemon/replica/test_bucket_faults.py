"""Faults of networks, servers and disks, and kills, during a job over a bucket.

The table is in docs/BUCKET.md.

After each fault: the bucket has one of the two versions, sound; the lease is free at the latest
when it has run out; the same job, submitted again, succeeds, and its plan is the plan of the
inputs.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from schedbucket import BucketSettings, Repository
from schedbucket.repository import VersionRef
from schedclient import errors
from schedd.replica.job import MAX_CARRIED_ROWS
from schedproto import JobState
from tests.support.buckets import Site, environment_of, is_current, replica_of, schedule
from tests.support.daemons import AS_OF
from tests.support.s3_server import Fault, Proxy, S3Server
from tests.support.waiting import wait_until

LEASE_S = 2.0
OPTIONS = ("--lease", str(LEASE_S), "--bucket-timeout", "2")
#: The requests of a job that fetches a patch and publishes one, in order: method, and what is in
#: the path.
REQUESTS = (
    ("GET", "head.json", 1, "reading the head"),
    ("PUT", "head.json", 1, "taking the lease"),
    ("GET", ".patch.zst", 1, "fetching a patch"),
    ("PUT", ".patch.zst", 1, "sending a patch"),
    ("PUT", "head.json", 2, "publishing"),
)
KINDS: dict[str, dict[str, Any]] = {
    "503, once": {"kind": "status", "status": 503},
    "500, once": {"kind": "status", "status": 500},
    "429, once": {"kind": "status", "status": 429},
    "408, once": {"kind": "status", "status": 408},
    "409, once": {"kind": "status", "status": 409},
    "412, once": {"kind": "status", "status": 412},
    "connection refused": {"kind": "refused"},
    "answer lost": {"kind": "lost"},
    "no answer": {"kind": "hang", "delay_s": 4.0},
    "slow": {"kind": "pause", "delay_s": 1.0},
}
#: Faults of one direction only: the requests that they are made at, and what they do.
BODIES: dict[str, tuple[str, dict[str, Any]]] = {
    "body cut off": ("GET", {"kind": "cut"}),
    "body corrupted": ("GET", {"kind": "corrupt"}),
    "sent body corrupted": ("PUT", {"kind": "corrupt_sent"}),
}


class Scene:
    """One organization, one machine behind the proxy, and a main application without it."""

    def __init__(self, site: Site, proxy: Proxy, organization: str, root: Path) -> None:
        self.site, self.proxy, self.organization, self.root = site, proxy, organization, root
        self.copy = site.publish_new(organization, 120)
        self.environment = environment_of(site.settings) | {"AWS_ENDPOINT_URL_S3": proxy.url}
        self.daemon = site.machine("one", *OPTIONS, environment=self.environment)
        schedule(self.daemon, organization)
        self.turn = 0

    def prepare(self) -> VersionRef:
        """Have the main application change something; returns the version that a job will meet."""
        self.turn += 1
        date = f"19{50 + self.turn % 40}-{1 + self.turn % 12:02d}-1{self.turn % 10}"
        self.site.write(
            self.copy, "UPDATE contacts SET birth_date = ? WHERE id = ?", date, 1 + self.turn % 50
        )
        known = self.site.repository(self.organization).newest()
        assert known is not None
        return known

    def put_in(self, method: str, path: str, nth: int, **fault: Any) -> None:
        """Have a fault met by the nth request of a kind from now on."""
        for _ in range(nth - 1):
            self.proxy.faults.append(Fault(method, path, "none"))
        self.proxy.faults.append(Fault(method, path, **fault))

    def check(self, before: VersionRef) -> None:
        """Check what must hold after any fault."""
        target = self.root / "check.db"
        now = self.site.newest(self.organization, target)
        assert now.number - before.number in {0, 1}, (before, now)
        if now.number == before.number:
            assert now == before
        wait_until(self._free)

    def _free(self) -> bool:
        """Return whether another writer would get the lease now, by its own clock."""
        lease = self.site.repository(self.organization).head_document.read().lease
        if lease is None:
            return True
        from schedbucket.lease import time_of, utc_now

        return utc_now() > time_of(lease.expires_at)

    def repeat(self) -> None:
        """The same job again succeeds and leaves the plan of the inputs."""
        self.proxy.faults.clear()
        schedule(self.daemon, self.organization)
        assert is_current(self.daemon, self.organization)
        assert self.site.repository(self.organization).head_document.read().lease is None


@pytest.fixture
def scene(
    sites: Callable[[BucketSettings], Site],
    s3_server: S3Server,
    proxy: Proxy,
    organization: str,
    tmp_path: Path,
) -> Scene:
    return Scene(sites(s3_server.settings()), proxy, organization, tmp_path)


def newest_of(repository: Repository) -> VersionRef:
    newest = repository.newest()
    assert newest is not None
    return newest


def run_with_fault(scene: Scene) -> str:
    """Run the job; returns `succeeded`, or the code of its error."""
    try:
        schedule(scene.daemon, scene.organization)
    except errors.DaemonError as error:
        assert error.hint, error
        return error.code
    return "succeeded"


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", [*KINDS, *BODIES])
def test_fault_at_each_request(scene: Scene, kind: str) -> None:
    """Each request of a job meets each fault, once, and the job bears it."""
    only, fault = BODIES[kind] if kind in BODIES else ("", KINDS[kind])
    requests = [request for request in REQUESTS if only in ("", request[0])]
    for method, path, nth, what in requests:
        before = scene.prepare()
        scene.put_in(method, path, nth, **fault)
        outcome = run_with_fault(scene)
        assert not scene.proxy.faults, f"{what}: the fault was not met"
        assert outcome == "succeeded", what
        scene.check(before)
        scene.repeat()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_throttled_for_long(scene: Scene) -> None:
    """Permanent throttling ends the job with `bucket_unreachable` and changes nothing."""
    before = scene.prepare()
    for method in ("GET", "PUT"):
        scene.proxy.faults.append(Fault(method, scene.organization, "status", 503, times=10_000))
    assert run_with_fault(scene) == "bucket_unreachable"
    scene.check(before)
    assert scene.site.repository(scene.organization).newest() == before
    scene.repeat()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_each_request(scene: Scene, when: str) -> None:
    """After a kill at any request, the next daemon completes the job with its own lease."""
    for method, path, nth, what in REQUESTS:
        before = scene.prepare()
        daemon = scene.daemon
        if when == "before":
            scene.put_in(method, path, nth, kind="call", action=daemon.kill)
        else:
            scene.put_in(method, path, nth, kind="killed", action=daemon.kill)
        with daemon.client() as client:
            job_id = client.submit(scene.organization, as_of=AS_OF).job_id
            daemon.wait()
        scene.proxy.faults.clear()
        now = scene.site.newest(scene.organization, scene.root / "check.db")
        assert now.number - before.number in {0, 1}, what
        began = time.monotonic()
        scene.daemon = scene.site.machine("one", *OPTIONS, environment=scene.environment)
        with scene.daemon.client() as client:
            job = client.job(job_id)
            job.wait(120)
            assert job.job.state == JobState.SUCCEEDED
            assert job.job.attempts == 2
        assert time.monotonic() - began < 120
        scene.repeat()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_at_any_moment(
    sites: Callable[[BucketSettings], Site], s3_server: S3Server, organization: str, tmp_path: Path
) -> None:
    """After a kill at any moment the bucket has one version, and the job is completed."""
    site = sites(s3_server.settings())
    copy = site.publish_new(organization, 20_000)
    daemon = site.machine("one", *OPTIONS)
    schedule(daemon, organization)
    repository = site.repository(organization)
    rounds = 12
    for number in range(rounds):
        # Half of the plan is gone, so that the run has something to write.
        site.write(
            copy,
            "DELETE FROM email_schedules WHERE id % 2 = ? AND status = 'pre-scheduled'",
            number % 2,
        )
        before = newest_of(repository)
        with daemon.client() as client:
            began = time.monotonic()
            job_id = client.submit(organization, as_of=AS_OF).job_id
            time.sleep(max(0.0, began + 0.9 * number / rounds - time.monotonic()))
            daemon.kill()
        now = site.newest(organization, tmp_path / "now.db")
        assert now.number - before.number in {0, 1}
        assert now.number > before.number or now == before
        daemon = site.machine("one", *OPTIONS)
        with daemon.client() as client:
            client.job(job_id).wait(120)
        assert is_current(daemon, organization)
        head = repository.head_document.read()
        assert head.lease is None
        assert head.newest is not None
        assert head.newest.version - before.number in {
            1,
            2,
        }  # killed between the publishing and the note of it: twice


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_killed_for_good(scene: Scene, sites: Callable[[BucketSettings], Site]) -> None:
    """A machine that dies for good blocks others only until its lease expires."""
    before = scene.prepare()
    scene.put_in("PUT", ".patch.zst", 1, kind="call", action=scene.daemon.kill)
    with scene.daemon.client() as client:
        client.submit(scene.organization, as_of=AS_OF)
        scene.daemon.wait()
    assert scene.site.repository(scene.organization).head_document.read().lease is not None
    began = time.monotonic()
    other = scene.site.machine("two", *OPTIONS)
    schedule(other, scene.organization)
    assert time.monotonic() - began < LEASE_S + 60
    assert is_current(other, scene.organization)
    assert newest_of(scene.site.repository(scene.organization)).number == before.number + 1


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_paused_worker(scene: Scene) -> None:
    """A machine paused beyond its lease finds another holder's token and does not publish."""
    before = scene.prepare()
    other = scene.site.machine("two", *OPTIONS)
    versions = []

    def overtake() -> None:
        pids = [scene.daemon.process.pid, *scene.daemon.workers()]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            versions.append(replica_of(schedule(other, scene.organization)).version)
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)

    scene.put_in("PUT", ".patch.zst", 1, kind="call", action=overtake)
    with pytest.raises(errors.LeaseError) as caught:
        schedule(scene.daemon, scene.organization)
    assert caught.value.code == "lease_lost"
    assert caught.value.retryable
    assert versions == [before.number + 1]
    scene.repeat()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_server_killed_and_restarted(scene: Scene) -> None:
    """The server is killed in the middle of a job and comes back.

    The job continues, or can be repeated.
    """
    server = scene.proxy.server
    for method, path, nth, _ in REQUESTS:
        before = scene.prepare()

        def kill_and_start() -> None:
            server.kill()
            server.start()

        scene.put_in(method, path, nth, kind="call", action=kill_and_start)
        outcome = run_with_fault(scene)
        assert outcome in {"succeeded", "bucket_unreachable", "lease_lost"}
        scene.check(before)
        scene.repeat()


@pytest.mark.slow
def test_wrong_credentials(
    s3_server: S3Server, sites: Callable[[BucketSettings], Site], organization: str
) -> None:
    """Wrong credentials are reported at once, with what to check."""
    site = sites(s3_server.settings())
    site.publish_new(organization)
    good = environment_of(site.settings)
    wrong = {
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "wrong",
        "BUCKET_NAME": "no-such-bucket",
    }
    for number, (name, value) in enumerate(wrong.items()):
        daemon = site.machine(f"m{number}", environment=good | {name: value})
        began = time.monotonic()
        with pytest.raises(errors.BucketError) as caught:
            schedule(daemon, organization)
        assert caught.value.code == "bucket_denied", caught.value
        assert "AWS_ACCESS_KEY_ID" in caught.value.hint
        assert time.monotonic() - began < 60
    nowhere = site.machine(
        "nowhere",
        "--bucket-timeout",
        "1",
        environment=good | {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9"},
    )
    with pytest.raises(errors.BucketError) as caught:
        schedule(nowhere, organization)
    assert caught.value.code == "bucket_unreachable"
    bad = site.machine("bad", environment=good | {"AWS_ENDPOINT_URL_S3": ""})
    assert bad.wait() == 2
    assert "AWS_ENDPOINT_URL_S3" in bad.log()


@pytest.mark.slow
def test_full_volume(
    s3_server: S3Server, sites: Callable[[BucketSettings], Site], organization: str, tmp_path: Path
) -> None:
    """A volume without room for the copy, or for the files of a job, is reported.

    A larger one then does it.
    """
    site = sites(s3_server.settings())
    site.publish_new(organization, 3000)
    small = tmp_path / "small"
    small.mkdir()
    size = site.app_copy(organization).path.stat().st_size
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={int(size * 1.6)}", "tmpfs", str(small)],
        check=False,
        capture_output=True,
    )
    if mounted.returncode:
        pytest.skip(f"a small volume cannot be made here: {mounted.stderr.decode().strip()}")
    try:
        before = site.repository(organization).newest()
        daemon = site.machine("small")
        with pytest.raises(errors.DiskFullError):
            schedule(daemon, organization)
        assert site.repository(organization).newest() == before
        assert site.repository(organization).head_document.read().lease is None
        subprocess.run(["mount", "-o", f"remount,size={size * 20}", str(small)], check=True)
        schedule(daemon, organization)
        assert is_current(daemon, organization)
        daemon.stop()
    finally:
        for daemon in site.daemons:
            daemon.clean_up()
        subprocess.run(["umount", "-l", str(small)], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("contacts", [300, 60_000])
def test_publish_of_others_during_an_upload(
    sites: Callable[[BucketSettings], Site],
    s3_server: S3Server,
    proxy: Proxy,
    organization: str,
    contacts: int,
) -> None:
    """Somebody publishes while a job sends its plan.

    What they wrote stays, and the plan is that of what they wrote,
    whether the plan is small, and carried over, or large, and recomputed."""
    site = sites(s3_server.settings())
    copy = site.publish_new(organization, contacts)
    daemon = site.machine(
        "one", environment=environment_of(site.settings) | {"AWS_ENDPOINT_URL_S3": proxy.url}
    )
    first = schedule(daemon, organization)
    assert (first.rows_planned > MAX_CARRIED_ROWS) == (contacts > 1000)
    for number in range(2):
        site.write(copy, "UPDATE contacts SET birth_date = '1980-05-05' WHERE id <= 3")
        sent = (
            f"UPDATE email_schedules SET status = 'sent' WHERE id = (SELECT min(id) + {number} "
            "FROM email_schedules)"
        )
        proxy.faults.append(
            Fault("PUT", ".zst", "call", action=lambda sql=sent: site.write(copy, sql))
        )
        result = schedule(daemon, organization)
        assert not proxy.faults
        assert replica_of(result).carried_over == 1
        assert "rebase" in result.stages
        assert is_current(daemon, organization)
        site.write(copy, "UPDATE contacts SET birth_date = '1981-06-06' WHERE id <= 3")
    site.newest(organization, site.root / "end.db")
    with closing(sqlite3.connect(site.root / "end.db")) as connection:
        assert (
            connection.execute(
                "SELECT count(*) FROM email_schedules WHERE status = 'sent'"
            ).fetchone()[0]
            >= 2
        )
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_damaged_objects(scene: Scene) -> None:
    """A damaged object is never used; an older version can be published instead."""
    scene.prepare()
    repository = scene.site.repository(scene.organization)
    newest = repository.history()[0]
    store = repository.head_document.store
    data, stored = store.get(newest.key)
    from schedbucket.object_store import Condition

    for bad in (data[:-7], data[: len(data) // 2] + b"X" + data[len(data) // 2 + 1 :], b""):
        _, stored = store.get(newest.key)
        store.put(newest.key, bad, Condition(stored.etag))
        with pytest.raises(errors.BucketError) as caught:
            schedule(scene.daemon, scene.organization)
        assert caught.value.code == "bucket_damaged"
        assert newest.key in caught.value.message
    restored = subprocess.run(
        ["schedctl", "bucket", "restore", scene.organization, str(newest.version - 1), "--yes"],
        env=os.environ
        | environment_of(scene.site.settings)
        | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        check=False,
        capture_output=True,
        text=True,
    )
    assert restored.returncode == 0, restored.stderr
    scene.repeat()
