"""A job over an organization in a bucket: take the lease, fetch, run, publish.

Without a bucket, only the run. Whatever happens, the volume's copy is afterwards a version that the
bucket has, or the next job makes it one: it recognizes what a killed job left by the fingerprint
(`schedbucket.WorkingCopy`).
"""

from __future__ import annotations

import datetime as dt
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

import msgspec

from schedbucket import Lease, WorkingCopy
from schedbucket.object_store import duplicate
from schedbucket.repository import OtherVersionError
from schedd.replica import rebase
from schedd.replica.cache import make_room
from schedd.replica.location import preserve_local_changes
from schedd.run import runner
from schedd.run.context import RunContext
from schedd.run.runner import utc_now
from schedd.run.timings import Stages
from schedproto import ErrorCode, JobSpec, RunResult, SchedulerError, TransferStats, sqlite_files

from .location import BucketLocation

#: A job that loses races against other writers gives up after this time, but not before this many
#: attempts (docs/BUCKET.md). A large plan may take longer than the time to compute once.
PUBLISH_BUDGET_S, MIN_TRIES = 300.0, 5
#: Pause after a lost race: random, up to twice as long each time.
_PAUSE_S, _MAX_PAUSE_S = 0.05, 2.0
#: Larger plans are recomputed instead of carried over: comparing complete tables takes longer than
#: planning them (docs/PERFORMANCE.md), and memory for the changeset.
MAX_CARRIED_ROWS = 200_000
#: Files in the copy's folder: our result and its base, during a rebase; a result that was given up.
OURS_FILE, BEFORE_FILE, UNPUBLISHED_FILE = "ours.db", "before.db", "unpublished.db"


class ReplicaContext(RunContext, Protocol):
    """The process that runs a job, with the bucket that its organization is in."""

    @property
    def replica(self) -> BucketLocation | None:
        """Return the bucket, None if there is none."""


def run_job(
    spec: JobSpec,
    database: Path,
    defaults_toml: str,
    context: ReplicaContext,
    clock: Callable[[], dt.datetime] = utc_now,
) -> RunResult:
    """Schedule one organization in the bucket, or on the volume; see `runner.run_job`."""

    def run() -> RunResult:
        return runner.run_job(spec, database, defaults_toml, context, clock)

    location = context.replica
    if location is None:
        return run()
    preserve = preserve_local_changes(context.backups, location, spec.organization)
    copy = location.copy(spec.organization, preserve, context.check)
    with copy.locked():
        return BucketJob(spec, location, copy, context, run).run()


