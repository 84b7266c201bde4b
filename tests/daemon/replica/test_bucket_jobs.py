"""Jobs over organizations in a bucket, with real daemons, on a folder and on S3."""

from __future__ import annotations

import datetime as dt
import json
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from schedbucket import Lease
from schedclient import Client, errors
from schedctl.synthetic import make_organization
from schedproto import RunResult
from tests.support.buckets import (
    BucketDaemon,
    Site,
    environment_of,
    is_current,
    plan_of,
    replica_of,
    schedule,
)
from tests.support.command_line import schedctl
from tests.support.daemons import AS_OF
from tests.support.waiting import wait_until

DAY = dt.date(2026, 11, 23)
LAYOUTS = pytest.mark.parametrize("layout", ["versions", "plain"])
VERSIONS = pytest.mark.parametrize("layout", ["versions"])


@LAYOUTS
def test_job_fetches_and_publishes(
    site: Site, organization: str, layout: str, tmp_path: Path
) -> None:
    """A job fetches the newest version and publishes the plan; another machine continues."""
    copy = site.publish_new(organization)
    one, two = site.machine("one"), site.machine("two")
    first = schedule(one, organization)
    assert first.rows_inserted > 100
    assert replica_of(first).bytes_down > 0
    assert replica_of(first).bytes_up > 0
    assert list(first.stages)[:2] == ["lease", "fetch"]
    assert list(first.stages)[-1] == "publish"
    site.newest(organization, tmp_path / "now.db")
    assert plan_of(tmp_path / "now.db") == plan_of(one.data / f"{organization}.db")
    site.write(copy, "UPDATE contacts SET birth_date = '1980-01-05' WHERE id = 5")
    second = schedule(two, organization)
    assert second.rows_inserted < first.rows_inserted
    third = schedule(one, organization)
    assert (third.rows_inserted, third.rows_updated, third.rows_deleted) == (0, 0, 0)
    assert is_current(one, organization)
    assert is_current(two, organization)
    if layout == "versions":
        assert [
            replica_of(first).version,
            replica_of(second).version,
            replica_of(third).version,
        ] == [2, 4, 5]
        assert replica_of(second).version_before == 3
        assert replica_of(third).bytes_down < replica_of(second).bytes_down
        assert (
            replica_of(third).bytes_down + replica_of(third).bytes_up
            < replica_of(third).bytes_whole / 10
        )
    assert site.repository(organization).head_document.read().lease is None


@VERSIONS
def test_from_the_volume_into_the_bucket(site: Site, organization: str, layout: str) -> None:
    """The first job publishes an organization that was only on the volume."""
    data = site.root / "one"
    data.mkdir()
    make_organization(data / f"{organization}.db", 200, 1, DAY)
    daemon = site.machine("one")
    result = schedule(daemon, organization)
    assert (replica_of(result).version_before, replica_of(result).version) == (None, 1)
    assert replica_of(result).bytes_down == 0
    assert schedule(site.machine("two"), organization).rows_inserted == 0


@LAYOUTS
def test_missing_organization(site: Site, organization: str, layout: str) -> None:
    """A missing organization is reported, and no lease stays."""
    daemon = site.machine("one")
    with pytest.raises(
        errors.DatabaseMissingError, match="neither in the bucket nor on the volume"
    ):
        schedule(daemon, organization)
    assert site.repository(organization).head_document.read().lease is None


@VERSIONS
def test_doctor(site: Site, organization: str, layout: str) -> None:
    """The doctor looks at the bucket, too."""
    site.publish_new(organization)
    daemon = site.machine("one")
    with daemon.client() as client:
        states = {check.name: check.state for check in client.diagnose().checks}
    assert states["bucket"] == "ok"


@VERSIONS
def test_failed_job_publishes_nothing(site: Site, organization: str, layout: str) -> None:
    """A job that fails leaves the bucket and the copy as they were, and the lease free."""
    copy = site.publish_new(organization)
    daemon = site.machine("one")
    site.write(copy, "DELETE FROM contacts")
    before = site.repository(organization).newest()
    with pytest.raises(errors.ContactsError):
        schedule(daemon, organization)
    assert site.repository(organization).newest() == before
    assert site.repository(organization).head_document.read().lease is None


