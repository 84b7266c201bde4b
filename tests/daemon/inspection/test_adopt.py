"""Adopting a file: one transaction after a backup, once, and never a row of the sender."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import pytest

from schedclient.errors import (
    DatabaseUnusableError,
    ForeignSchemaError,
    InvalidArgumentError,
    PlanDiffersError,
)
from schedproto.checks import AdoptionReply, AdoptOrganization
from schedproto.codec import decode_request, encode_request
from tests.support.checks import AS_OF, CLEAN, Checked, only, write_database
from tests.support.folders import Folder

#: A predecessor's table: surplus planned rows, a unique index that a plan can violate, columns and
#: indexes missing.
PREDECESSORS = """
ALTER TABLE contacts ADD COLUMN dnc;
UPDATE contacts SET dnc = 1 WHERE id = 3;
UPDATE contacts SET birth_date = '12/24/1950' WHERE id = 4;
DROP INDEX plan_key;
DROP INDEX plan_sender;
ALTER TABLE email_schedules DROP COLUMN sms_template;
INSERT INTO email_schedules(id, contact_id, email_type, scheduled_send_date, status,
  event_year) VALUES
  (10, 1, 'birthday', '2026-01-05', 'pre-scheduled', NULL),
  (11, 5, 'aep', '2026-12-02', 'skipped', 2026),
  (12, 5, 'aep', '2026-12-02', 'pre-scheduled', NULL),
  (13, 6, 'aep', '2026-12-02', 'Pre-Scheduled', 2026);
