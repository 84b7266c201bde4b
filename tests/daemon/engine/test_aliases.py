"""Aliases of e-mail types in the history (rules, section 4)."""

from __future__ import annotations

import datetime as dt
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.reference.compare import differences
from tests.reference.compare import read_plan as read_whole_plan
from tests.reference.plan import plan as reference_plan
from tests.support.plans import make_database, run_locally

AS_OF = "2026-11-23"
SCRIPT = """
CREATE TABLE contacts(id INTEGER PRIMARY KEY, email TEXT, zip_code TEXT, birth_date TEXT);
INSERT INTO contacts VALUES (1, 'a@example.org', '75001', '1950-12-07'),
  (2, 'b@example.org', '75001', '1950-12-07');
CREATE TABLE campaign_types(name TEXT PRIMARY KEY, active INTEGER, target_all_contacts INTEGER);
INSERT INTO campaign_types VALUES ('rate', 1, 1), ('old', 0, 1);
CREATE TABLE campaign_instances(id INTEGER PRIMARY KEY, campaign_type TEXT, active_start_date TEXT);
INSERT INTO campaign_instances VALUES (7, 'rate', '2026-11-20');
CREATE TABLE email_schedules(id INTEGER PRIMARY KEY, contact_id INTEGER NOT NULL,
  email_type TEXT NOT NULL,
  scheduled_send_date TEXT NOT NULL, scheduled_send_time TEXT NOT NULL, status TEXT NOT NULL,
  campaign_instance_id INTEGER);
INSERT INTO email_schedules VALUES (1, 1, '{name}', '2026-11-21', '08:30:00', 'sent', {instance});
"""


@pytest.mark.parametrize(
    ("name", "target", "instance", "gone"),
    [
        ("campaign_old", "campaign_rate", "7", "campaign_rate"),
        ("CAMPAIGN_Old", "campaign_rate", "7", "campaign_rate"),
        ("newsletter", "campaign_rate", "7", "campaign_rate"),
        ("campaign_old", "birthday", "NULL", "birthday"),
        ("aep", "birthday", "NULL", "birthday"),
        ("followup_1_cold", "birthday", "NULL", "birthday"),
    ],
)
def test_alias(tmp_path: Path, name: str, target: str, instance: str, gone: str) -> None:
    """An e-mail sent under an alias is not sent again, whatever the campaign tables say."""
    path = make_database(tmp_path / "org.db", SCRIPT.format(name=name, instance=instance))
    overrides = {"history": {"aliases": {name.lower(): target}}}
    with closing(sqlite3.connect(path)) as connection:
        expected = reference_plan(connection, dt.date.fromisoformat(AS_OF), overrides)
    run_locally(path, tmp_path / "scratch", AS_OF, config=overrides)
    found = read_whole_plan(path)
    assert not differences(expected, found)
    assert {row.contact_id for row in found.rows if row.email_type == gone} == {2}
