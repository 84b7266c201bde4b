"""Versions of an organization's configuration in its file (`scheduler_config`; rules, section 13).

An invalid text is never stored. A version is never changed, only withdrawn. Rows of other programs
in the table are shown as far as possible, and never altered.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import apsw

from schedd.engine.configuration import (
    Configuration,
    ConfigurationError,
    Layer,
    build,
    dump_configuration,
    parse_toml,
    sources,
)
from schedproto import (
    ConfigurationVersion,
    ErrorCode,
    ErrorInfo,
    Mode,
    OrganizationConfiguration,
    SchedulerError,
)
from schedproto.configurations import MAX_NAME_CHARACTERS, MAX_TOML_BYTES

from .connection import open_reader, open_writer
from .errors import sqlite_errors
from .foreign import not_ours
from .runs import HAS_VERSION, VERSION, applicable_configuration
from .schema import OWN_TABLES, add_missing_columns, read_schema
from .tables import encoding_of, read_table

TABLE = "scheduler_config"
#: The columns of a version besides its number.
_COLUMNS = ("toml", "created_at", "created_by", "withdrawn_at", "withdrawn_by")
#: Maximum numbers of versions and of bytes of their texts in a reply, well within the limit of a
#: message.
MAX_VERSIONS, MAX_TEXT_BYTES = 1000, 4 << 20
_NEWEST_NUMBER = 2**63 - 1


def invalid(error: ConfigurationError) -> SchedulerError:
    """Return the error for an invalid configuration."""
    return SchedulerError(
        ErrorCode.INVALID_CONFIGURATION,
        str(error),
        hint="docs/RULES.md, section 13, lists the keys and their values. Nothing was changed.",
    )


def show(
    path: Path, organization: str, defaults: Layer, version: int | None = None
) -> OrganizationConfiguration:
    """Return the effective configuration and its versions. Raises `SchedulerError`.

    defaults: the daemon's configuration file.   version: one whose text is always included.
    """
    with _reading(path) as connection:
        return _described(connection, organization, defaults, wanted=version)


def check(path: Path, organization: str, defaults: Layer, toml: str) -> OrganizationConfiguration:
    """Return the configuration with a text as its version; stores nothing. Raises if invalid."""
    with _reading(path) as connection:
        return _described(
            connection, organization, defaults, instead=_parsed(toml, "the text to check")
        )


def set_version(
    path: Path, organization: str, defaults: Layer, toml: str, created_by: str, now: str
) -> OrganizationConfiguration:
    """Store a text as the newest version, unless it is the applicable version already."""
    _built([defaults, _parsed(toml, "the new version")])
    with _writing(path) as connection:
        stored = applicable_configuration(connection, read_schema(connection))
        if stored is None or stored.toml != toml:
            _insert(connection, toml, created_by[:MAX_NAME_CHARACTERS], now)
        return _described(connection, organization, defaults)


def store_version(connection: apsw.Connection, toml: str, created_by: str, now: str) -> int:
    """Store a text as the newest version, inside the caller's transaction; returns its number."""
    _complete(connection)
    return _insert(connection, toml, created_by[:MAX_NAME_CHARACTERS], now)


def _insert(connection: apsw.Connection, toml: str, created_by: str, now: str) -> int:
    newest = connection.execute(f"SELECT max({VERSION}) FROM {TABLE} WHERE {HAS_VERSION}").get
    number = 1 if newest is None else int(newest) + 1
    if number > _NEWEST_NUMBER:
        raise _unsuitable(f"version {newest} exists, and there is no larger number")
    connection.execute(
        f"INSERT INTO {TABLE}(version, toml, created_at, created_by) VALUES (?, ?, ?, ?)",
        (number, toml, now, created_by),
    )
    # A table of another program may have triggers, or columns that convert values.
    stored = applicable_configuration(connection, read_schema(connection))
    if stored is None or (stored.version, stored.toml) != (number, toml):
        raise _unsuitable("it does not store what is written to it")
    return number


def withdraw(
    path: Path, organization: str, defaults: Layer, version: int, withdrawn_by: str, now: str
) -> OrganizationConfiguration:
    """Withdraw a version; a second withdrawal changes nothing."""
    with _writing(path) as connection:
        known = _numbers(connection)
        if version not in known:
            raise SchedulerError(
                ErrorCode.INVALID_ARGUMENT,
                f"{organization} has no version {version} of its configuration",
                hint=f"Existing versions: {_listed(known)}." if known else "There are no versions.",
            )
        connection.execute(
            f"UPDATE {TABLE} SET withdrawn_at = ?, withdrawn_by = ? "
            f"WHERE {HAS_VERSION} AND {VERSION} = ? AND withdrawn_at IS NULL",
            (now, withdrawn_by[:MAX_NAME_CHARACTERS], version),
        )
        return _described(connection, organization, defaults)


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers[:20])) + (", ..." if len(numbers) > 20 else "")


