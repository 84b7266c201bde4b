"""The guards: a run that would change the plan too much stops before it writes (section 13).

Every figure is a sum over contacts, rows or days, so it does not depend on how the contacts are cut
into chunks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import apsw
import numpy as np
from numpy.typing import NDArray

from schedd.engine.configuration import Configuration
from schedd.engine.contacts import INVALID_BIRTH_DATE, ISSUES
from schedd.engine.difference import Difference
from schedd.engine.packing import NO_KEY, groups_of
from schedd.engine.rows import NOT_SKIPPED
from schedd.store.last_run import has_completed_run, ineligible_contacts
from schedd.store.schema import Schema
from schedproto import ErrorCode, GuardMeasure, SchedulerError

from .chunk_data import ExistingPlan, IssueColumns, PlannedFollowUp, PlanReply

INELIGIBLE_INCREASE, REMOVED, UNREADABLE, DAYS_OVER_CAP = (
    "ineligible_increase",
    "removed",
    "unreadable",
    "days_over_cap",
)
#: Hundredths of a percent in all.
_HUNDREDTHS = 10_000
#: Days that never stop a run.
_ANY_DAYS = 1000


@dataclass(frozen=True)
class LastRun:
    """The contacts as the last completed run left them.

    ineligible: ids of those that were not eligible, None if it is not known.   highest: the highest
    contact id that the file's plan, history and issues have.
    """

    ineligible: NDArray[np.int64] | None = None
    highest: int | None = None


class Guards:
    """Evaluates one run by its figures. last: the last completed run, None if there is none.

    Example:

        guards = Guards(configuration, contacts=1000, last=None)
        guards.judge_unreadable(600)
        guards.check("org-123")  # SchedulerError (plan_abnormal): 600 of 1,000 contacts (60 %) ...
    """

    def __init__(self, configuration: Configuration, contacts: int, last: LastRun | None) -> None:
        self._configuration, self._contacts, self._last = configuration, contacts, last
        self.measures: list[GuardMeasure] = []

    @property
    def compares(self) -> bool:
        """Return whether the plan is judged against the one before; the first one is not."""
        return self._last is not None

    def judge_unreadable(self, count: int) -> None:
        """Judge the number of contacts that have a date or a boolean that cannot be read."""
        share = self._share(count, self._contacts, "contacts")
        what = f"{share} have a date or a boolean that cannot be read"
        self._add_share(
            UNREADABLE, count, self._contacts, self._configuration.guard_max_unreadable, what
        )

    def judge_ineligible(self, chunks: Iterable[IssueColumns]) -> None:
        """Judge the contacts that became ineligible, given the issues of each chunk."""
        if self._last is None or self._last.ineligible is None:
            return
        reasons: Counter[str] = Counter()
        for issues in chunks:
            reasons.update(newly_ineligible(issues, self._last))
        count = reasons.total()
        why = ", ".join(f"{number:,} {reason}" for reason, number in sorted(reasons.items()))
        what = (
            f"{self._share(count, self._contacts, 'contacts')} became ineligible since the last run"
        )
        limit = self._configuration.guard_max_ineligible_increase
        self._add_share(
            INELIGIBLE_INCREASE, count, self._contacts, limit, what + (f" ({why})" if why else "")
        )

    def judge_removed(self, removed: int, planned: int) -> None:
        """Judge how many of the existing planned e-mails the plan no longer has.

        planned: existing planned e-mails of the run's date and later.   removed: of those.
        """
        if self._last is None or not planned:
            return
        what = f"{self._share(removed, planned, 'planned e-mails')} would be removed"
        self._add_share(REMOVED, removed, planned, self._configuration.guard_max_removed, what)

    def judge_days(
        self,
        planned: Mapping[int, int],
        existing: Mapping[int, int],
        dispatched: Mapping[int, int],
        limit: int,
    ) -> None:
        """Judge the days above the daily limit that the existing plan does not have.

        planned, existing: ordinal -> e-mails of the new and of the existing plan.   dispatched:
        ordinal -> dispatched rows.
        """
        if self._last is None:
            return
        over = [
            day
            for day, count in planned.items()
            if count + dispatched.get(day, 0)
            > limit
            >= existing.get(day, 0) + dispatched.get(day, 0)
        ]
        rows = sum(planned[day] for day in over)
        allowed = self._configuration.guard_max_days_over_cap
        subject = "1 day exceeds" if len(over) == 1 else f"{len(over):,} days exceed"
        self.measures.append(
            GuardMeasure(
                code=DAYS_OVER_CAP,
                count=len(over),
                allowed=float(allowed),
                exceeded=len(over) > allowed < _ANY_DAYS
                and rows >= self._configuration.guard_min_count,
                message=f"{subject} the daily limit of {limit:,} e-mails and did not before; "
                f"at most {allowed:,} may.",
            )
        )

    def _add_share(self, code: str, count: int, total: int, limit: int, what: str) -> None:
        exceeded = (
            count * _HUNDREDTHS > limit * total and count >= self._configuration.guard_min_count
        )
        self.measures.append(
            GuardMeasure(
                code=code,
                count=count,
                total=total,
                allowed=limit / 100,
                exceeded=exceeded,
                message=f"{what}; at most {_percent(limit, _HUNDREDTHS)} may.",
            )
        )

    @staticmethod
    def _share(count: int, total: int, name: str) -> str:
        return f"{count:,} of {total:,} {name} ({_percent(count, total)})"

    def check(self, organization: str) -> None:
        """Raise `SchedulerError` (`plan_abnormal`) if a guard is exceeded."""
        exceeded = [measure for measure in self.measures if measure.exceeded]
        if not exceeded:
            return
        raise SchedulerError(
            ErrorCode.PLAN_ABNORMAL,
            "the plan was not written, because it changes more than the guards allow: "
            + " ".join(measure.message for measure in exceeded),
            hint=f"Check it with `schedctl preview {organization}`. If the changes are correct, "
            "submit once with --accept-changes (accept_changes=True). "
            "The [guard] keys (docs/RULES.md, section 13) set the limits.",
            details={name: text for measure in exceeded for name, text in _details(measure)},
        )


def guards_of(
    connection: apsw.Connection,
    schema: Schema,
    configuration: Configuration,
    contacts: int,
    replies: Sequence[PlanReply],
    issues: Iterable[IssueColumns],
) -> Guards:
    """Return the guards of a run that has planned its chunks, with the contacts already judged.

    issues: of each chunk.
    """
    guards = Guards(configuration, contacts, _last_run(connection, schema, replies))
    guards.judge_unreadable(sum(reply.unreadable for reply in replies))
    guards.judge_ineligible(issues)
    return guards


def _last_run(
    connection: apsw.Connection, schema: Schema, replies: Sequence[PlanReply]
) -> LastRun | None:
    if not has_completed_run(connection, schema):
        return None
    issues = ineligible_contacts(connection, schema)
    if issues is None:
        return LastRun()
    ineligible, highest = issues
    known = [highest, *(reply.highest for reply in replies)]
    return LastRun(
        ineligible, max((contact for contact in known if contact is not None), default=None)
    )


def _percent(count: int, total: int) -> str:
    """Return a share as text: exact to hundredths of a percent, cut off there."""
    hundredths = count * _HUNDREDTHS // total if total else 0
    return f"{hundredths / 100:.2f}".rstrip("0").rstrip(".") + " %"


def _details(measure: GuardMeasure) -> list[tuple[str, str]]:
    total = [(f"{measure.code}_of", str(measure.total))] if measure.total else []
    return [
        (measure.code, str(measure.count)),
        *total,
        (f"{measure.code}_allowed", f"{measure.allowed:g}"),
    ]


def newly_ineligible(issues: IssueColumns, last: LastRun) -> dict[str, int]:
    """Return reason -> contacts that are not eligible now and were eligible at the last run.

    A contact above `LastRun.highest` is new, and was neither.
    """
    if last.ineligible is None or last.highest is None:
        return {}
    chosen = (issues.kind < INVALID_BIRTH_DATE) & (issues.contact_id <= last.highest)
    chosen[chosen] = ~np.isin(issues.contact_id[chosen], last.ineligible)
    found, counts = np.unique(issues.kind[chosen], return_counts=True)
    return {
        ISSUES[kind]: count for kind, count in zip(found.tolist(), counts.tolist(), strict=True)
    }


def removed_rows(
    change: Difference,
    planned_keys: NDArray[np.int64],
    sent: NDArray[np.bool_],
    existing: ExistingPlan,
) -> int:
    """Return how many existing e-mails ahead the plan no longer has.

    For each contact and type, it is the number of e-mails before, less that of the plan. So an
    e-mail that moves to another day is not removed, and one that is skipped from now on is.

    planned_keys: of the planned rows, ascending.   sent: whether a planned row is pre-scheduled.
    """
    stopped = change.updated[~sent[change.update]]
    touched = np.concatenate([change.delete, stopped])
    touched = existing.groups()[touched[existing.ahead[touched]]]
    if not len(touched):
        return 0
    # Only contacts and types that lose a row can have fewer e-mails, and they are few.
    lost = int((touched == NO_KEY).sum())
    affected = np.unique(touched[touched > NO_KEY])
    before = _occurrences(existing.ascending_groups(), affected)
    after = _occurrences(groups_of(planned_keys[sent]), affected)
    return lost + int(np.maximum(before - after, 0).sum())


def _occurrences(ascending: NDArray[np.int64], values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how often each value occurs in an ascending array."""
    first = np.searchsorted(ascending, values, "left")
    end = np.searchsorted(ascending, values, "right")
    return (end - first).astype(np.int64)


def removed_followups(before: NDArray[np.int64], planned: Iterable[PlannedFollowUp]) -> int:
    """Return the same of follow-ups, of which all types count as one.

    before: the contact of each existing one ahead.
    """
    if not len(before):
        return 0
    after = Counter(item.row.contact_id for item in planned if item.reason == NOT_SKIPPED)
    return (Counter(before.tolist()) - after).total()
