"""The two steps of a run that work on one chunk of contacts, in whatever process.

`plan_chunk` reads a chunk and plans it up to load balancing; `finish_chunk` takes the balanced
dates, applies section 10 of the rules and finds out what has to change in the file. Between the
two, a chunk's columns lie in a scratch file. Neither writes to the organization's file.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from schedd.engine import contacts as engine_contacts
from schedd.engine.calendar import FIRST, NONE, iso, parts
from schedd.engine.configuration import Layer, build
from schedd.engine.difference import (
    DATE_BITS,
    FOREIGN,
    Difference,
    difference,
    drop_conflicting_keys,
    pack_keys,
)
from schedd.engine.findings import MAX_EXAMPLES, Finding, Findings, RowId
from schedd.engine.rows import NOT_SKIPPED, SKIP_REASONS, History, Rows
from schedd.engine.run import ChunkInput, Run, day_counts
from schedd.store import campaigns as campaign_store
from schedd.store.connection import open_reader
from schedd.store.contacts import ContactReader, Range, new_learned
from schedd.store.errors import sqlite_errors
from schedd.store.existing import (
    DISPATCHED,
    SCHEDULED,
    SKIPPED,
    VOID,
    ExistingRows,
    event_number,
    history_of,
)
from schedd.store.followups import existing_followups
from schedd.store.odd_values import Learned
from schedd.store.outside_rows import OutsideRows
from schedd.store.schedules import ScheduleReader
from schedd.store.schema import Schema, read_schema
from schedproto import Preview, RunWarning

from . import guards, plan_digest, shared_arrays
from . import preview as previews
from .followups import FollowUpChange, finish_followups, followup_rows
from .outside import load_outside
from .warnings import to_warnings

_ROW_COLUMNS = tuple(column.name for column in fields(Rows))
_HISTORY_COLUMNS = tuple(column.name for column in fields(History))
_PEOPLE_COLUMNS = (
    "ids",
    "state",
    "birth_day",
    "effective_day",
    "birth_year",
    "unreadable_birth",
    "unreadable_effective",
)


class RunInput(msgspec.Struct, frozen=True):
    """What every process of a run needs; lies in the scratch folder as `run`."""

    database: str
    as_of: int
    layers: list[tuple[str, dict[str, Any]]]
    campaign_types: list[dict[str, Any]]
    campaign_instances: list[dict[str, Any]]


class ChunkTask(msgspec.Struct, frozen=True):
    """One chunk: ids `low` to below `high`; its columns go into the scratch file `name`.

    first: whether it is the first chunk of the run.   preview: whether what would change is to be
    reported in detail.
    digest: whether the digest of the plan is wanted.
    """

    folder: str
    name: str
    low: int
    high: int | None
    first: bool = True
    preview: bool = False
    digest: bool = False


class Planned(msgspec.Struct, frozen=True):
    """What `plan_chunk` tells the lead.

    dispatched, followups: ordinal -> rows that load balancing cannot move.
    volume: ordinal -> pre-scheduled rows before it, follow-ups included.
    unreadable: contacts that have a date or a boolean that cannot be read.
    ahead: ordinal of the run's date or later -> existing planned e-mails.   highest: contact of an
    existing row.
    """

    contacts: int
    eligible: int
    rows: int
    existing: int
    dispatched: dict[int, int]
    followups: dict[int, int]
    volume: dict[int, int]
    warnings: list[RunWarning] = []
    unreadable: int = 0
    ahead: dict[int, int] = {}
    highest: int | None = None


class Finished(msgspec.Struct, frozen=True):
    """What `finish_chunk` tells the lead.

    The rows to write lie in the scratch file `name` + ".out".

    counts: class * len(SKIP_REASONS) + reason -> rows.   volume: ordinal -> pre-scheduled rows.
    states: state * number of types + type -> pre-scheduled rows.   preview: what would change, if
    asked for.
    followups: rows to insert; followup_updates: (row id, row).   followup_counts: (type, reason) ->
    rows.
    removed: existing planned e-mails that the plan no longer has (`guards`).   sums: of
    `plan_digest`, if asked for.
    """

    planned: int
    unchanged: int
    dropped: int
    held: int
    counts: dict[int, int]
    volume: dict[int, int]
    followups: list[list[Any]]
    followup_updates: list[tuple[int, list[Any]]]
    followup_counts: list[tuple[str, int, int]]
    states: dict[int, int] = {}
    preview: Preview | None = None
    removed: int = 0
    sums: tuple[int, int] = (0, 0)


def write_run_input(folder: Path, value: RunInput) -> None:
    """Leave the run's input for the other processes."""
    (folder / "run").write_bytes(msgspec.msgpack.encode(value))


