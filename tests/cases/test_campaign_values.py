"""Campaigns, their targets and trigger dates as other programs write them."""

from __future__ import annotations

from pathlib import Path

from tests.cases.runs import scheduled


def test_ids(tmp_path: Path) -> None:
    """Ids match whatever their column's type.

    An instance with a UUID, or of a type that is not there, is reported.
    """
    outcome = scheduled("campaign_ids_text", tmp_path)
    assert {contact for contact, kind in outcome.rows if kind == "campaign_t"} == {1, 2}
    assert outcome.warnings == {
        ("campaign_not_planned", "campaign_instances", "id"): (
            1,
            ["6f1c2f1e-0000-4000-8000-000000000001"],
        ),
        ("campaign_not_planned", "campaign_instances", "campaign_type"): (1, [3]),
        ("unreadable_integer", "contact_campaigns", "campaign_instance_id"): (1, [1]),
    }


def test_targets_and_dates(tmp_path: Path) -> None:
    """States in every usual form are read.

    An instance with a value that cannot be read is not planned.
    """
    # A type for each instance, so that two e-mails of one day do not share a row.
    change = (
        "INSERT INTO campaign_types SELECT 't' || id, 1, 5, 1, 1 FROM campaign_instances WHERE "
        "campaign_type = 't';"
        "UPDATE campaign_instances SET campaign_type = 't' || id WHERE campaign_type = 't';"
    )
    outcome = scheduled("campaign_values", tmp_path, change)
    # Contact 1 is in Texas with Aetna, contact 2 in Florida with UHC. Of the instances 1 to 6 and
    # 14, to Texas: lower case, names, JSON, semicolon, ALL, Aetna, trailing comma; to Florida:
    # lower case, JSON, semicolon, ALL. Instance 12 ended in unix time.
    planned = {(contact, kind) for contact, kind in outcome.rows if kind != "aep"}
    assert planned == {
        *((1, f"campaign_t{instance}") for instance in (1, 2, 3, 4, 5, 6, 14)),
        *((2, f"campaign_t{instance}") for instance in (1, 3, 4, 5)),
    }
    named = {
        key[1:]: row_ids
        for key, (_, row_ids) in outcome.warnings.items()
        if key[0] == "campaign_not_planned"
    }
    assert named == {
        ("campaign_instances", "active_end_date"): [7],
        ("campaign_instances", "active_start_date"): [8],
        ("campaign_types", "active"): [9],
        ("campaign_instances", "campaign_type"): [10, 11],
        ("campaign_instances", "target_states"): [13],
    }


def test_unreadable_number_of_a_type(tmp_path: Path) -> None:
    """A campaign type with the number '14 days' is not planned; a warning names it."""
    outcome = scheduled("triggers_dates", tmp_path)
    assert not any(kind == "campaign_rate_increase" for _, kind in outcome.rows)
    assert outcome.warnings == {
        ("campaign_not_planned", "campaign_types", "days_before_event"): (1, [1])
    }


def test_trigger_dates(tmp_path: Path) -> None:
    """Trigger dates are read with time parts and as unix time.

    Others are ignored and named in the warnings.
    """
    outcome = scheduled(
        "triggers_dates", tmp_path, "UPDATE campaign_types SET days_before_event = '14'"
    )
    campaign = {contact for contact, kind in outcome.rows if kind == "campaign_rate_increase"}
    # 2 has '12/01/2026', 6 has '2026-12-1'.
    assert campaign == {1, 3, 4, 5}
    # Two trigger dates are two e-mails.
    assert len(outcome.rows[5, "campaign_rate_increase"]) == 2
    assert outcome.warnings == {
        ("unreadable_date", "contact_campaigns", "trigger_date"): (2, [2, 7])
    }


def test_tables_without_rowid(tmp_path: Path) -> None:
    """Campaign tables with natural keys, which have no row ids, are read."""
    outcome = scheduled("without_rowid_campaigns", tmp_path)
    assert outcome.rows[1, "campaign_rate_increase"] == [("2026-12-01", "")]


def test_views(tmp_path: Path) -> None:
    """Campaign tables that are views over the application's own tables are read."""
    outcome = scheduled("view_campaigns", tmp_path)
    assert outcome.rows[1, "campaign_rate_increase"] == [("2026-12-01", "")]
    assert (2, "campaign_rate_increase") not in outcome.rows
