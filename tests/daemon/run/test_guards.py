"""Guards against a run that would change too much of the plan.

Tests the exact figures, that nothing is written, and how to accept the changes.
"""

from __future__ import annotations

import datetime as dt
import random
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from schedctl.synthetic import make_organization
from schedd.backups.backups import Backups
from schedd.run.runner import run_job
from schedproto import GuardMeasure, JobSpec, RunResult, SchedulerError
from tests.support.plans import (
    LocalContext,
    make_database,
    read_issues,
    read_plan,
    run_locally,
)

AS_OF = "2026-11-23"
CONTACTS = """CREATE TABLE contacts(id INTEGER PRIMARY KEY, email TEXT, zip_code, birth_date,
  effective_date,
  failed_underwriting, do_not_email);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})
INSERT INTO contacts(id, email, zip_code, birth_date)
SELECT i, 'u' || i || '@example.org', '75001', date('1950-01-01',
  '+' || ((i * 7919) % 9000) || ' days') FROM n;"""
#: So that small files are judged, too.
STRICT = {"guard": {"min_count": 1}}
ONE_IN_FIVE = {"guard": {"max_unreadable_percent": 20.0}}
CROWDED = {"balance": {"daily_cap_percent": 2.0}, "anniversary": {"aep_slack_days": 0}}
NEVER = {
    "guard": {
        "max_ineligible_increase_percent": 100.0,
        "max_removed_percent": 100.0,
        "max_unreadable_percent": 100.0,
        "max_days_over_cap": 1000,
    }
}


class File:
    """An organization's file, and its runs."""

    def __init__(self, folder: Path, count: int) -> None:
        self.path, self.scratch = folder / "org.db", folder / "scratch"
        make_database(self.path, CONTACTS.format(count=count))

    def run(self, as_of: str = AS_OF, **spec: Any) -> RunResult:
        return run_locally(self.path, self.scratch, as_of, **spec)

    def preview(self, **spec: Any) -> dict[str, GuardMeasure]:
        return {measure.code: measure for measure in self.run(dry_run=True, **spec).guard}

    def change(self, sql: str) -> None:
        connection = sqlite3.connect(self.path)
        connection.executescript(sql)
        connection.close()

    def content(self) -> list[Any]:
        connection = sqlite3.connect(self.path)
        rows = list(connection.iterdump())
        connection.close()
        return rows

    def refused(self, **spec: Any) -> SchedulerError:
        """The error of a run that is to stop; the file is as it was."""
        before = self.content()
        with pytest.raises(SchedulerError) as caught:
            self.run(**spec)
        assert self.content() == before
        assert caught.value.code == "plan_abnormal"
        assert not caught.value.retryable
        return caught.value


def e_mails(result: RunResult) -> int:
    """The planned e-mails that go out."""
    return sum(counts.get("pre-scheduled", 0) for counts in result.counts.values())


@pytest.fixture
def file(tmp_path: Path) -> File:
    """100 contacts, not planned yet."""
    return File(tmp_path, 100)


def test_everyone_gone(tmp_path: Path) -> None:
    """An import that makes all ZIPs unreadable stops the run with the figures.

    Accepting the changes lets it through.
    """
    file = File(tmp_path, 1000)
    total = e_mails(file.run())
    file.change("UPDATE contacts SET zip_code = 'n/a'")

    error = file.refused()
    assert (
        "1,000 of 1,000 contacts (100 %) became ineligible since the last run (1,000 unknown_zip)"
        in error.message
    )
    assert f"{total:,} of {total:,} planned e-mails (100 %) would be removed" in error.message
    assert "--accept-changes" in error.hint
    assert "accept_changes=True" in error.hint
    assert error.details["ineligible_increase"] == error.details["ineligible_increase_of"] == "1000"
    assert error.details["removed"] == str(total)
    assert error.details["removed_allowed"] == "30"

    shown = file.preview()
    assert [code for code, measure in shown.items() if measure.exceeded] == [
        "ineligible_increase",
        "removed",
    ]
    accepted = file.run(accept_changes=True)
    assert accepted.rows_planned == 0
    assert [measure.exceeded for measure in accepted.guard] == [False, True, True, False]
    assert read_plan(file.path) == []
    assert file.run().rows_deleted == 0


def test_no_backup_is_made(tmp_path: Path) -> None:
    """A run that stops has written nothing, not even a backup."""
    file = File(tmp_path, 100)
    file.run()
    file.change("UPDATE contacts SET zip_code = 'n/a'")
    context = LocalContext(tmp_path / "scratch")
    context.backups = Backups(tmp_path / "backups", 7, lambda: dt.datetime.now(dt.UTC))
    with pytest.raises(SchedulerError, match="guards allow"):
        run_job(JobSpec(organization="org", as_of=AS_OF), file.path, "", context)
    assert not (tmp_path / "backups").exists()


