"""Tables that other programs or other releases left.

Shown as far as possible, never a crash, never a silent loss.
"""

from __future__ import annotations

import datetime as dt
import sqlite3
from pathlib import Path

import pytest

from schedctl.synthetic import make_organization
from schedd.engine.configuration import Layer
from schedd.store import configurations
from schedproto import ErrorCode, SchedulerError
from schedproto.codec import MAX_REPLY_BYTES, encode, encode_request
from schedproto.configurations import MAX_TOML_BYTES, OrganizationConfiguration
from schedproto.messages import ConfigurationReply, SetConfiguration
from tests.support.daemons import AS_OF
from tests.support.plans import run_locally

DEFAULTS = Layer("the daemon's configuration file", {})
NOW = "2026-11-23 12:00:00"
TEXT = 'send_time = "10:00:00"\n'


def make(folder: Path, script: str, encoding: str = "UTF-8") -> Path:
    path = folder / "org-a.db"
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA encoding = '{encoding}'")
    connection.execute("CREATE TABLE made_first(x)")
    connection.close()
    make_organization(path, 20, 1, dt.date.fromisoformat(AS_OF))
    connection = sqlite3.connect(path)
    connection.execute("DROP TABLE IF EXISTS scheduler_config")
    connection.executescript(script)
    connection.close()
    return path


def show(path: Path, version: int | None = None) -> OrganizationConfiguration:
    return configurations.show(path, "org-a", DEFAULTS, version)


def set_text(path: Path, toml: str = TEXT) -> OrganizationConfiguration:
    return configurations.set_version(path, "org-a", DEFAULTS, toml, "ann", NOW)


@pytest.mark.parametrize("kind", ["TEXT", "REAL", "INT", "NUMERIC", "BLOB", ""])
def test_versions_of_any_type(kind: str, tmp_path: Path) -> None:
    """Version numbers in a column of any type count, and a new version applies."""
    path = make(
        tmp_path,
        f"CREATE TABLE scheduler_config(version {kind}, toml TEXT);"
        f"INSERT INTO scheduler_config VALUES (CAST(9 AS {kind or 'INT'}), ''), ('x', 'a'), "
        "(NULL, 'b'), (x'41', 'c');"
        if kind != "BLOB"
        else "CREATE TABLE scheduler_config(version BLOB, toml TEXT); INSERT INTO "
        "scheduler_config VALUES (9, '');",
    )
    assert [v.version for v in show(path).versions] == [9]
    stored = set_text(path)
    assert (stored.version, stored.effective["send_time"]) == (10, "10:00:00")
    assert run_locally(path, tmp_path / "scratch", AS_OF).config_version == 10
    withdrawn = configurations.withdraw(path, "org-a", DEFAULTS, 10, "ann", NOW)
    assert withdrawn.version == 9


@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16le", "UTF-16be"])
def test_encodings(encoding: str, tmp_path: Path) -> None:
    """Texts come back as they were, whatever the file's encoding."""
    path = make(tmp_path, "", encoding)
    text = '[templates]\nbirthday = "grüße 🎂"\n'
    stored = set_text(path, text)
    assert stored.versions[0].toml == text
    assert stored.versions[0].created_by == "ann"
    assert show(path).effective["templates"]["birthday"] == "grüße 🎂"
    assert set_text(path, text).version == 1


@pytest.mark.parametrize("toml", ["CAST(x'23ff0a' AS TEXT)", "x'fffe00'"])
def test_bytes_that_are_no_text(toml: str, tmp_path: Path) -> None:
    """A version that is not UTF-8 is shown as an error, stops runs, and can be replaced."""
    path = make(
        tmp_path,
        "CREATE TABLE scheduler_config(version INTEGER PRIMARY KEY, toml, created_by);"
        f"INSERT INTO scheduler_config VALUES (3, {toml}, CAST(x'ff' AS TEXT));",
    )
    shown = show(path)
    assert shown.error is not None
    assert "version 3" in shown.error.message
    encode(ConfigurationReply(id="1", configuration=shown))
    with pytest.raises(SchedulerError, match="not UTF-8 text") as caught:
        run_locally(path, tmp_path / "scratch", AS_OF)
    assert caught.value.code == ErrorCode.INVALID_CONFIGURATION
    assert set_text(path).error is None
    assert run_locally(path, tmp_path / "scratch", AS_OF).config_version == 4


