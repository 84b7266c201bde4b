"""The schema of a file: what a run refuses, unique indexes next to the plan's key, triggers, surplus plan rows."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import apsw

from schedd.engine.configuration import PLAN_STATUSES
from schedd.store import schema as schema_module
from schedd.store.odd_values import OddValues
from schedd.store.schema import OWN_TABLES, PLAN, PLAN_COLUMNS, PLAN_KEY, Schema
from schedproto import SchedulerError
from schedproto.checks import CheckFinding

from .codes import CODES
from .context import finding, plural

#: Rows of the present plan, as SQL.
PLANNED = "status COLLATE BINARY IN (" + ", ".join(f"'{status}'" for status in PLAN_STATUSES) + ")"
_KEY = ", ".join(f"{name} COLLATE BINARY" for name in PLAN_KEY)
_KEYED = " AND ".join(f"{name} IS NOT NULL" for name in PLAN_KEY)
#: Planned rows that are not the first with their key, or whose key a row of the sender has.
SURPLUS = (
    f"id IN (SELECT id FROM (SELECT id, {PLANNED} AS planned, "
    f"row_number() OVER (PARTITION BY {_KEY} ORDER BY {PLANNED}, id) AS place FROM {PLAN} WHERE {_KEYED}) "
    "WHERE planned AND place > 1)"
)


@dataclass(frozen=True)
class UniqueIndex:
    """A unique index of the plan that can refuse rows of a plan. sql: None where a constraint made it."""

    name: str
    columns: tuple[str, ...]
    sql: str | None


def refusals(connection: apsw.Connection, schema: Schema, path: Path) -> Iterator[CheckFinding]:
    """Yield what a run would refuse the file for before it reads a contact."""
    checks: tuple[Callable[[], None], ...] = (lambda: schema_module.check_contacts(connection, schema, str(path)),)
    for check in checks:
        try:
            check()
        except SchedulerError as error:
            yield refused(error)


def refused(error: SchedulerError) -> CheckFinding:
    """Return the finding for what a run is refused with."""
    code = str(error.code) if str(error.code) in CODES else "foreign_schema"
    details = error.details
    return finding(
        code,
        f"A run refuses the file: {error.message}.",
        fix=error.hint,
        table=details.get("table", ""),
        column=details.get("column", ""),
        name=details.get("trigger", details.get("constraint", "")),
    )


def can_read_contacts(connection: apsw.Connection, schema: Schema, path: Path) -> bool:
    """Return whether contacts can be read at all."""
    try:
        schema_module.check_contacts(connection, schema, str(path))
    except SchedulerError:
        return False
    return True


def unique_indexes(connection: apsw.Connection) -> list[UniqueIndex]:
    """Return the unique indexes of the plan, other than its key, that rows of a plan can violate."""
    columns = {
        str(name): default
        for name, default in connection.execute("SELECT lower(name), dflt_value FROM pragma_table_xinfo(?)", (PLAN,))
    }
    listed = connection.execute(
        "SELECT l.name, l.partial, s.sql FROM pragma_index_list(?, 'main') l LEFT JOIN main.sqlite_schema s "
        "ON s.name = l.name WHERE l.\"unique\" AND l.origin <> 'pk' ORDER BY 1",
        (PLAN,),
    ).fetchall()
    found = []
    for name, partial, sql in listed:
        rows = connection.execute(
            "SELECT CASE WHEN cid >= 0 THEN lower(name) END FROM pragma_index_xinfo(?, 'main') "
            "WHERE key ORDER BY seqno",
            (name,),
        )
        parts = [part for (part,) in rows]
        if partial and sql is not None and not _concerns_plan(connection, str(sql)):
            continue
        if _can_refuse(parts, columns):
            shown = tuple("an expression" if part is None else str(part) for part in parts)
            found.append(UniqueIndex(str(name), shown, None if sql is None else str(sql)))
    return found


def _can_refuse(parts: list[str | None], columns: dict[str, str | None]) -> bool:
    """Return whether two rows of one plan, or one of it and one of the sender, can have the same values."""
    if {*PLAN_KEY} <= {*parts} or "id" in parts:
        return False
    # NULL equals nothing: a column that the scheduler leaves NULL keeps all its rows apart.
    return not any(part is not None and part not in PLAN_COLUMNS and columns.get(part) is None for part in parts)


def _concerns_plan(connection: apsw.Connection, sql: str) -> bool:
    """Return whether a partial index can have rows of a plan: unless its condition, on the status alone, forbids it."""
    condition = sql[sql.lower().rindex("where") + len("where") :]
    names = {str(name) for (name,) in connection.execute("SELECT lower(name) FROM pragma_table_xinfo(?)", (PLAN,))}
    if set(re.findall(r"\w+", condition.lower())) & names != {"status"}:
        return True
    scratch = apsw.Connection(":memory:")
    try:
        scratch.execute("CREATE TABLE plan(status)")
        scratch.executemany("INSERT INTO plan VALUES (?)", [(status,) for status in PLAN_STATUSES])
        return bool(scratch.execute(f"SELECT count(*) FROM plan WHERE {condition}").get)
    except apsw.Error:
        return True
    finally:
        scratch.close()


def triggers(connection: apsw.Connection) -> list[tuple[str, str]]:
    """Return (table, trigger) of the tables that a run writes."""
    written = ", ".join(f"'{name}'" for name in (PLAN, *OWN_TABLES))
    rows = connection.execute(
        "SELECT lower(tbl_name), name FROM main.sqlite_schema WHERE type = 'trigger' "
        f"AND lower(tbl_name) IN ({written}) ORDER BY 1, 2"
    )
    return [(str(table), str(name)) for table, name in rows]


def plan_findings(connection: apsw.Connection, schema: Schema) -> Iterator[CheckFinding]:
    """Yield what is to be known of the plan's own table."""
    if PLAN not in schema.columns:
        return
    if schema.has(PLAN, *PLAN_KEY, "id", "status"):
        count = int(connection.execute(f"SELECT count(*) FROM {PLAN} WHERE {SURPLUS}").get)
        if count:
            yield finding(
                "duplicate_plan_rows",
                f"{plural(count, 'planned row')} of {PLAN} {'has' if count == 1 else 'have'} the key of another row.",
                table=PLAN,
                count=count,
                examples=[
                    (row_id, f"contact {c}, {t}, {d}")
                    for row_id, c, t, d in OddValues(connection).rows(
                        f"{PLAN} WHERE {SURPLUS} ORDER BY id LIMIT 5", ["id", *PLAN_KEY]
                    )
                ],
            )
        yield from _duplicate_keys(connection)
    for index in unique_indexes(connection):
        yield finding(
            "unique_constraint" if index.sql is None else "unique_index",
            f"The unique index {index.name} of {PLAN} on ({', '.join(index.columns)}) can refuse rows of a plan.",
            table=PLAN,
            column=", ".join(index.columns),
            name=index.name,
            count=1,
        )
    for table, name in triggers(connection):
        yield finding(
            "trigger",
            f"The trigger {name} of {table} runs for rows that the scheduler writes.",
            table=table,
            name=name,
            count=1,
        )
    yield from _incomplete(connection, schema)


