"""The two steps of a run that work on one chunk of contacts, in whatever process.

`plan_chunk` reads a chunk and plans it up to load balancing; `finish_chunk` takes the balanced dates, applies
section 10 of the rules and finds out what has to change in the file. Between the two, a chunk's columns lie in
a scratch file. Neither writes to the organization's file.
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
from schedd.engine.calendar import NONE, parts
from schedd.engine.configuration import Layer, build
from schedd.engine.difference import FOREIGN, Difference, difference, pack_keys, without_held
from schedd.engine.rows import NOT_SKIPPED, SKIP_REASONS, History, Rows
from schedd.engine.run import ChunkInput, Run, day_counts
from schedd.store import campaigns as campaign_store
from schedd.store.connection import open_reader
from schedd.store.contacts import ContactReader, Range
from schedd.store.errors import sqlite_errors
from schedd.store.followups import present_followups
from schedd.store.present import DISPATCHED, OTHER, SCHEDULED, SKIPPED, Present, event_number, history_of
from schedd.store.schedules import ScheduleReader
from schedd.store.schema import Schema, read_schema
from schedproto import Preview

from . import preview as previews
from . import scratch
from .followup_rows import FollowUpChange, finish_followups, followup_rows

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

    preview: whether what would change is to be told in detail.
    """

    folder: str
    name: str
    low: int
    high: int | None
    preview: bool = False


class Planned(msgspec.Struct, frozen=True):
    """What `plan_chunk` tells the lead.

    dispatched, followups: ordinal -> rows that load balancing cannot move.
    volume: ordinal -> pre-scheduled rows before it, follow-ups included.
    """

    contacts: int
    eligible: int
    rows: int
    present: int
    dispatched: dict[int, int]
    followups: dict[int, int]
    volume: dict[int, int]


class Finished(msgspec.Struct, frozen=True):
    """What `finish_chunk` tells the lead; the rows to write lie in the scratch file `name` + ".out".

    counts: class * len(SKIP_REASONS) + reason -> rows.   volume: ordinal -> pre-scheduled rows.
    states: state * number of types + type -> pre-scheduled rows.   preview: what would change, if asked for.
    followups: rows to insert; followup_updates: (row id, row).   followup_counts: (type, reason) -> rows.
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


def write_run_input(folder: Path, value: RunInput) -> None:
    """Leave the run's input for the other processes."""
    (folder / "run").write_bytes(msgspec.msgpack.encode(value))


def _shared(folder: str) -> tuple[Run, RunInput]:
    """Return the run and its input; the last one is kept, as a worker gets many chunks of one run."""
    info = (Path(folder) / "run").stat()
    return _shared_of(folder, info.st_ino, info.st_mtime_ns)


@lru_cache(maxsize=1)
def _shared_of(folder: str, _inode: int, _changed_ns: int) -> tuple[Run, RunInput]:
    value = msgspec.msgpack.decode((Path(folder) / "run").read_bytes(), type=RunInput)
    configuration = build(*(Layer(place, values) for place, values in value.layers))
    return Run(value.as_of, configuration, value.campaign_types, value.campaign_instances), value


def plan_chunk(task: ChunkTask) -> Planned:
    """Read one chunk, plan it and leave the result in the scratch folder."""
    run, value = _shared(task.folder)
    path = Path(value.database)
    connection = open_reader(path)
    try:
        with sqlite_errors(path):
            connection.execute("BEGIN")
            return _plan(run, task, connection)
    finally:
        connection.close()


@dataclass
class ChunkRead:
    """What the store knows of a chunk. parent_values: of each parent (email_type, priority, instance id)."""

    chunk: ChunkInput
    present: Present
    parent_values: list[tuple[Any, ...]]


class ChunkReader:
    """Reads chunks for a run over one connection."""

    def __init__(self, run: Run, connection: Any) -> None:
        self._run, self._connection = run, connection
        self.schema: Schema = read_schema(connection)
        carriers = any(instance.carriers is not None for instance in run.instances)
        self._contacts = ContactReader(connection, self.schema, carriers)
        self._since = run.as_of - run.configuration.lookback_days
        self._schedules = ScheduleReader(connection, self.schema, run.classes, run.configuration.send_time, self._since)
        self._instances = np.array([instance.id for instance in run.instances], np.int64)

    def read(self, chunk: Range) -> ChunkRead:
        """Return what a chunk's contacts, rows, targets and engagement are."""
        run, connection, schema = self._run, self._connection, self.schema
        contacts = self._contacts.read(chunk)
        people = run.people(contacts)
        present = self._schedules.read(chunk)
        sent = present.row_id[present.sent_lately]
        parents, values = campaign_store.read_parents(connection, schema, sent, people.ids, run.parent_types)
        read = ChunkInput(
            contacts=contacts,
            people=people,
            history=history_of(present, run.classes, people.ids),
            targets=campaign_store.read_targets(connection, schema, chunk, people.ids, self._instances),
            parents=parents,
            engagement=campaign_store.read_engagement(connection, schema, chunk, people.ids, self._since),
        )
        return ChunkRead(read, present, values)