class Contention:
    """Lost races of one job: when to give up, and how long to pause before the next attempt.

    Example:

        contention = Contention()
        contention.lost_race()
        if not contention.exhausted:
            time.sleep(contention.pause_s())
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.lost = 0
        self._clock = clock
        self._deadline: float | None = None

    def lost_race(self) -> None:
        """Count a lost race; the first one starts the time budget."""
        self.lost += 1
        if self._deadline is None:
            self._deadline = self._clock() + PUBLISH_BUDGET_S

    @property
    def exhausted(self) -> bool:
        """Return whether the job should give up."""
        return (
            self._deadline is not None
            and self.lost >= MIN_TRIES
            and self._clock() >= self._deadline
        )

    def pause_s(self) -> float:
        """Return a random pause, so that the job gets out of step with a periodic writer."""
        longest: float = min(_MAX_PAUSE_S, _PAUSE_S * 2 ** min(self.lost, 16))
        return longest * random.random()  # noqa: S311 - jitter


class BucketJob:
    """One job over a working copy. `run` does it, in these steps:

        _fetch     bring the copy up to date
        run        the run itself, on the copy
        _publish   make the copy the newest version, if the base still is
        _rebase    after a lost race: carry our changes over to the version that won, or plan again

    Use it under the copy's lock:

        with copy.locked():
            result = BucketJob(spec, location, copy, context, run).run()

    run: plans the copy in place and returns the result.
    """

    def __init__(
        self,
        spec: JobSpec,
        location: BucketLocation,
        copy: WorkingCopy,
        context: ReplicaContext,
        run: Callable[[], RunResult],
    ) -> None:
        self._spec = spec
        self._location = location
        self._copy = copy
        self._context = context
        self._run = run
        self._stages = Stages()
        self._stats = TransferStats()

    def run(self) -> RunResult:
        """Do the job; blocks until it is published. Raises `SchedulerError`."""
        if self._spec.dry_run:
            self._fetch(cached=False)
            return self._complete(self._run())

        with self._take_lease() as lease:
            self._fetch(cached=True)
            self._copy.begin()
            try:
                return self._complete(self._run_and_publish(lease))
            except SchedulerError as error:
                self._copy.discard()  # the next job starts with what the bucket has
                if error.code == ErrorCode.BUCKET_UNREACHABLE:
                    self._check_lease(lease)
                raise
            except BaseException:
                self._copy.discard()
                raise

    def _check_lease(self, lease: Lease) -> None:
        """Raise `SchedulerError` (`lease_lost`) if that is why the bucket seemed unreachable.

        If the machine was paused, its requests have timed out when it continues, and so has the
        library's time for repeating them.
        """
        try:
            head = self._copy.repository.head_document.read()
        except SchedulerError:
            return  # it still is
        if not lease.released:
            lease.check(head)

    def _take_lease(self) -> Lease:
        with self._stage("lease", 0.0):
            return Lease.acquire(
                self._copy.repository.head_document,
                self._location.holder,
                duration_s=self._location.lease_s,
                check=self._context.check,
            )

    def _run_and_publish(self, lease: Lease) -> RunResult:
        result = self._run()
        contention = Contention()
        while True:
            try:
                self._publish(lease)
            except OtherVersionError:
                contention.lost_race()
                if contention.exhausted:
                    raise self._given_up(contention.lost) from None
                # Writers without a lease that respect this cannot win a second time.
                lease.make_exclusive()
                self._pause(contention.pause_s())
                result = self._rebase(result)
                self._add(carried_over=contention.lost)
            else:
                return result

    # Steps ----------------------------------------------------------------------------------------

    def _fetch(self, *, cached: bool) -> None:
        """Make the copy the newest version; frees space on the volume for it."""
        with self._stage("fetch", 0.0):
            newest = self._copy.repository.newest(cached=cached)
            if newest is not None:
                make_room(self._location, self._spec.organization, newest.size_bytes)
            got = self._copy.refresh(cached=True)
        version = self._copy.version
        if version is not None:
            self._add(version_before=version.number, down=got, whole=version.size_bytes)

    def _publish(self, lease: Lease) -> None:
        """Make the copy the newest version, and release the lease. Raises `OtherVersionError`."""
        with self._stage("publish", 0.98):
            version, sent = self._copy.publish(
                lease=lease, release=True, by=self._location.holder, note=self._context.run_id
            )
        self._add(version=version.number, up=sent, whole=version.size_bytes)

    def _rebase(self, result: RunResult) -> RunResult:
        """Put our changes onto the version that another writer published; return the result.

        The next race is open from the download on, so what does not depend on it comes before.
        """
        with self._stage("rebase", 0.98), self._temporary_files() as (ours, before):
            changes = None
            if result.rows_planned <= MAX_CARRIED_ROWS:
                changes = self._set_aside(ours, before)
            self._copy.discard()
            self._fetch(cached=False)
            self._copy.begin()
            if changes is not None and self._carry_over(changes, before):
                return result
        return self._run()

    def _set_aside(self, ours: Path, before: Path) -> bytes | None:
        """Move our result out of the copy; return its changes, None if they cannot be carried."""
        self._copy.path.rename(ours)
        with suppress(FileNotFoundError):
            os.link(self._copy.base_path, before)
        return rebase.changes_of(before, ours) if before.exists() else None

    def _carry_over(self, changes: bytes, before: Path) -> bool:
        """Apply our changes to the new version; return whether the plan is still valid there."""
        path = self._copy.path
        if before.samefile(path):  # the other writer has restored our base
            before.unlink()
            duplicate(path, before)
        differs = rebase.inputs_differ(before, path)
        complete = rebase.apply(changes, before, path)
        if complete and not differs:
            return True
        rebase.forget_run(path, self._context.run_id)
        return False

    # Helpers --------------------------------------------------------------------------------------

    @contextmanager
    def _stage(self, name: str, fraction: float) -> Iterator[None]:
        with self._stages.stage(name):
            self._context.progress(name, fraction)
            yield

    @contextmanager
    def _temporary_files(self) -> Iterator[tuple[Path, Path]]:
        """Yield the paths of our result and of its base, and remove the files at both ends."""
        paths = self._copy.folder / OURS_FILE, self._copy.folder / BEFORE_FILE
        _remove(*paths)
        try:
            yield paths
        finally:
            _remove(*paths)

    def _pause(self, seconds: float) -> None:
        self._context.check()
        time.sleep(seconds)

    def _add(self, *, down: int = 0, up: int = 0, whole: int = 0, **values: int) -> None:
        """Add to the bytes transferred, and set other fields of the statistics."""
        stats = self._stats
        self._stats = msgspec.structs.replace(
            stats,
            bytes_down=stats.bytes_down + down,
            bytes_up=stats.bytes_up + up,
            bytes_whole=stats.bytes_whole + whole,
            **values,
        )

    def _given_up(self, tries: int) -> SchedulerError:
        """Keep our result where the operator finds it, and return the error."""
        kept = self._copy.folder / UNPUBLISHED_FILE
        self._copy.path.rename(kept)
        return SchedulerError(
            ErrorCode.BUCKET_CONFLICT,
            f"other writers published {self._spec.organization} during all {tries} attempts to "
            "publish its plan",
            hint="Submit it again when there are fewer writes. The bucket has their version; the "
            "file named in the details has the result of this run. Writers should hold the lease "
            "(docs/BUCKET.md).",
            details={"path": str(kept)},
        )

    def _complete(self, result: RunResult) -> RunResult:
        """Return the result with the times of all stages, and the transfers."""
        own = dict(self._stages.seconds)
        order = ("lease", "fetch", "rebase")
        stages: dict[str, float] = {name: own[name] for name in order if name in own}
        stages |= result.stages
        if "publish" in own:
            stages["publish"] = own["publish"]
        total = self._stages.total
        return msgspec.structs.replace(
            result,
            stages=stages,
            wall_s=round(total, 6),
            contacts_per_s=round(result.contacts / total, 1),
            replica=self._stats,
        )


def _remove(*paths: Path) -> None:
    for path in paths:
        sqlite_files.remove_database(path)
