"""Texts that are not valid UTF-8, and files in UTF-16: one odd byte costs one contact at most."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cases.runs import scheduled

#: Columns that a run reads: (table, column).
READ = (
    *(
        ("contacts", name)
        for name in ("email", "zip_code", "birth_date", "effective_date", "carrier", "status")
    ),
    *(("contacts", name) for name in ("failed_underwriting", "unsubscribed")),
    *(("campaign_types", name) for name in ("name", "active", "priority", "days_before_event")),
    *(
        ("campaign_instances", name)
        for name in ("campaign_type", "instance_name", "email_template", "sms_template")
    ),
    *(
        ("campaign_instances", name)
        for name in ("active_end_date", "target_states", "target_carriers")
    ),
    *(
        ("contact_campaigns", name)
        for name in ("trigger_date", "status", "contact_id", "campaign_instance_id")
    ),
    *(("tracking_clicks", name) for name in ("contact_id", "clicked_at")),
    *(("contact_events", name) for name in ("contact_id", "event_type", "metadata", "created_at")),
    *(
        ("email_schedules", name)
        for name in ("contact_id", "email_type", "scheduled_send_date", "status")
    ),
    *(
        ("email_schedules", name)
        for name in ("scheduled_send_time", "skip_reason", "priority", "metadata")
    ),
    *(
        ("email_schedules", name)
        for name in ("email_template", "actual_send_datetime", "event_year")
    ),
    *(("email_schedules", name) for name in ("campaign_instance_id", "scheduler_run_id")),
)
FULL = """
ALTER TABLE contacts ADD COLUMN effective_date TEXT; ALTER TABLE contacts ADD COLUMN carrier TEXT;
ALTER TABLE contacts ADD COLUMN failed_underwriting; ALTER TABLE contacts ADD COLUMN unsubscribed;
INSERT INTO contacts(id, email, zip_code, birth_date, carrier) VALUES
  (6, 'f@example.org', '75001', '1955-12-20', 'Aetna'),
  (7, 'g@example.org', '75001', '1955-12-01', 'Aetna');
CREATE TABLE campaign_types(name TEXT, active, priority, days_before_event, target_all_contacts);
INSERT INTO campaign_types VALUES ('t', 1, 5, 0, 1), ('u', 1, 6, 0, 0);
CREATE TABLE campaign_instances(id INTEGER PRIMARY KEY, campaign_type TEXT, instance_name TEXT,
  email_template TEXT,
  sms_template TEXT, active_start_date TEXT, active_end_date TEXT, target_states TEXT,
  target_carriers TEXT);
INSERT INTO campaign_instances VALUES (1, 't', 'n', 'e', 's', '2026-11-01', '2026-12-31', 'TX',
  'Aetna'),
  (2, 'u', 'n', 'e', 's', '2026-11-01', '2026-12-31', NULL, NULL);
CREATE TABLE contact_campaigns(contact_id, campaign_instance_id, trigger_date TEXT, status TEXT);
INSERT INTO contact_campaigns VALUES (1, 2, '2026-12-01', 'pending'),
  (6, 2, '2026-12-02', 'pending');
CREATE TABLE tracking_clicks(contact_id, clicked_at TEXT);
INSERT INTO tracking_clicks VALUES (7, '2026-11-18');
CREATE TABLE contact_events(contact_id, event_type TEXT, metadata TEXT, created_at TEXT);
INSERT INTO contact_events VALUES (7, 'eligibility_answered', '{"has_medical_conditions": true}',
  '2026-11-18');
CREATE TABLE email_schedules(id INTEGER PRIMARY KEY, contact_id, email_type TEXT,
  scheduled_send_date TEXT,
  scheduled_send_time TEXT, status TEXT, skip_reason TEXT, priority, campaign_instance_id,
  email_template TEXT,
  metadata TEXT, actual_send_datetime TEXT, event_year, event_month, event_day,
  scheduler_run_id TEXT);
INSERT INTO email_schedules(id, contact_id, email_type, scheduled_send_date, scheduled_send_time,
  status) VALUES
  (1, 7, 'birthday', '2026-11-17', '08:30:00', 'sent'),
  (2, 1, 'birthday', '2026-12-06', '08:30:00', 'pre-scheduled');