def _shared(folder: str) -> tuple[Run, RunInput, dict[str, Learned]]:
    """Return the run, its input, and what was learned of its columns.

    The last one is kept, as a worker gets many chunks of one run.
    """
    info = (Path(folder) / "run").stat()
    return _shared_of(folder, info.st_ino, info.st_mtime_ns)


@lru_cache(maxsize=1)
def _shared_of(
    folder: str, _inode: int, _changed_ns: int
) -> tuple[Run, RunInput, dict[str, Learned]]:
    value = msgspec.msgpack.decode((Path(folder) / "run").read_bytes(), type=RunInput)
    configuration = build(*(Layer(place, values) for place, values in value.layers))
    run = Run(value.as_of, configuration, value.campaign_types, value.campaign_instances)
    return run, value, new_learned()


def plan_chunk(task: ChunkTask) -> Planned:
    """Read one chunk, plan it and leave the result in the scratch folder."""
    run, value, learned = _shared(task.folder)
    path = Path(value.database)
    connection = open_reader(path)
    try:
        with sqlite_errors(path):
            connection.execute("BEGIN")
            reader = ChunkReader(run, connection, load_outside(Path(task.folder)), learned)
            return _plan(run, task, connection, reader)
    finally:
        connection.close()


@dataclass
class ChunkRead:
    """What the store knows of a chunk.

    parent_values: of each parent (email_type, priority, instance id).
    """

    chunk: ChunkInput
    existing: ExistingRows
    parent_values: list[tuple[Any, ...]]


class ChunkReader:
    """Reads chunks for a run over one connection.

    outside: the rows that no range of contact ids finds.
    """

    def __init__(
        self,
        run: Run,
        connection: Any,
        outside: OutsideRows,
        learned: dict[str, Learned] | None = None,
    ) -> None:
        self._run, self._connection = run, connection
        self.schema: Schema = read_schema(connection)
        carriers = any(instance.carriers is not None for instance in run.instances)
        since = run.as_of - run.configuration.lookback_days
        self._contacts = ContactReader(
            connection, self.schema, run.configuration, carriers=carriers, learned=learned
        )
        self._schedules = ScheduleReader(connection, self.schema, run, since, outside)
        self._campaigns = campaign_store.CampaignReader(connection, self.schema, run, since)
        self._future = Findings()

    def read(self, chunk: Range, *, first: bool = True) -> ChunkRead:
        """Return what a chunk's contacts, rows, targets and engagement are.

        first: whether it is the first chunk.
        """
        run = self._run
        contacts = self._contacts.read(chunk)
        self._note_future_births(contacts)
        people = run.people(contacts)
        existing = self._schedules.read(chunk)
        sent = existing.sent_lately
        parents, values = self._campaigns.parents(
            existing.row_id[sent], existing.contact_id[sent], people.ids
        )
        read = ChunkInput(
            contacts=contacts,
            people=people,
            history=history_of(existing, run, people.ids),
            targets=self._campaigns.targets(chunk, people.ids, first=first),
            parents=parents,
            engagement=self._campaigns.engagement(chunk, people.ids, first=first),
        )
        return ChunkRead(read, existing, values)

    def unreadable(self, contacts: engine_contacts.Contacts) -> int:
        """Return how many contacts of the chunk read last have a date or a boolean that cannot be read."""
        unreadable = contacts.invalid_birth | contacts.invalid_effective
        if self._contacts.unreadable_booleans:
            unreadable |= np.isin(contacts.ids, self._contacts.unreadable_booleans)
        return int(unreadable.sum())

    def _note_future_births(self, contacts: engine_contacts.Contacts) -> None:
        future = np.flatnonzero(contacts.birth > self._run.as_of)
        if len(future):
            shown = future[:MAX_EXAMPLES].tolist()
            examples: list[tuple[RowId, str]] = [
                (int(contacts.ids[i]), iso(int(contacts.birth[i]))) for i in shown
            ]
            self._future.extend(
                [Finding("future_date", "contacts", "birth_date", "", len(future), examples)]
            )

    @property
    def findings(self) -> Findings:
        """What could not be read or is not known, in the chunks read so far."""
        found = Findings(self._future)
        for part in (self._contacts, self._schedules, self._campaigns):
            found.extend(part.findings)
        return found


