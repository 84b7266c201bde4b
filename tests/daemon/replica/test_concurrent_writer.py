"""Jobs while another program writes to the same organizations of a bucket."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

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
from tests.support.waiting import wait_until

WRITER = """
import json, random, sqlite3, sys, time
from contextlib import closing
from pathlib import Path
import msgspec
from schedbucket import WorkingCopy, load_settings, open_repository, open_store
from schedbucket.repository import OtherVersionError
import os

organization, seed = sys.argv[1], int(sys.argv[4])
folder, log = Path(sys.argv[2]), Path(sys.argv[3])
folder.mkdir()
settings = load_settings(os.environ)
repository = open_repository(settings, open_store(settings), organization)
copy = WorkingCopy(folder / "mine.db", folder / "state", repository)
source, number = random.Random(seed), 0
while not (folder / "stop").exists():
    number += 1
    copy.refresh()
    copy.begin()
    done = {}
    with closing(sqlite3.connect(copy.path)) as connection, connection:
        row = 1_000_000 * seed + number
        year, month, day = source.randint(40, 79), source.randint(1, 9), source.randint(0, 9)
        connection.execute(
            "INSERT INTO contacts(id, email, birth_date, effective_date, zip_code) "
            "VALUES (?, ?, ?, '2020-03-01', '75001')",
            (row, f"w{row}@example.org", f"19{year}-0{month}-1{day}"),
        )
        done["contact"] = row
        found = connection.execute(
            "SELECT id FROM email_schedules WHERE status = 'pre-scheduled' "
            "ORDER BY scheduled_send_date, id LIMIT 3"
        ).fetchall()
        if found:
            sent = source.choice(found)[0]
            connection.execute(
                "UPDATE email_schedules SET status = 'sent', "
                "actual_send_datetime = '2026-11-23 09:00:00' WHERE id = ?", (sent,)
            )
            done["sent"] = connection.execute(
                "SELECT contact_id, email_type, scheduled_send_date FROM email_schedules "
                "WHERE id = ?", (sent,)
            ).fetchone()
    try:
        copy.publish(note="app")
    except OtherVersionError:
        copy.discard()
        continue
    with log.open("a") as file:
        file.write(json.dumps(done) + "\\n")
    time.sleep(source.random() * float(sys.argv[5]))
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("layout", ["versions", "plain"])
def test_jobs_with_a_concurrent_writer(
    site: Site, organization: str, layout: str, tmp_path: Path
) -> None:
    """While jobs run, a second process writes contacts and marks rows as sent all the time.

    No write of either side is
    lost, and every plan that a job publishes is the plan of exactly the inputs that it is published
    with."""
    site.publish_new(organization, 400)
    daemon = site.machine("one")
    schedule(daemon, organization)
    script, log, folder = tmp_path / "writer.py", tmp_path / "writes", tmp_path / "writer"
    script.write_text(WRITER)
    environment = os.environ | environment_of(site.settings)
    writer = subprocess.Popen(
        [sys.executable, str(script), organization, str(folder), str(log), "1", "1.0"],
        env=environment,
    )
    runs: list[RunResult] = []
    checker = site.machine("checker", environment={"none": ""})
    try:
        wait_until(log.exists)
        while (
            len(runs) < 30
            or sum(replica_of(run).carried_over for run in runs) < 6
            or lines(log) < 15
        ):
            assert len(runs) < 200, "the two never met"
            runs.append(schedule(daemon, organization))
            # What was published is the plan of its inputs, whoever wrote them.
            target = checker.data / f"run-{len(runs)}.db"
            known = find_published(site, organization, layout, runs[-1], target)
            if known:
                assert is_current(checker, f"run-{len(runs)}"), (
                    f"run {len(runs)}: {runs[-1].replica}"
                )
            target.unlink(missing_ok=True)
    finally:
        (folder / "stop").touch()
        code = writer.wait(120)
    assert code == 0
    last = schedule(daemon, organization)
    assert replica_of(last).carried_over == 0
    site.newest(organization, tmp_path / "end.db")
    with closing(sqlite3.connect(tmp_path / "end.db")) as connection:
        contacts = {row for (row,) in connection.execute("SELECT id FROM contacts")}
        sent = set(
            connection.execute(
                "SELECT contact_id, email_type, scheduled_send_date FROM email_schedules WHERE "
                "status = 'sent'"
            )
        )
        recorded = {row for (row,) in connection.execute("SELECT run_id FROM scheduler_runs")}
    written = [json.loads(line) for line in log.read_text().splitlines()]
    assert {done["contact"] for done in written} <= contacts
    assert {tuple(done["sent"]) for done in written if "sent" in done} <= sent
    assert {run.run_id for run in runs} <= recorded
    assert is_current(daemon, organization)
    again = make_again(checker, tmp_path / "end.db")
    assert again == plan_of(tmp_path / "end.db")


def lines(path: Path) -> int:
    return len(path.read_text().splitlines())


def find_published(
    site: Site, organization: str, layout: str, run: RunResult, target: Path
) -> bool:
    """Fetch the version that a run has published.

    In the layout `plain` only if it is still the newest.
    """
    repository = site.repository(organization)
    if layout == "versions":
        from schedbucket.versions import version_ref

        [entry] = [
            entry for entry in repository.history() if entry.version == replica_of(run).version
        ]
        assert entry.note == run.run_id
        repository.fetch(version_ref(entry), None, None, target)
        return True
    known = repository.newest()
    assert known is not None
    try:
        repository.fetch(known, None, None, target)
    except Exception:
        return False
    with closing(sqlite3.connect(target)) as connection:
        last = connection.execute("SELECT count(*) FROM contacts").fetchone()[0]
    return last == run.contacts and not connection_has_newer(target, run)


def connection_has_newer(path: Path, run: RunResult) -> bool:
    with closing(sqlite3.connect(path)) as connection:
        [(newest,)] = connection.execute(
            "SELECT run_id FROM scheduler_runs ORDER BY started_at DESC, rowid DESC LIMIT 1"
        )
    return newest != run.run_id


def make_again(daemon: BucketDaemon, path: Path) -> list[tuple[object, ...]]:
    """The plan of a file's inputs, computed from nothing.

    The scheduler's rows that were not sent are removed first.
    """
    fresh = daemon.data / "fresh.db"
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(fresh)) as target:
        source.backup(target)
        with target:
            target.execute(
                "DELETE FROM email_schedules WHERE status IN ('pre-scheduled', 'skipped')"
            )
    schedule(daemon, "fresh")
    return plan_of(fresh)
