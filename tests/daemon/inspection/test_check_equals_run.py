"""A check counts what a run counts, and its suggestion makes a run read the values."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from schedclient.errors import InvalidArgumentError
from tests.support.checks import AS_OF, CLEAN, PREDECESSOR, Checked, counts, only
from tests.support.plans import read_issues, read_plan

FAULTY = """
UPDATE contacts SET status = 'lead' WHERE id = 1;
UPDATE contacts SET unsubscribed = 1 WHERE id = 2;
UPDATE contacts SET email = 'a b@example.org' WHERE id = 3;
UPDATE contacts SET email = 'mailto:a@example.org' WHERE id = 4;
UPDATE contacts SET email = '' WHERE id = 5;
UPDATE contacts SET email = CAST(X'e9406578616d706c652e6f7267' AS TEXT) WHERE id = 6;
UPDATE contacts SET zip_code = NULL WHERE id = 7;
UPDATE contacts SET zip_code = '1234567' WHERE id = 8;
UPDATE contacts SET zip_code = 90210.0, birth_date = '1950-02-30' WHERE id = 9;
UPDATE contacts SET birth_date = 'x' WHERE id IN (10, 11);
UPDATE contacts SET birth_date = X'313935302d30312d3032', effective_date = 'y' WHERE id = 12;
UPDATE contacts SET birth_date = '2050-01-01' WHERE id = 13;
UPDATE contacts SET birth_date = ' 1950-01-02T00:00:00' WHERE id = 14;
UPDATE contacts SET failed_underwriting = '?' WHERE id = 15;
UPDATE contact_campaigns SET trigger_date = 'z' WHERE id IN (16, 17);
UPDATE contact_campaigns SET trigger_date = ' ' WHERE id = 18;
UPDATE contact_campaigns SET contact_id = 'q' WHERE id = 19;
UPDATE contact_campaigns SET campaign_instance_id = 'q' WHERE id = 20;
DROP INDEX plan_key;
INSERT INTO email_schedules(id, contact_id, email_type, scheduled_send_date, status) VALUES
  (21, 20, 'invoice', '2026-11-01', 'sent'), (22, 20, 'birthday', 'w', 'sent'),
  (23, 20, 'birthday', 'v', 'failed'),
  (24, 20, 'birthday', 1762000000, 'Opened '), (25, 20, 'aep', '2026-02-01', 'paused'),
  (26, 'k', 'aep', '2026-02-02', 'sent');
CREATE UNIQUE INDEX plan_key ON email_schedules(contact_id, email_type, scheduled_send_date);
"""


def test_counts_are_those_of_a_run(checked: Checked) -> None:
    """Issues and warnings of a dry run have the counts of the check's findings."""
    organization = checked.put(FAULTY)
    report = checked.client.check(organization, as_of=AS_OF)
    run = checked.client.schedule(organization, as_of=AS_OF, dry_run=True, timeout_s=120.0)
    issues = Counter(run.issues)
    by_code: Counter[str] = Counter()
    for item in report.findings:
        by_code[item.code] += item.count
    assert report.contacts_eligible == run.contacts_eligible
    assert issues["suppressed"] == only(report, "suppressed_status").count == 1
    for code in ("invalid_email", "missing_email", "missing_zip", "unknown_zip"):
        assert issues[code] == by_code[code] > 0, code

    # Those after the date of the run are unreadable, too.
    dates = counts(report, "unreadable_date", "future_birth_date")
    birth = sum(count for (_, _, column, _), count in dates.items() if column == "birth_date")
    assert birth == issues["invalid_birth_date"] == 4
    codes = (
        *("unreadable_date", "missing_date", "unreadable_boolean", "unreadable_integer"),
        *("unreadable_contact_id", "unknown_status", "unknown_type"),
    )
    warned: Counter[tuple[str, str, str, str]] = Counter()
    for warning in run.warnings:
        if warning.code in codes:
            warned[warning.code, warning.table, warning.column, warning.name] += warning.count
    assert counts(report, *codes) == warned


def test_chunks_are_put_together(checked: Checked) -> None:
    """Findings of different chunks of contacts are counted together."""
    more = """
    WITH RECURSIVE n(i) AS (SELECT 41 UNION ALL SELECT i + 1 FROM n WHERE i < 70000)
    INSERT INTO contacts(id, email, zip_code, birth_date, status)
    SELECT i, 'person' || i || '@example.org', '90210', date('1930-01-01', (i % 20000) || ' days'),
    'active' FROM n;
    UPDATE contacts SET email = 'same@example.org' WHERE id IN (10, 40000, 69999);
    UPDATE contacts SET email = 'x' WHERE id % 10000 = 3;
    """
    report = checked.check(more)
    assert only(report, "shared_email").row_ids == [10, 40000, 69999]
    item = only(report, "invalid_email")
    assert (item.count, item.row_ids) == (7, [3, 10003, 20003, 30003, 40003])


@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16le", "UTF-16be"])
def test_any_encoding(checked: Checked, encoding: str) -> None:
    """Values and suggestions do not depend on how the file stores texts."""
    faults = FAULTY.replace("CAST(X'e9406578616d706c652e6f7267' AS TEXT)", "'é@x'").replace(
        "X'3139", "'3139"
    )
    report = checked.check(f"PRAGMA encoding = '{encoding}'", CLEAN, faults, clean=False)
    assert sum(item.count for item in report.findings if item.code == "invalid_email") == 3
    assert only(report, "unknown_type").name == "invoice"


def predecessor(checked: Checked) -> str:
    return checked.put((PREDECESSOR / "org-206.sql").read_text(), clean=False)


def test_adopting_the_predecessors_file(checked: Checked) -> None:
    """The suggestion for the predecessor's file is the expected configuration."""
    expected = json.loads((PREDECESSOR / "org-206-adopted.json").read_text())
    name = predecessor(checked)
    accepted = ["requested_follow_up"]
    report = checked.client.check(name, as_of=expected["as_of"], accept_statuses=accepted)
    assert report.settings == expected["config"]

    adoption = checked.client.plan_adoption(name, accepted)
    assert adoption.settings == expected["config"]
    done = checked.client.adopt(name, adoption, accepted)
    assert (done.applied, done.version, done.left) == (True, 1, [])
    checked.client.schedule(name, as_of=expected["as_of"], timeout_s=120.0)
    assert read_plan(checked.path(name)) == expected["rows"]
    assert read_issues(checked.path(name)) == expected["issues"]
    report = checked.client.check(name, as_of=expected["as_of"])
    assert (report.settings, {item.severity for item in report.findings}) == (
        {},
        {"warning", "note"},
    )


def test_statuses_are_only_accepted_when_asked_for(checked: Checked) -> None:
    """A suppressed status is suggested for nobody.

    It is left to a person, and a wrong name is refused.
    """
    name = predecessor(checked)
    adoption = checked.client.plan_adoption(name)
    assert "active_statuses" not in adoption.settings["contacts"]
    assert [(item.code, item.name) for item in adoption.left] == [
        ("suppressed_status", "requested_follow_up")
    ]
    with pytest.raises(InvalidArgumentError, match="no contact has the status 'follow_up'"):
        checked.client.check(name, accept_statuses=["follow_up"])
