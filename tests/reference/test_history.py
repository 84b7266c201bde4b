"""History, campaigns and follow-ups on small examples (sections 4, 7, 8)."""

from __future__ import annotations

import sqlite3
from datetime import date

import pytest

from tests.reference.examples import LOOSE, SCHEMA, contact, of_type, planned, sent
from tests.reference.plan import plan


def test_handled():
    """A sent birthday email answers its event: no birthday row and no post-window row.

    A failed one does not.
    """
    script = contact(zip_code="90210", birth="'1950-12-15'")
    found = planned(script + sent("birthday", "2026-08-01"), "2026-11-23")
    assert {email_type for _, email_type in found} == {"aep"}
    assert of_type(
        planned(script + sent("birthday", "2026-08-01", status=" Failed"), "2026-11-23"),
        "post_window",
    )


@pytest.mark.parametrize(
    ("row", "handled"),
    [
        # Birthday 15 December, planned on 23 November 2026: halfway to the one before is 15 June.
        (sent("birthday", "2026-06-16"), True),
        (sent("birthday", "2026-06-15"), False),
        (sent("birthday", "2027-06-15"), True),
        (sent("birthday", "2025-12-01"), False),
        (sent("birthday", "2025-12-01", event="2026-12-15"), True),
        (sent("birthday", "2026-12-01", event="2025-12-15"), False),
        (sent("birthday", "2026-12-01", event="2025-02-30"), True),  # not a real date
        (sent("birthday", "soon", event="2026-11-01"), True),
        (sent("birthday", "soon"), True),  # which one went out cannot be known
        (sent("birthday", " "), True),
        (sent("birthday", "soon", event="2025-12-15"), False),
        (sent("birthday", "1795489200"), True),
        (sent("birthday", "2026-11-16", status="mystery"), True),
        (sent("birthday", "2026-11-16", status=""), True),
        (
            sent("birthday", "2026-11-16", status="Skipped"),
            True,
        ),  # not exactly a status of the current plan
        (sent("birthday", "2026-11-16", status="skipped"), False),
        (sent("birthday", "2026-11-16", status="CANCELED "), False),
        (sent("BirthDay", "2026-11-16"), True),
        (sent("geburtstag", "2026-11-16"), True),  # an alias
        (sent("GEBURTSTAG", "2026-11-16"), True),
        (sent("birthday", "2026-11-16", contact_id="' 1'"), True),
        (sent("birthday", "2026-11-16", contact_id="1.0"), True),
        (sent("birthday", "2026-11-16", contact_id="'one'"), False),
        (sent("aep", "2026-11-16"), False),
    ],
)
def test_which_event_is_handled(row, handled):
    """A row of history belongs to the event nearest to its own date."""
    overrides = LOOSE | {"history": {"aliases": {"Geburtstag": "Birthday"}}}
    found = planned(contact(birth="'1950-12-15'") + row, "2026-11-23", overrides)
    assert bool(of_type(found, "birthday")) is not handled


def test_a_corrected_birth_date_sends_no_second_email():
    """The event date of the row in history is that of the old birth date.

    The corrected one is near.
    """
    script = contact(birth="'1950-12-28'") + sent("birthday", "2026-11-20", event="2026-12-04")
    assert not of_type(planned(script, "2026-11-23"), "birthday")


@pytest.mark.parametrize(
    ("own", "handled"),
    [("2027-01-15", True), ("2027-01-14", False), ("2027-03-16", True), ("2027-03-17", False)],
)
def test_post_window_handled(own, handled):
    """A post-window email answers for events up to 30 days away."""
    script = contact(zip_code="90210", birth="'1950-12-15'") + sent(
        "post_window", "2026-01-01", event=own
    )
    assert (not of_type(planned(script, "2026-11-23"), "post_window")) is handled


