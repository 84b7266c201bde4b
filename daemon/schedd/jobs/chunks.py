"""The two steps of a run that work on one chunk of contacts, in whatever process.

`plan_chunk` reads a chunk and plans it up to load balancing; `finish_chunk` takes the balanced dates, applies
section 10 of the rules and finds out what has to change in the file. Between the two, a chunk's columns lie in
a scratch file. Neither writes to the organization's file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from schedd.engine import contacts as engine_contacts
from schedd.engine.balance import Balance, Movable
from schedd.engine.calendar import NONE, iso, parts
from schedd.engine.configuration import Layer, build
from schedd.engine.contacts import People
from schedd.engine.difference import FOREIGN, difference, pack_keys, without_held
from schedd.engine.followups import FollowUps
from schedd.engine.rows import FOLLOWUP_TYPES, NOT_SKIPPED, SKIP_REASONS, History, Rows
from schedd.engine.run import ChunkInput, Run, day_counts
from schedd.store import campaigns as campaign_store
from schedd.store.connection import open_reader
from schedd.store.contacts import ContactReader, Range
from schedd.store.errors import sqlite_errors
from schedd.store.followups import present_followups
from schedd.store.schedules import DISPATCHED, OTHER, SCHEDULED, SKIPPED, Present, ScheduleReader, history_of
from schedd.store.schema import Schema, read_schema

from . import scratch

_ROW_COLUMNS = tuple(column.name for column in fields(Rows))
_HISTORY_COLUMNS = tuple(column.name for column in fields(History))
_PEOPLE_COLUMNS = ("ids", "state", "birth_day", "effective_day")


class RunInput(msgspec.Struct, frozen=True):
    """What every process of a run needs; lies in the scratch folder as `run`."""

    database: str
    as_of: int
    layers: list[tuple[str, dict[str, Any]]]
    campaign_types: list[dict[str, Any]]
    campaign_instances: list[dict[str, Any]]


class ChunkTask(msgspec.Struct, frozen=True):
    """One chunk: ids `low` to below `high`; its columns go into the scratch file `name`."""

    folder: str
    name: str
    low: int
    high: int | None


class Planned(msgspec.Struct, frozen=True):
    """What `plan_chunk` tells the lead. fixed: ordinal -> rows that load balancing cannot move."""

    contacts: int
    eligible: int
    rows: int
    present: int
    fixed: dict[int, int]


class Finished(msgspec.Struct, frozen=True):
    """What `finish_chunk` tells the lead; the rows to write lie in the scratch file `name` + ".out".

    counts: class * len(SKIP_REASONS) + reason -> rows.   volume: ordinal -> pre-scheduled rows.
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
            schema = read_schema(connection)
            return _plan(run, task, connection, schema)
    finally:
        connection.close()


def _plan(run: Run, task: ChunkTask, connection: Any, schema: Schema) -> Planned:
    chunk, since = Range(task.low, task.high), run.as_of - run.configuration.lookback_days
    carriers = any(instance.carriers is not None for instance in run.instances)
    contacts = ContactReader(connection, schema, carriers).read(chunk)
    people = run.people(contacts)
    reader = ScheduleReader(connection, schema, run.classes, run.configuration.send_time)
    present = reader.read(chunk)
    history = history_of(present, run.classes, people.ids)
    instances = np.array([instance.id for instance in run.instances], np.int64)
    parents, parent_values = campaign_store.read_parents(connection, schema, chunk, people.ids, run.parent_types, since)
    plan = run.plan_chunk(
        ChunkInput(
            contacts=contacts,
            people=people,
            history=history,
            targets=campaign_store.read_targets(connection, schema, chunk, people.ids, instances),
            parents=parents,
            engagement=campaign_store.read_engagement(connection, schema, chunk, people.ids, since),
        )
    )
    issue_contacts, issue_kinds = engine_contacts.issues(contacts)
    arrays: dict[str, NDArray[Any]] = {
        **{f"rows.{name}": getattr(plan.rows, name) for name in _ROW_COLUMNS},
        **{f"history.{name}": getattr(history, name) for name in _HISTORY_COLUMNS},
        **{f"people.{name}": getattr(people, name) for name in _PEOPLE_COLUMNS},
        **_present_arrays(present, people.ids),
        "issues.contact": issue_contacts,
        "issues.kind": issue_kinds,
    }
    old = (present.kind <= SKIPPED) & present.followup
    extra = {
        "followups": _followup_rows(run, people.ids, plan.followups, parents.row_id, parent_values),
        "present_followups": present_followups(connection, schema, present.row_id[old]),
        "followup_days": plan.followups.date[plan.followups.reason == NOT_SKIPPED].tolist(),
    }
    scratch.save(Path(task.folder) / task.name, arrays, extra)
    dispatched = present.date[(present.kind == DISPATCHED) & (present.date != NONE)]
    fixed = day_counts(np.concatenate([dispatched, np.array(extra["followup_days"], np.int32)]))
    return Planned(
        contacts=len(contacts.ids),
        eligible=len(people),
        rows=len(plan.rows) + len(plan.followups),
        present=int((present.kind <= SKIPPED).sum()),
        fixed=fixed,
    )