class TestIneligible:
    """Contacts that became ineligible since the last run."""

    def test_the_limit_is_exact(self, file: File) -> None:
        """Ten of a hundred are ten percent and pass; eleven are more and stop."""
        file.run()
        file.change("UPDATE contacts SET email = NULL WHERE id <= 10")
        assert file.preview(config=STRICT)["ineligible_increase"].count == 10
        file.change("UPDATE contacts SET zip_code = '' WHERE id = 11")
        error = file.refused(config=STRICT)
        assert "11 of 100 contacts (11 %)" in error.message
        assert "(10 missing_email, 1 missing_zip)" in error.message

    def test_only_who_became_so(self, file: File) -> None:
        """Contacts that are new or were ineligible before, for any reason, do not count.

        Contacts that were eligible, with or without issues, do.
        """
        file.change(
            "UPDATE contacts SET email = 'nobody' WHERE id <= 5;"
            "UPDATE contacts SET birth_date = 'soon' WHERE id BETWEEN 6 AND 8"
        )
        file.run()
        file.change(
            "UPDATE contacts SET email = NULL WHERE id <= 8;"
            "INSERT INTO contacts(id, email) VALUES (101, 'new@example.org'), (900, NULL)"
        )
        measure = file.preview()["ineligible_increase"]
        assert (measure.count, measure.total) == (3, 102)

    def test_few_never_stop_a_run(self, file: File) -> None:
        """Below `min_count` contacts nothing stops, whatever their share."""
        file.run()
        file.change("UPDATE contacts SET zip_code = NULL WHERE id <= 19")
        assert not file.preview()["ineligible_increase"].exceeded
        file.change("UPDATE contacts SET zip_code = NULL WHERE id = 20")
        assert file.preview()["ineligible_increase"].exceeded

    def test_needs_the_last_run(self, file: File) -> None:
        """Without a completed run, or without its issues, there is no such figure."""
        assert list(file.preview()) == ["unreadable"]
        file.run()
        file.change("DROP TABLE contact_issues")
        assert "ineligible_increase" not in file.preview()
        file.change("UPDATE scheduler_runs SET status = 'failed'")
        assert list(file.preview()) == ["unreadable"]


