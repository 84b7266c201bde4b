"""Every kind of finding: a file that has it, through a daemon, and a file that has none."""

from __future__ import annotations

import re
from typing import Any

import pytest

from schedd.inspection.codes import CODES
from schedproto.checks import ERROR, NOTE, WARNING
from tests.support.checks import Checked, only
from tests.support.paths import ROOT

DOCS = ROOT / "docs" / "CHECK.md"
UNSENT = (
    "INSERT INTO email_schedules(id, contact_id, email_type, scheduled_send_date, status) VALUES "
)

#: code -> cases: (changes to the clean file, fields of the finding)
CASES: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "contacts_missing": [("DROP TABLE contacts", {"severity": ERROR})],
    "contacts_empty": [("DELETE FROM contacts", {"severity": ERROR})],
    "column_missing": [("ALTER TABLE contacts DROP COLUMN zip_code", {"severity": ERROR})],
    "duplicate_keys": [
        (
            "DROP INDEX plan_key;" + UNSENT + "(10, 1, 'birthday', '2026-01-05', 'bounced')",
            {"count": 2, "row_ids": [1], "values": ["contact 1, birthday, 2026-01-05"]},
        )
    ],
    "duplicate_plan_rows": [
        (
            # Of the first key a row of the sender stays, of the second the first planned row.
            "DROP INDEX plan_key;" + UNSENT + "(10, 1, 'birthday', '2026-01-05', 'pre-scheduled'), "
            "(11, 4, 'aep', '2026-12-01', 'skipped'), (12, 4, 'aep', '2026-12-01', "
            "'pre-scheduled')",
            {"count": 3, "row_ids": [10, 11, 12], "severity": WARNING},
        )
    ],
    "damaged_index": [
        (
            # The index has fewer rows than its declaration says.
            (
                "CREATE INDEX lost ON email_schedules(status) WHERE id > 2;"
                "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET "
                "sql = 'CREATE INDEX lost ON email_schedules(status)' WHERE name = 'lost'"
            ),
            {"severity": ERROR},
        )
    ],
    "unique_index": [
        (
            "CREATE UNIQUE INDEX one_a_year ON email_schedules(contact_id, email_type, event_year)",
            {"name": "one_a_year"},
        ),
        (
            "CREATE UNIQUE INDEX odd ON email_schedules(contact_id, lower(email_type), event_year)",
            {"name": "odd"},
        ),
        (
            (
                "CREATE UNIQUE INDEX planned ON email_schedules(contact_id, email_type) WHERE "
                "status "
                "= 'pre-scheduled'"
            ),
            {"name": "planned"},
        ),
        (
            (
                "CREATE UNIQUE INDEX dated ON email_schedules(contact_id, email_type) WHERE "
                "event_year IS NOT NULL"
            ),
            {"name": "dated"},
        ),
    ],
    "unique_constraint": [
        (
            (
                "DROP TABLE email_schedules; CREATE TABLE email_schedules(id INTEGER PRIMARY KEY, "
                "contact_id INTEGER, "
                "email_type TEXT, scheduled_send_date TEXT, status TEXT, UNIQUE (contact_id, "
                "email_type))"
            ),
            {"count": 1, "column": "contact_id, email_type"},
        )
    ],
    "trigger": [
        (
            (
                "CREATE TRIGGER touch AFTER UPDATE ON email_schedules BEGIN "
                "UPDATE email_schedules SET updated_at = 'x' WHERE id = new.id; END"
            ),
            {"name": "touch", "severity": WARNING},
        ),
        (
            (
                "CREATE TABLE log(x); CREATE TRIGGER logged AFTER UPDATE ON email_schedules BEGIN "
                "INSERT INTO log VALUES (new.id); END"
            ),
            {"name": "logged", "severity": NOTE},
        ),
    ],
    "plan_incomplete": [
        ("DROP INDEX plan_key", {"name": "unique index"}),
        (
            "ALTER TABLE email_schedules DROP COLUMN metadata",
            {"name": "columns", "column": "metadata"},
        ),
    ],
    "other_column_name": [
        (
            "ALTER TABLE contacts RENAME COLUMN birth_date TO dob",
            {"column": "birth_date", "name": "dob", "count": 40},
        ),
        (
            "ALTER TABLE contacts RENAME COLUMN zip_code TO postal_code",
            {"column": "zip_code", "name": "postal_code"},
        ),
        (
            "ALTER TABLE contacts RENAME COLUMN email TO email_address",
            {"column": "email", "name": "email_address"},
        ),
        (
            (
                "ALTER TABLE contacts ADD COLUMN policy_start_date; "
                "UPDATE contacts SET policy_start_date = effective_date, effective_date = NULL"
            ),
            {"column": "effective_date", "name": "policy_start_date"},
        ),
    ],
    "nobody_eligible": [("UPDATE contacts SET status = 'lead'", {"count": 40})],
    "unreadable_date": [
        (
            (
                "UPDATE contacts SET birth_date = '12/31/1950' WHERE id < 4; "
                "UPDATE contacts SET birth_date = '1/2/1950' WHERE id = 4"
            ),
            {
                "name": "99/99/9999",
                "count": 3,
                "column": "birth_date",
                "severity": ERROR,
                "row_ids": [1],
                "settings": {"contacts": {"date_formats": ["YYYY-MM-DD", "MM/DD/YYYY"]}},
            },
        ),
        (
            "UPDATE contacts SET effective_date = 'soon' WHERE id = 7",
            {"name": "AAAA", "count": 1, "severity": WARNING},
        ),
        (
            "UPDATE contacts SET birth_date = '1950-02-30' WHERE id = 7",
            {"name": "9999-99-99", "values": ["1950-02-30"]},
        ),
        (
            "UPDATE contacts SET birth_date = 3091950 WHERE id = 7",
            {"name": "9999999", "severity": WARNING},
        ),
        (
            "UPDATE email_schedules SET scheduled_send_date = 'soon' WHERE id = 1",
            {"table": "email_schedules", "severity": WARNING, "values": ["soon"]},
        ),
        (
            (
                "UPDATE email_schedules SET scheduled_send_date = 'soon', event_year = NULL WHERE "
                "id "
                "= 1"
            ),
            {"table": "email_schedules", "severity": ERROR},
        ),
        (
            "UPDATE contact_campaigns SET trigger_date = '01/15/2027' WHERE id IN (3, 5)",
            {"table": "contact_campaigns", "row_ids": [3, 5]},
        ),
        (
            "UPDATE tracking_clicks SET clicked_at = 'yesterday' WHERE id = 2",
            {"table": "tracking_clicks", "count": 1},
        ),
        (
            "UPDATE contact_events SET created_at = 'yesterday'",
            {"table": "contact_events", "count": 1},
        ),
    ],
    "ambiguous_date": [
        (
            "UPDATE contacts SET birth_date = '03/04/1950' WHERE id IN (3, 9)",
            {"count": 2, "row_ids": [3]},
        ),
        ("UPDATE contacts SET birth_date = '03041950' WHERE id = 3", {"name": "99999999"}),
    ],
    "mixed_dates": [
        (
            (
                "UPDATE contacts SET birth_date = '03/24/1950' WHERE id = 3; "
                "UPDATE contacts SET birth_date = '24/03/1950' WHERE id = 4"
            ),
            {"count": 2},
        ),
        (
            (
                "UPDATE contacts SET birth_date = '03/24/1950' WHERE id = 3; "
                "UPDATE contacts SET effective_date = '24/03/2015' WHERE id = 4"
            ),
            {"count": 1, "column": "effective_date"},
        ),
    ],
    "future_birth_date": [
        ("UPDATE contacts SET birth_date = '2050-01-02' WHERE id = 3", {"values": ["2050-01-02"]})
    ],
    "improbable_birth_date": [
        ("UPDATE contacts SET birth_date = '1066-10-14' WHERE id = 3", {"row_ids": [3]})
    ],
    "placeholder_birth_date": [
        (
            "UPDATE contacts SET birth_date = '1900-01-01' WHERE id <= 25",
            {"name": "1900-01-01", "count": 25},
        )
    ],
    "placeholder_birthday": [
        ("UPDATE contacts SET birth_date = (1940 + id) || '-01-01' WHERE id <= 30", {"count": 30}),
    ],
    "unreadable_boolean": [
        (
            "UPDATE contacts SET failed_underwriting = 'maybe' WHERE id = 6",
            {"column": "failed_underwriting"},
        ),
        (
            "UPDATE contacts SET unsubscribed = 'maybe' WHERE id = 6",
            {"column": "unsubscribed", "values": ["maybe"]},
        ),
    ],
    "missing_email": [
        ("UPDATE contacts SET email = ' ' WHERE id IN (5, 6)", {"count": 2, "row_ids": [5, 6]})
    ],
    "invalid_email": [
        (
            "UPDATE contacts SET email = 'nobody' WHERE id = 5",
            {"name": "no @", "values": ["nobody"]},
        ),
        (
            "UPDATE contacts SET email = CAST(X'e9406578616d706c652e6f7267' AS TEXT) WHERE id = 5",
            {"count": 1},
        ),
    ],
    "shared_email": [
        (
            "UPDATE contacts SET email = ' Person1@EXAMPLE.org' WHERE id = 9",
            {"count": 2, "row_ids": [1, 9]},
        ),
    ],
    "shared_with_opted_out": [
        (
            "UPDATE contacts SET email = 'person1@example.org', unsubscribed = 1 WHERE id = 9",
            {"count": 1, "row_ids": [1], "values": ["person1@example.org"]},
        ),
    ],
    "missing_zip": [
        ("UPDATE contacts SET zip_code = NULL WHERE id = 5", {"count": 1, "row_ids": [5]})
    ],
    "unknown_zip": [
        (
            "UPDATE contacts SET zip_code = 'K1A 0B1' WHERE id = 5",
            {"name": "A9A 9A9", "values": ["K1A 0B1"]},
        ),
        (
            "UPDATE contacts SET zip_code = '00000' WHERE id = 5",
            {"name": "99999", "values": ["00000"]},
        ),
    ],
    "zip_forms": [
        (
            (
                "UPDATE contacts SET zip_code = '90210-1234' WHERE id = 5; UPDATE contacts SET "
                "zip_code = '90210.0' "
                "WHERE id IN (6, 7)"
            ),
            {"count": 3, "counts": {"2139.0": 2, "02139-1234": 1}},
        ),
    ],
    "suppressed_status": [
        (
            "UPDATE contacts SET status = ' Lead' WHERE id IN (5, 6)",
            {"name": "lead", "count": 2, "settings": {}},
        ),
    ],
    "opt_out_column": [
        (
            (
                "ALTER TABLE contacts ADD COLUMN bounced_at; UPDATE contacts SET bounced_at = "
                "'2026-01-01' WHERE id = 5"
            ),
            {"column": "bounced_at", "count": 1, "row_ids": [5]},
        ),
        (
            (
                "ALTER TABLE contacts ADD COLUMN is_deleted DEFAULT 'no'; UPDATE contacts SET "
                "is_deleted = 'Yes' "
                "WHERE id IN (5, 6)"
            ),
            {"column": "is_deleted", "count": 2},
        ),
    ],
    "opt_out_column_unclear": [
        (
            "ALTER TABLE contacts ADD COLUMN suppressed DEFAULT 'none'",
            {"column": "suppressed", "settings": {}},
        ),
        ("ALTER TABLE contacts ADD COLUMN archived DEFAULT 1", {"column": "archived", "count": 40}),
    ],
    "opt_out_column_unused": [
        ("ALTER TABLE contacts ADD COLUMN dnc DEFAULT 0", {"column": "dnc", "count": 0})
    ],
    "opt_in_column": [
        (
            (
                "ALTER TABLE contacts ADD COLUMN email_opt_in DEFAULT 1; UPDATE contacts SET "
                "email_opt_in = 0 WHERE id = 5"
            ),
            {"column": "email_opt_in", "count": 1, "row_ids": [5], "settings": {}},
        ),
    ],
    "state_without_rule": [
        (
            "UPDATE contacts SET zip_code = '75001' WHERE id <= 3",
            {"counts": {"TX": 3}, "count": 3, "severity": NOTE},
        ),
    ],
    "preset_differs": [
        (
            "UPDATE contacts SET zip_code = '60601' WHERE id <= 3",
            {"counts": {"IL": 3}, "name": "2026"},
        )
    ],
    "unknown_status": [
        (
            "UPDATE email_schedules SET status = 'Paused' WHERE id = 1",
            {"name": "paused", "values": ["Paused"]},
        ),
    ],
    "unknown_type": [
        (
            "UPDATE email_schedules SET email_type = 'SCHEDULED_RATE_INCREASE' WHERE id = 1",
            {
                "name": "scheduled_rate_increase",
                "severity": ERROR,
                "settings": {
                    "history": {"aliases": {"scheduled_rate_increase": "campaign_rate_increase"}}
                },
            },
        ),
        (
            "UPDATE email_schedules SET email_type = 'invoice' WHERE id = 1",
            {"name": "invoice", "severity": WARNING, "settings": {}},
        ),
    ],
    "unreadable_contact_id": [
        (
            "UPDATE email_schedules SET contact_id = 'x1' WHERE id = 1",
            {"severity": ERROR, "values": ["x1"]},
        ),
        (
            "UPDATE contact_campaigns SET contact_id = 'x1' WHERE id = 1",
            {"severity": WARNING, "row_ids": [1]},
        ),
    ],
    "text_contact_id": [
        (
            (
                "CREATE TABLE new(id INTEGER PRIMARY KEY, contact_id TEXT, clicked_at TEXT); "
                "INSERT INTO new SELECT * FROM tracking_clicks; DROP TABLE tracking_clicks; "
                "ALTER TABLE new RENAME TO tracking_clicks"
            ),
            {"table": "tracking_clicks", "count": 2},
        ),
    ],
    "orphan_rows": [
        (
            "UPDATE email_schedules SET contact_id = 999 WHERE id = 1",
            {"table": "email_schedules", "values": ["999"]},
        ),
        (
            "UPDATE contact_campaigns SET contact_id = 999 WHERE id = 1",
            {"table": "contact_campaigns", "count": 1},
        ),
        ("UPDATE tracking_clicks SET contact_id = 999", {"table": "tracking_clicks", "count": 2}),
    ],
    "campaign_not_planned": [
        (
            "UPDATE campaign_instances SET target_states = 'CA,XX' WHERE id = 2",
            {"column": "target_states"},
        ),
        ("UPDATE campaign_instances SET campaign_type = 'sale' WHERE id = 2", {"values": ["sale"]}),
    ],
    "campaign_without_contacts": [
        ("UPDATE campaign_instances SET target_states = 'TX' WHERE id = 2", {"name": "2"}),
        ("UPDATE campaign_instances SET target_carriers = 'Nobody' WHERE id = 2", {"name": "2"}),
        ("DELETE FROM contact_campaigns", {"name": "1"}),
        ("UPDATE contact_campaigns SET trigger_date = '2026-01-01'", {"name": "1"}),
    ],
    "unknown_campaign": [
        (
            "UPDATE contact_campaigns SET campaign_instance_id = 77 WHERE id = 4",
            {"row_ids": [4], "values": ["77"]},
        ),
    ],
    "missing_date": [
        (
            "UPDATE contact_campaigns SET trigger_date = NULL WHERE id IN (1, 2)",
            {"count": 2, "row_ids": [1, 2]},
        ),
    ],
    "unreadable_integer": [
        (
            "UPDATE contact_campaigns SET campaign_instance_id = 'one' WHERE id = 4",
            {"values": ["one"]},
        ),
    ],
}
_ALL = [(code, number) for code, cases in CASES.items() for number in range(len(cases))]


