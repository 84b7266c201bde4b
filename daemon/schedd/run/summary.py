"""What the chunks of a run did, added up into the result of its job."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schedd.engine import calendar
from schedd.engine.configuration import BalanceLimits, Configuration
from schedd.engine.contacts import ISSUES
from schedd.engine.rows import SKIP_REASONS, RowClasses
from schedd.engine.states import STATES
from schedd.store.write import Changes
from schedproto import JobSpec, Preview, RunResult, SavedPlan

from . import plan_digest, preview
from .chunks import Finished
from .specification import PLAN_FORMAT


def sum_days(parts: Iterable[Mapping[int, int]]) -> dict[int, int]:
    """Return the sums of some counts by day (or by any other number)."""
    total: dict[int, int] = {}
    for part in parts:
        for day, count in part.items():
            total[day] = total.get(day, 0) + count
    return total


def _dates(days: Mapping[int, int]) -> dict[str, int]:
    return {calendar.iso(day): count for day, count in sorted(days.items())}


class Tally:
    """Counts of one run, of the plan (`planned`, `counts`, ...) and of the difference (`inserted`, ...)."""

    def __init__(self, classes: RowClasses, eligible: int) -> None:
        self.classes = classes
        self.eligible = eligible
        self.planned = self.unchanged = self.dropped = self.held = 0
        self.changes = Changes()
        self.removed = 0
        self.sums: plan_digest.Sums = (0, 0)
        self.counts: dict[str, dict[str, int]] = {}
        self.skipped: dict[str, int] = {}
        self.volume: dict[int, int] = {}
        self.volume_before: dict[int, int] = {}
        self.dispatched: dict[int, int] = {}
        self._states: dict[int, int] = {}
        self.previews: list[Preview] = []
        self._issues: list[tuple[NDArray[Any], NDArray[Any]]] = []

    def add(
        self, answer: Finished, out: dict[str, NDArray[Any]], chunk: dict[str, NDArray[Any]]
    ) -> None:
        """Add one finished chunk: its answer, the rows it writes, and its columns."""
        self.planned += answer.planned
        self.unchanged += answer.unchanged
        self.dropped += answer.dropped
        self.held += answer.held
        self.removed += answer.removed
        self.sums = plan_digest.add(self.sums, answer.sums)
        self.changes.inserted += len(out["insert.date"]) + len(answer.followups)
        self.changes.updated += len(out["update.date"]) + len(answer.followup_updates)
        self.changes.deleted += len(out["delete"])
        for number, count in answer.counts.items():
            row_class, reason = divmod(number, len(SKIP_REASONS))
            self._count(self.classes.types[self.classes.type_number[row_class]], reason, count)
        for kind, reason, count in answer.followup_counts:
            self._count(kind, reason, count)
        self.volume = sum_days([self.volume, answer.volume])
        self._states = sum_days([self._states, answer.states])
        if answer.preview is not None:
            self.previews.append(answer.preview)
        self._issues.append((chunk["issues.contact"].copy(), chunk["issues.kind"].copy()))

    def _count(self, kind: str, reason: int, count: int) -> None:
        statuses = self.counts.setdefault(kind, {})
        status = "skipped" if reason else "pre-scheduled"
        statuses[status] = statuses.get(status, 0) + count
        if reason:
            self.skipped[SKIP_REASONS[reason]] = self.skipped.get(SKIP_REASONS[reason], 0) + count

    def issue_columns(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return contact ids and numbers in `ISSUES` of all chunks."""
        return (
            np.concatenate([contacts for contacts, _ in self._issues]),
            np.concatenate([kinds for _, kinds in self._issues]),
        )

    def sorted_counts(self) -> dict[str, dict[str, int]]:
        """Return type -> status -> rows of the plan."""
        return {kind: dict(sorted(self.counts[kind].items())) for kind in sorted(self.counts)}

    def issue_counts(self) -> dict[str, int]:
        """Return reason -> contacts."""
        kinds, numbers = np.unique(self.issue_columns()[1], return_counts=True)
        return {
            ISSUES[kind]: count
            for kind, count in zip(kinds.tolist(), numbers.tolist(), strict=True)
        }

    def _by_state(self) -> dict[str, dict[str, int]]:
        types = self.classes.types
        states: dict[str, dict[str, int]] = {}
        for number, count in sorted(self._states.items()):
            state, kind = divmod(number, len(types))
            states.setdefault(STATES[state], {})[types[kind]] = count
        return dict(sorted(states.items()))

    def saved_plan(
        self,
        spec: JobSpec,
        as_of: int,
        config_version: int | None,
        configuration: Configuration,
        contacts: int,
    ) -> SavedPlan:
        """Return the plan as a later job can expect it; all chunks have added their sums."""
        return SavedPlan(
            format=PLAN_FORMAT,
            organization=spec.organization,
            as_of=calendar.iso(as_of),
            config=spec.config,
            config_version=config_version,
            settings=plan_digest.settings_digest(configuration),
            contacts=contacts,
            contacts_eligible=self.eligible,
            rows=self.planned,
            counts=self.sorted_counts(),
            issues=self.issue_counts(),
            digest=plan_digest.text(self.sums, self.planned),
        )

    def result(
        self,
        spec: JobSpec,
        run_id: str,
        as_of: int,
        workers: int,
        contacts: int,
        config_version: int | None,
        limits: BalanceLimits,
        changes: Changes,
    ) -> RunResult:
        """Return the job's result, but for its timings. `changes`: what SQLite says it changed."""
        return RunResult(
            run_id=run_id,
            organization=spec.organization,
            as_of=calendar.iso(as_of),
            mode=spec.mode,
            workers=workers,
            dry_run=spec.dry_run,
            config_version=config_version,
            contacts=contacts,
            contacts_eligible=self.eligible,
            counts=self.sorted_counts(),
            skipped=dict(sorted(self.skipped.items())),
            issues=self.issue_counts(),
            volume=_dates(self.volume),
            volume_before=_dates(self.volume_before),
            volume_dispatched=_dates(self.dispatched),
            states=self._by_state(),
            preview=preview.merge(self.previews) if self.previews else None,
            rows_planned=self.planned,
            rows_inserted=changes.inserted,
            rows_updated=changes.updated,
            rows_deleted=changes.deleted,
            rows_unchanged=self.unchanged,
            duplicates_dropped=self.dropped,
            keys_held=self.held,
            daily_cap=limits.cap,
            daily_limit=limits.limit,
        )
