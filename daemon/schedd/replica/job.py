"""A job over an organization that lives in a bucket: lease, fetch, run, publish.

Without a bucket, just run.

Whatever happens, the volume's copy is afterwards a version that the bucket has, or is brought back
to one by the next
job: what a killed job has left is recognised by its fingerprint (`schedbucket.Copy`).
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import msgspec

from schedbucket import Copy, Lease
from schedbucket.repository import OtherVersionError
from schedd.replica import rebase
from schedd.replica.cache import make_room
from schedd.replica.location import keeper_of_changed
from schedd.run import runner
from schedd.run.context import RunContext
from schedd.run.runner import utc_now
from schedd.run.timings import Stages
from schedproto import ErrorCode, JobSpec, ReplicaUse, RunResult, SchedulerError, sqlite_files

from .location import ReplicaPlace

#: How often a result is published before it is given up because others publish all the time.
TRIES = 5
#: Plans of more rows are computed anew rather than carried over: comparing whole tables takes
#: longer than planning them (docs/PERFORMANCE.md), and memory for the changeset.
MAX_CARRIED_ROWS = 200_000
OURS, BEFORE, UNPUBLISHED = "ours.db", "before.db", "unpublished.db"


class ReplicaContext(RunContext, Protocol):
    """The process that runs a job, as a job over a bucket sees it."""

    @property
    def replica(self) -> ReplicaPlace | None:
        """Return the bucket that organizations are in; None if there is none."""


def run_job(
    spec: JobSpec,
    database: Path,
    defaults_toml: str,
    context: ReplicaContext,
    clock: Callable[[], dt.datetime] = utc_now,
) -> RunResult:
    """Schedule one organization where it lives; as `runner.run_job`."""

    def run() -> RunResult:
        return runner.run_job(spec, database, defaults_toml, context, clock)

    place = context.replica
    if place is None:
        return run()
    copy = place.copy(
        spec.organization,
        keeper_of_changed(context.backups, place, spec.organization),
        context.check,
    )
    with copy.locked():
        return _Replicated(spec, place, copy, context, run).run()


class _Replicated:
    def __init__(
        self,
        spec: JobSpec,
        place: ReplicaPlace,
        copy: Copy,
        context: ReplicaContext,
        run: Callable[[], RunResult],
    ) -> None:
        self._spec, self._place, self._copy, self._context, self._run = (
            spec,
            place,
            copy,
            context,
            run,
        )
        self._stages = Stages()
        self._use = ReplicaUse()

    def run(self) -> RunResult:
        if self._spec.dry_run:
            self._fetch(seen=False)
            return self._finished(self._run())
        with self._stages.stage("lease"):
            self._context.progress("lease", 0.0)
            lease = Lease.acquire(
                self._copy.repository.register,
                self._place.holder,
                duration_s=self._place.lease_s,
                check=self._context.check,
            )
        with lease:
            self._fetch(seen=True)
            self._copy.begin()
            try:
                return self._run_and_publish(lease)
            except BaseException:
                # The next job begins with what the bucket has.
                self._copy.discard()
                raise

    def _fetch(self, *, seen: bool) -> None:
        with self._stages.stage("fetch"):
            self._context.progress("fetch", 0.0)
            newest = self._copy.repository.newest(seen=seen)
            if newest is not None:
                make_room(self._place, self._spec.organization, newest.size_bytes)
            got = self._copy.refresh(seen=True)
        known = self._copy.known
        if known is not None:
            self._add(version_before=known.number, bytes_down=got, bytes_whole=known.size_bytes)

    def _add(
        self, *, bytes_down: int = 0, bytes_up: int = 0, bytes_whole: int = 0, **values: int
    ) -> None:
        use = self._use
        self._use = msgspec.structs.replace(
            use,
            bytes_down=use.bytes_down + bytes_down,
            bytes_up=use.bytes_up + bytes_up,
            bytes_whole=use.bytes_whole + bytes_whole,
            **values,
        )

    def _run_and_publish(self, lease: Lease) -> RunResult:
        result = self._run()
        for number in range(TRIES):
            try:
                with self._stages.stage("publish"):
                    self._context.progress("publish", 0.98)
                    known, sent = self._copy.publish(
                        lease=lease, release=True, by=self._place.holder, note=self._context.run_id
                    )
            except OtherVersionError:
                if number == TRIES - 1:
                    raise self._given_up() from None
                if self._carry_over(result):
                    result = self._run()
                self._add(carried_over=number + 1)
            else:
                self._add(version=known.number, bytes_up=sent, bytes_whole=known.size_bytes)
                break
        return self._finished(result)

    def _carry_over(self, result: RunResult) -> bool:
        """Put our changes onto what somebody else has published.

        Returns whether the plan must be computed anew.
        """
        copy, folder = self._copy, self._copy.folder
        ours, before = folder / OURS, folder / BEFORE
        with self._stages.stage("rebase"):
            self._context.progress("rebase", 0.98)
            for left in (ours, before):
                left.unlink(missing_ok=True)
            try:
                if result.rows_planned <= MAX_CARRIED_ROWS:
                    copy.path.rename(ours)
                    with suppress(FileNotFoundError):
                        os.link(folder / "base.db", before)
                copy.discard()
                self._fetch(seen=False)
                copy.begin()
                changes = rebase.changes_of(before, ours) if before.exists() else None
                if changes is None:
                    return True
                differs = rebase.inputs_differ(before, copy.path)
                whole = rebase.apply(changes, before, copy.path)
                if whole and not differs:
                    return False
                rebase.forget_run(copy.path, self._context.run_id)
                return True
            finally:
                for name in (OURS, BEFORE):
                    sqlite_files.remove_database(folder / name)

    def _given_up(self) -> SchedulerError:
        """Keep our file where the operator finds it, and return the error."""
        kept = self._copy.folder / UNPUBLISHED
        self._copy.path.rename(kept)
        return SchedulerError(
            ErrorCode.BUCKET_CONFLICT,
            f"other writers published {self._spec.organization} during all {TRIES} attempts to publish its plan",
            hint="Submit it again when there are fewer writes. The bucket has their version; the file named in "
            "the details has the result of this run. Writers should hold the lease (docs/BUCKET.md).",
            details={"path": str(kept)},
        )

    def _finished(self, result: RunResult) -> RunResult:
        """Return a result with the times of all stages, and what was moved."""
        own = dict(self._stages.seconds)
        order = ("lease", "fetch", "rebase")
        stages = {name: own[name] for name in order if name in own} | result.stages
        if "publish" in own:
            stages["publish"] = own["publish"]
        total = self._stages.total
        return msgspec.structs.replace(
            result,
            stages=stages,
            wall_s=round(total, 6),
            contacts_per_s=round(result.contacts / total, 1),
            replica=self._use,
        )
