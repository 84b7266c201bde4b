"""Helpers for the tests of check and adopt.

They run a daemon over a folder, with an organization without any finding.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

from schedclient import Client
from schedproto.checks import CheckFinding, CheckReport
from tests.support.folders import Folder
from tests.support.paths import TESTS

AS_OF = "2026-11-23"
PREDECESSOR = TESTS / "predecessor"

#: An organization of which a check says nothing: forty contacts in California, a campaign that
#: reaches all, a history.
CLEAN = """
CREATE TABLE contacts(id INTEGER PRIMARY KEY, email TEXT, zip_code TEXT, birth_date TEXT,
  effective_date TEXT,
  status TEXT, carrier TEXT, failed_underwriting INTEGER, unsubscribed INTEGER DEFAULT 0);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40)
INSERT INTO contacts(id, email, zip_code, birth_date, effective_date, status, carrier,
  failed_underwriting)
SELECT i, 'person' || i || '@example.org', '90210', date('1950-02-03', (i * 97) || ' days'),
  date('2015-02-03', (i * 61) || ' days'), 'active', 'Acme', 0 FROM n;
CREATE TABLE campaign_types(name TEXT, respect_exclusion_windows INTEGER,
  target_all_contacts INTEGER,
  days_before_event INTEGER);
INSERT INTO campaign_types VALUES ('rate_increase', 0, 0, 14), ('news', 0, 1, 0);
CREATE TABLE campaign_instances(id INTEGER PRIMARY KEY, campaign_type TEXT, active_start_date TEXT,
  active_end_date TEXT, target_states TEXT, target_carriers TEXT);
INSERT INTO campaign_instances VALUES (1, 'rate_increase', '2026-11-01', '2027-03-31', NULL, NULL),
  (2, 'news', '2026-11-20', NULL, 'CA', 'Acme');
CREATE TABLE contact_campaigns(id INTEGER PRIMARY KEY, contact_id INTEGER,
  campaign_instance_id INTEGER,
  trigger_date TEXT, status TEXT);
INSERT INTO contact_campaigns SELECT id, id, 1, '2027-01-15', 'pending' FROM contacts;
CREATE TABLE tracking_clicks(id INTEGER PRIMARY KEY, contact_id INTEGER, clicked_at TEXT);
INSERT INTO tracking_clicks VALUES (1, 1, '2026-11-02 10:00:00'), (2, 2, '2026-11-03');
CREATE TABLE contact_events(id INTEGER PRIMARY KEY, contact_id INTEGER, event_type TEXT,
  metadata TEXT,
  created_at TEXT);
INSERT INTO contact_events VALUES (1, 1, 'eligibility_answered', '{}', '2026-11-02T10:00:00.5');
CREATE TABLE email_schedules(id INTEGER PRIMARY KEY, contact_id INTEGER NOT NULL,
  email_type TEXT NOT NULL,
  scheduled_send_date TEXT NOT NULL, scheduled_send_time TEXT NOT NULL DEFAULT '08:30:00',
  status TEXT NOT NULL,
  skip_reason TEXT, priority INTEGER, campaign_instance_id INTEGER, email_template TEXT,
  sms_template TEXT,
  event_year INTEGER, event_month INTEGER, event_day INTEGER, scheduler_run_id TEXT, metadata TEXT,
  created_at TEXT,
  updated_at TEXT, actual_send_datetime TEXT);
CREATE UNIQUE INDEX plan_key ON email_schedules(contact_id, email_type, scheduled_send_date);
CREATE INDEX plan_sender ON email_schedules(status, scheduled_send_date);
INSERT INTO email_schedules(id, contact_id, email_type, scheduled_send_date, status, event_year,
  event_month, event_day)
VALUES (1, 1, 'birthday', '2026-01-05', 'sent', 2026, 1, 19),
  (2, 2, 'AEP', '2026-09-15', 'delivered', 2026, 9, 15),
  (3, 3, 'gone', '2026-09-15', 'failed', NULL, NULL, NULL),
  (4, 4, 'aep', '2026-12-01', 'pre-scheduled', 2026, 12, 1);
"""


def write_database(path: Path, *scripts: str) -> Path:
    """Make a file from SQL; bytes that are not UTF-8 are written as `CAST(X'..' AS TEXT)`."""
    path.unlink(missing_ok=True)
    connection = sqlite3.connect(path)
    for script in scripts:
        connection.executescript(script)
    connection.close()
    return path


class Checked:
    """A data folder with one daemon, into which a test puts files."""

    def __init__(self, folder: Folder, client: Client) -> None:
        self.folder, self.client, self._number = folder, client, 0

    def put(self, *scripts: str, clean: bool = True) -> str:
        """Make an organization of the clean file and changes to it; returns its id."""
        self._number += 1
        name = f"org-{self._number}"
        write_database(self.folder.path / f"{name}.db", *([CLEAN] if clean else []), *scripts)
        return name

    def path(self, organization: str) -> Path:
        return self.folder.path / f"{organization}.db"

    def check(self, *scripts: str, clean: bool = True, **options: Any) -> CheckReport:
        """Check such an organization."""
        return self.client.check(self.put(*scripts, clean=clean), as_of=AS_OF, **options)


def only(report: CheckReport, code: str, **fields: Any) -> CheckFinding:
    """Return the one finding with a code, and with these values of its fields."""
    found = [item for item in report.findings if item.code == code]
    found = [
        item
        for item in found
        if all(getattr(item, name) == value for name, value in fields.items())
    ]
    assert len(found) == 1, [(item.code, item.name, item.message) for item in report.findings]
    return found[0]


def counts(report: CheckReport, *codes: str) -> Counter[tuple[str, str, str, str]]:
    found: Counter[tuple[str, str, str, str]] = Counter()
    for item in report.findings:
        if item.code in codes:
            named = item.name if item.code in {"unknown_status", "unknown_type"} else ""
            found[item.code, item.table, item.column, named] += item.count
    return found
