"""The stages of one job, from the file to the file.

Knows neither socket nor pool (see `context`). A run is one transaction: the write lock is taken
first, so that every process of the run reads the same state, and nothing is written before all
chunks are read. A run that fails leaves the file as it was.
"""

from __future__ import annotations

import datetime as dt
import zoneinfo
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import apsw
import msgspec

from schedd.engine import calendar
from schedd.engine.configuration import Configuration, ConfigurationError, Layer, build, parse_toml
from schedd.engine.findings import Findings
from schedd.engine.run import Run
from schedd.store import campaigns as campaign_store
from schedd.store import foreign, maintenance
from schedd.store import schema as plan_schema
from schedd.store.configurations import invalid
from schedd.store.connection import interrupt_when, open_reader, open_writer
from schedd.store.contacts import chunk_starts
from schedd.store.errors import sqlite_errors, translate
from schedd.store.file_identity import FileIdentity
from schedd.store.outside_rows import OutsideRows, read_outside_rows
from schedd.store.probe import Sample, try_rows
from schedd.store.runs import RunRecord, StoredConfiguration, applicable_configuration, record_run
from schedd.store.schedules import ScheduleReader
from schedd.store.schema import PLAN, Schema, read_schema
from schedd.store.write import PlanWriter
from schedproto import (
    ErrorCode,
    Explanation,
    JobSpec,
    Mode,
    RunResult,
    RunWarning,
    SchedulerError,
)

from . import preview as previews
from .backup import PreRunBackup, backup_scope
from .balancing import balance_chunks
from .chunk_data import ChunkTask, FinishReply, PlanReply
from .context import RunContext
from .explanations import explain_contacts
from .outside import save_outside
from .review import Review, wants_digest
from .run_input import RunInput, save_run_input
from .run_record import run_record
from .specification import parse_as_of
from .summary import CompletePlan, RunSummary, sum_days
from .timings import Stages
from .warnings import merged, to_warnings
from .writing import PlanWriting

#: Contacts in a chunk: few enough that a chunk's columns stay in the processor's caches.
CHUNK_CONTACTS = 32_768
#: From this many contacts on, a job that names no number of workers uses all workers.
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
    """Schedule one organization; raises `SchedulerError`. Blocks until the run is done.

    defaults_toml: the daemon's configuration file (rules, section 13), or an empty text.

        result = run_job(JobSpec(organization="org-123"), Path("org-123.db"), "", context)
        result.rows_inserted  # for example 50,000 in a first run
    """
    with backup_scope(spec, database, context) as backup:
        return _run_connected(_Job(spec, database, defaults_toml, context, clock, backup))


def _run_connected(job: _Job) -> RunResult:
    context, database = job.context, job.database
    connection = job.open()
    context.on_cancel(connection.interrupt)
    try:
        with sqlite_errors(database):
            result = job.run(connection)
            job.check_file("The plan was written to the earlier file, not to the current one.")
            return result
    except (SchedulerError, apsw.Error) as error:
        job.note_failure(connection, error)
        context.check()
        raise
    finally:
        context.on_cancel(None)
        # Closing the last connection checkpoints the log. The run is committed, even if that fails.
        with suppress(apsw.Error):
            connection.close()


@dataclass
class _Inputs:
    """The data that a run has read in its transaction before it plans.

    findings: what could not be read so far.   created: whether the file had no plan table.
    """

    schema: Schema
    configuration: Configuration
    run: Run
    outside: OutsideRows
    findings: Findings
    created: bool