@pytest.mark.parametrize(
    "script",
    [
        "CREATE VIEW scheduler_config AS SELECT 1 version, '' toml",
        (
            "CREATE TABLE scheduler_config(version INTEGER PRIMARY KEY, toml TEXT, other TEXT NOT "
            "NULL)"
        ),
        (
            "CREATE TABLE scheduler_config(version INTEGER PRIMARY KEY, toml TEXT);"
            "INSERT INTO scheduler_config VALUES(9223372036854775807, '')"
        ),
        (
            "CREATE TABLE scheduler_config(version INTEGER PRIMARY KEY, toml TEXT);"
            "CREATE TRIGGER gone AFTER INSERT ON scheduler_config BEGIN DELETE FROM "
            "scheduler_config; END"
        ),
        "CREATE TABLE scheduler_config(version INTEGER CHECK (version < 0), toml TEXT)",
    ],
)
def test_tables_that_cannot_take_a_version(script: str, tmp_path: Path) -> None:
    """If a version cannot be stored, the error says what to do and the file stays."""
    path = make(tmp_path, script)
    before = path.read_bytes()
    show(path)
    with pytest.raises(SchedulerError, match="scheduler_config") as caught:
        set_text(path)
    assert caught.value.code == ErrorCode.INVALID_CONFIGURATION
    assert "DATABASE.md" in caught.value.hint
    assert path.read_bytes() == before


def test_long_history_fits_into_a_message(tmp_path: Path) -> None:
    """Of thousands of large versions the newest are listed, with as much text as fits.

    Any one can be asked for.
    """
    count, most = 3000, configurations.MAX_VERSIONS
    path = make(
        tmp_path,
        "CREATE TABLE scheduler_config(version INTEGER PRIMARY KEY, toml, created_by);"
        f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})"
        "INSERT INTO scheduler_config SELECT i, printf('# %d %.*c', i, 9000, 'x'), printf('%.*c', "
        "9000, 'n') FROM n;",
    )
    shown = show(path, version=2)
    assert [v.version for v in shown.versions] == [*range(count, count - most, -1), 2]
    assert shown.versions_more
    assert shown.versions[-1].toml.startswith("# 2 x")
    assert shown.versions[0].toml.startswith(f"# {count} x")
    assert shown.versions[-2].toml_left_out
    assert len(encode(ConfigurationReply(id="1", configuration=shown))[1]) <= MAX_REPLY_BYTES
    assert not show(path, version=2**64).versions[-1].toml
    with pytest.raises(SchedulerError) as caught:
        configurations.withdraw(path, "org-a", DEFAULTS, count + 1, "ann", NOW)
    assert f"{count}, {count - 1}" in caught.value.hint
    assert len(caught.value.hint) < 300
    assert configurations.withdraw(path, "org-a", DEFAULTS, 1, "ann", NOW).version == count
    assert show(path, version=1).versions[-1].withdrawn_by == "ann"


def test_longest_text(tmp_path: Path) -> None:
    """The longest text fits into a request and is stored; one byte more is refused."""
    path = make(tmp_path, "")
    longest = "# " + "ü" * (MAX_TOML_BYTES // 2 - 1)
    assert len(longest.encode()) == MAX_TOML_BYTES
    encode_request(
        SetConfiguration(id="1", organization="org-a", toml=longest, created_by="n" * 200)
    )
    assert set_text(path, longest).versions[0].toml == longest
    with pytest.raises(SchedulerError) as caught:
        set_text(path, longest + " ")
    assert caught.value.code == ErrorCode.INVALID_ARGUMENT
    assert show(path).version == 1
