"""The reference against the golden cases, the hash's test vectors, and the comparison itself."""

from __future__ import annotations

import json
import sqlite3
from datetime import date
from pathlib import Path

import pytest

from tests.reference.compare import differences, explain, golden_plan, read_plan
from tests.reference.hashing import h, mix64
from tests.reference.plan import plan

TESTS = Path(__file__).parents[1]
GOLDEN = TESTS / "golden"
PREDECESSOR = TESTS / "predecessor"
CASES = sorted(path.stem for path in GOLDEN.glob("*.sql"))


def load(path):
    script = path.read_text()
    if "autoincrement" not in script:
        # Dumps of files without such a table nevertheless clear the table that it would have.
        script = script.replace('DELETE FROM "sqlite_sequence";', "")
    connection = sqlite3.connect(":memory:")
    connection.executescript(script)
    return connection


def test_there_are_golden_cases():
    """The eighteen cases are found (a wrong folder would pass every other test)."""
    assert len(CASES) == 18


def check_plan(script, expected_file):
    case = json.loads(expected_file.read_text())
    actual = plan(load(script), date.fromisoformat(case["as_of"]), case["config"])
    expected = golden_plan(case)
    assert not explain(expected, actual)
    assert (actual.rows, actual.issues) == (expected.rows, expected.issues)
    assert (actual.limit, actual.duplicates_dropped) == (case["limit"], case["duplicates_dropped"])


@pytest.mark.parametrize("name", CASES)
def test_golden_case(name):
    """The reference arrives at the plan of the case: rows, issues, limit and dropped duplicates."""
    check_plan(GOLDEN / f"{name}.sql", GOLDEN / f"{name}.json")


@pytest.mark.parametrize("configured", ["default", "adopted"])
def test_predecessor_case(configured):
    """The reference arrives at both plans of a file that another scheduler wrote."""
    check_plan(PREDECESSOR / "org-206.sql", PREDECESSOR / f"org-206-{configured}.json")


def test_hash_vectors():
    """mix64 and h agree with the published vectors."""
    vectors = json.loads((GOLDEN / "vectors.json").read_text())
    assert len(vectors["mix64"]) == 5
    assert len(vectors["h"]) == 24
    for value, mixed in vectors["mix64"]:
        assert mix64(value) == mixed
    for vector in vectors["h"]:
        value = h(vector["contact_id"], vector["salt"], vector["year"])
        assert (value, value % 7) == (vector["h"], vector["h_mod_7"])


def test_differences_are_named():
    """Changed, moved, missing and surplus rows, issues and numbers are named."""
    case = json.loads((GOLDEN / "01-november.json").read_text())
    expected, actual = golden_plan(case), golden_plan(case)
    assert differences(expected, actual) == []
    moved = actual.rows[1]._replace(scheduled_send_date="2027-01-20")
    actual.rows[0] = actual.rows[0]._replace(priority=31)
    actual.rows[1] = moved
    surplus = actual.rows[2]._replace(contact_id=999)
    missing = actual.rows[3]
    actual.rows[3] = surplus
    actual.issues = actual.issues[1:]
    actual.limit = 15
    found = "\n".join(differences(expected, actual))
    assert "limit is 15, expected 14" in found
    contact, reason = expected.issues[0]
    assert f"contact {contact} lacks the issue {reason}" in found
    assert "contact 1: aep on 2027-09-15: priority is 31, expected 30" in found
    assert "contact 1: birthday on 2027-01-19 is on 2027-01-20 instead" in found
    assert (
        f"contact {missing.contact_id}: {missing.email_type} on {missing.scheduled_send_date} is "
        "missing" in found
    )
    assert "contact 999" in found
    assert "is not expected" in found


def test_plan_read_back(tmp_path):
    """A scheduled file's plan is read as it was written, the parent out of the metadata."""
    path = tmp_path / "org.db"
    connection = sqlite3.connect(path)
    connection.executescript(
        """
        CREATE TABLE email_schedules (id INTEGER PRIMARY KEY, contact_id, email_type,
        scheduled_send_date, status,
          skip_reason, priority, campaign_instance_id, email_template, sms_template, event_year,
          event_month,
          event_day, metadata);
        CREATE TABLE contact_issues (contact_id, reason);
        INSERT INTO email_schedules VALUES
          (1, 7, 'birthday', '2026-12-01', 'sent', NULL, 10, NULL, 'birthday', NULL, 2026, 12, 15,
          NULL),
          (2, 7, 'followup_1_cold', '2026-12-03', 'pre-scheduled', NULL, 10, NULL,
          'followup_1_cold', NULL,
           2026, 12, 1, '{"parent_id": 1, "parent_type": "birthday"}'),
          (3, 5, 'aep', '2027-09-15', 'skipped', 'exclusion:NY:year_round', 30, NULL, 'aep', NULL,
          2027, 9, 15, NULL);
        INSERT INTO contact_issues VALUES (9, 'missing_email'), (8, 'unknown_zip');
        """
    )
    connection.close()
    found = read_plan(path)
    assert [(row.key, row.parent_id) for row in found.rows] == [
        ((5, "aep", "2027-09-15"), None),
        ((7, "followup_1_cold", "2026-12-03"), 1),
    ]
    assert found.issues == [(8, "unknown_zip"), (9, "missing_email")]