class TestRemoved:
    """Planned e-mails of today and later that the plan no longer has."""

    def test_moved_is_not_removed(self, file: File) -> None:
        """E-mails that go out on another day are still there."""
        file.run()
        result = file.run(dry_run=True, config={"anniversary": {"birthday_days_before": 12}})
        assert result.rows_deleted > 80
        assert {measure.code: measure.count for measure in result.guard}["removed"] == 0

    def test_skipped_is_removed(self, file: File) -> None:
        """E-mails that are skipped from now on do not go out, so they count."""
        total = e_mails(file.run())
        settings = {"exclusion": {"rules": {"TX": [{"kind": "year_round"}]}}}
        error = file.refused(config=settings)
        assert f"{total} of {total} planned e-mails (100 %)" in error.message

    def test_deleted_contacts(self, file: File) -> None:
        """The e-mails of deleted contacts count, also before the first remaining contact."""
        file.run()
        rows = Counter(row[0] for row in read_plan(file.path) if row[3] == "pre-scheduled")
        file.change("DELETE FROM contacts WHERE id <= 30 OR id BETWEEN 50 AND 59 OR id > 95")
        measure = file.preview()["removed"]
        gone = sum(
            n for contact, n in rows.items() if contact <= 30 or 50 <= contact <= 59 or contact > 95
        )
        assert (measure.count, measure.total) == (gone, rows.total())
        assert measure.exceeded

    def test_past_days_do_not_count(self, file: File) -> None:
        """Rows of days before the run's date were due; they are not removed by the run."""
        file.run()
        file.change(
            "UPDATE email_schedules SET scheduled_send_date = '2026-11-22' WHERE email_type = 'aep'"
        )
        measure = file.preview()["removed"]
        assert (measure.count, measure.total) == (0, 100)

    def test_odd_spellings(self, file: File) -> None:
        """A row with another spelling of its date is replaced; that is not a removal."""
        total = e_mails(file.run())
        file.change(
            "UPDATE email_schedules SET scheduled_send_date = scheduled_send_date || ' 00:00:00'"
        )
        measure = file.preview()["removed"]
        assert (measure.count, measure.total) == (0, total)

    def test_campaign_that_ended(self, file: File) -> None:
        """The e-mails of a campaign that is switched off are removed."""
        file.change(
            "CREATE TABLE campaign_types(name TEXT, target_all_contacts INTEGER, active INTEGER);"
            "INSERT INTO campaign_types VALUES ('offer', 1, 1);"
            "CREATE TABLE campaign_instances(id INTEGER PRIMARY KEY, campaign_type TEXT, "
            "active_start_date TEXT);"
            "INSERT INTO campaign_instances VALUES (1, 'offer', '2026-11-20')"
        )
        before = file.run()
        assert before.counts["campaign_offer"]["pre-scheduled"] == 100
        file.change("UPDATE campaign_types SET active = 0")
        measure = file.preview()["removed"]
        assert (measure.count, measure.total) == (100, e_mails(before))

    def test_follow_ups(self, file: File) -> None:
        """A follow-up of another type is the same e-mail; one without a parent is removed."""
        file.run()
        file.change(
            "INSERT INTO email_schedules(contact_id, email_type, scheduled_send_date, "
            "scheduled_send_time, status) "
            "SELECT id, 'birthday', '2026-11-21', '08:30:00', 'sent' FROM contacts WHERE id <= 40;"
            "CREATE TABLE tracking_clicks(contact_id INTEGER, clicked_at TEXT)"
        )
        assert file.run().counts["followup_1_cold"]["pre-scheduled"] == 40
        file.change(
            "INSERT INTO tracking_clicks SELECT id, '2026-11-22' FROM contacts WHERE id <= 20"
        )
        result = file.run(dry_run=True)
        assert result.counts["followup_2_clicked_no_hq"]["pre-scheduled"] == 20
        assert {m.code: m.count for m in result.guard}["removed"] == 0
        file.change(
            "UPDATE email_schedules SET status = 'bounced' WHERE status = 'sent' AND contact_id "
            "<= 25"
        )
        assert file.preview()["removed"].count == 25

    @pytest.mark.parametrize("seed", range(6))
    def test_like_a_plain_count(self, tmp_path: Path, seed: int) -> None:
        """For random changes the figure equals a plain count of both plans, with any chunks."""
        chance = random.Random(seed)
        file = File(tmp_path, 1)
        file.path.unlink()
        make_organization(file.path, 400, seed, dt.date.fromisoformat(AS_OF))
        file.run()

        def emails() -> Counter[tuple[int, str]]:
            return Counter(
                (row[0], "followup" if row[1].startswith("followup_") else row[1])
                for row in read_plan(file.path)
                if row[3] == "pre-scheduled" and row[2] >= AS_OF
            )

        file.change(
            f"UPDATE contacts SET zip_code = '10281' WHERE id % 7 = {chance.randrange(7)};"
            f"UPDATE contacts SET birth_date = 'x' WHERE id % 5 = {chance.randrange(5)};"
            f"UPDATE contacts SET email = NULL WHERE id % 11 = {chance.randrange(11)};"
            f"DELETE FROM contacts WHERE id % 9 = {chance.randrange(9)} OR id < "
            f"{chance.randrange(40)};"
            "UPDATE email_schedules SET status = 'sent' WHERE status = 'pre-scheduled' "
            f"AND id % 13 = {chance.randrange(13)};"
            "UPDATE email_schedules SET email_type = 'other' WHERE status = 'pre-scheduled' AND "
            "id % 60 = 1"
        )
        before = emails()
        shown = [file.preview(config=NEVER, workers=workers)["removed"] for workers in (1, 2, 5)]
        file.run(config=NEVER)
        removed = (before - emails()).total()
        assert [(m.count, m.total) for m in shown] == [(removed, before.total())] * 3
        assert removed > 50


class TestUnreadable:
    """Contacts with a value that cannot be read, each counted once."""

    def test_first_plan(self, file: File) -> None:
        """They stop the first plan, too, and then the file has not even the scheduler's tables."""
        file.change(
            "UPDATE contacts SET birth_date = '1950-13-45' WHERE id <= 10;"
            "UPDATE contacts SET effective_date = 'x' WHERE id BETWEEN 6 AND 15;"
            "UPDATE contacts SET failed_underwriting = 'perhaps', do_not_email = '?' WHERE id "
            "BETWEEN 14 AND 19;"
            "UPDATE contacts SET birth_date = '2030-01-01' WHERE id BETWEEN 19 AND 21"
        )
        assert file.preview()["unreadable"].count == 21
        error = file.refused(config=ONE_IN_FIVE)
        assert (
            "21 of 100 contacts (21 %) have a date or a boolean that cannot be read"
            in error.message
        )
        assert error.details == {
            "unreadable": "21",
            "unreadable_of": "100",
            "unreadable_allowed": "20",
        }
        file.change("UPDATE contacts SET birth_date = NULL WHERE id = 21")
        assert file.run(config=ONE_IN_FIVE).rows_planned

    def test_never(self, file: File) -> None:
        """A limit of 100 percent stops nothing."""
        file.change("UPDATE contacts SET birth_date = 'x'")
        assert file.run(config=NEVER).guard[0].count == 100