def _plan(run: Run, task: ChunkTask, connection: Any) -> Planned:
    reader = ChunkReader(run, connection)
    read = reader.read(Range(task.low, task.high))
    contacts, people, history, parents = read.chunk.contacts, read.chunk.people, read.chunk.history, read.chunk.parents
    present = read.present
    plan = run.plan_chunk(read.chunk)
    issue_contacts, issue_kinds = engine_contacts.issues(contacts)
    arrays: dict[str, NDArray[Any]] = {
        **{f"rows.{name}": getattr(plan.rows, name) for name in _ROW_COLUMNS},
        **{f"history.{name}": getattr(history, name) for name in _HISTORY_COLUMNS},
        **{f"people.{name}": getattr(people, name) for name in _PEOPLE_COLUMNS},
        **present_arrays(present, people.ids),
        "issues.contact": issue_contacts,
        "issues.kind": issue_kinds,
    }
    old = (present.kind <= SKIPPED) & present.followup
    extra = {
        "followups": followup_rows(run, people.ids, plan.followups, parents.row_id, read.parent_values),
        "present_followups": present_followups(connection, reader.schema, present.row_id[old]),
        "followup_days": plan.followups.date[plan.followups.reason == NOT_SKIPPED].tolist(),
    }
    if task.preview:
        shown, extra["names"] = previews.shown_rows(connection, present, run.classes)
        arrays |= shown
    scratch.save(Path(task.folder) / task.name, arrays, extra)
    followup_days = np.array(extra["followup_days"], np.int32)
    return Planned(
        contacts=len(contacts.ids),
        eligible=len(people),
        rows=len(plan.rows) + len(plan.followups),
        present=int((present.kind <= SKIPPED).sum()),
        dispatched=day_counts(present.date[(present.kind == DISPATCHED) & (present.date != NONE)]),
        followups=day_counts(followup_days),
        volume=day_counts(np.concatenate([plan.rows.date[plan.rows.reason == NOT_SKIPPED], followup_days])),
    )


def present_arrays(present: Present, people: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """Return the present rows as keys and contents; a key is -1 where no planned row can have it."""
    who = np.searchsorted(people, present.contact_id)
    there = who < len(people)
    there[there] = people[who[there]] == present.contact_id[there]
    there &= (present.type_number >= 0) & (present.date != NONE) & present.plain_date
    keys = np.full(len(present), -1, np.int64)
    keys[there] = pack_keys(who[there], present.type_number[there], present.date[there])
    plan = np.flatnonzero((present.kind <= SKIPPED) & ~present.followup)
    fits = present.regular & (present.cls >= 0) & (present.reason >= 0) & (present.event >= 0)
    fits &= (present.kind == SCHEDULED) == (present.reason == NOT_SKIPPED)
    content = np.where(fits, _content(present.cls, present.reason, present.event), FOREIGN)
    return {
        "present.key": keys[plan],
        "present.content": content[plan],
        "present.row_id": present.row_id[plan],
        "held.dispatched": keys[(present.kind == DISPATCHED) & (keys >= 0)],
        "held.other": keys[(present.kind == OTHER) & (keys >= 0)],
    }


def _content(cls: NDArray[Any], reason: NDArray[Any], event: NDArray[Any]) -> NDArray[np.int64]:
    kinds: NDArray[np.int64] = cls.astype(np.int64) * len(SKIP_REASONS) + reason
    packed: NDArray[np.int64] = kinds * 10_000_000 + event
    return packed


def finish_chunk(task: ChunkTask) -> Finished:
    """Apply section 10 to a planned and balanced chunk and find out what has to change in the file."""
    run, _ = _shared(task.folder)
    path = Path(task.folder) / task.name
    arrays, extra = scratch.load(path)
    rows = Rows(*(arrays[f"rows.{name}"] for name in _ROW_COLUMNS))
    history = History(*(arrays[f"history.{name}"] for name in _HISTORY_COLUMNS))
    rows, dropped = run.finish_chunk(rows, history)
    keys = pack_keys(rows.who, run.classes.type_number[rows.cls], rows.date)
    free, held = without_held(keys, arrays["held.dispatched"], arrays["held.other"])
    if not free.all():
        rows, keys = rows.take(free), keys[free]
    years, months, days = parts(rows.event)
    content = _content(rows.cls, rows.reason, event_number(years, months, days))
    change = difference(keys, content, arrays["present.key"], arrays["present.content"])
    followups = finish_followups(run, arrays, extra)
    contact_id = arrays["people.ids"][rows.who]
    out: dict[str, NDArray[Any]] = {}
    for name, chosen in (("insert", change.insert), ("update", change.update)):
        out[f"{name}.contact_id"] = contact_id[chosen]
        for column in ("cls", "reason", "date", "event"):
            out[f"{name}.{column}"] = getattr(rows, column)[chosen]
    out["update.row_id"] = arrays["present.row_id"][change.updated]
    out["delete"] = np.concatenate([arrays["present.row_id"][change.delete], followups.delete])
    scratch.save(path.with_suffix(".out"), out)
    counts = day_counts((rows.cls * len(SKIP_REASONS) + rows.reason).astype(np.int32))
    goes = rows.reason == NOT_SKIPPED
    volume = np.concatenate([rows.date[goes], np.array(followups.days, np.int32)])
    states = arrays["people.state"][rows.who[goes]].astype(np.int32) * len(run.classes.types)
    states = np.concatenate([states + run.classes.type_number[rows.cls[goes]], np.array(followups.states, np.int32)])
    return Finished(
        planned=len(rows) + followups.planned,
        unchanged=change.unchanged + followups.unchanged,
        dropped=dropped,
        held=held + followups.held,
        counts=counts,
        volume=day_counts(volume),
        followups=followups.insert,
        followup_updates=followups.update,
        followup_counts=followups.counts,
        states=day_counts(states),
        preview=_preview(run, arrays, extra, rows, change, followups) if task.preview else None,
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
    return previews.merge([plain, previews.of_followups(followups, extra["present_followups"])])
