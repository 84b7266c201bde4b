"""The versions of an organization's configuration in its file (`scheduler_config`; rules, section 13).

A text that is not understood is never stored; a version is never changed, only withdrawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import apsw

from schedd.engine.configuration import ConfigurationError, Layer, build, parse_toml
from schedd.engine.effective import effective, sources
from schedproto import ConfigurationVersion, ErrorCode, Mode, OrganizationConfiguration, SchedulerError

from .connection import open_reader, open_writer
from .errors import sqlite_errors
from .runs import applicable_configuration
from .schema import OWN_TABLES, add_missing_columns, read_schema

TABLE = "scheduler_config"
_COLUMNS = ("version", "toml", "created_at", "created_by", "withdrawn_at", "withdrawn_by")
#: Longest name of who changes a configuration, and longest text.
_MOST_NAME, _MOST_TEXT = 200, 500_000


def invalid(error: ConfigurationError) -> SchedulerError:
    """Return what a configuration that is not understood is answered with."""
    return SchedulerError(
        ErrorCode.INVALID_CONFIGURATION,
        str(error),
        hint="docs/RULES.md, section 13, lists the keys and what they accept. Nothing was changed.",
    )


def show(path: Path, organization: str, defaults: Layer) -> OrganizationConfiguration:
    """Return what applies and all versions; raises `SchedulerError`. defaults: the daemon's configuration file."""
    with _reading(path) as connection:
        return _described(connection, organization, defaults, None)


def check(path: Path, organization: str, defaults: Layer, toml: str) -> OrganizationConfiguration:
    """Return what a text would make of the configuration, or raise what is wrong with it."""
    with _reading(path) as connection:
        return _described(connection, organization, defaults, _parsed(toml, "the text to check"))


def set_version(
    path: Path, organization: str, defaults: Layer, toml: str, created_by: str, now: str
) -> OrganizationConfiguration:
    """Store a text as the newest version; one that is the applicable version's already makes no new one."""
    layer = _parsed(toml, "the new version")
    _merged([defaults, layer])
    with _writing(path) as connection:
        stored = applicable_configuration(connection, read_schema(connection))
        if stored is None or stored.toml != toml:
            connection.execute(
                f"INSERT INTO {TABLE}(version, toml, created_at, created_by) "
                f"SELECT coalesce(max(CASE WHEN typeof(version) = 'integer' THEN version END), 0) + 1, ?, ?, ? "
                f"FROM {TABLE}",
                (toml, now, created_by[:_MOST_NAME]),
            )
        return _described(connection, organization, defaults, None)


def withdraw(
    path: Path, organization: str, defaults: Layer, version: int, withdrawn_by: str, now: str
) -> OrganizationConfiguration:
    """Withdraw a version; who withdrew it first stays noted."""
    with _writing(path) as connection:
        known = [entry.version for entry in _versions(connection)]
        if version not in known:
            raise SchedulerError(
                ErrorCode.INVALID_ARGUMENT,
                f"{organization} has no version {version} of its configuration",
                hint=f"There are: {', '.join(map(str, known))}." if known else "It has none at all.",
            )
        connection.execute(
            f"UPDATE {TABLE} SET withdrawn_at = ?, withdrawn_by = ? WHERE version = ? AND withdrawn_at IS NULL",
            (now, withdrawn_by[:_MOST_NAME], version),
        )
        return _described(connection, organization, defaults, None)


@contextmanager
def _reading(path: Path) -> Iterator[apsw.Connection]:
    connection = open_reader(path)
    try:
        with sqlite_errors(path):
            connection.execute("BEGIN")
            yield connection
    finally:
        connection.close()


@contextmanager
def _writing(path: Path) -> Iterator[apsw.Connection]:
    """Open the file in a transaction of its own, with the table there and complete."""
    connection = open_writer(path, Mode.RELIABLE)
    try:
        with sqlite_errors(path):
            connection.execute("BEGIN IMMEDIATE")
            present = read_schema(connection)
            if TABLE not in present.columns:
                connection.execute(OWN_TABLES[TABLE])
            else:
                add_missing_columns(connection, TABLE, present.columns[TABLE])
            yield connection
            connection.execute("COMMIT")
    finally:
        # Closing rolls back what was not committed.
        connection.close()


def _parsed(toml: str, place: str) -> Layer:
    if len(toml) > _MOST_TEXT:
        raise SchedulerError(
            ErrorCode.INVALID_ARGUMENT, f"{place} has {len(toml):,} characters", hint=f"At most {_MOST_TEXT:,}."
        )
    try:
        return parse_toml(toml, place)
    except ConfigurationError as error:
        raise invalid(error) from None


def _merged(layers: Sequence[Layer]) -> OrganizationConfiguration:
    try:
        configuration = build(*layers)
    except ConfigurationError as error:
        raise invalid(error) from None
    return OrganizationConfiguration(organization="", effective=effective(configuration), sources=sources(layers))


def _described(
    connection: apsw.Connection, organization: str, defaults: Layer, instead: Layer | None
) -> OrganizationConfiguration:
    """Return the configuration with the applicable version, or with another layer in its place.

    A stored version that is not understood (any more) is told in `error`: it must still be possible to withdraw it.
    """
    stored = applicable_configuration(connection, read_schema(connection))
    error: SchedulerError | None = None
    merged = _merged([defaults])
    try:
        if instead is not None:
            merged = _merged([defaults, instead])
        elif stored is not None:
            merged = _merged([defaults, _parsed(stored.toml, f"version {stored.version}")])
    except SchedulerError as wrong:
        if instead is not None:
            raise
        error = wrong
    return OrganizationConfiguration(
        organization=organization,
        version=None if stored is None else stored.version,
        effective=merged.effective,
        sources=merged.sources,
        versions=_versions(connection),
        error=None if error is None else error.info(),
    )


def _versions(connection: apsw.Connection) -> list[ConfigurationVersion]:
    """Return the stored versions, newest first; rows whose version is no number are no versions."""
    present = read_schema(connection).columns.get(TABLE, frozenset())
    if not {"version", "toml"} <= present:
        return []
    text: Callable[[str], str] = lambda name: f"CAST({name} AS TEXT)" if name in present else "NULL"  # noqa: E731
    rows = connection.execute(
        f"SELECT version, {', '.join(text(name) for name in _COLUMNS[1:])} FROM {TABLE} "
        "WHERE typeof(version) = 'integer' ORDER BY version DESC"
    )
    return [
        ConfigurationVersion(
            version=version,
            toml=toml or "",
            created_at=created_at or "",
            created_by=created_by or "",
            withdrawn_at=withdrawn_at,
            withdrawn_by=withdrawn_by,
        )
        for version, toml, created_at, created_by, withdrawn_at, withdrawn_by in rows
    ]