CREATE UNIQUE INDEX one_a_year ON email_schedules(contact_id, email_type, event_year);
"""
SENT = "SELECT * FROM email_schedules WHERE status NOT IN ('pre-scheduled', 'skipped') ORDER BY id"


def rows(path: Path, sql: str) -> list[Any]:
    connection = sqlite3.connect(path)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def test_adoption_is_shown_and_done_once(checked: Checked) -> None:
    """An adoption makes the changes that were shown, after a backup that can be restored.

    A second adoption finds nothing to do.
    """
    name = checked.put(PREDECESSORS)
    path = checked.path(name)
    before, sent = path.read_bytes(), rows(path, SENT)
    shown = checked.client.plan_adoption(name)
    assert path.read_bytes() == before
    assert [change.rows for change in shown.changes if change.rows] == [2]
    messages = " ".join(change.message for change in shown.changes)
    for part in (
        "one_a_year",
        "sms_template",
        "unique index on",
        "(status, scheduled_send_date)",
        "scheduler_config",
    ):
        assert part in messages
    assert shown.settings["contacts"]["date_formats"] == ["YYYY-MM-DD", "MM/DD/YYYY"]
    assert shown.settings["contacts"]["opt_out_columns"][-1] == "dnc"

    done = checked.client.adopt(name, shown, created_by="somebody")
    assert msgspec.structs.replace(done, applied=False, version=None, backup_id=None) == shown
    assert [row[:-1] if len(row) > len(sent[0]) else row for row in rows(path, SENT)] == sent
    assert [row[0] for row in rows(path, "SELECT id FROM email_schedules ORDER BY id")] == [
        1,
        2,
        3,
        4,
        11,
        13,
    ]
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]
    configuration = checked.client.configuration(name)
    assert (configuration.version, configuration.versions[0].created_by) == (1, "somebody")

    again = checked.client.plan_adoption(name)
    assert (again.changes, again.settings, again.left) == ([], {}, [])
    assert checked.client.adopt(name, again).applied is False
    assert checked.client.configuration(name).version == 1
    assert not {"unique_index", "unreadable_date"} & {
        item.code for item in checked.client.check(name).findings
    }

    assert done.backup_id is not None
    checked.client.restore(name, done.backup_id)
    assert rows(path, SENT) == sent
    assert checked.client.plan_adoption(name).digest == shown.digest


def test_only_what_was_shown_is_done(checked: Checked) -> None:
    """A file that has changed since it was shown is left alone; so is a wrong text."""
    name = checked.put(PREDECESSORS)
    shown = checked.client.plan_adoption(name)
    with pytest.raises(InvalidArgumentError, match="not the configuration"):
        checked.client.adopt(name, msgspec.structs.replace(shown, settings={"timezone": "UTC"}))
    connection = sqlite3.connect(checked.path(name))
    connection.execute("DELETE FROM email_schedules WHERE id = 12")
    connection.commit()
    connection.close()
    before = checked.path(name).read_bytes()
    with pytest.raises(PlanDiffersError, match="differ from those shown"):
        checked.client.adopt(name, shown)
    assert checked.path(name).read_bytes() == before
    assert checked.client.backups(name).backups == []


def test_the_present_configuration_is_kept(checked: Checked) -> None:
    """The new version has what the stored one has, and what is suggested."""
    name = checked.put(PREDECESSORS)
    checked.client.set_configuration(
        name, 'timezone = "UTC"\n[contacts]\nactive_statuses = ["active", "lead"]\n'
    )
    shown = checked.client.plan_adoption(name)
    assert shown.settings_before == {
        "timezone": "UTC",
        "contacts": {"active_statuses": ["active", "lead"]},
    }
    assert (shown.settings["timezone"], shown.settings["contacts"]["active_statuses"]) == (
        "UTC",
        ["active", "lead"],
    )
    assert checked.client.adopt(name, shown).version == 2
    assert checked.client.configuration(name).effective["timezone"] == "UTC"


@pytest.mark.parametrize(
    "trigger",
    [
        (
            "CREATE TRIGGER no BEFORE DELETE ON email_schedules BEGIN SELECT RAISE(ABORT, 'use "
            "cancel'); END"
        ),
        (
            "CREATE TRIGGER no AFTER DELETE ON email_schedules BEGIN DELETE FROM email_schedules "
            "WHERE id = 1; END"
        ),
        (
            "CREATE TRIGGER no AFTER DELETE ON email_schedules BEGIN "
            "UPDATE email_schedules SET status = 'cancelled' WHERE id = 1; END"
        ),
    ],
)
def test_triggers_cannot_change_rows_of_the_sender(checked: Checked, trigger: str) -> None:
    """A trigger that refuses the removal, or changes rows of the sender, rolls everything back."""
    name = checked.put(PREDECESSORS, trigger)
    path = checked.path(name)
    before = (
        rows(path, "SELECT * FROM email_schedules ORDER BY id"),
        rows(path, "SELECT sql FROM sqlite_schema"),
    )
    shown = checked.client.plan_adoption(name)
    with pytest.raises(ForeignSchemaError, match=r"reject the changes|rejects"):
        checked.client.adopt(name, shown)
    after = (
        rows(path, "SELECT * FROM email_schedules ORDER BY id"),
        rows(path, "SELECT sql FROM sqlite_schema"),
    )
    assert after == before


def test_a_file_in_write_ahead_mode(checked: Checked) -> None:
    """A file with a write-ahead log keeps its journal mode; the backup has what was in the log."""
    name = checked.put(PREDECESSORS)
    path = checked.path(name)
    writer = sqlite3.connect(path)
    writer.execute("PRAGMA journal_mode = WAL")
    writer.execute("UPDATE contacts SET carrier = 'from the log' WHERE id = 1")
    writer.commit()
    done = checked.client.adopt(name, checked.client.plan_adoption(name))
    assert done.applied
    assert writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    writer.close()
    assert done.backup_id is not None
    checked.client.restore(name, done.backup_id)
    assert rows(path, "SELECT carrier FROM contacts WHERE id = 1") == [("from the log",)]


def test_other_indexes_and_rows_stay(checked: Checked) -> None:
    """Indexes, constraints and foreign spellings that a plan cannot violate stay."""
    name = checked.put(
        "DROP INDEX plan_key; ALTER TABLE email_schedules ADD COLUMN external_id;"
        "CREATE UNIQUE INDEX wider ON email_schedules(contact_id, email_type, "
        "scheduled_send_date, status);"
        "CREATE UNIQUE INDEX external ON email_schedules(external_id);"
        "CREATE UNIQUE INDEX sent_once ON email_schedules(contact_id, email_type) WHERE status = "
        "'sent';"
        "CREATE INDEX plain ON email_schedules(contact_id)"
    )
    done = checked.client.adopt(name, checked.client.plan_adoption(name))
    assert done.applied
    names = {
        row[0]
        for row in rows(checked.path(name), "SELECT name FROM sqlite_schema WHERE type = 'index'")
    }
    assert {"wider", "external", "sent_once", "plain", "plan_sender"} <= names
    assert checked.client.schedule(name, as_of=AS_OF, timeout_s=120.0).rows_planned > 0


def test_what_is_left_to_people(checked: Checked) -> None:
    """Duplicates among rows of the sender are named, never removed, and stop the adoption."""
    name = checked.put(
        "DROP INDEX plan_key; INSERT INTO email_schedules(id, contact_id, email_type, "
        "scheduled_send_date, status) "
        "VALUES (10, 1, 'birthday', '2026-01-05', 'bounced')"
    )
    shown = checked.client.plan_adoption(name)
    assert [item.code for item in shown.left] == ["duplicate_keys"]
    before = checked.path(name).read_bytes()
    with pytest.raises(DatabaseUnusableError, match="several rows with one key"):
        checked.client.adopt(name, shown)
    assert checked.path(name).read_bytes() == before
    assert only(checked.client.check(name), "duplicate_keys").count == 2


def test_a_new_file_needs_no_adoption_twice(checked: Checked) -> None:
    """A file without the scheduler's tables gets them, and nothing else."""
    name = checked.put("DROP TABLE email_schedules")
    shown = checked.client.plan_adoption(name)
    assert (shown.settings, shown.left) == ({}, [])
    assert {change.table for change in shown.changes} > {"email_schedules", "scheduler_runs"}
    assert checked.client.adopt(name, shown).version is None
    assert checked.client.plan_adoption(name).changes == []


def test_messages_of_other_releases() -> None:
    """An adoption's messages can be read without the fields that are not required."""
    message = decode_request(
        encode_request(AdoptOrganization(id="1", organization="o", digest="d"))
    )
    assert message == AdoptOrganization(id="1", organization="o", digest="d")
    assert msgspec.structs.fields(AdoptionReply)[-1].name == "adoption"


def test_an_organization_in_a_bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A check reads the bucket's newest version, and an adoption is published."""
    monkeypatch.setenv("SCHEDD_BUCKET_FOLDER", str(tmp_path / "bucket"))
    folders = [Folder(tmp_path / name) for name in ("first", "second")]
    source = write_database(tmp_path / "source.db", CLEAN, PREDECESSORS)
    try:
        for folder in folders:
            folder.path.mkdir()
        with folders[0].client() as client:
            client.push(source, "org-1")
            assert only(client.check("org-1", as_of=AS_OF), "opt_out_column").count == 1
            assert client.adopt("org-1", client.plan_adoption("org-1")).version == 1
        with folders[1].client() as client:
            assert client.plan_adoption("org-1").changes == []
            assert client.configuration("org-1").version == 1
    finally:
        for folder in folders:
            folder.stop()