"""


def test_bytes_of_windows_1252(tmp_path: Path) -> None:
    """A byte that is not UTF-8 in address, ZIP or birth date affects only its contact."""
    outcome = scheduled("invalid_utf8", tmp_path)
    assert outcome.issues == [(2, "invalid_email"), (3, "unknown_zip"), (4, "invalid_birth_date")]
    assert outcome.dates("birthday") == {1: "2026-12-06", 5: "2027-01-06"}
    assert outcome.warnings == {("unreadable_date", "contacts", "birth_date"): (1, [4])}


def test_carrier(tmp_path: Path) -> None:
    """A carrier with such a byte is another carrier; the campaign goes to the others."""
    outcome = scheduled("invalid_utf8_carrier", tmp_path)
    assert {contact for contact, kind in outcome.rows if kind == "campaign_rate_increase"} == {1}


def test_history(tmp_path: Path) -> None:
    """A sent birthday e-mail whose date has such a byte is not sent again.

    Both odd rows are named.
    """
    outcome = scheduled("invalid_utf8_history", tmp_path)
    assert outcome.dates("birthday") == {2: "2027-01-06"}
    assert outcome.warnings == {
        ("unreadable_date", "email_schedules", "scheduled_send_date"): (1, [1]),
        ("unknown_type", "email_schedules", "email_type"): (1, [2]),
    }


def test_columns_that_do_not_matter(tmp_path: Path) -> None:
    """Such bytes in a name, an old row's metadata or an answer change no plan.

    A status with one is not active.
    """
    outcome = scheduled("bad_byte_irrelevant", tmp_path)
    assert outcome.issues == [(1, "suppressed")]
    assert outcome.dates("birthday") == {}
    assert outcome.dates("followup_4_hq_with_yes") == {2: "2026-11-23"}


@pytest.mark.slow
def test_one_of_ten_thousand(tmp_path: Path) -> None:
    """One bad byte in one address of 10,000 costs one contact its e-mails."""
    outcome = scheduled("one_bad_byte", tmp_path)
    assert outcome.issues == [(7777, "invalid_email")]
    assert len(outcome.dates("aep")) == 9_999 - outcome.result.skipped.get("same_day_conflict", 0)


def test_utf16(tmp_path: Path) -> None:
    """A UTF-16 file is planned like one in UTF-8."""
    outcome = scheduled("utf16", tmp_path)
    assert outcome.dates("birthday") == {1: "2026-12-06", 2: "2027-01-06"}
    assert outcome.rows[3, "birthday"] == [("2027-01-06", "exclusion:MA:year_round")]


@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16le"])
@pytest.mark.parametrize(("table", "column"), READ)
def test_a_bad_byte_in_every_column(table: str, column: str, encoding: str, tmp_path: Path) -> None:
    """Invalid bytes in any column affect neither the run nor other contacts."""
    bad = "x'41e9'" if encoding == "UTF-8" else "x'4100d8'"
    change = FULL + f"UPDATE {table} SET {column} = CAST({bad} AS TEXT) WHERE rowid = 1;"
    name = "utf16" if encoding == "UTF-16le" else "base"
    if name == "utf16":
        change = change.replace(
            "INSERT INTO contacts(", "DELETE FROM contacts WHERE id > 2; INSERT INTO contacts("
        )
    else:
        change = change.replace("ALTER TABLE contacts ADD COLUMN effective_date TEXT;", "")
    if (table, column) == ("contacts", "status") and name == "utf16":
        change = "ALTER TABLE contacts ADD COLUMN status TEXT;" + change
    outcome = scheduled(name, tmp_path, change)
    assert (
        outcome.dates("birthday")[6] == "2026-12-07" or outcome.dates("birthday")[6] == "2026-12-06"
    )
    # The e-mail of 17 November is history unless nothing tells whose it is, or of which type.
    known = table != "email_schedules" or column not in {"contact_id", "email_type"}
    assert (7 not in outcome.dates("birthday")) == known
