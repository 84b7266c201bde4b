"""Other writers publish while jobs run: both make progress."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from schedbucket import BucketSettings, WorkingCopy
from schedbucket.repository import OtherVersionError
from schedbucket.versions import VersionsRepository, _with_entry
from schedclient import SchedulerClientError
from schedclient.bucket import OrganizationLease
from schedd.replica import job as replica_job
from schedd.replica.job import MAX_CARRIED_ROWS, BucketJob, Contention
from schedproto import ErrorCode, JobSpec, RunResult, SchedulerError
from tests.support.buckets import Site, is_current, schedule
from tests.support.waiting import wait_until
from tests.support.working_copies import Machine, read, two_machines, write

EVERY_S = 0.1


@pytest.fixture
def machines(organization: str, tmp_path: Path) -> tuple[Machine, Machine]:
    return two_machines(BucketSettings(folder=tmp_path / "bucket"), organization, tmp_path)


# A job whose every attempt is overtaken -----------------------------------------------------------


class Rude:
    """A program that knows of no lease: it publishes whenever the job is about to, some times."""

    def __init__(self, machine: Machine, times: int) -> None:
        self.repository, self.path, self.times = machine.repository, machine.path, times
        self.published = 0

    def publish(self) -> None:
        if self.published == self.times:
            return
        self.published += 1
        newest = self.repository.newest()
        assert newest is not None
        self.path.unlink(missing_ok=True)
        self.repository.fetch(newest, None, None, self.path)
        write(self.path, "rude", 100 + self.published)
        assert isinstance(self.repository, VersionsRepository)
        made = self.repository._make_entry(
            self.path, None, newest, self.path.parent, "", "", lambda: None
        )
        assert made is not None
        entry, file = made
        self.repository.store.put_file(entry.key, file)
        file.unlink()
        self.repository.head_document.change(lambda head: _with_entry(head, entry))


def bucket_job(machine: Machine, rude: Rude) -> BucketJob:
    """A job whose run writes one row, overtaken by another program at each attempt."""

    def progress(stage: str, _fraction: float) -> None:
        if stage == "publish":
            rude.publish()

    def run() -> RunResult:
        write(machine.path, "planned")
        return RunResult(
            run_id="r", organization="o", as_of="", mode="", workers=1,
            rows_planned=MAX_CARRIED_ROWS + 1,
        )  # fmt: skip

    location = SimpleNamespace(
        holder="job", lease_s=30.0, cache_bytes=0, data=str(machine.path.parent)
    )
    context = SimpleNamespace(run_id="r", check=lambda: None, progress=progress)
    spec = JobSpec(organization=machine.repository.organization)
    return BucketJob(spec, location, machine.copy, context, run)  # type: ignore[arg-type]


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica_job, "_MAX_PAUSE_S", 0.01)
    monkeypatch.setattr(replica_job, "make_room", lambda *_: [])


def test_overtaken_many_times(
    machines: tuple[Machine, Machine],
    unhurried: None,
) -> None:
    """A job that is overtaken nine times is published with its tenth attempt."""
    mine, other = machines
    rude = Rude(other, times=9)
    result = bucket_job(mine, rude).run()
    assert result.replica is not None
    assert (result.replica.carried_over, rude.published) == (9, 9)
    assert (result.replica.version_before, result.replica.version) == (10, 11)
    assert read(mine.path) == "planned"
    assert [read(mine.path, 100 + number) for number in range(1, 10)] == ["rude"] * 9
    head = mine.repository.head_document.read()
    assert head.lease is None
    assert mine.copy.version == mine.repository.newest()


def test_overtaken_for_too_long(
    machines: tuple[Machine, Machine],
    unhurried: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After its time a job gives up and says so; the other program's version stands."""
    monkeypatch.setattr(replica_job, "PUBLISH_BUDGET_S", 0.0)
    mine, other = machines
    rude = Rude(other, times=1000)
    with pytest.raises(SchedulerError, match="during all 5 attempts") as caught:
        bucket_job(mine, rude).run()
    assert caught.value.code == ErrorCode.BUCKET_CONFLICT
    assert caught.value.retryable
    assert read(Path(caught.value.details["path"])) == "planned"
    assert mine.repository.head_document.read().lease is None
    target = other.path.with_name("now.db")
    mine.repository.fetch(mine.repository.newest(), None, None, target)  # type: ignore[arg-type]
    assert read(target) != "planned"


