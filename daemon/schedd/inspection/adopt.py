"""The adoption of an organization's file.

The configuration that follows from a check, and the plan's own table.

Everything is one transaction, after a backup. Rows of the sender and tables of the application are
never changed.
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
from .report import Settings, inspect
from .tables import PLANNED, SURPLUS, UniqueIndex, surplus_rows, unique_indexes

#: Errors that an adoption removes.
_SOLVED = {"unique_index"}


@dataclass(frozen=True)
class Adopter:
    """What an adoption is asked for.

    defaults: the daemon's configuration file.   accept_statuses: contact statuses that become
    active.
    now: the time.
    """

    path: Path
    organization: str
    defaults: Layer
    accept_statuses: Sequence[str]
    now: Callable[[], dt.datetime]

    def plan(self) -> Adoption:
        """Return what would be done; changes nothing.

        Blocks as long as a check; raises `SchedulerError`.
        """
        connection = open_reader(self.path)
        try:
            with sqlite_errors(self.path):
                connection.execute("BEGIN")
                return self._planned(connection)
        finally:
            connection.close()

    def apply(self, digest: str, toml: str, created_by: str, backups: Backups | None) -> Adoption:
        """Do what an adoption with this digest said, and return it. Raises `SchedulerError`.

        toml: its configuration as text.   backups: None where none are kept.
        """
        with self._writing() as (connection, descriptor):
            adoption = self._planned(connection)
            if not (adoption.changes or adoption.settings):
                return adoption
            if adoption.digest != digest:
                raise SchedulerError(
                    ErrorCode.PLAN_DIFFERS,
                    f"the changes for adopting {self.organization} differ from those shown",
                    hint="The file or its configuration changed in the meantime. Review the changes again. "
                    "Nothing was changed.",
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
        report = inspect(
            connection,
            schema,
            self.path,
            self.organization,
            settings,
            None,
            self.accept_statuses,
            self.now,
        )
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
        """Open the file in a transaction, and for reading as it is before.

        Rolls back what is not committed.
        """
        # Closing a descriptor drops SQLite's locks (POSIX), so it is opened before and closed after
        # the connection.
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
                            hint="Retry when the other program has ended its transaction. Nothing was changed.",
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
        """Make the changes, inside the transaction.

        Returns the version of the configuration, if one is stored.
        """
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
        hint="Check the triggers and constraints of the table; `schedctl check` lists them. Nothing was changed.",
    )


def _is_left(item: CheckFinding) -> bool:
    """Return whether a finding remains for people to decide."""
    if item.settings or item.code in _SOLVED:
        return False
    return item.severity == ERROR or item.code == "suppressed_status"


def _sent_rows(connection: apsw.Connection) -> tuple[Any, ...] | None:
    """Return what shows that rows of the sender are as they were; None where there can be none."""
    schema = read_schema(connection)
    if not schema.has(PLAN, *PLAN_KEY, "id", "status"):
        return None
    foreign = f"(status IS NULL OR NOT {PLANNED})"
    parts = ", ".join(f"total(length(CAST({name} AS BLOB)))" for name in (*PLAN_KEY, "status"))
    row = connection.execute(
        f"SELECT count(*), total(id), {parts} FROM {PLAN} WHERE {foreign}"
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
    scratch = apsw.Connection(":memory:")
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
                message=f"remove {plural(count, 'planned row')} with the same key as another row; no rows of the "
                "sender",
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
    return TableChange(
        table=PLAN,
        message=f"drop the unique index {index.name} on ({', '.join(index.columns)}), which rows of a plan can "
        f"violate: {' '.join((index.sql or '').split())}",
        sql=f"DROP INDEX main.{quoted(index.name)}",
    )
