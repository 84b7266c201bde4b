"""Campaigns, targets and engagement out of an organization's file (rules, sections 7 and 8).

Missing tables and columns mean that the feature is not used (docs/DATABASE.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import apsw
import numpy as np
from numpy.typing import NDArray

from schedd.engine.calendar import NONE, iso
from schedd.engine.campaigns import WAITING, Targets
from schedd.engine.contacts import date_of, text_of
from schedd.engine.followups import Engagement, Parents, says_yes
from schedd.engine.values import integer_of

from .contacts import Range
from .schema import PLAN, READ_TABLES, Schema

Row = dict[str, Any]


def campaign_tables(connection: apsw.Connection, schema: Schema) -> tuple[list[Row], list[Row]]:
    """Return the rows of `campaign_types` and `campaign_instances` as dictionaries of the columns there are."""
    tables: list[list[Row]] = []
    for table, needed in (("campaign_types", ["name"]), ("campaign_instances", ["id", "campaign_type"])):
        if not schema.has(table, *needed):
            tables.append([])
            continue
        columns = [c for c in READ_TABLES[table] if c in schema.columns[table] and c != "metadata"]
        rows = connection.execute(f"SELECT {', '.join(columns)} FROM {table} ORDER BY rowid").fetchall()
        tables.append([dict(zip(columns, row, strict=True)) for row in rows])
    types, instances = tables
    return types, [row for row in instances if isinstance(row["id"], int)]


def _places(ids: NDArray[np.int64], wanted: Sequence[Any]) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Return the index of each wanted contact in `ids` (ascending), and which are there."""
    contact = np.array(wanted, np.int64)
    place = np.searchsorted(ids, contact).astype(np.int32)
    there = place < len(ids)
    there[there] = ids[place[there]] == contact[there]
    return place, there


def no_targets() -> Targets:
    """Return the targets of a file without campaigns."""
    empty = np.zeros(0, np.int32)
    return Targets(empty, empty, empty, np.zeros(0, np.bool_))


def read_targets(
    connection: apsw.Connection,
    schema: Schema,
    chunk: Range,
    people: NDArray[np.int64],
    instances: NDArray[np.int64],
) -> Targets:
    """Return the rows of `contact_campaigns` of a chunk's eligible contacts for the active instances."""
    columns = schema.columns.get("contact_campaigns", frozenset())
    if not len(instances) or not {"contact_id", "campaign_instance_id"} <= columns:
        return no_targets()
    trigger = "trigger_date" if "trigger_date" in columns else "NULL"
    status = "status" if "status" in columns else "NULL"
    rows = connection.execute(
        f"SELECT contact_id, campaign_instance_id, {trigger}, coalesce({status}, 'pending') "
        f"FROM contact_campaigns WHERE {chunk.where('contact_id')} "
        "AND typeof(contact_id) = 'integer' AND typeof(campaign_instance_id) = 'integer' ORDER BY rowid"
    ).fetchall()
    if not rows:
        return no_targets()
    who, there = _places(people, [row[0] for row in rows])
    instance, active = _places(instances, [row[1] for row in rows])
    chosen = np.flatnonzero(there & active)
    days: dict[Any, int] = {}
    for index in chosen.tolist():
        value = rows[index][2]
        if value not in days:
            days[value] = date_of(value)[0]
    return Targets(
        who=who[chosen],
        instance=instance[chosen],
        trigger=np.array([days[rows[i][2]] for i in chosen.tolist()], np.int32),
        waiting=np.array([rows[i][3] in WAITING for i in chosen.tolist()], np.bool_),
    )


