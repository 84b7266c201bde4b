"""Campaign e-mails (rules, section 7): the active instances, their audience and dates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import calendar
from .anniversary import catch_up
from .calendar import NONE, Ordinals
from .coercions import Dates, boolean_of, entries_of, integer_of, state_of, text_of, trimmed
from .configuration import Configuration
from .contacts import People
from .findings import Findings, RowId, shown
from .hashing import Salt, email_hash
from .rows import FIXED_TYPES, History, Rows, exclusion_reason, make_rows
from .windows import Windows

#: A campaign that does not go out before its trigger may go out this many days after its ideal
#: date.
SLACK = 30
#: Statuses of targets that are waiting (NULL is `pending`).
WAITING = ("pending", "scheduled")

_BOOLEANS = {
    "respect_exclusion_windows": True,
    "enable_followups": True,
    "target_all_contacts": False,
    "active": True,
    "spread_evenly": False,
    "skip_failed_underwriting": False,
}
_NUMBERS = {"days_before_event": 0, "priority": 10}
_DATES = ("active_start_date", "active_end_date", "spread_start_date", "spread_end_date")


@dataclass(frozen=True)
class CampaignType:
    """A row of `campaign_types`, defaults filled in.

    unreadable: (column, value) of what is set but cannot be read; no instance of such a type is
    planned.
    """

    name: str
    respects_windows: bool
    enable_followups: bool
    days_before: int
    target_all: bool
    priority: int
    active: bool
    spread_evenly: bool
    skip_failed: bool
    unreadable: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class Instance:
    """An active row of `campaign_instances` with its type.

    Dates are ordinals, `NONE` if absent.
    """

    id: int
    type: CampaignType
    email_template: str | None
    sms_template: str | None
    start: int
    end: int
    #: first and last day of an even spread, or None
    spread: tuple[int, int] | None
    #: numbers of the states, case-folded carriers; None for everyone
    states: frozenset[int] | None
    carriers: frozenset[str] | None


@dataclass
class Targets:
    """Rows of `contact_campaigns` for one chunk. instance: index into the active instances.

    trigger: `NONE` if unreadable.   waiting: whether the status is `pending` or `scheduled`.
    """

    contact_index: NDArray[np.int32]
    instance: NDArray[np.int32]
    trigger: Ordinals
    waiting: NDArray[np.bool_]


def campaign_types(rows: Iterable[Mapping[str, Any]]) -> dict[str, CampaignType]:
    """Return the campaign types by name; of several rows with one name, the first."""
    result: dict[str, CampaignType] = {}
    for row in rows:
        if row.get("name") is not None and text_of(row["name"]) not in result:
            result[text_of(row["name"])] = _campaign_type(row)
    return result


def _campaign_type(row: Mapping[str, Any]) -> CampaignType:
    values: dict[str, Any] = {}
    unreadable = []
    for column, default in (*_BOOLEANS.items(), *_NUMBERS.items()):
        value = row.get(column)
        found = boolean_of(value) if column in _BOOLEANS else integer_of(value)
        values[column] = default if found is None else found
        # A blank text is false as a boolean, but no number.
        if found is None and value is not None:
            unreadable.append((column, value))

    if "enable_followups" in dict(unreadable):
        values["enable_followups"] = False
    return CampaignType(
        name=text_of(row["name"]),
        respects_windows=values["respect_exclusion_windows"],
        enable_followups=values["enable_followups"],
        days_before=values["days_before_event"],
        target_all=values["target_all_contacts"],
        priority=values["priority"],
        active=values["active"],
        spread_evenly=values["spread_evenly"],
        skip_failed=values["skip_failed_underwriting"],
        unreadable=tuple(unreadable),
    )


def active_instances(
    types: Mapping[str, CampaignType],
    rows: Iterable[Mapping[str, Any]],
    as_of: int,
    dates: Dates,
    findings: Findings,
) -> list[Instance]:
    """Return the instances that are active on `as_of`, in the order of their ids (section 7).

    An instance with a value that is set but unreadable is left out and named in `findings`.
    """
    found = [
        instance
        for row in rows
        if (instance := _instance(types, row, as_of, dates, findings)) is not None
    ]
    ids = Counter(instance.id for instance in found)
    for instance in found:
        if ids[instance.id] > 1:
            _not_planned(findings, instance.id, "id", instance.id, "campaign_instances")
    return sorted((i for i in found if ids[i.id] == 1), key=lambda instance: instance.id)


def _not_planned(findings: Findings, row_id: RowId, column: str, value: Any, table: str) -> None:
    findings.add("campaign_not_planned", table, column, row_id, value, f"{shown(row_id)} {column}")


def _instance(
    types: Mapping[str, CampaignType],
    row: Mapping[str, Any],
    as_of: int,
    dates: Dates,
    findings: Findings,
) -> Instance | None:
    """Return an instance if it is active, else None."""
    kind = types.get(text_of(row.get("campaign_type")))
    read = {column: dates.read(row.get(column)) for column in _DATES}
    start, end = read["active_start_date"][0], read["active_end_date"][0]
    if (kind is not None and not kind.active) or start > as_of or (end != NONE and end < as_of):
        return None

    number = integer_of(row.get("id"))
    row_id: RowId = shown(row.get("id")) if number is None else number
    states, carriers = entries_of(row.get("target_states")), entries_of(row.get("target_carriers"))
    known_states = states is None or all(state_of(entry) is not None for entry in states)
    readable = {column: read[column][1] for column in _DATES}
    readable |= {"id": number is not None, "campaign_type": kind is not None}
    readable |= {"target_states": known_states}
    unreadable = [column for column, good in readable.items() if not good]
    for column in unreadable:
        _not_planned(findings, row_id, column, row.get(column), "campaign_instances")
    if kind is not None and kind.unreadable:
        for column, value in kind.unreadable:
            _not_planned(findings, row_id, column, value, "campaign_types")
        return None
    if unreadable or kind is None or number is None:
        return None

    first, last = read["spread_start_date"][0], read["spread_end_date"][0]
    return Instance(
        id=number,
        type=kind,
        email_template=_text(row.get("email_template")),
        sms_template=_text(row.get("sms_template")),
        start=start,
        end=end,
        spread=(first, last) if kind.spread_evenly and NONE not in {first, last} else None,
        states=None
        if states is None
        else frozenset(state for state in map(state_of, states) if state is not None),
        carriers=None if carriers is None else frozenset(trimmed(c).casefold() for c in carriers),
    )


def _text(value: Any) -> str | None:
    return None if value is None else text_of(value)


def _first_of_each(
    contact_index: NDArray[np.int32], trigger: Ordinals, *, spread: bool
) -> NDArray[np.intp]:
    """Return the first target of each contact and trigger date, in order.

    Of a spread, of each contact.
    """
    keys = contact_index.astype(np.int64) << 32
    if not spread:
        keys += trigger
    first: NDArray[np.intp] = np.sort(np.unique(keys, return_index=True)[1])
    return first


class Campaigns:
    """Section 7 for one run.

    Example:

        rows = run.campaigns.plan(people, carriers, targets, history, class_types)
    """

    def __init__(
        self,
        as_of: int,
        configuration: Configuration,
        rules: Windows,
        instances: Sequence[Instance],
    ) -> None:
        self.as_of = as_of
        self.configuration = configuration
        self.windows = rules
        self.instances = instances
        self.ids = np.array([i.id for i in instances], np.int64)
        self._days_before = (
            np.array([i.type.days_before for i in instances], np.float64)
            .clip(-4e6, 4e6)
            .astype(np.int64)
        )
        self._end = np.array(
            [i.end if i.end != NONE else calendar.LAST for i in instances], np.int64
        )
        self._spread = np.array([i.spread is not None for i in instances], np.bool_)
        self._first = np.array([i.spread[0] if i.spread else 0 for i in instances], np.int64)
        self._last = np.array([i.spread[1] if i.spread else 0 for i in instances], np.int64)
        self._respects = np.array([i.type.respects_windows for i in instances], np.bool_)

    def plan(
        self,
        people: People,
        carriers: Sequence[str],
        targets: Targets,
        history: History,
        class_types: NDArray[Any],
    ) -> Rows:
        """Return the rows of section 7. `class_types`: class -> type number, as in `history`."""
        contact_index, instance, trigger = self.audience(people, carriers, targets)
        open_ = ~self.handled(contact_index, instance, history, class_types)
        contact_index, instance, trigger = contact_index[open_], instance[open_], trigger[open_]
        return self.dates(people, contact_index, instance, trigger)

    def audience(
        self, people: People, carriers: Sequence[str], targets: Targets
    ) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int64]]:
        """Return contact, instance and trigger date of each candidate."""
        readable = (targets.trigger != NONE) | self._spread[targets.instance]
        order = np.argsort(targets.instance, kind="stable")
        order = order[readable[order]]
        bounds = np.searchsorted(targets.instance[order], np.arange(len(self.instances) + 1))
        whos, instances, triggers = [], [], []
        for number, instance in enumerate(self.instances):
            rows = order[bounds[number] : bounds[number + 1]]
            if not instance.type.target_all:
                rows = rows[targets.waiting[rows]]
            rows = rows[
                _first_of_each(
                    targets.contact_index[rows],
                    targets.trigger[rows],
                    spread=instance.spread is not None,
                )
            ]
            contact_index = targets.contact_index[rows]
            trigger = targets.trigger[rows].astype(np.int64)
            if instance.type.target_all and (instance.start != NONE or instance.spread):
                listed = np.zeros(len(people), np.bool_)
                listed[contact_index] = True
                others = np.flatnonzero(~listed).astype(np.int32)
                contact_index = np.concatenate([contact_index, others])
                trigger = np.concatenate([trigger, np.full(len(others), instance.start, np.int64)])
            chosen = self.narrowed(people, carriers, instance, contact_index)
            whos.append(contact_index[chosen])
            triggers.append(trigger[chosen])
            instances.append(np.full(len(whos[-1]), number, np.int32))
        if not whos:
            return np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.int64)
        return np.concatenate(whos), np.concatenate(instances), np.concatenate(triggers)

    def narrowed(
        self,
        people: People,
        carriers: Sequence[str],
        instance: Instance,
        contact_index: NDArray[np.int32],
    ) -> NDArray[np.bool_]:
        """Return which contacts the instance accepts by state, carrier and underwriting."""
        chosen = np.ones(len(contact_index), np.bool_)
        if instance.states is not None:
            chosen &= np.isin(
                people.state[contact_index], np.array(sorted(instance.states), np.int8)
            )
        if instance.carriers is not None:
            accepted = [number for number, name in enumerate(carriers) if name in instance.carriers]
            chosen &= np.isin(people.carrier[contact_index], np.array(accepted, np.int32))
        if instance.type.skip_failed or self.configuration.exclude_failed_underwriting:
            chosen &= ~people.failed_underwriting[contact_index]
        return chosen

    def handled(
        self,
        contact_index: NDArray[np.int32],
        instance: NDArray[np.int32],
        history: History,
        class_types: NDArray[Any],
    ) -> NDArray[np.bool_]:
        """Return which candidates have a dispatched row of the same type and instance (section 4).

        class_types: class -> folded type number. A row without any date handles all instances of
        its type.
        """
        if not len(self.ids) or not len(history):
            return np.zeros(len(contact_index), np.bool_)
        types = class_types[len(FIXED_TYPES) :]
        index = np.searchsorted(self.ids, history.instance).clip(0, len(self.ids) - 1)
        same = (self.ids[index] == history.instance) & (types[index] == history.type_number)
        sent = history.contact_index[same].astype(np.int64) * len(self.ids) + index[same]
        handled: NDArray[np.bool_] = np.isin(
            contact_index.astype(np.int64) * len(self.ids) + instance, sent
        )

        undated = np.flatnonzero((history.own_date == NONE) & np.isin(history.type_number, types))
        if len(undated):
            sent = (history.contact_index[undated].astype(np.int64) << 32) + history.type_number[
                undated
            ]
            handled |= np.isin((contact_index.astype(np.int64) << 32) + types[instance], sent)
        return handled

    def bounds(
        self, instance: NDArray[np.int32], trigger: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the event and the latest date of candidates."""
        spread = self._spread[instance]
        event = np.where(spread, self._first[instance], trigger)
        before = self._days_before[instance]
        latest = np.where(before > 0, event - 1, event - before + SLACK)
        latest = np.where(spread, self._last[instance], latest)
        return event, np.minimum(latest, self._end[instance])

    def ideal(
        self,
        people: People,
        contact_index: NDArray[np.int32],
        instance: NDArray[np.int32],
        event: NDArray[np.int64],
    ) -> NDArray[np.int64]:
        """Return the ideal date of candidates; of an even spread, the contact's own day in it."""
        ideal = event - self._days_before[instance]
        rows = np.flatnonzero(self._spread[instance])
        if len(rows):
            number = instance[rows]
            lengths = np.maximum(self._last[number] - self._first[number] + 1, 1)
            offsets = self.hashes(
                people, contact_index[rows], number, event[rows]
            ) % lengths.astype(np.uint64)
            ideal[rows] = event[rows] + offsets.astype(np.int64)
        return ideal

    def hashes(
        self,
        people: People,
        contact_index: NDArray[np.int32],
        instance: NDArray[np.int32],
        event: NDArray[np.int64],
    ) -> NDArray[np.uint64]:
        """Return the hashes of candidates (section 2)."""
        return email_hash(
            people.ids[contact_index],
            int(Salt.CAMPAIGN) + self.ids[instance],
            calendar.year_of(event),
        )

    def dates(
        self,
        people: People,
        contact_index: NDArray[np.int32],
        instance: NDArray[np.int32],
        trigger: NDArray[np.int64],
    ) -> Rows:
        """Return the rows of those candidates that have a day to go out on."""
        event, latest = self.bounds(instance, trigger)
        # Beyond the calendar there is no day to send on.
        possible = (latest >= self.as_of) & (latest <= calendar.LAST) & (event <= calendar.LAST)
        possible &= ~self._spread[instance] | (self._first[instance] <= self._last[instance])
        rows = np.flatnonzero(possible)
        contact_index, instance = contact_index[rows], instance[rows]
        event, latest = event[rows], latest[rows]

        ideal = self.ideal(people, contact_index, instance, event)
        date = ideal.copy()
        late = np.flatnonzero(ideal < self.as_of)
        if len(late):
            hashes = self.hashes(people, contact_index[late], instance[late], event[late])
            spread = self.configuration.catch_up_spread_days
            date[late] = catch_up(self.as_of, hashes, latest[late].astype(np.int32), spread)
        possible = ideal <= latest
        contact_index, instance, date = contact_index[possible], instance[possible], date[possible]

        kinds = np.zeros(len(contact_index), np.int8)
        bound = np.flatnonzero(self._respects[instance])
        kinds[bound] = self.windows.excluded(
            people, contact_index[bound], date[bound].astype(np.int32)
        )
        return make_rows(
            contact_index,
            len(FIXED_TYPES) + instance,
            date,
            event[possible],
            latest[possible],
            exclusion_reason(people.state[contact_index], kinds),
        )
