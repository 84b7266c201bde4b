"""The scheduler's tables of runs and of configurations (docs/DATABASE.md, "Written")."""

from __future__ import annotations

import json
from dataclasses import dataclass

import apsw

from schedd.engine.configuration import ConfigurationError, Layer, parse_toml

from .schema import Schema
from .tables import encoding_of

#: Number of the newest runs that keep their summary.
SUMMARIES = 10
#: SQL of a configuration's version, for any type of the column, and the condition that it has one.
VERSION, HAS_VERSION = "CAST(version AS INTEGER)", "CAST(version AS INTEGER) = version"


@dataclass(frozen=True)
class StoredConfiguration:
    """The configuration version that applies to an organization.

    toml: None if the stored value is not valid text.
    """

    version: int
    toml: str | None

    def layer(self, name: str) -> Layer:
        """Return the layer of this version; `name` is its name in errors.

        Raises `ConfigurationError`.
        """
        if self.toml is None:
            raise ConfigurationError(f"{name} is not valid TOML: it is not UTF-8 text")
        return parse_toml(self.toml, name)


def applicable_configuration(
    connection: apsw.Connection, schema: Schema
) -> StoredConfiguration | None:
    """Return the newest version that is not withdrawn, or None."""
    if not schema.has("scheduler_config", "version", "toml"):
        return None
    withdrawn = "withdrawn_at" if schema.has("scheduler_config", "withdrawn_at") else "NULL"
    row = connection.execute(
        f"SELECT {VERSION}, CAST(toml AS BLOB) FROM scheduler_config WHERE {withdrawn} IS NULL "
        f"AND {HAS_VERSION} ORDER BY 1 DESC LIMIT 1"
    ).fetchone()
    if row is None:
        return None
    try:
        # SQLite returns the bytes of a text as they are, valid or not.
        return StoredConfiguration(int(row[0]), (row[1] or b"").decode(encoding_of(connection)))
    except UnicodeDecodeError:
        return StoredConfiguration(int(row[0]), None)


@dataclass(frozen=True)
class RunRecord:
    """A row of `scheduler_runs`; times are UTC, `YYYY-MM-DD HH:MM:SS`.

    summary: the run's result as JSON.
    """

    run_id: str
    as_of: str
    config_version: int | None
    mode: str
    started_at: str
    finished_at: str
    status: str
    error: str | None = None
    contacts_read: int | None = None
    contacts_eligible: int | None = None
    rows_inserted: int | None = None
    rows_updated: int | None = None
    rows_deleted: int | None = None
    rows_unchanged: int | None = None
    counts: dict[str, dict[str, int]] | None = None
    stage_timings: dict[str, float] | None = None
    summary: str | None = None


def record_run(connection: apsw.Connection, record: RunRecord) -> None:
    """Insert a row of `scheduler_runs`."""
    values = dict(vars(record))
    for name in ("counts", "stage_timings"):
        values[name] = (
            None if values[name] is None else json.dumps(values[name], sort_keys=name == "counts")
        )
    names = ", ".join(values)
    places = ", ".join(f":{name}" for name in values)
    # INSERT OR REPLACE would also delete rows that conflict in some other unique index.
    connection.execute("DELETE FROM scheduler_runs WHERE run_id = ?", (record.run_id,))
    connection.execute(f"INSERT INTO scheduler_runs({names}) VALUES ({places})", values)
    # A summary has about ten kilobytes; reports read the newest two.
    connection.execute(
        f"""
        UPDATE scheduler_runs SET summary = NULL WHERE rowid IN (
            SELECT rowid FROM scheduler_runs
            WHERE summary NOT NULL
            ORDER BY started_at DESC, rowid DESC
            LIMIT -1 OFFSET {SUMMARIES}
        )
        """
    )