def _plan(run: Run, task: ChunkTask, connection: Any, reader: ChunkReader) -> Planned:
    read = reader.read(Range(task.low, task.high), first=task.first)
    contacts, people, history, parents = (
        read.chunk.contacts,
        read.chunk.people,
        read.chunk.history,
        read.chunk.parents,
    )
    existing = read.existing
    plan = run.plan_chunk(read.chunk)
    issue_contacts, issue_kinds = engine_contacts.issues(contacts)
    ahead = (existing.kind == SCHEDULED) & (existing.date >= run.as_of)
    arrays: dict[str, NDArray[Any]] = {
        **{f"rows.{name}": getattr(plan.rows, name) for name in _ROW_COLUMNS},
        **{f"history.{name}": getattr(history, name) for name in _HISTORY_COLUMNS},
        **{f"people.{name}": getattr(people, name) for name in _PEOPLE_COLUMNS},
        **existing_arrays(existing, people.ids, run.classes.folded),
        "issues.contact": issue_contacts,
        "issues.kind": issue_kinds,
    }
    arrays |= _guard_arrays(existing, people.ids, arrays["present.key"], ahead)
    extra = {
        "followups": followup_rows(
            run, people.ids, plan.followups, parents.row_id, read.parent_values
        ),
        "existing_followups": existing_followups(connection, reader.schema, existing),
        "followup_days": plan.followups.date[plan.followups.reason == NOT_SKIPPED].tolist(),
        "followups_ahead": existing.contact_id[ahead & existing.followup].tolist(),
    }
    if task.preview:
        shown, extra["names"] = previews.shown_rows(connection, existing, run.classes)
        arrays |= shown
    shared_arrays.save(Path(task.folder) / task.name, arrays, extra)
    followup_days = np.array(extra["followup_days"], np.int32)
    return Planned(
        contacts=len(contacts.ids),
        eligible=len(people),
        rows=len(plan.rows) + len(plan.followups),
        existing=int((existing.kind <= SKIPPED).sum()),
        dispatched=day_counts(
            existing.date[(existing.kind == DISPATCHED) & (existing.date != NONE)]
        ),
        followups=day_counts(followup_days),
        volume=day_counts(
            np.concatenate([plan.rows.date[plan.rows.reason == NOT_SKIPPED], followup_days])
        ),
        warnings=to_warnings(reader.findings),
        unreadable=reader.unreadable(contacts),
        ahead=day_counts(existing.date[ahead]),
        highest=int(existing.contact_id.max()) if len(existing) else None,
    )


