"""Findings on a file's schema: refusals, unique indexes, triggers, and surplus rows of the plan."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import apsw

from schedd.engine.configuration import PLAN_STATUSES, Configuration
from schedd.store import foreign
from schedd.store import schema as schema_module
from schedd.store.limits import connect
from schedd.store.odd_values import OddValues
from schedd.store.probe import Sample, try_rows
from schedd.store.schema import OWN_TABLES, PLAN, PLAN_COLUMNS, PLAN_KEY, READ_TABLES, Schema
from schedd.store.tables import Table, read_table, texts
from schedproto import SchedulerError, sqlite_files
from schedproto.checks import NOTE, WARNING, CheckFinding

from .codes import CODES
from .context import finding, plural

#: SQL condition of the planned rows.
PLANNED = "status COLLATE BINARY IN (" + ", ".join(f"'{status}'" for status in PLAN_STATUSES) + ")"
_KEY = ", ".join(f"{name} COLLATE BINARY" for name in PLAN_KEY)
_KEYED = " AND ".join(f"{name} IS NOT NULL" for name in PLAN_KEY)
#: SQL condition of planned rows that are not the first with their key; rows of the sender come
#: first. One line, because an adoption shows it.
SURPLUS = (
    "id IN (SELECT id FROM ("
    f"SELECT id, {PLANNED} AS planned, "
    f"row_number() OVER (PARTITION BY {_KEY} ORDER BY {PLANNED}, id) AS rank "
    f"FROM {PLAN} WHERE {_KEYED}) "
    "WHERE planned AND rank > 1)"
)


@dataclass(frozen=True)
class UniqueIndex:
    """A unique index of the plan's table that can reject rows of a plan.

    sql: None if it cannot be dropped by name, because a constraint made it or its name is not text.
    """

    name: str
    columns: tuple[str, ...]
    sql: str | None


def refusals(
    connection: apsw.Connection,
    schema: Schema,
    path: Path,
    configuration: Configuration,
    as_of: int,
) -> Iterator[CheckFinding]:
    """Yield the reasons for which a run would refuse the file, each table on its own."""
    plan = read_table(connection, PLAN)
    checks: list[Callable[[], None]] = [
        lambda: schema_module.check_contacts(connection, schema, str(path)),
        *(
            partial(foreign.check_readable, connection, name, schema)
            for name in READ_TABLES
            if name in schema.columns
        ),
        *([] if plan is None else [partial(foreign.check_plan, connection, plan)]),
        *(partial(foreign.check_own, connection, name) for name in OWN_TABLES),
    ]
    found = [error for check in checks if (error := _error_of(check)) is not None]
    if not found:
        # Rows like those of a run, in a copy of the tables in memory: they meet CHECK constraints
        # and types.
        sample = Sample(as_of, configuration.send_time, "check", "2000-01-01 00:00:00")
        found = [
            error
            for error in [_error_of(partial(try_rows, connection, sample))]
            if error is not None
        ]
    yield from map(refused, found)


def _error_of(check: Callable[[], None]) -> SchedulerError | None:
    try:
        check()
    except SchedulerError as error:
        return error
    return None


def refused(error: SchedulerError) -> CheckFinding:
    """Return the finding for an error that a run would report."""
    code = str(error.code) if str(error.code) in CODES else "foreign_schema"
    details = error.details
    return finding(
        code,
        f"Runs reject the file: {error.message}.",
        fix=error.hint,
        table=details.get("table", ""),
        column=details.get("column", ""),
        name=details.get("trigger", details.get("constraint", "")),
    )


def can_read_contacts(connection: apsw.Connection, schema: Schema, path: Path) -> bool:
    """Return whether a run could read the contacts."""

    def check() -> None:
        schema_module.check_contacts(connection, schema, str(path))
        foreign.check_readable(connection, "contacts", schema)

    return _error_of(check) is None


def unique_indexes(connection: apsw.Connection) -> list[UniqueIndex]:
    """Return the unique indexes that rows of a plan can violate, other than its key."""
    plan = read_table(connection, PLAN)
    if plan is None:
        return []
    # An index may have a name of any bytes.
    rows = texts(
        connection,
        """
        SELECT CAST(name AS BLOB), CAST(sql AS BLOB) FROM main.sqlite_schema
        WHERE type = 'index' AND sql NOT NULL
        """,
    )
    scripts = {str(name): str(sql) for name, sql in rows}
    found = []
    for index in sorted(plan.indexes, key=lambda index: index.name):
        sql = scripts.get(index.name)
        if not index.unique or index.origin == "pk" or not _can_refuse(index.columns, plan):
            continue
        if index.partial and sql is not None and not _concerns_plan(set(plan.columns), sql):
            continue
        columns = tuple("an expression" if name is None else name for name in index.columns)
        is_text = "\ufffd" not in index.name
        found.append(UniqueIndex(index.name, columns, sql if is_text else None))
    return found


def _can_refuse(columns: tuple[str | None, ...], plan: Table) -> bool:
    """Return whether a row of a plan and another row can have the same values in the columns."""
    if {*PLAN_KEY} <= {*columns} or "id" in columns:
        return False
    # NULL equals nothing: rows with a column that the scheduler leaves NULL never conflict.
    others = [
        plan.columns[name] for name in columns if name is not None and name not in PLAN_COLUMNS
    ]
    return not any(column.default is None and not column.generated for column in others)


def _concerns_plan(names: set[str], sql: str) -> bool:
    """Return whether a partial index can contain rows of a plan.

    It cannot if its condition is on the status alone and excludes both statuses of a plan.
    """
    condition = sql[sql.lower().rindex("where") + len("where") :]
    if set(re.findall(r"\w+", condition.lower())) & names != {"status"}:
        return True
    scratch = connect(":memory:")
    try:
        scratch.execute("CREATE TABLE plan(status)")
        scratch.executemany("INSERT INTO plan VALUES (?)", [(status,) for status in PLAN_STATUSES])
        return bool(scratch.execute(f"SELECT count(*) FROM plan WHERE {condition}").get)
    except apsw.Error:
        return True
    finally:
        scratch.close()


#: Matches a trigger that can reject rows, or that changes the plan.
_ACTIVE_TRIGGER = re.compile(
    r"\braise\s*\(|"
    r"\b(?:update(?:\s+or\s+\w+)?|into|delete\s+from)\s+"
    rf"(?:main\s*\.\s*)?[\"'`\[]?{PLAN}\b",
    re.IGNORECASE,
)


def _triggers(connection: apsw.Connection) -> Iterator[CheckFinding]:
    """Yield the triggers of the tables that a run writes."""
    for name in (PLAN, *OWN_TABLES):
        table = read_table(connection, name)
        for trigger, sql in sorted([] if table is None else table.triggers.items()):
            body = re.split(r"\bbegin\b", sql, maxsplit=1, flags=re.IGNORECASE)[-1]
            active = _ACTIVE_TRIGGER.search(body) is not None
            yield finding(
                "trigger",
                f"The trigger {trigger} of {name} runs for rows that the scheduler writes"
                + (f", and can reject them or change rows of {PLAN}." if active else "."),
                severity=WARNING if active else NOTE,
                table=name,
                name=trigger,
                count=1,
            )


def plan_findings(
    connection: apsw.Connection, schema: Schema, *, refused: bool
) -> Iterator[CheckFinding]:
    """Yield the findings on the plan's table. refused: whether a run would refuse the table."""
    if PLAN not in schema.columns:
        return
    yield from _damage(connection)
    if schema.has(PLAN, *PLAN_KEY, "id", "status"):
        count = surplus_rows(connection)
        if count:
            yield finding(
                "duplicate_plan_rows",
                f"{plural(count, 'planned row')} of {PLAN} {'has' if count == 1 else 'have'} the "
                "key of another row.",
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
            f"The unique index {index.name} of {PLAN} on ({', '.join(index.columns)}) can reject "
            "rows of a plan.",
            table=PLAN,
            column=", ".join(index.columns),
            name=index.name,
            count=1,
        )
    yield from _triggers(connection)
    if not refused:
        yield from _incomplete(connection, schema)