def _present_arrays(present: Present, people: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """Return the present rows as keys and contents; a key is -1 where no planned row can have it."""
    who = np.searchsorted(people, present.contact_id)
    there = who < len(people)
    there[there] = people[who[there]] == present.contact_id[there]
    there &= (present.type_number >= 0) & (present.date != NONE) & present.plain_date
    keys = np.full(len(present), -1, np.int64)
    keys[there] = pack_keys(who[there], present.type_number[there], present.date[there])
    plan = np.flatnonzero((present.kind <= SKIPPED) & ~present.followup)
    fits = present.regular & (present.cls >= 0) & (present.reason >= 0) & (present.event > 0)
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
    packed: NDArray[np.int64] = kinds * 100_000_000 + event
    return packed


def _followup_rows(
    run: Run,
    people: NDArray[np.int64],
    followups: FollowUps,
    parent_ids: NDArray[np.int64],
    parent_values: list[tuple[Any, ...]],
) -> list[list[Any]]:
    """Return follow-ups as rows for the store, each with what the finishing step needs before it.

    (index of the contact, ordinal of the date, reason number, then the columns of `PlanWriter.insert_followups`)
    """
    years, months, days = parts(followups.event)
    rows = []
    for index in range(len(followups)):
        parent = int(followups.parent[index])
        parent_type, priority, instance = parent_values[parent]
        kind = FOLLOWUP_TYPES[followups.kind[index]]
        reason = int(followups.reason[index])
        metadata = {"parent_id": int(parent_ids[parent]), "parent_type": parent_type}
        rows.append(
            [
                int(followups.who[index]),
                int(followups.date[index]),
                reason,
                int(people[followups.who[index]]),
                kind,
                iso(int(followups.date[index])),
                "skipped" if reason else "pre-scheduled",
                SKIP_REASONS[reason] or None,
                priority,
                instance,
                run.configuration.template(kind),
                None,
                int(years[index]),
                int(months[index]),
                int(days[index]),
                msgspec.json.encode(metadata).decode(),
            ]
        )
    return rows


def balance_chunks(
    run: Run,
    files: Sequence[Path],
    contacts: int,
    fixed: Iterable[dict[int, int]],
    outside: Iterable[int],
    check: Callable[[], None],
) -> None:
    """Apply section 9 to all planned chunks together and put the new dates into their scratch files.

    fixed: of each chunk, ordinal -> rows that cannot move.   outside: the days of such rows of no chunk.
    """
    chunks = [scratch.load(file)[0] for file in files]
    movable = [np.flatnonzero(chunk["rows.reason"] == NOT_SKIPPED) for chunk in chunks]
    offsets = np.cumsum([0] + [len(chunk["people.ids"]) for chunk in chunks])

    def people(name: str) -> NDArray[Any]:
        return np.concatenate([chunk[f"people.{name}"] for chunk in chunks])

    def column(name: str) -> NDArray[Any]:
        parts = [chunk[f"rows.{name}"][chosen] for chunk, chosen in zip(chunks, movable, strict=True)]
        if name == "who":
            parts = [part + np.int32(offset) for part, offset in zip(parts, offsets[:-1], strict=True)]
        return np.concatenate(parts)

    # What section 9 does not look at is left empty.
    everybody = People(
        ids=people("ids"),
        state=people("state"),
        birth_day=people("birth_day"),
        effective_day=people("effective_day"),
        effective_year=np.zeros(0, np.int16),
        failed_underwriting=np.zeros(0, np.bool_),
        carrier=np.zeros(0, np.int32),
    )
    rows = Movable(column("who"), column("cls"), column("date"), column("event"), column("latest"))
    counts: dict[int, int] = {}
    for day, number in (*(item for part in fixed for item in part.items()), *((day, 1) for day in outside)):
        counts[day] = counts.get(day, 0) + number
    window = run.configuration.smoothing_window_days
    limits = run.configuration.limits(contacts)
    balance = Balance(run.as_of, limits, window, run.windows, run.classes, everybody, rows)
    balance.smooth()
    check()
    balance.cap(counts)
    start = 0
    for chunk, chosen in zip(chunks, movable, strict=True):
        chunk["rows.date"][chosen] = rows.date[start : start + len(chosen)]
        start += len(chosen)


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
    content = _content(rows.cls, rows.reason, years * 10_000 + months * 100 + days)
    change = difference(keys, content, arrays["present.key"], arrays["present.content"])
    followups = _finish_followups(run, arrays, extra)
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
    volume = np.concatenate([rows.date[rows.reason == NOT_SKIPPED], np.array(followups.days, np.int32)])
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
    )


class _FollowUpChange(msgspec.Struct):
    insert: list[list[Any]]
    update: list[tuple[int, list[Any]]]
    delete: NDArray[np.int64]
    counts: list[tuple[str, int, int]]
    days: list[int]
    planned: int = 0
    unchanged: int = 0
    held: int = 0


def _finish_followups(run: Run, arrays: dict[str, NDArray[Any]], extra: dict[str, Any]) -> _FollowUpChange:
    """Compare planned follow-ups, few and with columns of their own, with the present ones row by row."""
    number = {name: index for index, name in enumerate(run.classes.types)}
    dispatched = set(arrays["held.dispatched"].tolist())
    others = set(arrays["held.other"].tolist())
    present = {tuple(row[1:4]): (row[0], row[4:]) for row in extra["present_followups"]}
    change = _FollowUpChange([], [], np.zeros(0, np.int64), [], [])
    counts: dict[tuple[str, int], int] = {}
    for who, day, reason, *row in extra["followups"]:
        [key] = pack_keys(np.array([who]), np.array([number[row[1]]]), np.array([day])).tolist()
        if key in others or key in dispatched:
            change.held += key in others
            continue
        counts[row[1], reason] = counts.get((row[1], reason), 0) + 1
        change.planned += 1
        if not reason:
            change.days.append(day)
        old = present.pop((row[0], row[1], row[2]), None)
        if old is None:
            change.insert.append(row)
        elif old[1] == [run.configuration.send_time, *row[3:]]:
            change.unchanged += 1
        else:
            change.update.append((old[0], row))
    change.delete = np.array([row_id for row_id, _ in present.values()], np.int64)
    change.counts = [(kind, reason, count) for (kind, reason), count in counts.items()]
    return change