class _Job:
    """One run. Its attributes are what a record of it needs, even after it has failed."""

    def __init__(
        self,
        spec: JobSpec,
        database: Path,
        defaults_toml: str,
        context: RunContext,
        clock: Callable[[], dt.datetime],
        backup: PreRunBackup,
    ) -> None:
        self.spec = spec
        self.database = database
        self.defaults_toml = defaults_toml
        self.context = context
        self.clock = clock
        self.backup = backup
        self.mode = Mode(spec.mode)
        self.stages = Stages()
        self.started = clock()
        self.stored: StoredConfiguration | None = None
        self.as_of = 0
        self.contacts = self.schema_version = 0
        self.warnings: list[RunWarning] = []
        self.workers = 1
        self.opened: FileIdentity | None = None

    def open(self) -> apsw.Connection:
        """Open the file; a dry run works with a read-only file, too."""
        with suppress(OSError):  # `open_writer` says why the file cannot be opened
            self.opened = FileIdentity.of(self.database)
        try:
            connection = open_writer(self.database, self.mode)
        except SchedulerError as error:
            if not self.spec.dry_run or error.code != ErrorCode.DATABASE_READ_ONLY:
                raise
            connection = open_reader(self.database)
        interrupt_when(connection, self._cancelled)
        return connection

    def check_file(self, consequence: str) -> None:
        """Raise unless the path still names the file that was opened, or nothing is written."""
        if self.opened is not None and not self.spec.dry_run:
            self.opened.check(consequence)

    def _cancelled(self) -> bool:
        try:
            self.context.check()
        except SchedulerError:
            return True
        return False

    def run(self, connection: apsw.Connection) -> RunResult:
        """Check the file, then run in one transaction."""
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
            else:
                result.warnings.extend(maintenance.log_warning(connection, self.database))
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
        """Raise if the run is impossible, before anything is changed, even the journal mode."""
        self.schema_version = plan_schema.version(connection)
        schema = read_schema(connection)
        plan_schema.check_contacts(connection, schema, str(self.database))
        foreign.check_tables(connection, schema)
        plan_schema.check_keys(connection, schema)
        self.stored = applicable_configuration(connection, schema)
        configuration = self._configuration()[1]
        self._try_rows(connection, configuration, self._as_of(configuration))

    def _try_rows(
        self, connection: apsw.Connection, configuration: Configuration, as_of: int
    ) -> None:
        """Raise if the file's constraints take no rows like those of this run."""
        sample = Sample(as_of, configuration.send_time, self.context.run_id, self._now())
        try_rows(connection, sample)

    def _now(self) -> str:
        """Return the time as the file stores it."""
        return self.clock().strftime("%Y-%m-%d %H:%M:%S")

    def _in_transaction(self, connection: apsw.Connection) -> RunResult:
        """Plan, review and write, and commit unless it is a dry run."""
        inputs = self._read_inputs(connection)
        plan = self._plan(connection, inputs)
        explanations = self._explain(inputs, plan)
        summary = RunSummary(inputs.run.classes, plan, self.as_of)
        review = Review(self.spec, inputs.configuration, self.contacts, self.as_of, self.stored)
        replies = self._stream("finish", plan.tasks, FinishReply)
        finished = review.judge(
            connection, inputs.schema, plan, replies, summary, self.context, self.stages
        )
        if self.spec.dry_run and plan.orphans.plan:
            summary.previews.append(previews.of_orphans(connection, plan.orphans.plan))

        writer = None if self.spec.dry_run else self._writer(connection, inputs)
        writing = PlanWriting(
            connection, writer, self.context, self.stages, self._back_up, created=inputs.created
        )
        writing.write(plan, finished, summary, self.contacts)
        self.warnings += writing.warnings

        result = self._result(inputs, plan, summary, review, explanations, writer)
        if writer is not None:
            self._commit(connection, result)
        return result

    # Reading and planning -------------------------------------------------------------------------

    def _read_inputs(self, connection: apsw.Connection) -> _Inputs:
        """Read what all chunks share, and write it into the scratch folder."""
        schema = read_schema(connection)
        self.stored = applicable_configuration(connection, schema)
        layers, configuration = self._configuration()
        self.as_of = self._as_of(configuration)
        plan_schema.check_contacts(connection, schema, str(self.database))
        # Another program may have changed the schema after `_check`, before the write lock.
        if plan_schema.version(connection) != self.schema_version:
            foreign.check_tables(connection, schema)
            self._try_rows(connection, configuration, self.as_of)
        [(self.contacts,)] = connection.execute("SELECT count(*) FROM contacts")
        self.workers = self.spec.workers or (
            self.context.default_workers if self.contacts >= PARALLEL_CONTACTS else 1
        )

        types, instances = campaign_store.campaign_tables(connection, schema)
        run = Run(self.as_of, configuration, types, instances)
        findings = Findings(run.findings)
        outside = read_outside_rows(connection, schema, findings)
        named_layers = [(layer.name, dict(layer.values)) for layer in layers]
        save_run_input(
            self.context.scratch,
            RunInput(str(self.database), self.as_of, named_layers, types, instances),
        )
        save_outside(self.context.scratch, outside)
        created = not schema.has(PLAN)
        return _Inputs(schema, configuration, run, outside, findings, created)

    def _plan(self, connection: apsw.Connection, inputs: _Inputs) -> CompletePlan:
        """Plan all chunks and balance them."""
        reader = ScheduleReader(connection, inputs.schema, inputs.run, self.as_of, inputs.outside)
        tasks = self._tasks(connection)
        with self.stages.stage("plan"):
            replies = self._plan_chunks(tasks)
        with self.stages.stage("balance"):
            self.context.progress("balance", 0.46, self.contacts, self.contacts)
            orphans = reader.orphans(tasks[0].low)
            dispatched = sum_days([Counter(orphans.days), *(r.dispatched for r in replies)])
            fixed = sum_days([dispatched, *(reply.followups for reply in replies)])
            notes = balance_chunks(
                inputs.run, tasks, self.contacts, fixed, self.context.check, self.spec.explain
            )
        return CompletePlan(tasks, replies, dispatched, notes, orphans, reader.findings)

    def _explain(self, inputs: _Inputs, plan: CompletePlan) -> list[Explanation]:
        if not self.spec.explain:
            return []
        limits = inputs.configuration.limits(self.contacts)
        return explain_contacts(
            inputs.run, self.database, self.spec.explain, plan.notes, limits, inputs.outside
        )

    # Writing --------------------------------------------------------------------------------------

    def _writer(self, connection: apsw.Connection, inputs: _Inputs) -> PlanWriter:
        """Return the writer of the plan; creates missing tables, columns and indexes first."""
        if not plan_schema.is_complete(connection, inputs.schema):
            self._back_up()
            plan_schema.complete(connection, inputs.schema)
        return PlanWriter(
            connection,
            inputs.run.classes,
            inputs.configuration.send_time,
            self.context.run_id,
            self._now(),
        )

    def _back_up(self) -> None:
        """Make the backup of the run, once, before something is written."""
        with self.stages.stage("backup"):
            self.backup.make()

    def _result(
        self,
        inputs: _Inputs,
        plan: CompletePlan,
        summary: RunSummary,
        review: Review,
        explanations: list[Explanation],
        writer: PlanWriter | None,
    ) -> RunResult:
        result = summary.result(
            self.spec,
            self.context.run_id,
            self.as_of,
            self.workers,
            self.contacts,
            None if self.stored is None else self.stored.version,
            inputs.configuration.limits(self.contacts),
            summary.changes if writer is None else writer.changes,
        )
        warnings = [
            *to_warnings(inputs.findings),
            *(warning for reply in plan.replies for warning in reply.warnings),
            *to_warnings(plan.orphan_findings),
            *self.warnings,
        ]
        return msgspec.structs.replace(
            result,
            explanations=explanations,
            backup_id=self.backup.backup_id,
            warnings=merged(warnings),
            guard=review.measures,
            plan=review.plan,
        )

    def _commit(self, connection: apsw.Connection, result: RunResult) -> None:
        with self.stages.stage("commit"):
            self.context.progress("commit", 0.97, self.contacts, self.contacts)
            self.context.check()
            record_run(connection, self._record(result))
            self.check_file("Nothing was written.")
            self.backup.check()
            connection.execute("COMMIT")

    # Configuration and tasks ----------------------------------------------------------------------

    def _configuration(self) -> tuple[list[Layer], Configuration]:
        try:
            layers = [parse_toml(self.defaults_toml, "the daemon's configuration file")]
            if self.stored is not None:
                name = f"version {self.stored.version} of the organization's configuration"
                layers.append(self.stored.layer(name))
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
                folder=folder,
                name=f"chunk{number}",
                low=low,
                high=high,
                first=number == 0,
                preview=self.spec.dry_run,
                digest=wants_digest(self.spec),
            )
            for number, (low, high) in enumerate(zip(starts, ends, strict=True))
        ]

    def _stream(self, task: str, tasks: list[ChunkTask], kind: type[_T]) -> Iterator[_T]:
        """Run a task for each chunk, in this and in idle processes; yield the replies in order."""
        payloads = [msgspec.msgpack.encode(item) for item in tasks]
        for reply in self.context.shards(task, payloads, self.workers):
            self.context.check()
            yield msgspec.msgpack.decode(reply, type=kind)

    def _plan_chunks(self, tasks: list[ChunkTask]) -> list[PlanReply]:
        replies = []
        for reply in self._stream("plan", tasks, PlanReply):
            replies.append(reply)
            share = len(replies) / len(tasks)
            self.context.progress(
                "plan", 0.02 + 0.43 * share, int(self.contacts * share), self.contacts
            )
        return replies

    # The run's record -----------------------------------------------------------------------------

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
        """Record a failed run, if that is possible and the file is not the cause.

        A file that could not be read or understood is not changed.
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
            if not read_schema(connection).has("scheduler_runs", "run_id", "counts"):
                return
            with connection:
                record_run(connection, self._record(None, f"{cause.code}: {cause.message}"))
        except apsw.Error:
            return  # the first error is the one to report