@pytest.mark.slow
@VERSIONS
def test_two_daemons_at_once(site: Site, organization: str, layout: str) -> None:
    """Two machines that are asked for the same organization at once take turns; both succeed."""
    site.publish_new(organization, 2000)
    daemons = [site.machine("one"), site.machine("two")]
    results: list[RunResult] = []
    threads = [
        threading.Thread(target=lambda d=daemon: results.append(schedule(d, organization)))
        for daemon in daemons
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert {replica_of(result).version for result in results} == {2, 3}
    assert sorted(result.rows_inserted > 0 for result in results) == [False, True]


@pytest.mark.slow
@LAYOUTS
def test_other_changes_are_published(
    site: Site, organization: str, layout: str, tmp_path: Path
) -> None:
    """A configuration, a file that is sent, a backup that is restored: each is published.

    Replies show the current version.
    """
    copy = site.publish_new(organization)
    one, two = site.machine("one"), site.machine("two")
    schedule(one, organization)
    with one.client() as client, two.client() as other:
        client.set_configuration(organization, 'timezone = "America/New_York"\n')
        assert other.configuration(organization).version == 1
        site.write(copy, "DELETE FROM contacts WHERE id > 100")
        assert client.info(organization).contacts == 100
        backup = client.backups(organization).backups[0]
        client.restore(organization, backup.backup_id)
        assert other.info(organization).contacts == 300
        fresh = tmp_path / "fresh.db"
        make_organization(fresh, 50, 9, DAY)
        client.push(fresh, organization)
        assert other.info(organization).contacts == 50
        client.push(fresh, f"{organization}-new")
        assert other.info(f"{organization}-new").contacts == 50
        assert {organization, f"{organization}-new"} <= set(client.organizations())
        other.pull(organization, tmp_path / "pulled.db")
    assert schedule(two, organization).contacts == 50


@pytest.mark.slow
@VERSIONS
def test_changes_wait_for_the_lease(site: Site, organization: str, layout: str) -> None:
    """Whoever has the lease keeps others from writing, and is named."""
    site.publish_new(organization)
    daemon = site.machine("one")
    head_document = site.repository(organization).head_document
    with (
        Lease.acquire(head_document, "the main application", duration_s=60.0),
        daemon.client(timeout_s=120) as client,
    ):
        with pytest.raises(errors.LeaseError, match="the main application"):
            client.set_configuration(organization, 'timezone = "America/New_York"\n')
        handle = client.submit(organization, as_of=AS_OF)
        wait_until(
            lambda: (job := client.status(handle.job_id)).progress and job.progress.stage == "lease"
        )
        client.cancel(handle.job_id)
        with pytest.raises(errors.JobCancelledError):
            handle.wait(120)
    assert schedule(daemon, organization).rows_inserted > 0


@LAYOUTS
def test_lease_of_the_client(
    site: Site, organization: str, layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The main application's part: lease, fetch, write, publish.

    A job waits for it and sees what was written.
    """
    site.publish_new(organization)
    for name, value in environment_of(site.settings).items():
        monkeypatch.setenv(name, value)
    daemon = site.machine("one")
    path = tmp_path / "mine.db"
    with daemon.client() as client:
        with client.lease(organization) as lease:
            assert lease.fencing_token >= 1
            assert lease.fetch(path).bytes_down > 0
            handle = client.submit(organization, as_of=AS_OF)
            with closing(sqlite3.connect(path)) as connection, connection:
                connection.execute("DELETE FROM contacts WHERE id > 10")
            moved = lease.publish(path)
            assert 0 < moved.bytes_up <= moved.bytes_whole
            lease.check()
        assert handle.wait(120).contacts == 10
    unheld = Client.lease(organization)
    with pytest.raises(errors.SettingsError, match="not held"):
        unheld.publish(path)


def test_lease_without_a_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a bucket the client's lease says what to set; half set, what is missing."""
    for name in ("BUCKET_NAME", "SCHEDD_BUCKET_FOLDER"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(errors.SettingsError, match="no bucket is set"):
        Client.lease("org-1")
    monkeypatch.setenv("BUCKET_NAME", "x")
    with pytest.raises(errors.SettingsError, match="AWS_ENDPOINT_URL_S3"):
        Client.lease("org-1")
    monkeypatch.setenv("SCHEDD_BUCKET_FOLDER", "/tmp/x")
    monkeypatch.setenv("SCHEDD_BUCKET_LAYOUT", "other")
    with pytest.raises(errors.SettingsError, match="layout"):
        Client.lease("org-1")


# The volume as a cache ----------------------------------------------------------------------------


@pytest.mark.slow
@VERSIONS
def test_eviction(site: Site, organization: str, layout: str) -> None:
    """Beyond the limit the least recently used copies go, except unpublished ones."""
    names = [f"{organization}-{letter}" for letter in "abcd"]
    for name in names:
        site.publish_new(name, 300)
    first = site.machine("first")
    schedule(first, names[0])
    size = (first.data / f"{names[0]}.db").stat().st_size
    daemon = site.machine("one", "--cache-gb", str(size * 3.1 / 1e9))
    for name in names[:3]:
        schedule(daemon, name)
    changed = daemon.data / f"{names[0]}.db"
    with closing(sqlite3.connect(changed)) as connection, connection:
        connection.execute("UPDATE contacts SET first_name = 'changed here' WHERE id = 1")
    schedule(daemon, names[3])
    assert [name for name in names if (daemon.data / f"{name}.db").exists()] == [
        names[0],
        names[2],
        names[3],
    ]
    assert schedule(daemon, names[1]).rows_inserted == 0  # it comes back from the bucket
    schedule(daemon, names[0])
    with daemon.client() as client:  # what was changed on the volume is kept as a backup
        assert any(
            "changed on the volume" in backup.run_id for backup in client.backups(names[0]).backups
        )


# Many ---------------------------------------------------------------------------------------------


@pytest.mark.slow
@VERSIONS
def test_batch(site: Site, organization: str, layout: str, tmp_path: Path) -> None:
    """Several organizations in one call.

    A bounded number runs at once; there are an outcome for each, sums, and exit codes.
    """
    names = [f"{organization}-{number}" for number in range(6)]
    for number, name in enumerate(names):
        site.publish_new(name, 100 + number)
    bad = f"{organization}-bad"
    copy = site.publish_new(bad)
    site.write(copy, "DELETE FROM contacts")
    daemon = site.machine("one")
    seen: dict[str, set[str]] = {}
    most = 0

    def on_update(name: str, job: object) -> None:
        nonlocal most
        seen.setdefault(name, set()).add(getattr(job, "state", "none"))
        most = max(most, sum(1 for states in seen.values() if not states & {"succeeded", "failed"}))

    with daemon.client() as client:
        done = client.schedule_many(
            [*names, bad, names[0]], concurrency=2, on_update=on_update, as_of=AS_OF
        )
    assert (done.succeeded, done.failed) == (6, 1)
    assert [outcome.organization for outcome in done.outcomes] == [*names, bad]
    assert done.contacts == sum(100 + number for number in range(6))
    assert done.bytes_up > 0
    assert most <= 2
    [failure] = [o.error for o in done.outcomes if o.organization == bad]
    assert failure is not None
    assert failure.code == "contacts_empty"

    shown = schedctl("submit", *names, "--as-of", AS_OF, data=daemon.data, COLUMNS="160")
    assert shown.returncode == 0, shown.stderr
    assert "6 of 6 organizations scheduled" in shown.stdout
    document = json.loads(
        schedctl(
            "submit", names[0], bad, "--as-of", AS_OF, "--json", data=daemon.data, COLUMNS="160"
        ).stdout
    )
    assert (document["succeeded"], document["failed"]) == (1, 1)
    failed = schedctl(
        "submit", "--all", "--as-of", AS_OF, "--at-once", "3", data=daemon.data, COLUMNS="160"
    )
    assert failed.returncode == 1
    assert "contacts_empty" in failed.stdout
    assert schedctl("submit", "--all", names[0], data=daemon.data, COLUMNS="160").returncode == 2
    assert schedctl("submit", "--all", "--detach", data=daemon.data, COLUMNS="160").returncode == 2


def test_batch_without_a_bucket(tmp_path: Path) -> None:
    """`--all` without a bucket is all organizations of the data folder."""
    data = tmp_path / "data"
    data.mkdir()
    for name in ("org-1", "org-2"):
        make_organization(data / f"{name}.db", 50, 1, DAY)
    daemon = BucketDaemon(data, {}).start()
    try:
        with daemon.client() as client:
            done = client.schedule_many(as_of=AS_OF)
            assert [outcome.organization for outcome in done.outcomes] == ["org-1", "org-2"]
            assert done.succeeded == 2
            assert done.bytes_whole == 0
    finally:
        daemon.kill()


# The main application writes all the time ---------------------------------------------------------
