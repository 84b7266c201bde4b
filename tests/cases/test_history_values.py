"""History that another program wrote in its own types.

Nobody gets an e-mail twice because of them.
"""

from __future__ import annotations

from pathlib import Path

from tests.cases.runs import scheduled


def test_contact_ids_as_text(tmp_path: Path) -> None:
    """Birthday e-mails sent to contacts whose ids a CSV import made texts are not sent again."""
    outcome = scheduled("text_contact_id", tmp_path)
    assert outcome.dates("birthday") == {}
    # The e-mails were sent on 17 and 18 November; a follow-up two days later is due at once.
    assert outcome.dates("followup_1_cold") == {1: "2026-11-23", 2: "2026-11-23"}
    assert outcome.warnings == {}


def test_send_dates_as_unix_time(tmp_path: Path) -> None:
    """Send dates in unix seconds or milliseconds count: nothing is sent again."""
    outcome = scheduled("unix_time_history", tmp_path)
    assert outcome.dates("birthday") == {}
    assert outcome.dates("followup_1_cold") == {1: "2026-11-23", 2: "2026-11-23"}
    assert outcome.warnings == {}


def test_unreadable_send_dates(tmp_path: Path) -> None:
    """A sent row without a readable date handles every event of its type; a warning says so."""
    outcome = scheduled(
        "unix_time_history",
        tmp_path,
        "UPDATE email_schedules SET scheduled_send_date = 'last week' WHERE id = 1;"
        "UPDATE email_schedules SET scheduled_send_date = 1795219200000000 WHERE id = 2;",
    )
    assert outcome.dates("birthday") == {}
    assert outcome.dates("followup_1_cold") == {}
    assert outcome.warnings == {
        ("unreadable_date", "email_schedules", "scheduled_send_date"): (2, [1, 2])
    }


def test_unreadable_contact_ids(tmp_path: Path) -> None:
    """A sent row whose contact id cannot be read belongs to nobody, and the warnings name it."""
    outcome = scheduled(
        "text_contact_id", tmp_path, "UPDATE email_schedules SET contact_id = 'C-2' WHERE id = 2"
    )
    # Both birthdays are in early December; the second contact's e-mail was sent to nobody that is
    # known.
    assert set(outcome.dates("birthday")) == {2}
    assert outcome.warnings == {
        ("unreadable_contact_id", "email_schedules", "contact_id"): (1, [2])
    }


def test_statuses_of_the_provider(tmp_path: Path) -> None:
    """A sent e-mail whose status a webhook moved on, or wrote with a capital, is not sent again."""
    outcome = scheduled("sent_statuses", tmp_path)
    assert outcome.dates("birthday") == {}
    # Bounced and complained (4, 5) get no follow-up.
    assert set(outcome.dates("followup_1_cold")) == {1, 2, 3, 6}
    assert outcome.warnings == {}


def test_unknown_statuses(tmp_path: Path) -> None:
    """An unknown status counts as sent, without a follow-up; a warning names it."""
    outcome = scheduled(
        "sent_statuses",
        tmp_path,
        "UPDATE email_schedules SET status = 'soft_bounce' WHERE id = 4;"
        "UPDATE email_schedules SET status = 'Cancelled ' WHERE id = 5;",
    )
    # A cancelled row is neither plan nor history: contact 5 still gets the e-mail.
    assert set(outcome.dates("birthday")) == {5}
    assert set(outcome.dates("followup_1_cold")) == {1, 2, 3, 6}
    assert outcome.warnings == {("unknown_status", "email_schedules", "status"): (1, [4])}


def test_clicks_and_answers_as_unix_time(tmp_path: Path) -> None:
    """Clicks and answers stored as unix time decide the type of the follow-up."""
    outcome = scheduled("engagement_unix", tmp_path)
    assert outcome.dates("birthday") == {}
    assert outcome.dates("followup_2_clicked_no_hq") == {1: "2026-11-23", 2: "2026-11-23"}
    assert outcome.dates("followup_4_hq_with_yes") == {3: "2026-11-23"}
    assert outcome.dates("followup_1_cold") == {}


def test_unreadable_clicks(tmp_path: Path) -> None:
    """A click without a readable date is ignored; a warning names it."""
    outcome = scheduled(
        "engagement_unix", tmp_path, "UPDATE tracking_clicks SET clicked_at = 1795000000000000"
    )
    assert outcome.dates("followup_1_cold") == {1: "2026-11-23", 2: "2026-11-23"}
    assert outcome.warnings == {("unreadable_date", "tracking_clicks", "clicked_at"): (2, [1, 2])}


def test_plan_and_history_as_datetime(tmp_path: Path) -> None:
    """Rows whose send date has a time part: the plan's is replaced, the sent one is history."""
    outcome = scheduled("rails_datetime_plan", tmp_path)
    assert outcome.dates("birthday") == {1: "2026-12-06"}
    assert outcome.dates("followup_1_cold") == {2: "2026-11-23"}
    assert (outcome.result.rows_inserted, outcome.result.rows_deleted) == (4, 1)