def test_two_aep_days():
    """Two AEP days of a year are separate events; the first ends before the second."""
    two = LOOSE | {"anniversary": {"aep_days": ["10-01", "11-20"], "aep_slack_days": 60}}
    of_october = sent("aep", "2026-10-01", event="2026-10-01")
    assert of_type(planned(contact(), "2026-11-19", two), "aep")[0][0] == "2026-11-19"
    assert of_type(planned(contact() + of_october, "2026-11-20", two), "aep") == [
        ("2026-11-20", None)
    ]
    of_november = sent("aep", "2026-11-20")
    assert not of_type(planned(contact() + of_november, "2027-01-19", two), "aep")
    assert of_type(planned(contact() + of_november, "2027-01-20", two), "aep") == [
        ("2027-10-01", None)
    ]


CAMPAIGNS = """
CREATE TABLE campaign_types (name, respect_exclusion_windows, enable_followups, days_before_event,
  priority, active,
  target_all_contacts, spread_evenly, skip_failed_underwriting);
CREATE TABLE campaign_instances (id, campaign_type, email_template, sms_template,
  active_start_date, active_end_date,
  spread_start_date, spread_end_date, target_states, target_carriers);
CREATE TABLE contact_campaigns (contact_id, campaign_instance_id, trigger_date, status);
INSERT INTO campaign_types (name, days_before_event) VALUES ('Promo', 7);
INSERT INTO campaign_instances (id, campaign_type, active_start_date) VALUES ('4', 'Promo',
  '2026-11-01');
"""
TARGET = "INSERT INTO contact_campaigns VALUES ({}, {}, {}, {});"
ONE = TARGET.format("' 1'", 4.0, "'2026-12-08T00:00'", "' Pending'")


def campaign(script, as_of="2026-11-23"):
    return of_type(planned(CAMPAIGNS + contact() + script, as_of), "campaign_Promo")


def test_campaign():
    """A contact with a row is emailed, whatever the types of its ids.

    Several equal trigger dates count once.
    """
    assert campaign(ONE + ONE) == [("2026-12-01", None)]
    other = TARGET.format(1, "'4'", "'2026-12-20'", "NULL")
    assert campaign(ONE + other) == [("2026-12-01", None), ("2026-12-13", None)]
    for ignored in (
        TARGET.format("'one'", 4, "'2026-12-08'", "NULL"),
        TARGET.format(1, 4, "'12/08/2026'", "NULL"),
        TARGET.format(1, 4, "'2026-12-08'", "''"),
        TARGET.format(1, 4, "'2026-12-08'", "'sent'"),
    ):
        assert campaign(ignored) == []


@pytest.mark.parametrize(
    "change",
    [
        *(
            f"instances SET {column}_date = 'soon'"
            for column in ("active_start", "active_end", "spread_start", "spread_end")
        ),
        *("instances SET target_states = 'Texas, ZZ'", "instances SET target_states = 'TX,ALL'"),
        *(
            f"types SET {column} = 'perhaps'"
            for column in (
                *(
                    "respect_exclusion_windows",
                    "enable_followups",
                    "days_before_event",
                    "priority",
                    "active",
                ),
                *("target_all_contacts", "spread_evenly", "skip_failed_underwriting"),
            )
        ),
        "types SET priority = 1.5",
    ],
)
def test_unreadable_campaign(change):
    """A campaign with an unreadable value is not planned, and its column is named."""
    script = CAMPAIGNS + contact() + ONE + f"UPDATE campaign_{change};"
    connection = sqlite3.connect(":memory:")
    connection.executescript(SCHEMA + script)
    found = plan(connection, date(2026, 11, 23), LOOSE)
    assert {row.email_type for row in found.rows} == {"aep"}
    column = change.split()[2]
    assert found.warnings["campaign_not_planned", f"campaign_{change.split()[0]}", column][0][
        0
    ] in (4, None)


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        *(
            (targets, True)
            for targets in (
                "target_states = ' tx;'",
                "target_states = 'Texas'",
                "target_states = 'all'",
            )
        ),
        ('target_states = \'["Ohio", "tx"]\'', True),
        ("target_states = 'CA, Ohio'", False),
        ("target_carriers = 'uhc; AETNA'", True),
        ("target_carriers = '[\"aetna\"]'", True),
        ("target_carriers = 'uhc'", False),
    ],
)
def test_targets(targets, expected):
    """States by code or name, carriers trimmed, both in any case."""
    script = ONE + "ALTER TABLE contacts ADD carrier; UPDATE contacts SET carrier = ' Aetna';"
    assert bool(campaign(script + f"UPDATE campaign_instances SET {targets};")) is expected