def _guard_arrays(
    existing: ExistingRows,
    people: NDArray[np.int64],
    keys: NDArray[np.int64],
    ahead: NDArray[np.bool_],
) -> dict[str, NDArray[Any]]:
    """Return what the guards look at of the existing plan rows, follow-ups aside, in the order of their `keys`.

    `present.odd` are the rows without a key, `present.odd_group` their contact and type
    (`guards.ExistingPlan`).
    """
    plan = _plain_plan(existing)
    odd = np.flatnonzero(keys < 0)
    contact, types = existing.contact_id[plan[odd]], existing.written_type[plan[odd]]
    contact_index = np.searchsorted(people, contact)
    known = (contact_index < len(people)) & (types >= 0)
    known[known] = people[contact_index[known]] == contact[known]
    group = np.full(len(odd), -1, np.int64)
    no_date = np.full(int(known.sum()), FIRST, np.int32)
    group[known] = pack_keys(contact_index[known], types[known], no_date) >> DATE_BITS
    return {"present.ahead": ahead[plan], "present.odd": odd, "present.odd_group": group}


def _plain_plan(existing: ExistingRows) -> NDArray[np.intp]:
    return np.flatnonzero((existing.kind <= SKIPPED) & ~existing.followup)


def existing_arrays(
    existing: ExistingRows, people: NDArray[np.int64], folded: NDArray[np.int32]
) -> dict[str, NDArray[Any]]:
    """Return the existing rows as keys and contents; a key is -1 where no planned row can have it.

    folded: as in `rows.RowClasses`.   held.dispatched, held.other: the keys that dispatched and
    void rows hold.
    """
    contact_index = np.searchsorted(people, existing.contact_id)
    there = contact_index < len(people)
    there[there] = people[contact_index[there]] == existing.contact_id[there]
    # A row that is not the plan's holds its key as it is read (sections 0, 10 and 11); a row of the
    # plan has it only if it is stored as a planned row is.
    dispatched = existing.kind == DISPATCHED
    there &= (existing.date != NONE) & (existing.exact_key | (existing.kind > SKIPPED))

    def keys_of(types: NDArray[Any]) -> NDArray[np.int64]:
        known = there & (types >= 0)
        keys = np.full(len(existing), -1, np.int64)
        keys[known] = pack_keys(contact_index[known], types[known], existing.date[known])
        return keys

    keys = keys_of(existing.written_type)
    # Dispatched rows: by the type as it is compared, too, which several planned types may share.
    held = [keys[dispatched], keys_of(existing.type_number)[dispatched]]
    for number in np.flatnonzero(folded != np.arange(len(folded))).tolist():
        same = dispatched & (existing.type_number == folded[number])
        held.append(keys_of(np.where(same, number, -1))[same])
    held_keys = np.concatenate(held)
    plan = _plain_plan(existing)
    fits = (
        existing.regular
        & (existing.row_class >= 0)
        & (existing.reason >= 0)
        & (existing.event >= 0)
    )
    fits &= (existing.kind == SCHEDULED) == (existing.reason == NOT_SKIPPED)
    content = np.where(fits, _content(existing.row_class, existing.reason, existing.event), FOREIGN)
    return {
        "present.key": keys[plan],
        "present.content": content[plan],
        "present.row_id": existing.row_id[plan],
        "held.dispatched": held_keys[held_keys >= 0],
        "held.other": keys[(existing.kind == VOID) & (keys >= 0)],
    }


def _content(
    row_class: NDArray[Any], reason: NDArray[Any], event: NDArray[Any]
) -> NDArray[np.int64]:
    kinds: NDArray[np.int64] = row_class.astype(np.int64) * len(SKIP_REASONS) + reason
    packed: NDArray[np.int64] = kinds * 10_000_000 + event
    return packed


