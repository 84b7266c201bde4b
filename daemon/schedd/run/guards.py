"""The guards.

A run that would change the plan beyond reason stops before it writes (rules, section 13).

Every figure is a sum over contacts, rows or days, so it does not depend on how the contacts are cut
into chunks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import apsw
import numpy as np
from numpy.typing import NDArray

from schedd.engine.configuration import Configuration
from schedd.engine.contacts import INVALID_BIRTH_DATE, ISSUES
from schedd.engine.difference import DATE_BITS, Difference
from schedd.store.last_run import has_completed_run, ineligible_contacts
from schedd.store.schema import Schema
from schedproto import ErrorCode, GuardMeasure, SchedulerError

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
#: The columns of a planned follow-up that are looked at.
_CONTACT, _STATUS = 0, 3


@dataclass(frozen=True)
class LastRun:
    """What the last completed run left.

    ineligible: contacts, None where it is not known; highest: known contact.
    """

    ineligible: NDArray[np.int64] | None = None
    highest: int | None = None


class Guards:
    """Judges one run by its figures. last: of the last completed run, None where there is none."""

    def __init__(self, configuration: Configuration, contacts: int, last: LastRun | None) -> None:
        self._configuration, self._contacts, self._last = configuration, contacts, last
        self.measures: list[GuardMeasure] = []

    @property
    def compares(self) -> bool:
        """Return whether the plan is judged against the one before; the first one is not."""
        return self._last is not None

    def judge_unreadable(self, count: int) -> None:
        """Judge the number of contacts that have a date or a boolean that cannot be read."""
        what = f"{self._share(count, self._contacts, 'contacts')} have a date or a boolean that cannot be read"
        self._add_share(
            UNREADABLE, count, self._contacts, self._configuration.guard_max_unreadable, what
        )

    def judge_ineligible(
        self, issues: Iterable[tuple[NDArray[np.int64], NDArray[np.int8]]]
    ) -> None:
        """Judge the contacts that are not eligible, chunk by chunk as `engine.contacts.issues` returns them."""
        if self._last is None or self._last.ineligible is None:
            return
        reasons: Counter[str] = Counter()
        for contacts, kinds in issues:
            reasons.update(newly_ineligible(contacts, kinds, self._last))
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
        """Judge how many of the existing planned e-mails of the run's date and later the plan no longer has."""
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
        """Judge the days that the plan leaves above the daily limit and that the existing plan does not.

        planned, existing: ordinal -> e-mails of the plan, and of the file's existing one.
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
                message=f"{subject} the daily limit of {limit:,} e-mails and did not before; at most {allowed:,} may.",
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
            hint=f"Check it with `schedctl preview {organization}`. If the changes are correct, submit once with "
            "--accept-changes (accept_changes=True). The [guard] keys (docs/RULES.md, section 13) set the limits.",
            details={name: text for measure in exceeded for name, text in _details(measure)},
        )


class PlannedFigures(Protocol):
    """What the guards need of a planned chunk; see `chunks.Planned`."""

    @property
    def unreadable(self) -> int:
        """Return the number of contacts with a date or a boolean that cannot be read."""

    @property
    def highest(self) -> int | None:
        """Return the highest contact id of an existing row."""


def guards_of(
    connection: apsw.Connection,
    schema: Schema,
    configuration: Configuration,
    contacts: int,
    parts: Sequence[PlannedFigures],
    chunks: Iterable[Mapping[str, NDArray[Any]]],
) -> Guards:
    """Return the guards of a run that has planned its chunks, with what the contacts say judged already."""
    guards = Guards(configuration, contacts, _last_run(connection, schema, parts))
    guards.judge_unreadable(sum(part.unreadable for part in parts))
    guards.judge_ineligible((chunk["issues.contact"], chunk["issues.kind"]) for chunk in chunks)
    return guards


def _last_run(
    connection: apsw.Connection, schema: Schema, parts: Sequence[PlannedFigures]
) -> LastRun | None:
    if not has_completed_run(connection, schema):
        return None
    issues = ineligible_contacts(connection, schema)
    if issues is None:
        return LastRun()
    ineligible, highest = issues
    known = [highest, *(part.highest for part in parts)]
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


def newly_ineligible(
    contacts: NDArray[np.int64], kinds: NDArray[np.int8], last: LastRun
) -> dict[str, int]:
    """Return reason -> contacts that are not eligible now and were eligible at the last run.

    A contact above every contact that the file's plan, history and issues know is new and was
    neither.
    """
    if last.ineligible is None or last.highest is None:
        return {}
    chosen = (kinds < INVALID_BIRTH_DATE) & (contacts <= last.highest)
    chosen[chosen] = ~np.isin(contacts[chosen], last.ineligible)
    found, counts = np.unique(kinds[chosen], return_counts=True)
    return {
        ISSUES[kind]: count for kind, count in zip(found.tolist(), counts.tolist(), strict=True)
    }


@dataclass(frozen=True)
class ExistingPlan:
    """The existing plan rows of a chunk, follow-ups aside.

    keys: as `difference.pack_keys`, -1 where no planned row can have it.   odd: those rows, and
    odd_groups: contact and type of each as one number, -1 where no planned row can have them.
    ahead: e-mails of the run's date or later.
    """

    keys: NDArray[np.int64]
    odd: NDArray[np.int64]
    odd_groups: NDArray[np.int64]
    ahead: NDArray[np.bool_]

    def groups(self) -> NDArray[np.int64]:
        """Return contact and type of each row as one number, negative where no planned row can have them."""
        groups: NDArray[np.int64] = self.keys >> DATE_BITS
        groups[self.odd] = self.odd_groups
        return groups

    def ascending_groups(self) -> NDArray[np.int64]:
        """Return the groups of the rows ahead in ascending order.

        Of several rows with one key there is one.
        """
        keys = np.sort(self.keys[self.ahead], kind="stable")
        first = np.ones(len(keys), np.bool_)
        first[1:] = (keys[1:] != keys[:-1]) & (keys[1:] >= 0)
        groups: NDArray[np.int64] = keys[first] >> DATE_BITS
        odd = self.odd_groups[self.ahead[self.odd]]
        return np.sort(np.concatenate([groups, odd])) if len(odd) else groups


def removed_rows(
    change: Difference,
    planned_keys: NDArray[np.int64],
    goes: NDArray[np.bool_],
    existing: ExistingPlan,
) -> int:
    """Return how many e-mails a contact has fewer of one type in the plan than before, summed over all.

    So an e-mail that moves to another day is not removed, and one that is skipped from now on is.
    goes: which planned rows are not skipped; their keys are ascending.
    """
    stopped = change.updated[~goes[change.update]]
    touched = np.concatenate([change.delete, stopped])
    touched = existing.groups()[touched[existing.ahead[touched]]]
    if not len(touched):
        return 0
    lost = int((touched < 0).sum())
    looked_at = np.unique(touched[touched >= 0])
    before = _occurrences(existing.ascending_groups(), looked_at)
    after = _occurrences(planned_keys[goes] >> DATE_BITS, looked_at)
    return lost + int(np.maximum(before - after, 0).sum())


def _occurrences(ascending: NDArray[np.int64], values: NDArray[np.int64]) -> NDArray[np.int64]:
    first, behind = (np.searchsorted(ascending, values, side) for side in ("left", "right"))
    return (behind - first).astype(np.int64)


def removed_followups(before: Sequence[int], planned: Sequence[Sequence[Any]]) -> int:
    """Return the same of follow-ups, of which all types count as one.

    before: the contact of each existing one.   planned: rows as `PlanWriter.insert_followups` takes
    them.
    """
    if not before:
        return 0
    after = Counter(row[_CONTACT] for row in planned if row[_STATUS] == "pre-scheduled")
    return (Counter(before) - after).total()