class TestDaysOverCap:
    """Days that stay above the daily limit."""

    def test_days(self, file: File) -> None:
        """E-mails that cannot move fill their day.

        More than three such days that are new stop a run.
        """
        days = ["01-10", "03-10", "05-10", "07-10"]
        file.change("UPDATE contacts SET birth_date = NULL")
        assert [measure.code for measure in file.run(config=CROWDED).guard] == ["unreadable"]
        assert file.preview(config=CROWDED)["days_over_cap"].count == 0

        file.change(
            "CREATE TABLE campaign_types(name TEXT, days_before_event INTEGER);"
            "INSERT INTO campaign_types VALUES ('fixed', 1);"
            "CREATE TABLE campaign_instances(id INTEGER PRIMARY KEY, campaign_type TEXT);"
            "CREATE TABLE contact_campaigns(contact_id INTEGER, campaign_instance_id INTEGER, "
            "trigger_date TEXT);"
            + "".join(
                f"INSERT INTO campaign_instances VALUES ({number}, 'fixed');"
                f"INSERT INTO contact_campaigns SELECT id, {number}, '2027-{day}' FROM contacts "
                f"WHERE id % 4 = {number};"
                for number, day in enumerate(days)
            )
        )
        shown = file.preview(config=CROWDED)["days_over_cap"]
        assert (shown.count, shown.exceeded) == (4, True)
        error = file.refused(config=CROWDED)
        assert (
            "4 days exceed the daily limit of 2 e-mails and did not before; at most 3 may"
            in error.message
        )
        assert error.details["days_over_cap"] == "4"
        assert file.run(config=CROWDED | {"guard": {"max_days_over_cap": 4}}).rows_inserted == 100
        assert file.run(config=CROWDED).rows_unchanged == 200

    def test_few_e_mails(self, file: File) -> None:
        """Days with fewer than `min_count` e-mails together do not stop a run."""
        file.run(config={"balance": {"daily_cap_percent": 1.0}})
        file.change("UPDATE contacts SET birth_date = NULL WHERE id > 10")
        rare = {"balance": {"daily_cap_percent": 0.01}, "guard": {"max_removed_percent": 100.0}}
        assert not file.preview(config=rare)["days_over_cap"].exceeded


@pytest.mark.parametrize("mode", ["reliable", "highperf"])
def test_any_number_of_workers(tmp_path: Path, mode: str) -> None:
    """The figures do not depend on the mode and on how the contacts are cut into chunks."""
    file = File(tmp_path, 1)
    file.path.unlink()
    make_organization(file.path, 500, 3, dt.date.fromisoformat(AS_OF))
    file.run()
    file.change(
        "UPDATE contacts SET zip_code = 'x', birth_date = 'y' WHERE id % 3 = 0; DELETE FROM "
        "contacts WHERE id < 9"
    )
    shown = [file.preview(config=ONE_IN_FIVE, workers=workers, mode=mode) for workers in (1, 2, 5)]
    assert shown[0] == shown[1] == shown[2]
    assert {code for code, measure in shown[0].items() if measure.exceeded} == {
        *("ineligible_increase", "removed", "unreadable"),
    }
    assert read_issues(file.path)


def test_odd_issues(file: File) -> None:
    """Invalid ids in `contact_issues` do no harm."""
    file.change("UPDATE contacts SET email = NULL WHERE id <= 3")
    file.run()
    file.change(
        "INSERT INTO contact_issues VALUES ('nobody', 'suppressed'), (-5, 'suppressed');"
        "UPDATE contacts SET email = NULL WHERE id <= 5"
    )
    assert file.preview()["ineligible_increase"].count == 2


def test_surplus_rows(file: File) -> None:
    """Several rows of one e-mail are reduced to one, which is there before and after."""
    result = file.run()
    columns = "contact_id, email_type, scheduled_send_date, scheduled_send_time, status"
    file.change(
        f"CREATE TABLE copy(id INTEGER PRIMARY KEY, {columns});"
        + f"INSERT INTO copy({columns}) SELECT {columns} FROM email_schedules;" * 3
        + "DROP TABLE email_schedules; ALTER TABLE copy RENAME TO email_schedules"
    )
    measure = file.preview()["removed"]
    assert (measure.count, measure.total) == (0, 3 * e_mails(result))