def _damage(connection: apsw.Connection) -> Iterator[CheckFinding]:
    """Yield damage of the plan's table and of its indexes, each compared with the table.

    A run does not look for it in large tables: it would take longer than the run.
    """
    try:
        faults = sqlite_files.table_faults(connection, PLAN)
    except apsw.SQLError:  # an index needs a function that only its application has
        return
    if faults:
        yield finding(
            "damaged_index",
            f"SQLite reports damage of {PLAN}: {faults[0]}.",
            table=PLAN,
            count=len(faults),
        )


def surplus_rows(connection: apsw.Connection) -> int:
    """Return the number of planned rows with the key of another row; 0 with a unique index."""
    if schema_module.has_key(read_table(connection, PLAN)):
        return 0
    return int(connection.execute(f"SELECT count(*) FROM {PLAN} WHERE {SURPLUS}").get)


def _duplicate_keys(connection: apsw.Connection) -> Iterator[CheckFinding]:
    """Yield rows of the sender with the key of another one; only a person can decide on them."""
    if schema_module.has_key(read_table(connection, PLAN)):
        return
    named_key = ", ".join(f"{name} COLLATE BINARY AS {name}" for name in PLAN_KEY)
    keys = f"""(
        SELECT min(id) AS id, {named_key}, count(*) AS rows
        FROM {PLAN}
        WHERE {_KEYED} AND (status IS NULL OR NOT {PLANNED})
        GROUP BY {_KEY}
        HAVING count(*) > 1
    )"""
    [(rows, count)] = connection.execute(f"SELECT total(rows), count(*) FROM {keys}")
    if count:
        examples = OddValues(connection).rows(f"{keys} ORDER BY id LIMIT 5", ["id", *PLAN_KEY])
        yield finding(
            "duplicate_keys",
            f"{int(rows):,} rows of the sender have "
            f"{'one key' if count == 1 else f'{int(count):,} keys'} ({', '.join(PLAN_KEY)}), so "
            "runs reject the file.",
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
    if not schema_module.has_key(read_table(connection, PLAN)):
        yield finding(
            "plan_incomplete",
            f"{PLAN} has no unique index on ({', '.join(PLAN_KEY)}).",
            table=PLAN,
            column=", ".join(PLAN_KEY),
            name="unique index",
            count=1,
        )
