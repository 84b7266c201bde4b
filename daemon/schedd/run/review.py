"""The review of a plan before it is written: the guards, and the digest of an expected plan."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import apsw

from schedd.engine.configuration import Configuration
from schedd.store.runs import StoredConfiguration
from schedd.store.schema import Schema
from schedproto import GuardMeasure, JobSpec, SavedPlan

from . import plan_digest, shared_arrays
from .chunk_data import ChunkTask, FinishedChunk, FinishReply, PlannedChunk
from .context import RunContext
from .guards import Guards, guards_of
from .summary import CompletePlan, RunSummary, sum_days
from .timings import Stages


def wants_digest(spec: JobSpec) -> bool:
    """Return whether a job needs the digest of the plan."""
    return spec.dry_run or spec.expect is not None


class Review:
    """Reviews the plan of one run before it is written.

    measures: the figures of the guards.   plan: what a later job can expect, if it was needed.
    """

    def __init__(
        self,
        spec: JobSpec,
        configuration: Configuration,
        contacts: int,
        as_of: int,
        stored: StoredConfiguration | None,
    ) -> None:
        self._spec = spec
        self._configuration = configuration
        self._contacts = contacts
        self._as_of = as_of
        self._version = None if stored is None else stored.version
        self.measures: list[GuardMeasure] = []
        self.plan: SavedPlan | None = None

    def judge(
        self,
        connection: apsw.Connection,
        schema: Schema,
        complete: CompletePlan,
        replies: Iterable[FinishReply],
        summary: RunSummary,
        context: RunContext,
        stages: Stages,
    ) -> Iterable[tuple[ChunkTask, FinishReply]]:
        """Return the finished chunks; each is added to `summary` when it arrives.

        Raises `SchedulerError` (`plan_abnormal`, `plan_differs`) before anything is written. If
        nothing depends on the sums over all chunks, the first chunks are returned while other
        processes still finish the next ones.
        """
        guards = guards_of(
            connection,
            schema,
            self._configuration,
            self._contacts,
            complete.replies,
            (_planned(task).issues for task in complete.tasks),
        )
        self.measures = guards.measures
        finished: Iterable[tuple[ChunkTask, FinishReply]] = _add_all(
            complete.tasks, replies, summary
        )

        ahead = sum_days([complete.orphans.ahead, *(reply.ahead for reply in complete.replies)])
        replaces = guards.compares and bool(ahead)
        if replaces or wants_digest(self._spec):
            with stages.stage("compare"):
                context.progress("compare", 0.5, self._contacts, self._contacts)
                finished = list(finished)
        if replaces:
            self._judge_replaced(guards, complete, summary, ahead)
        if not (self._spec.dry_run or self._spec.accept_changes):
            guards.check(self._spec.organization)
        if wants_digest(self._spec):
            self._compare(summary)
        return finished

    def _judge_replaced(
        self,
        guards: Guards,
        complete: CompletePlan,
        summary: RunSummary,
        ahead: Mapping[int, int],
    ) -> None:
        """Judge the plan against the existing one. ahead: ordinal -> existing planned e-mails."""
        removed = sum(complete.orphans.ahead.values()) + summary.removed
        guards.judge_removed(removed, sum(ahead.values()))
        limit = self._configuration.limits(self._contacts).limit
        guards.judge_days(summary.volume, ahead, complete.dispatched, limit)

    def _compare(self, summary: RunSummary) -> None:
        """Save the plan for a later job, and raise `plan_differs` if it is not the expected one."""
        self.plan = summary.saved_plan(
            self._spec, self._as_of, self._version, self._configuration, self._contacts
        )
        if self._spec.expect is not None:
            plan_digest.check_expected(self._spec.expect, self.plan)


def _planned(task: ChunkTask) -> PlannedChunk:
    return shared_arrays.load(task.planned_file, PlannedChunk)


def _add_all(
    tasks: Sequence[ChunkTask], replies: Iterable[FinishReply], summary: RunSummary
) -> Iterator[tuple[ChunkTask, FinishReply]]:
    """Yield the finished chunks in the order of the keys, and remove the planned ones."""
    for task, reply in zip(tasks, replies, strict=True):
        finished = shared_arrays.load(task.finished_file, FinishedChunk)
        summary.add(reply, finished, _planned(task).issues)
        task.planned_file.unlink()
        yield task, reply