def _unsuitable(reason: str) -> SchedulerError:
    return SchedulerError(
        ErrorCode.INVALID_CONFIGURATION,
        f"the table {TABLE} of this file cannot be used: {reason}",
        hint="docs/DATABASE.md describes it. Rename the existing table, and the scheduler creates "
        "a new one. Nothing was changed.",
    )


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
    """Open the file in a transaction, with the table complete; commits after the block."""
    connection = open_writer(path, Mode.RELIABLE)
    try:
        with sqlite_errors(path):
            connection.execute("BEGIN IMMEDIATE")
            try:
                _complete(connection)
                yield connection
            except (apsw.SQLError, apsw.ConstraintError, apsw.MismatchError) as error:
                raise _unsuitable(str(error)) from None
            connection.execute("COMMIT")
    finally:
        # Closing rolls back what was not committed.
        connection.close()


def _complete(connection: apsw.Connection) -> None:
    schema = read_schema(connection)
    table = read_table(connection, TABLE)
    if table is None:
        connection.execute(OWN_TABLES[TABLE])
    elif wrong := not_ours(table):
        # A table of another program is never extended.
        raise _unsuitable(wrong)
    else:
        add_missing_columns(connection, TABLE, schema.columns[TABLE])


def _parsed(toml: str, name: str) -> Layer:
    size_bytes = len(toml.encode())
    if size_bytes > MAX_TOML_BYTES:
        raise SchedulerError(
            ErrorCode.INVALID_ARGUMENT,
            f"{name} has {size_bytes:,} bytes",
            hint=f"The limit is {MAX_TOML_BYTES:,} bytes.",
        )
    try:
        return parse_toml(toml, name)
    except ConfigurationError as error:
        raise invalid(error) from None


def _built(layers: Sequence[Layer]) -> Configuration:
    try:
        return build(*layers)
    except ConfigurationError as error:
        raise invalid(error) from None


def _described(
    connection: apsw.Connection,
    organization: str,
    defaults: Layer,
    *,
    instead: Layer | None = None,
    wanted: int | None = None,
) -> OrganizationConfiguration:
    """Return the configuration with the applicable version, or with the layer `instead` of it.

    An invalid stored version is reported in `error`, so that it can still be withdrawn.
    """
    stored = applicable_configuration(connection, read_schema(connection))
    numbers = _numbers(connection)
    error: ErrorInfo | None = None
    layers = [defaults]
    if instead is not None:
        layers.append(instead)
    elif stored is not None:
        try:
            layers.append(stored.layer(f"version {stored.version}"))
            build(*layers)
        except ConfigurationError as wrong:
            layers, error = [defaults], invalid(wrong).info()
    return OrganizationConfiguration(
        organization=organization,
        version=None if stored is None else stored.version,
        effective=dump_configuration(_built(layers)),
        sources=sources(layers),
        versions=_versions(connection, numbers, wanted),
        versions_more=len(numbers) > MAX_VERSIONS,
        error=error,
    )


def _numbers(connection: apsw.Connection) -> list[int]:
    """Return the numbers of the stored versions, newest first; skips rows without a number."""
    if not read_schema(connection).has(TABLE, "version", "toml"):
        return []
    return [
        number
        for (number,) in connection.execute(
            f"SELECT {VERSION} FROM {TABLE} WHERE {HAS_VERSION} ORDER BY 1 DESC"
        )
    ]


def _versions(
    connection: apsw.Connection, numbers: Sequence[int], wanted: int | None
) -> list[ConfigurationVersion]:
    """Return the newest versions and the wanted one, with as much text as a reply can hold."""
    if not numbers:
        return []
    existing = read_schema(connection).columns[TABLE]
    columns = ", ".join(
        f"CAST({name} AS BLOB)" if name in existing else "NULL" for name in _COLUMNS
    )
    oldest = numbers[:MAX_VERSIONS][-1]
    rows = connection.execute(
        f"""
        SELECT {VERSION}, {columns} FROM {TABLE}
        WHERE {HAS_VERSION} AND ({VERSION} >= ? OR {VERSION} = ?)
        ORDER BY 1 DESC
        LIMIT {MAX_VERSIONS + 1}
        """,
        (oldest, wanted if wanted in numbers else None),
    )
    encoding, room_bytes, result = encoding_of(connection), MAX_TEXT_BYTES, []
    for number, *raw in rows:
        # Bytes that are not valid text are replaced.
        texts = [None if part is None else part.decode(encoding, "replace") for part in raw]
        toml = texts[0] or ""
        size_bytes = len(toml.encode())
        fits = size_bytes <= (MAX_TEXT_BYTES if number == wanted else room_bytes)
        if fits and number != wanted:
            room_bytes -= size_bytes
        created_at, created_by, withdrawn_at, withdrawn_by = (
            t and t[:MAX_NAME_CHARACTERS] for t in texts[1:]
        )
        result.append(
            ConfigurationVersion(
                version=number,
                toml=toml if fits else "",
                created_at=created_at or "",
                created_by=created_by or "",
                withdrawn_at=withdrawn_at,
                withdrawn_by=withdrawn_by,
                toml_left_out=not fits,
            )
        )
    return result