def test_when_a_job_gives_up() -> None:
    """A job gives up after its time and some attempts; pauses are random and bounded."""
    now = [0.0]
    contention = Contention(lambda: now[0])
    assert not contention.exhausted
    for number in range(1, 200):
        contention.lost_race()
        assert 0 <= contention.pause_s() <= 2.0
        assert not contention.exhausted, number
    now[0] = replica_job.PUBLISH_BUDGET_S
    assert contention.exhausted
    slow = Contention(lambda: now[0])
    for number in range(1, replica_job.MIN_TRIES + 1):
        slow.lost_race()
        now[0] += replica_job.PUBLISH_BUDGET_S
        assert slow.exhausted == (number == replica_job.MIN_TRIES)


# Real writers, real jobs --------------------------------------------------------------------------


class Writer:
    """The main application: changes a contact and publishes that, every 100 ms."""

    def __init__(self, site: Site, organization: str, *, leases: bool) -> None:
        self.site, self.organization, self.leases = site, organization, leases
        self.copy: WorkingCopy = site.app_copy(organization)
        self.path = site.root / "leased.db" if leases else self.copy.path
        self.published: list[float] = []
        self.lost = 0
        self.errors: list[Exception] = []
        self._stop = threading.Event()

    @contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=self._run, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join(120)
        assert self.errors == []

    def _run(self) -> None:
        try:
            while not self._stop.wait(EVERY_S):
                if self.leases:
                    self._with_lease()
                else:
                    self._without_lease()
        except Exception as error:
            self.errors.append(error)

    def _with_lease(self) -> None:
        try:
            with OrganizationLease(
                self.organization, settings=self.site.settings, wait_s=120.0
            ) as lease:
                lease.fetch(self.path)
                self._change()
                lease.publish(self.path)
        except SchedulerClientError as error:
            self.errors.append(error)
            return
        self.published.append(time.monotonic())

    def _without_lease(self) -> None:
        self.copy.refresh()
        self.copy.begin()
        self._change()
        try:
            self.copy.publish(note="app")
        except (OtherVersionError, SchedulerError) as error:
            if isinstance(error, SchedulerError) and not error.retryable:
                raise
            self.lost += 1
            self.copy.discard()
        else:
            self.published.append(time.monotonic())

    def _change(self) -> None:
        number = len(self.published)
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute(
                "UPDATE contacts SET birth_date = ? WHERE id = ?",
                (f"19{40 + number % 50}-0{1 + number % 9}-1{number % 10}", 1 + number % 100),
            )

    def wait_for(self, count: int) -> None:
        """Wait until it has published so often from now on."""
        goal = len(self.published) + count
        wait_until(lambda: len(self.published) >= goal or bool(self.errors), "a publish")
        assert self.errors == []


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("leases", [False, True], ids=["no lease", "lease"])
@pytest.mark.parametrize("layout", ["versions", "plain"])
def test_a_writer_every_100_ms(
    site: Site,
    organization: str,
    layout: str,
    leases: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each job is published while another writer publishes every 100 ms, and both make progress."""
    jobs = 5
    site.publish_new(organization, 300)
    daemon = site.machine("one")
    schedule(daemon, organization)
    writer = Writer(site, organization, leases=leases)
    walls, during, carried = [], [], []
    with writer.running():
        for _ in range(jobs):
            writer.wait_for(3)
            before, began = len(writer.published), time.monotonic()
            result = schedule(daemon, organization)
            walls.append(time.monotonic() - began)
            during.append(len(writer.published) - before)
            assert result.replica is not None
            carried.append(result.replica.carried_over)
        writer.wait_for(3)
    # One lost race makes the lease exclusive. In `plain`, a write may be in progress by then.
    assert max(carried) <= (0 if leases else 1 if layout == "versions" else 2)
    schedule(daemon, organization)
    assert is_current(daemon, organization)
    assert site.repository(organization).head_document.read().waiting == []
    with capsys.disabled():
        kind = "folder" if site.settings.folder else "s3"
        print(
            f"\n{kind} {layout} {'lease' if leases else 'no lease'}: jobs took "
            f"{', '.join(f'{wall:.1f}' for wall in walls)} s, lost races {carried}, the writer "
            "published "
            f"{during} times meanwhile, {len(writer.published)} in all, and lost {writer.lost} "
            "races"
        )
