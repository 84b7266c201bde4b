"""The adoption of an organization's file.

It stores the configuration that a check suggests, and repairs the plan's table. All of it is one
transaction, after a backup. Rows of the sender and tables of the application are never changed.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw
import msgspec

from schedd.backups.backups import Backups
from schedd.engine.configuration import ConfigurationError, Layer, parse_toml
from schedd.store import foreign, maintenance
from schedd.store import schema as schema_module
from schedd.store.configurations import invalid, store_version
from schedd.store.connection import open_reader, open_writer
from schedd.store.errors import sqlite_errors
from schedd.store.limits import connect
from schedd.store.runs import applicable_configuration
from schedd.store.schema import (
    OWN_TABLES,
    PLAN,
    PLAN_COLUMNS,
    PLAN_KEY,
    SENDER_INDEX_COLUMNS,
    Schema,
    read_schema,
    table_columns,
)
from schedd.store.tables import quoted, read_table
from schedproto import ErrorCode, Mode, SchedulerError
from schedproto.checks import ERROR, Adoption, CheckFinding, TableChange

from .context import plural
from .report import CheckRequest, Settings, inspect
from .tables import PLANNED, SURPLUS, UniqueIndex, surplus_rows, unique_indexes

#: Errors that an adoption removes.
_SOLVED = {"unique_index"}


@dataclass(frozen=True)
class Adopter:
    """A requested adoption.

    defaults: the daemon's configuration file.   accept_statuses: contact statuses that become
    active.   now: returns the time.

    Example:

        adopter = Adopter(path, "org-123", defaults, [], utc_now)
        adoption = adopter.plan()
        adopter.apply(adoption.digest, toml_of(adoption.settings), "ann", backups)
    """

    path: Path
    organization: str
    defaults: Layer
    accept_statuses: Sequence[str]
    now: Callable[[], dt.datetime]

    def plan(self) -> Adoption:
        """Return the changes of the adoption, without making them.

        Blocks as long as a check. Raises `SchedulerError`.
        """
        connection = open_reader(self.path)
        try:
            with sqlite_errors(self.path):
                connection.execute("BEGIN")
                return self._planned(connection)
        finally:
            connection.close()

    def apply(self, digest: str, toml: str, created_by: str, backups: Backups | None) -> Adoption:
        """Make the changes of the planned adoption with this digest, and return it.

        toml: its configuration as text.   backups: None if none are kept.
        Raises `SchedulerError`, for example `plan_differs`; then nothing was changed.
        """
        with self._writing() as (connection, descriptor):
            adoption = self._planned(connection)
            if not (adoption.changes or adoption.settings):
                return adoption
            if adoption.digest != digest:
                raise SchedulerError(
                    ErrorCode.PLAN_DIFFERS,
                    f"the changes for adopting {self.organization} differ from those shown",
                    hint="The file or its configuration changed in the meantime. Review the "
                    "changes again. Nothing was changed.",
                )
            self._check_text(adoption, toml)
            backup_id = None if backups is None else backups.make(descriptor, "before an adoption")
            sent = _sent_rows(connection)
            version = self._change(connection, adoption, toml, created_by)
            if sent is not None and _sent_rows(connection) != sent:
                raise _refused("a trigger of the application changed rows of the sender")
            connection.execute("COMMIT")
        return msgspec.structs.replace(adoption, applied=True, version=version, backup_id=backup_id)

    # Planning -------------------------------------------------------------------------------------

    def _planned(self, connection: apsw.Connection) -> Adoption:
        schema = read_schema(connection)
        settings = Settings(self.defaults, applicable_configuration(connection, schema), {})
        request = CheckRequest(
            path=self.path,
            organization=self.organization,
            defaults=self.defaults,
            accept_statuses=self.accept_statuses,
            now=self.now,
        )
        report = inspect(connection, schema, request, settings)
        changes = list(_changes(connection, schema))
        before = dict(settings.stored_values)
        found = msgspec.json.encode([report.settings, before, changes], order="deterministic")
        return Adoption(
            organization=self.organization,
            settings=report.settings if report.settings != before else {},
            settings_before=before,
            changes=changes,
            left=[item for item in report.findings if _is_left(item)],
            digest=hashlib.blake2b(found, digest_size=16).hexdigest(),
        )

    def _check_text(self, adoption: Adoption, toml: str) -> None:
        try:
            values = parse_toml(toml, "the new version").values
        except ConfigurationError as error:
            raise invalid(error) from None
        if values != adoption.settings:
            raise SchedulerError(
                ErrorCode.INVALID_ARGUMENT,
                "the text of the new version is not the configuration of the adoption",
                hint="Use the text of its `settings`.",
            )

    # Changing -------------------------------------------------------------------------------------

    @contextmanager
    def _writing(self) -> Iterator[tuple[apsw.Connection, int]]:
        """Open a transaction, and a descriptor that reads the file as it is before it.

        Rolls back unless the block commits.
        """
        # Closing a descriptor drops SQLite's locks (POSIX), so it is closed after the connection.
        descriptor = -1
        try:
            connection = open_writer(self.path, Mode.RELIABLE)
            try:
                descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
                with sqlite_errors(self.path):
                    maintenance.empty_log(connection)
                    connection.execute("BEGIN IMMEDIATE")
                    if not maintenance.log_is_empty(self.path):
                        raise SchedulerError(
                            ErrorCode.DATABASE_LOCKED,
                            f"{self.path.name} is being read by another program and cannot be "
                            "backed up now",
                            hint="Retry when the other program has ended its transaction. "
                            "Nothing was changed.",
                        )
                    yield connection, descriptor
            finally:
                connection.close()
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    def _change(
        self, connection: apsw.Connection, adoption: Adoption, toml: str, created_by: str
    ) -> int | None:
        """Make the changes, inside the transaction; returns the new version, if one is stored."""
        try:
            with foreign.explained(connection):
                for change in adoption.changes:
                    if change.sql:
                        connection.execute(change.sql)
                schema_module.complete(connection, read_schema(connection))
                schema_module.complete_key(connection)
            if not adoption.settings:
                return None
            now = self.now().strftime("%Y-%m-%d %H:%M:%S")
            return store_version(connection, toml, created_by, now)
        except (apsw.ConstraintError, apsw.SQLError) as error:
            raise _refused(str(error)) from None


def _refused(reason: str) -> SchedulerError:
    return SchedulerError(
        ErrorCode.FOREIGN_SCHEMA,
        f"the tables of the file reject the changes: {reason}",
        hint="Check the triggers and constraints of the table; `schedctl check` lists them. "
        "Nothing was changed.",
    )


def _is_left(item: CheckFinding) -> bool:
    """Return whether a finding is left to a person."""
    if item.settings or item.code in _SOLVED:
        return False
    return item.severity == ERROR or item.code == "suppressed_status"


def _sent_rows(connection: apsw.Connection) -> tuple[Any, ...] | None:
    """Return sums that change with rows of the sender; None if the file cannot have any."""
    schema = read_schema(connection)
    if not schema.has(PLAN, *PLAN_KEY, "id", "status"):
        return None
    of_sender = f"(status IS NULL OR NOT {PLANNED})"
    parts = ", ".join(f"total(length(CAST({name} AS BLOB)))" for name in (*PLAN_KEY, "status"))
    row = connection.execute(
        f"SELECT count(*), total(id), {parts} FROM {PLAN} WHERE {of_sender}"
    ).fetchone()
    return tuple(row or ())


def _changes(connection: apsw.Connection, schema: Schema) -> Iterator[TableChange]:
    """Yield the changes to the scheduler's own tables, in the order in which they are made."""
    if PLAN not in schema.columns:
        yield TableChange(table=PLAN, message=f"create the table {PLAN} with its indexes")
    else:
        yield from _plan_changes(connection, schema)
    for name in OWN_TABLES:
        if name not in schema.columns:
            yield TableChange(table=name, message=f"create the scheduler's table {name}")
        elif missing := sorted(_own_columns(name) - schema.columns[name]):
            yield TableChange(table=name, message=f"add to {name}: {', '.join(missing)}")


