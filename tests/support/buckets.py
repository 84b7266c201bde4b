"""Buckets for tests.

A folder, a real S3 server, and that server behind a proxy that injects faults.
"""

from __future__ import annotations

import datetime as dt
import itertools
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from schedbucket import BucketSettings, Repository, WorkingCopy, open_repository, open_store
from schedbucket.repository import OtherVersionError, VersionRef
from schedctl.synthetic import make_organization
from schedproto import RunResult
from schedproto.jobs import TransferStats
from tests.support.daemons import AS_OF, RunningDaemon

_numbers = itertools.count(1)


class BucketDaemon(RunningDaemon):
    """A daemon whose organizations live in a bucket."""

    def __init__(self, data: Path, environment: dict[str, str], *options: str) -> None:
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("AWS_", "BUCKET_", "SCHEDD_"))
        }
        super().__init__(data, *options, environment=kept | environment, own_session=True)


def environment_of(settings: BucketSettings) -> dict[str, str]:
    """The variables that set a bucket."""
    layout = {"SCHEDD_BUCKET_LAYOUT": settings.layout}
    if settings.folder is not None:
        return layout | {"SCHEDD_BUCKET_FOLDER": str(settings.folder)}
    assert settings.s3 is not None
    return layout | {
        "BUCKET_NAME": settings.s3.bucket,
        "AWS_ENDPOINT_URL_S3": settings.s3.endpoint,
        "AWS_ACCESS_KEY_ID": settings.s3.access_key_id,
        "AWS_SECRET_ACCESS_KEY": settings.s3.secret_access_key,
        "AWS_REGION": "auto",
    }


class Site:
    """A bucket, machines with their own volumes, and the main application."""

    def __init__(self, root: Path, settings: BucketSettings) -> None:
        self.root, self.settings = root, settings
        self.daemons: list[BucketDaemon] = []

    def machine(
        self, name: str, *options: str, environment: dict[str, str] | None = None
    ) -> BucketDaemon:
        data = self.root / name
        data.mkdir(exist_ok=True)
        daemon = BucketDaemon(data, environment or environment_of(self.settings), *options)
        self.daemons.append(daemon)
        return daemon.start()

    def repository(self, organization: str) -> Repository:
        return open_repository(self.settings, open_store(self.settings), organization)

    def app_copy(self, organization: str) -> WorkingCopy:
        """The main application's own copy."""
        folder = self.root / "app"
        folder.mkdir(exist_ok=True)
        return WorkingCopy(
            folder / f"{organization}.db",
            folder / f"{organization}.bucket",
            self.repository(organization),
        )

    def publish_new(self, organization: str, contacts: int = 300, seed: int = 1) -> WorkingCopy:
        """Put a synthetic organization into the bucket."""
        copy = self.app_copy(organization)
        make_organization(copy.path, contacts, seed, dt.date(2026, 11, 23))
        copy.refresh()
        copy.publish(note="new")
        return copy

    def write(self, copy: WorkingCopy, sql: str, *values: object) -> None:
        """Publish a change of the main application; retry until it is the newest version."""
        for _ in range(200):
            copy.refresh()
            copy.begin()
            with closing(sqlite3.connect(copy.path)) as connection, connection:
                connection.execute(sql, values)
            try:
                copy.publish(note="app")
            except OtherVersionError:
                copy.discard()
            else:
                return
        raise AssertionError("never published")

    def newest(self, organization: str, target: Path) -> VersionRef:
        """Fetch the newest version, verified."""
        repository = self.repository(organization)
        known = repository.newest()
        assert known is not None
        target.unlink(missing_ok=True)
        repository.fetch(known, None, None, target)
        return known


def schedule(daemon: BucketDaemon, organization: str, **options: Any) -> RunResult:
    with daemon.client() as client:
        return client.schedule(organization, as_of=AS_OF, **options)


def is_current(daemon: BucketDaemon, organization: str) -> bool:
    """Return whether a run on the existing inputs would change nothing."""
    result = schedule(daemon, organization, dry_run=True)
    return not (result.rows_inserted or result.rows_updated or result.rows_deleted)


def replica_of(result: RunResult) -> TransferStats:
    """Return what a run reports of the bucket; a run over a bucket always does."""
    assert result.replica is not None
    return result.replica


def plan_of(path: Path) -> list[tuple[object, ...]]:
    """Return the rows of the plan table, sorted."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(
            "SELECT contact_id, email_type, scheduled_send_date, status, skip_reason FROM "
            "email_schedules ORDER BY 1, 2, 3, 4"
        ).fetchall()
