"""The stages of one job, from the file to the file. Knows neither socket nor pool (see `contract`).

All of a run is one transaction: the write lock is taken first, so that every process of the run
reads the same state, and nothing is written before all have read. What fails leaves the file as it
was.
"""

from __future__ import annotations

import datetime as dt
import zoneinfo
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import apsw
import msgspec
import numpy as np

from schedd.engine import calendar
from schedd.engine.configuration import Configuration, ConfigurationError, Layer, build, parse_toml
from schedd.engine.findings import Findings
from schedd.engine.run import Run
from schedd.store import campaigns as campaign_store
from schedd.store import foreign, maintenance, schema, verify
from schedd.store.bulk import bulk_load
from schedd.store.configurations import invalid
from schedd.store.connection import interrupt_when, open_reader, open_writer
from schedd.store.contacts import chunk_starts
from schedd.store.errors import sqlite_errors, translate
from schedd.store.outside_rows import read_outside_rows
from schedd.store.probe import Sample, try_rows
from schedd.store.runs import RunRecord, StoredConfiguration, applicable_configuration, record_run
from schedd.store.schedules import ScheduleReader
from schedd.store.write import IssueWriter, PlainRows, PlanWriter
from schedproto import ErrorCode, JobSpec, Mode, RunResult, RunWarning, SchedulerError

from . import preview as previews
from . import shared_arrays
from .backup import Keeper, keeper
from .balancing import balance_chunks
from .chunks import ChunkTask, Finished, Planned, RunInput, write_run_input
from .context import RunContext
from .explanations import explain_contacts
from .outside import save_outside
from .review import CompletePlan, Review, wants_digest
from .run_record import run_record
from .specification import parse_as_of
from .summary import Tally, sum_days
from .timings import Stages
from .warnings import merged, to_warnings

#: Contacts in a chunk: few enough that a chunk's columns stay in the processor's caches.
CHUNK_CONTACTS = 32_768
#: From so many contacts on, a job that names no number of workers uses all there are.
PARALLEL_CONTACTS = 50_000

_T = TypeVar("_T")


def utc_now() -> dt.datetime:
    """Return the time; the default of `run_job`'s `clock`."""
    return dt.datetime.now(dt.UTC)


def run_job(
    spec: JobSpec,
    database: Path,
    defaults_toml: str,
    context: RunContext,
    clock: Callable[[], dt.datetime] = utc_now,
) -> RunResult:
    """Schedule one organization; raises `SchedulerError`.

    defaults_toml: the daemon's configuration file (rules, section 13), or an empty text.
    """
    with keeper(spec, database, context) as backup:
        return _run_kept(_Job(spec, database, defaults_toml, context, clock, backup))


def _run_kept(job: _Job) -> RunResult:
    context, database = job.context, job.database
    connection = job.open()
    context.on_cancel(connection.interrupt)
    try:
        with sqlite_errors(database):
            return job.run(connection)
    except (SchedulerError, apsw.Error) as error:
        job.note_failure(connection, error)
        context.check()
        raise
    finally:
        context.on_cancel(None)
        # What is committed stays, whatever becomes of the log when the last connection goes.
        with suppress(apsw.Error):
            connection.close()