@pytest.mark.parametrize(
    ("row", "handled"),
    [
        (sent("campaign_promo", "2020-01-01", instance="'4'"), True),
        (sent("CAMPAIGN_PROMO", "2020-01-01", instance=4), True),
        (sent("campaign_promo", "2026-11-20", instance=5), False),
        (sent("campaign_promo", "2026-11-20"), False),
        (sent("campaign_promo", "soon", instance=5), True),  # no own date: every event of its type
        (sent("campaign_other", "2026-11-20", instance=4), False),
        (sent("campaign_promo", "2026-11-20", instance=4, status="Error"), False),
    ],
)
def test_campaign_handled(row, handled):
    """A row of the same type and instance answers for it, whatever its dates."""
    assert (not campaign(ONE + row)) is handled


FOLLOWUP = "followup_1_cold"


@pytest.mark.parametrize(
    ("row", "day"),
    [
        *(
            (sent("birthday", "2026-11-20", status=status), "2026-11-23")
            for status in ("sent", " Delivered", "OPENED", "clicked")
        ),
        *(
            (sent("birthday", "2026-11-20", status=status), None)
            for status in ("scheduled", "bounced", "failed")
        ),
        (sent("BIRTHDAY", "2026-11-22"), "2026-11-24"),
        (sent("aep", "2026-11-01", actual="'2026-11-22T14:30:00'"), "2026-11-24"),
        (
            sent("aep", "2026-11-01", actual="1795489200"),
            "2026-11-25",
        ),  # the 23rd in Chicago, already the 24th in UTC
        (sent("aep", "soon", actual="'2026-11-22'"), "2026-11-24"),
        (sent("aep", "2026-11-22", actual="'soon'"), "2026-11-24"),
        (sent("aep", "soon"), None),
        (sent("aep", "2026-10-18"), None),  # 36 days ago
        (sent("aep", "2026-11-24"), None),
        (sent("welcome", "2026-11-22"), None),
        (sent("aep", "2026-11-20") + sent("followup_2_x", "2026-11-20"), None),
        (sent("aep", "2026-11-20") + sent("FOLLOWUP_2", "2026-11-22"), None),
        (sent("aep", "2026-11-20") + sent("followup_2_x", "2026-11-19"), "2026-11-23"),
        (sent("aep", "2026-11-20") + sent("followup_2_x", "soon"), "2026-11-23"),
        (
            sent("aep", "2026-11-20") + sent("followup_2_x", "2026-11-22", status="dropped"),
            "2026-11-23",
        ),
    ],
)
def test_parents(row, day):
    """An e-mail of the last 35 days is followed once, counted from its real send date."""
    found = planned(contact() + row, "2026-11-23")
    assert of_type(found, FOLLOWUP) == ([] if day is None else [(day, None)])


def test_dispatched_rows_hold_days_and_keys():
    """A day with a dispatched row is taken, and a row with an unreadable date takes none."""
    script = (
        contact(birth="'1950-12-15'") + "INSERT INTO contacts (id) VALUES (2), (3), (4);"
    )  # a day for four
    assert (
        of_type(planned(script + sent("welcome", "2026-12-01 08:30"), "2026-11-23"), "birthday")[0][
            1
        ]
        == "same_day_conflict"
    )
    assert (
        of_type(planned(script + sent("welcome", "12/01/2026"), "2026-11-23"), "birthday")[0][1]
        is None
    )
    void = sent("birthday", "2026-12-01", status="Draft")
    assert not of_type(planned(script + void, "2026-11-23"), "birthday")
    configured = LOOSE | {"history": {"void_statuses": ["failed"]}}
    assert not of_type(
        planned(script + void.replace("12-01", "08-01"), "2026-11-23", configured), "birthday"
    )
    assert of_type(planned(script + void.replace("12-01", "08-01"), "2026-11-23"), "birthday")