def finish_chunk(task: ChunkTask) -> Finished:
    """Apply section 10 to a planned and balanced chunk and find out what has to change in the file."""
    run, _, _ = _shared(task.folder)
    path = Path(task.folder) / task.name
    arrays, extra = shared_arrays.load(path)
    rows = Rows(*(arrays[f"rows.{name}"] for name in _ROW_COLUMNS))
    history = History(*(arrays[f"history.{name}"] for name in _HISTORY_COLUMNS))
    rows, dropped = run.finish_chunk(rows, history)
    keys = pack_keys(rows.contact_index, run.classes.type_number[rows.row_class], rows.date)
    free, held = drop_conflicting_keys(keys, arrays["held.dispatched"], arrays["held.other"])
    if not free.all():
        rows, keys = rows.take(free), keys[free]
    years, months, days = parts(rows.event)
    content = _content(rows.row_class, rows.reason, event_number(years, months, days))
    change = difference(keys, content, arrays["present.key"], arrays["present.content"])
    followups = finish_followups(run, arrays, extra)
    contact_id = arrays["people.ids"][rows.contact_index]
    out: dict[str, NDArray[Any]] = {}
    for name, chosen in (("insert", change.insert), ("update", change.update)):
        out[f"{name}.contact_id"] = contact_id[chosen]
        for column in ("row_class", "reason", "date", "event"):
            out[f"{name}.{column}"] = getattr(rows, column)[chosen]
    out["update.row_id"] = arrays["present.row_id"][change.updated]
    out["delete"] = np.concatenate([arrays["present.row_id"][change.delete], followups.delete])
    shared_arrays.save(path.with_suffix(".out"), out)
    kinds = (rows.row_class * len(SKIP_REASONS) + rows.reason).astype(np.int32)
    goes = rows.reason == NOT_SKIPPED
    volume = np.concatenate([rows.date[goes], np.array(followups.days, np.int32)])
    states = arrays["people.state"][rows.contact_index[goes]].astype(np.int32) * len(
        run.classes.types
    )
    states = np.concatenate(
        [
            states + run.classes.type_number[rows.row_class[goes]],
            np.array(followups.states, np.int32),
        ]
    )
    return Finished(
        planned=len(rows) + followups.planned,
        unchanged=change.unchanged + followups.unchanged,
        dropped=dropped,
        held=held + followups.held,
        counts=day_counts(kinds),
        volume=day_counts(volume),
        followups=followups.insert,
        followup_updates=followups.update,
        followup_counts=followups.counts,
        states=day_counts(states),
        preview=_preview(run, arrays, extra, rows, change, followups) if task.preview else None,
        removed=_removed(arrays, extra, keys, goes, change, followups),
        sums=_sums(run, arrays, rows, kinds, followups) if task.digest else (0, 0),
    )


def _removed(
    arrays: dict[str, NDArray[Any]],
    extra: dict[str, Any],
    keys: NDArray[np.int64],
    goes: NDArray[np.bool_],
    change: Difference,
    followups: FollowUpChange,
) -> int:
    existing = guards.ExistingPlan(
        *(arrays[f"present.{name}"] for name in ("key", "odd", "odd_group", "ahead"))
    )
    plain = guards.removed_rows(change, keys, goes, existing)
    return plain + guards.removed_followups(extra["followups_ahead"], followups.rows)


def _sums(
    run: Run,
    arrays: dict[str, NDArray[Any]],
    rows: Rows,
    kinds: NDArray[np.int32],
    followups: FollowUpChange,
) -> plan_digest.Sums:
    return plan_digest.add(
        plan_digest.row_sums(run, arrays["people.ids"], rows, kinds),
        plan_digest.followup_sums(run.configuration.send_time, followups.rows),
        plan_digest.issue_sums(arrays["issues.contact"], arrays["issues.kind"]),
    )


def _preview(
    run: Run,
    arrays: dict[str, NDArray[Any]],
    extra: dict[str, Any],
    rows: Rows,
    change: Difference,
    followups: FollowUpChange,
) -> Preview:
    plain = previews.preview(run.classes, arrays, extra["names"], rows, change)
    return previews.merge([plain, previews.of_followups(followups, extra["existing_followups"])])
