"""Writes the plan of a run into the organization's file, and verifies what was written."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import apsw
import numpy as np

from schedd.store import schema as plan_schema
from schedd.store import verify
from schedd.store.bulk import bulk_load
from schedd.store.write import IssueWriter, PlanWriter
from schedproto import RunWarning

from . import shared_arrays
from .chunk_data import ChunkTask, FinishedChunk, FinishReply
from .context import RunContext
from .summary import CompletePlan, RunSummary
from .timings import Stages


class PlanWriting:
    """The write stage of one run. Without a `writer`, in a dry run, it only counts.

    back_up: called before each change; the first call has to back up the file.
    created: whether the run has created `email_schedules`.
    warnings: what triggers of the application have changed.

        writing = PlanWriting(connection, writer, context, stages, backup.make, created=False)
        writing.write(plan, finished, summary, contacts)
    """

    def __init__(
        self,
        connection: apsw.Connection,
        writer: PlanWriter | None,
        context: RunContext,
        stages: Stages,
        back_up: Callable[[], None],
        *,
        created: bool,
    ) -> None:
        self._connection = connection
        self._writer = writer
        self._context = context
        self._stages = stages
        self._back_up = back_up
        self._created = created
        self.warnings: list[RunWarning] = []

    def write(
        self,
        plan: CompletePlan,
        finished: Iterable[tuple[ChunkTask, FinishReply]],
        summary: RunSummary,
        contacts: int,
    ) -> None:
        """Write all changes, in the order of the keys, and verify them.

        finished: the chunks, in the order of the keys; `summary` already includes each one.
        """
        writer, growth = self._writer, plan.growth
        if writer is not None and growth > 0:
            self._back_up()
        loading = bulk_load(
            self._connection, growth, active=writer is not None, created=self._created
        )
        with self._stages.stage("write"), loading as load:
            if writer is not None:
                writer.load = load
            self._delete_orphans(plan.orphans.plan, summary)
            self._write_chunks(finished, len(plan.tasks), contacts)
            if writer is not None:
                plan_schema.complete_key(self._connection)
                self._write_issues(summary)
        if writer is not None:
            with self._stages.stage("write"):
                planned = verify.planned_by_status(summary.counts)
                self.warnings += verify.verify_plan(self._connection, writer, planned)

    def _delete_orphans(self, row_ids: list[int], summary: RunSummary) -> None:
        """Delete the plan's rows that belong to no contact."""
        if not row_ids:
            return
        summary.changes.deleted += len(row_ids)
        if self._writer is not None:
            self._back_up()
            self._writer.delete(np.array(row_ids, np.int64))

    def _write_chunks(
        self, finished: Iterable[tuple[ChunkTask, FinishReply]], total: int, contacts: int
    ) -> None:
        for number, (task, reply) in enumerate(finished, start=1):
            if self._writer is not None:
                chunk = shared_arrays.load(task.finished_file, FinishedChunk)
                self._write_chunk(self._writer, chunk, reply)
            task.finished_file.unlink()
            share = number / total
            self._context.progress("write", 0.5 + 0.45 * share, int(contacts * share), contacts)

    def _write_chunk(self, writer: PlanWriter, chunk: FinishedChunk, reply: FinishReply) -> None:
        if len(chunk) or reply.followup_inserts or reply.followup_updates:
            self._back_up()
        # Deletes come first: a row that moves away frees its key for another one.
        writer.delete(chunk.delete)
        writer.update(chunk.updated_row_id, chunk.update)
        writer.update_followups(
            [(update.existing.row_id, update.planned) for update in reply.followup_updates]
        )
        writer.insert(chunk.insert)
        writer.insert_followups(reply.followup_inserts)

    def _write_issues(self, summary: RunSummary) -> None:
        issues = summary.issues()
        issue_writer = IssueWriter(self._connection, issues.contact_id, issues.kind)
        if issue_writer.differs():
            self._back_up()
            issue_writer.write()
            self.warnings += verify.verify_issues(self._connection, issue_writer)