def test_a_clean_file_has_no_findings(checked: Checked) -> None:
    """Nothing is reported of a file that a run reads completely."""
    report = checked.check()
    assert [(item.code, item.message) for item in report.findings] == []
    assert (report.contacts, report.contacts_eligible, report.settings, report.checked) == (
        40,
        40,
        {},
        True,
    )


@pytest.mark.parametrize(
    ("code", "number"), _ALL, ids=[f"{code}-{number}" for code, number in _ALL]
)
def test_each_kind_is_found(checked: Checked, code: str, number: int) -> None:
    """A file with one fault gets its finding, with readable examples."""
    script, fields = CASES[code][number]
    report = checked.check(script)
    item = only(report, code, **fields)
    assert item.severity in CODES[code].severities
    for sentence in (item.message, item.fix):
        assert re.fullmatch(r"\S.*\S", sentence)
        assert sentence.endswith((".", ")")) or item.code in {
            "contacts_missing",
            "contacts_empty",
            "column_missing",
        }
    assert len(item.row_ids) == len(item.values) <= 5
    assert all(value.isprintable() for value in item.values)


def test_every_code_has_a_case() -> None:
    """No kind of finding is without a test; `foreign_schema` has tests of its own."""
    assert set(CASES) | {"foreign_schema"} == set(CODES)


def test_the_documentation_has_every_code() -> None:
    """docs/CHECK.md has a row for each code, with its severities, meaning and fix, and no other."""
    rows = re.findall(
        r"^\| `(\w+)` \| ([^|]*) \| ([^|]*) \| ([^|]*) \|$",
        DOCS.read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    expected = [
        (code, ", ".join(known.severities), known.meaning, known.fix)
        for code, known in CODES.items()
    ]
    assert rows == expected