def _own_columns(name: str) -> frozenset[str]:
    scratch = connect(":memory:")
    scratch.execute(OWN_TABLES[name])
    columns = table_columns(scratch, name)
    scratch.close()
    return columns


def _plan_changes(connection: apsw.Connection, schema: Schema) -> Iterator[TableChange]:
    if schema.has(PLAN, *PLAN_KEY, "id", "status"):
        count = surplus_rows(connection)
        if count:
            yield TableChange(
                table=PLAN,
                message=f"remove {plural(count, 'planned row')} with the same key as another row; "
                "no rows of the sender",
                sql=f"DELETE FROM {PLAN} WHERE {SURPLUS}",
                rows=count,
            )
    for index in unique_indexes(connection):
        if index.sql is not None:
            yield _dropped(index)
    missing = [name for name in PLAN_COLUMNS if name not in schema.columns[PLAN] and name != "id"]
    if missing:
        yield TableChange(table=PLAN, message=f"add to {PLAN}: {', '.join(missing)}")
    plan = read_table(connection, PLAN)
    if not schema_module.has_key(plan):
        yield TableChange(
            table=PLAN, message=f"create the unique index on {PLAN}({', '.join(PLAN_KEY)})"
        )
    if plan is None or not any(index.is_on(SENDER_INDEX_COLUMNS) for index in plan.indexes):
        yield TableChange(
            table=PLAN, message=f"create the index on {PLAN}({', '.join(SENDER_INDEX_COLUMNS)})"
        )


def _dropped(index: UniqueIndex) -> TableChange:
    columns, sql = ", ".join(index.columns), " ".join((index.sql or "").split())
    return TableChange(
        table=PLAN,
        message=f"drop the unique index {index.name} on ({columns}), which rows of a plan can "
        f"violate: {sql}",
        sql=f"DROP INDEX main.{quoted(index.name)}",
    )