def unreadable_triggers(
    connection: apsw.Connection, schema: Schema, spread: Sequence[int], active: Sequence[int]
) -> int:
    """Return how many targets of active instances are ignored because their trigger date cannot be read."""
    columns = schema.columns.get("contact_campaigns", frozenset())
    if not active or not {"contact_id", "campaign_instance_id"} <= columns:
        return 0
    wanted = set(active) - set(spread)
    if "trigger_date" not in columns:
        rows = connection.execute("SELECT campaign_instance_id, count(*) FROM contact_campaigns GROUP BY 1")
        return sum(count for instance, count in rows if instance in wanted)
    rows = connection.execute(
        "SELECT campaign_instance_id, trigger_date, count(*) FROM contact_campaigns "
        "WHERE trigger_date IS NULL OR trigger_date NOT GLOB "
        "'[0-9][0-9][0-9][0-9]-[0-1][0-9]-[0-2][0-9]' GROUP BY 1, 2"
    )
    return sum(count for instance, day, count in rows if instance in wanted and date_of(day)[0] == NONE)


def read_parents(
    connection: apsw.Connection,
    schema: Schema,
    row_ids: NDArray[np.int64],
    people: NDArray[np.int64],
    types: Sequence[str],
) -> tuple[Parents, list[tuple[Any, ...]]]:
    """Return the rows with these ids that may have a follow-up, and of each (email_type, priority, instance id)."""
    rows: list[tuple[Any, ...]] = []
    if types and len(row_ids):
        columns = schema.columns[PLAN]
        actual, priority, instance = (
            f"s.{name}" if name in columns else "NULL"
            for name in ("actual_send_datetime", "priority", "campaign_instance_id")
        )
        rows = connection.execute(
            f"SELECT s.id, s.contact_id, {actual}, s.scheduled_send_date, s.email_type, {priority}, {instance} "
            f"FROM carray(?) AS wanted CROSS JOIN {PLAN} s ON s.id = wanted.value",
            (apsw.carray(np.ascontiguousarray(row_ids)),),
        ).fetchall()
        known = set(types)
        rows = [row for row in rows if row[4] in known and isinstance(row[1], int)]
    who, there = _places(people, [row[1] for row in rows])
    chosen = np.flatnonzero(there).tolist()
    sent = []
    for index in chosen:
        day = date_of(rows[index][2])[0]
        sent.append(date_of(rows[index][3])[0] if day == NONE else day)
    parents = Parents(
        who=who[chosen] if chosen else np.zeros(0, np.int32),
        row_id=np.array([rows[i][0] for i in chosen], np.int64),
        sent=np.array(sent, np.int32),
    )
    # A priority that is none counts as absent, like everywhere (docs/DATABASE.md, "Defaults").
    return parents, [(rows[i][4], integer_of(rows[i][5], 10), rows[i][6]) for i in chosen]


def read_engagement(
    connection: apsw.Connection, schema: Schema, chunk: Range, people: NDArray[np.int64], since: int
) -> Engagement:
    """Return clicks and answered eligibility questions of a chunk's eligible contacts since a day."""
    clicks: list[tuple[Any, ...]] = []
    answers: list[tuple[Any, ...]] = []
    where = f"{chunk.where('contact_id')} AND typeof(contact_id) = 'integer'"
    if schema.has("tracking_clicks", "contact_id", "clicked_at"):
        clicks = connection.execute(
            f"SELECT contact_id, clicked_at FROM tracking_clicks WHERE {where} AND clicked_at >= ?", (iso(since),)
        ).fetchall()
    if schema.has("contact_events", "contact_id", "event_type", "created_at"):
        metadata = "metadata" if schema.has("contact_events", "metadata") else "NULL"
        answers = connection.execute(
            f"SELECT contact_id, created_at, {metadata} FROM contact_events "
            f"WHERE {where} AND event_type = 'eligibility_answered' AND created_at >= ?",
            (iso(since),),
        ).fetchall()
    click_who, click_there = _places(people, [row[0] for row in clicks])
    answer_who, answer_there = _places(people, [row[0] for row in answers])
    return Engagement(
        click_who=click_who[click_there],
        click_day=np.array([date_of(row[1])[0] for row in clicks], np.int32)[click_there],
        answer_who=answer_who[answer_there],
        answer_day=np.array([date_of(text_of(row[1]))[0] for row in answers], np.int32)[answer_there],
        answer_yes=np.array([says_yes(row[2]) for row in answers], np.bool_)[answer_there],
    )