def _duplicate_keys(connection: apsw.Connection) -> Iterator[CheckFinding]:
    """Yield rows of the sender that have the key of another one; nobody but a person can say which is right."""
    if has_key(connection):
        return
    keys = (
        f"(SELECT min(id) AS id, {', '.join(PLAN_KEY)}, count(*) AS rows FROM {PLAN} "
        f"WHERE {_KEYED} AND (status IS NULL OR NOT {PLANNED}) GROUP BY {_KEY} HAVING count(*) > 1)"
    )
    [(rows, count)] = connection.execute(f"SELECT total(rows), count(*) FROM {keys}")
    if count:
        examples = OddValues(connection).rows(f"{keys} ORDER BY id LIMIT 5", ["id", *PLAN_KEY])
        yield finding(
            "duplicate_keys",
            f"{int(rows):,} rows of the sender have {'one key' if count == 1 else f'{int(count):,} keys'} "
            f"({', '.join(PLAN_KEY)}), so a run refuses the file.",
            table=PLAN,
            column=", ".join(PLAN_KEY),
            count=int(rows),
            counts={"keys": int(count)},
            examples=[(row_id, f"contact {c}, {t}, {d}") for row_id, c, t, d in examples],
        )


def _incomplete(connection: apsw.Connection, schema: Schema) -> Iterator[CheckFinding]:
    missing = [name for name in PLAN_COLUMNS if name not in schema.columns[PLAN] and name != "id"]
    if missing:
        yield finding(
            "plan_incomplete",
            f"{PLAN} lacks the {'columns' if len(missing) > 1 else 'column'} {', '.join(missing)}.",
            table=PLAN,
            column=", ".join(missing),
            name="columns",
            count=len(missing),
        )
    if not has_key(connection):
        yield finding(
            "plan_incomplete",
            f"{PLAN} has no unique index on ({', '.join(PLAN_KEY)}).",
            table=PLAN,
            column=", ".join(PLAN_KEY),
            name="unique index",
            count=1,
        )


def has_key(connection: apsw.Connection) -> bool:
    """Return whether the plan has its unique index."""
    rows = connection.execute(
        "SELECT name FROM pragma_index_list(?, 'main') WHERE \"unique\" AND NOT partial", (PLAN,)
    ).fetchall()
    return any(
        [
            str(column)
            for (column,) in connection.execute(
                "SELECT lower(name) FROM pragma_index_xinfo(?, 'main') WHERE key ORDER BY seqno", (name,)
            )
        ]
        == list(PLAN_KEY)
        for (name,) in rows
    )