class _Job:
    def __init__(
        self,
        spec: JobSpec,
        database: Path,
        defaults_toml: str,
        context: RunContext,
        clock: Callable[[], dt.datetime],
        backup: Keeper,
    ) -> None:
        self.backup = backup
        self.spec, self.database, self.context, self.clock = spec, database, context, clock
        self.defaults_toml = defaults_toml
        self.mode = Mode(spec.mode)
        self.stages = Stages()
        self.started = clock()
        self.stored: StoredConfiguration | None = None
        self.as_of = 0
        self.contacts = self.schema_version = 0
        self.warnings: list[RunWarning] = []
        self.workers = 1

    def open(self) -> apsw.Connection:
        """Open the file; a dry run can do with a file that may only be read."""
        try:
            connection = open_writer(self.database, self.mode)
        except SchedulerError as error:
            if not self.spec.dry_run or error.code != ErrorCode.DATABASE_READ_ONLY:
                raise
            connection = open_reader(self.database)
        interrupt_when(connection, self._cancelled)
        return connection

    def _cancelled(self) -> bool:
        try:
            self.context.check()
        except SchedulerError:
            return True
        return False

    def run(self, connection: apsw.Connection) -> RunResult:
        with self.stages.stage("open"):
            self.context.progress("open", 0.0)
            maintenance.check_integrity(connection, self.database, self.mode)
            self._check(connection)
        readonly = connection.readonly("main")
        with maintenance.journal_for(connection, self.mode, change=not self.spec.dry_run):
            self.backup.prepare(connection)
            connection.execute("BEGIN" if readonly else "BEGIN IMMEDIATE")
            try:
                with foreign.explained(connection):
                    result = self._in_transaction(connection)
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            if self.spec.dry_run:
                connection.execute("ROLLBACK")
        return self._timed(result)

    def _timed(self, result: RunResult) -> RunResult:
        """Return a result with the times until now."""
        return msgspec.structs.replace(
            result,
            stages=dict(self.stages.seconds),
            wall_s=round(self.stages.total, 6),
            finished_at=self.clock().astimezone(dt.UTC).strftime("%Y-%m-%d %H:%M:%S"),
            contacts_per_s=round(self.contacts / self.stages.total, 1),
        )

    def _check(self, connection: apsw.Connection) -> None:
        """Find what makes a run impossible before anything, be it the journal mode, is changed."""
        self.schema_version = schema.version(connection)
        present = schema.read_schema(connection)
        schema.check_contacts(connection, present, str(self.database))
        foreign.check_tables(connection, present)
        schema.check_keys(connection, present)
        self.stored = applicable_configuration(connection, present)
        configuration = self._configuration()[1]
        self._try_rows(connection, configuration, self._as_of(configuration))

    def _try_rows(
        self, connection: apsw.Connection, configuration: Configuration, as_of: int
    ) -> None:
        """Raise if the file's constraints take no rows like those of this run."""
        now = self.clock().strftime("%Y-%m-%d %H:%M:%S")
        try_rows(connection, Sample(as_of, configuration.send_time, self.context.run_id, now))

    def _in_transaction(self, connection: apsw.Connection) -> RunResult:
        present = schema.read_schema(connection)
        self.stored = applicable_configuration(connection, present)
        layers, configuration = self._configuration()
        self.as_of = self._as_of(configuration)
        schema.check_contacts(connection, present, str(self.database))
        if schema.version(connection) != self.schema_version:
            foreign.check_tables(connection, present)
            self._try_rows(connection, configuration, self.as_of)
        [(self.contacts,)] = connection.execute("SELECT count(*) FROM contacts")
        self.workers = self.spec.workers or (
            self.context.default_workers if self.contacts >= PARALLEL_CONTACTS else 1
        )
        types, instances = campaign_store.campaign_tables(connection, present)
        run = Run(self.as_of, configuration, types, instances)
        write_run_input(
            self.context.scratch,
            RunInput(
                str(self.database),
                self.as_of,
                [(la.name, dict(la.values)) for la in layers],
                types,
                instances,
            ),
        )
        findings = Findings(run.findings)
        outside = read_outside_rows(connection, present, findings)
        save_outside(self.context.scratch, outside)
        plan = self._plan(
            connection, run, ScheduleReader(connection, present, run, self.as_of, outside)
        )
        explanations = []
        limits = configuration.limits(self.contacts)
        if self.spec.explain:
            explanations = explain_contacts(
                run, self.database, self.spec.explain, plan.notes, limits, outside
            )
        tally = Tally(run.classes, sum(part.eligible for part in plan.parts))
        tally.volume_before = sum_days(part.volume for part in plan.parts)
        tally.dispatched = {
            day: count for day, count in plan.dispatched.items() if day >= self.as_of
        }
        review = Review(self.spec, configuration, self.contacts, self.as_of, self.stored)
        finished = self._stream("finish", plan.tasks, Finished)
        answers = review.judge(
            connection, present, plan, finished, tally, self.context, self.stages
        )
        if self.spec.dry_run and plan.orphans.plan:
            tally.previews.append(previews.of_orphans(connection, plan.orphans.plan))
        writer = None
        created = not present.has(schema.PLAN)
        if not self.spec.dry_run:
            if not schema.is_complete(connection, present):
                self._keep()
                schema.complete(connection, present)
            now = self.clock().strftime("%Y-%m-%d %H:%M:%S")
            writer = PlanWriter(
                connection, run.classes, configuration.send_time, self.context.run_id, now
            )
        self._write_all(connection, plan, answers, writer, tally, created=created)
        warnings = [
            *to_warnings(findings),
            *(warning for part in plan.parts for warning in part.warnings),
        ]
        result = tally.result(
            self.spec,
            self.context.run_id,
            self.as_of,
            self.workers,
            self.contacts,
            None if self.stored is None else self.stored.version,
            limits,
            tally.changes if writer is None else writer.changes,
        )
        result = msgspec.structs.replace(
            result,
            explanations=explanations,
            backup_id=self.backup.backup_id,
            warnings=merged([*warnings, *to_warnings(plan.orphan_findings), *self.warnings]),
            guard=review.measures,
            plan=review.plan,
        )
        if writer is not None:
            with self.stages.stage("commit"):
                self.context.progress("commit", 0.97, self.contacts, self.contacts)
                self.context.check()
                record_run(connection, self._record(result))
                connection.execute("COMMIT")
        return result

    def _plan(self, connection: apsw.Connection, run: Run, reader: ScheduleReader) -> CompletePlan:
        """Plan all chunks and balance them; the rows then lie in the scratch files of the tasks."""
        tasks = self._tasks(connection)
        with self.stages.stage("plan"):
            parts = self._each("plan", tasks, Planned, "plan", 0.02, 0.45)
        with self.stages.stage("balance"):
            self.context.progress("balance", 0.46, self.contacts, self.contacts)
            files = [self.context.scratch / task.name for task in tasks]
            orphans = reader.orphans(tasks[0].low)
            dispatched = sum_days([Counter(orphans.days), *(part.dispatched for part in parts)])
            fixed = sum_days([dispatched, *(part.followups for part in parts)])
            notes = balance_chunks(
                run, files, self.contacts, fixed, self.context.check, self.spec.explain
            )
        return CompletePlan(tasks, parts, dispatched, notes, orphans, reader.findings)

    def _write_all(
        self,
        connection: apsw.Connection,
        plan: CompletePlan,
        answers: Iterable[tuple[ChunkTask, Finished]],
        writer: PlanWriter | None,
        tally: Tally,
        *,
        created: bool,
    ) -> None:
        expected = sum(part.rows for part in plan.parts) - sum(part.existing for part in plan.parts)
        if writer is not None and expected > 0:
            self._keep()
        loading = bulk_load(connection, expected, active=writer is not None, created=created)
        with self.stages.stage("write"), loading as load:
            if writer is not None:
                writer.load = load
            self._write(answers, len(plan.tasks), writer, tally, plan.orphans.plan)
            if writer is not None:
                schema.complete_key(connection)
                issues = IssueWriter(connection, *tally.issue_columns())
                if issues.differs():
                    self._keep()
                    issues.write()
                    self.warnings += verify.verify_issues(connection, issues)
        if writer is not None:
            with self.stages.stage("write"):
                self.warnings += verify.verify_plan(
                    connection, writer, verify.planned_by_status(tally.counts)
                )

    def _keep(self) -> None:
        """Before something is written: see to the backup, once."""
        with self.stages.stage("backup"):
            self.backup.keep()

    def _configuration(self) -> tuple[list[Layer], Configuration]:
        try:
            layers = [parse_toml(self.defaults_toml, "the daemon's configuration file")]
            if self.stored is not None:
                place = f"version {self.stored.version} of the organization's configuration"
                layers.append(self.stored.layer(place))
            layers.append(Layer("the job's configuration", self.spec.config))
            return layers, build(*layers)
        except ConfigurationError as error:
            raise invalid(error) from None

    def _as_of(self, configuration: Configuration) -> int:
        if self.spec.as_of is None:
            return calendar.ordinal(
                self.clock().astimezone(zoneinfo.ZoneInfo(configuration.timezone)).date()
            )
        return calendar.ordinal(parse_as_of(self.spec.as_of))

    def _tasks(self, connection: apsw.Connection) -> list[ChunkTask]:
        size = CHUNK_CONTACTS
        if self.spec.workers and self.spec.workers > 1:
            size = min(size, -(-self.contacts // self.spec.workers))
        starts = chunk_starts(connection, size)
        ends = [*starts[1:], None]
        folder = str(self.context.scratch)
        return [
            ChunkTask(
                folder,
                f"chunk{number}",
                low,
                high,
                number == 0,
                self.spec.dry_run,
                wants_digest(self.spec),
            )
            for number, (low, high) in enumerate(zip(starts, ends, strict=True))
        ]

    def _stream(self, task: str, tasks: list[ChunkTask], kind: type[_T]) -> Iterator[_T]:
        payloads = [msgspec.msgpack.encode(item) for item in tasks]
        for answer in self.context.shards(task, payloads, self.workers):
            self.context.check()
            yield msgspec.msgpack.decode(answer, type=kind)

    def _each(
        self,
        task: str,
        tasks: list[ChunkTask],
        kind: type[_T],
        stage: str,
        start: float,
        end: float,
    ) -> list[_T]:
        results = []
        for answer in self._stream(task, tasks, kind):
            results.append(answer)
            share = len(results) / len(tasks)
            self.context.progress(
                stage, start + (end - start) * share, int(self.contacts * share), self.contacts
            )
        return results

    def _write(
        self,
        answers: Iterable[tuple[ChunkTask, Finished]],
        total: int,
        writer: PlanWriter | None,
        tally: Tally,
        orphans: list[int],
    ) -> None:
        """Write the changes of each chunk, in the order of the keys."""
        if orphans:
            tally.changes.deleted += len(orphans)
            if writer is not None:
                self._keep()
                writer.delete(np.array(orphans, np.int64))
        for number, (task, answer) in enumerate(answers, start=1):
            path = (self.context.scratch / task.name).with_suffix(".out")
            out, _ = shared_arrays.load(path)
            if writer is not None:
                if (
                    any(map(len, (out["delete"], out["update.row_id"], out["insert.row_class"])))
                    or answer.followups
                    or answer.followup_updates
                ):
                    self._keep()
                writer.delete(out["delete"])
                writer.update(out["update.row_id"], _rows(out, "update"))
                writer.update_followups(answer.followup_updates)
                writer.insert(_rows(out, "insert"))
                writer.insert_followups(answer.followups)
            path.unlink()
            share = number / total
            self.context.progress(
                "write", 0.5 + 0.45 * share, int(self.contacts * share), self.contacts
            )

    def _record(self, result: RunResult | None, error: str | None = None) -> RunRecord:
        return run_record(
            self.context.run_id,
            calendar.iso(self.as_of) if self.as_of else self.spec.as_of or "",
            None if self.stored is None else self.stored.version,
            self.mode.value,
            (self.started, self.clock()),
            None if result is None else self._timed(result),
            error,
        )

    def note_failure(self, connection: apsw.Connection, error: Exception) -> None:
        """Record a failed run, where that is possible and the fault is not the file's own.

        A file that could not be read or understood stays exactly as it was.
        """
        cause = error if isinstance(error, SchedulerError) else None
        if cause is None and isinstance(error, apsw.Error):
            cause = translate(error, self.database)
        if (
            cause is None
            or cause.code not in {ErrorCode.CANCELLED, ErrorCode.INTERNAL}
            or self.spec.dry_run
        ):
            return
        try:
            connection.set_progress_handler(None)
            if not schema.read_schema(connection).has("scheduler_runs", "run_id", "counts"):
                return
            with connection:
                record_run(connection, self._record(None, f"{cause.code}: {cause.message}"))
        except apsw.Error:
            return  # the first error is the one to report


def _rows(arrays: dict[str, np.ndarray], name: str) -> PlainRows:
    return PlainRows(
        *(arrays[f"{name}.{c}"] for c in ("contact_id", "row_class", "reason", "date", "event"))
    )
