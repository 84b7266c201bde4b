"""What is judged between planning and writing.

The guards, and whether the plan is the one that was reviewed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import apsw

from schedd.engine.configuration import Configuration
from schedd.engine.explain import BalanceNote
from schedd.engine.findings import Findings
from schedd.store.runs import StoredConfiguration
from schedd.store.schedule_values import Orphans
from schedd.store.schema import Schema
from schedproto import GuardMeasure, JobSpec, SavedPlan

from . import plan_digest, shared_arrays
from .chunks import ChunkTask, Finished, Planned
from .context import RunContext
from .guards import guards_of
from .summary import Tally, sum_days
from .timings import Stages


@dataclass
class CompletePlan:
    """What is known when all chunks are planned and balanced. orphans: the rows of no chunk."""

    tasks: list[ChunkTask]
    parts: list[Planned]
    dispatched: dict[int, int]
    notes: list[BalanceNote]
    orphans: Orphans
    orphan_findings: Findings


def wants_digest(spec: JobSpec) -> bool:
    """Return whether the digest of the plan is needed."""
    return spec.dry_run or spec.expect is not None


class Review:
    """Judges the plan of one run before it is written.

    measures: the figures; plan: as a later job can expect it.
    """

    def __init__(
        self,
        spec: JobSpec,
        configuration: Configuration,
        contacts: int,
        as_of: int,
        stored: StoredConfiguration | None,
    ) -> None:
        self._spec, self._configuration, self._contacts, self._as_of = (
            spec,
            configuration,
            contacts,
            as_of,
        )
        self._version = None if stored is None else stored.version
        self.measures: list[GuardMeasure] = []
        self.plan: SavedPlan | None = None

    def judge(
        self,
        connection: apsw.Connection,
        schema: Schema,
        complete: CompletePlan,
        finished: Iterable[Finished],
        tally: Tally,
        context: RunContext,
        stages: Stages,
    ) -> Iterable[tuple[ChunkTask, Finished]]:
        """Return the finished chunks, or raise `plan_abnormal` or `plan_differs` before anything is written.

        Where nothing depends on the sums over all chunks, they come while others are still being
        finished.
        """
        chunks = (shared_arrays.load(context.scratch / task.name)[0] for task in complete.tasks)
        guards = guards_of(
            connection, schema, self._configuration, self._contacts, complete.parts, chunks
        )
        self.measures = guards.measures
        answers: Iterable[tuple[ChunkTask, Finished]] = _added_up(
            complete.tasks, finished, tally, context.scratch
        )
        ahead = sum_days([complete.orphans.ahead, *(part.ahead for part in complete.parts)])
        replaces = guards.compares and bool(ahead)
        if replaces or wants_digest(self._spec):
            with stages.stage("compare"):
                context.progress("compare", 0.5, self._contacts, self._contacts)
                answers = list(answers)
        if replaces:
            removed = sum(complete.orphans.ahead.values()) + tally.removed
            guards.judge_removed(removed, sum(ahead.values()))
            limit = self._configuration.limits(self._contacts).limit
            guards.judge_days(tally.volume, ahead, complete.dispatched, limit)
        if not (self._spec.dry_run or self._spec.accept_changes):
            guards.check(self._spec.organization)
        self._compare(tally)
        return answers

    def _compare(self, tally: Tally) -> None:
        """Keep the plan for a later job to expect.

        Raise `plan_differs` if it is not the expected one.
        """
        if not wants_digest(self._spec):
            return
        self.plan = tally.saved_plan(
            self._spec, self._as_of, self._version, self._configuration, self._contacts
        )
        if self._spec.expect is not None:
            plan_digest.check_expected(self._spec.expect, self.plan)


def _added_up(
    tasks: list[ChunkTask], finished: Iterable[Finished], tally: Tally, folder: Path
) -> Iterator[tuple[ChunkTask, Finished]]:
    """Add the finished chunks up, in the order of the keys.

    Their columns are not needed any longer.
    """
    for task, answer in zip(tasks, finished, strict=True):
        path = folder / task.name
        out, _ = shared_arrays.load(path.with_suffix(".out"))
        tally.add(answer, out, shared_arrays.load(path)[0])
        path.unlink()
        yield task, answer
