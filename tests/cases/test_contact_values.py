"""Contacts as other programs write them: ZIPs, addresses, dates, statuses and opt-outs."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from tests.cases.checks import plan_rows
from tests.cases.runs import WAYS, build, module, run, scheduled

MASSACHUSETTS = "exclusion:MA:year_round"


def test_zips(tmp_path: Path) -> None:
    """ZIPs that an import made numbers, quoted, or wrote without the hyphen are read.

    Others are not guessed.
    """
    outcome = scheduled("zips", tmp_path)
    massachusetts = {1, 2, 3, 4, 5, 6, 7, 9, 10}
    assert {
        contact for (contact, _), rows in outcome.rows.items() if rows[0][1] == MASSACHUSETTS
    } == massachusetts
    assert set(outcome.dates("birthday")) == {11, 12, 14, 20, 21}
    assert outcome.issues == [(contact, "unknown_zip") for contact in (8, 13, 15, 16, 17, 18, 19)]


def test_zips_in_a_text_column(tmp_path: Path) -> None:
    """A text column makes the number 7030 the text '7030' and 75001.0 the text '75001.0'.

    Both are read.
    """
    outcome = scheduled("zip_text_column", tmp_path)
    assert outcome.issues == []
    assert set(outcome.dates("birthday")) == {1, 2, 3, 4}


def test_zips_that_an_import_made_floats(tmp_path: Path) -> None:
    """A ZIP column that an import made REAL changes no row of the plan."""
    for way in WAYS:
        path = build("everyone_gone", tmp_path / way["mode"])
        first = run(path, "job-first.1", way)
        assert first.contacts_eligible == 1000
        rows = plan_rows(path)

        module("everyone_gone").make_zips_unreadable(str(path))
        again = run(path, "job-second.1", way)
        assert again.contacts_eligible == 1000
        assert (again.rows_inserted, again.rows_updated, again.rows_deleted) == (0, 0, 0)
        assert plan_rows(path) == rows


def test_addresses(tmp_path: Path) -> None:
    """Addresses that no mail server takes are invalid.

    What trimming removes at the ends does not matter.
    """
    outcome = scheduled("emails", tmp_path)
    # Plus, letters of all languages, BOM, no-break space, NUL and line ends around, one-letter
    # top-level domain.
    assert set(outcome.dates("aep")) == {1, 15, 17, 18, 20, 22, 24, 25, 30, 31, 34, 38}
    assert {reason for _, reason in outcome.issues} == {"invalid_email"}
    assert len(outcome.issues) == 32


def test_dates(tmp_path: Path) -> None:
    """A birth date is YYYY-MM-DD, trimmed, its time part ignored.

    Anything else is reported and not guessed.
    """
    outcome = scheduled("dates", tmp_path)
    invalid = {2, 3, 4, 6, 8, 9, 10, 15, 16, 17, 19, 21, 23, 24, 26}
    assert outcome.issues == [(contact, "invalid_birth_date") for contact in sorted(invalid)]
    # 28 has its birthday on the day of the run, too late for an e-mail before it.
    assert set(outcome.dates("birthday")) == set(range(1, 32)) - invalid - {28}
    # 29 February has its anniversary on 28 February in a common year, and the e-mail 14 days
    # before.
    assert outcome.rows[7, "birthday"] == [("2027-02-14", "")]
    unreadable, future = "unreadable_date", "future_date"
    assert outcome.warnings == {
        (unreadable, "contacts", "birth_date"): (13, [2, 3, 4, 6, 8]),
        (future, "contacts", "birth_date"): (2, [19, 21]),
    }


def test_dates_by_format(tmp_path: Path) -> None:
    """With the formats of the import configured, its dates are read."""
    formats = ["YYYY-MM-DD", "MM/DD/YYYY", "YYYYMMDD"]
    outcome = scheduled("dates", tmp_path, config={"contacts": {"date_formats": formats}})
    # The others of the list stay unreadable; 20443 is 00020443, year 2.
    assert {2, 16} <= set(outcome.dates("birthday"))
    assert (2, "invalid_birth_date") not in outcome.issues


def test_statuses(tmp_path: Path) -> None:
    """'active' in any case and with white space around, blank and NULL are active.

    Anything else is not.
    """
    outcome = scheduled("statuses", tmp_path)
    assert outcome.issues == [(3, "suppressed"), (4, "suppressed")]
    assert set(outcome.dates("birthday")) == {1, 2, 5, 6}


def test_opt_outs(tmp_path: Path) -> None:
    """Contacts that a usual column marks as deleted, opted out or dead get no e-mail."""
    outcome = scheduled("soft_delete", tmp_path)
    assert outcome.issues == [(contact, "opted_out") for contact in (1, 2, 4, 5)]
    # opted_out_at is not among the usual names.
    assert set(outcome.dates("birthday")) == {3}


def test_opt_outs_by_configuration(tmp_path: Path) -> None:
    """The configuration names other opt-out columns."""
    columns = ["deleted_at", "unsubscribed", "opted_out_at", "do_not_email", "deceased"]
    outcome = scheduled("soft_delete", tmp_path, config={"contacts": {"opt_out_columns": columns}})
    assert outcome.issues == [(contact, "opted_out") for contact in (1, 2, 3, 4, 5)]
    assert outcome.rows == {}


def test_unreadable_opt_outs(tmp_path: Path) -> None:
    """An opt-out that cannot be read counts as one, and the warnings name it."""
    change = "UPDATE contacts SET unsubscribed = 'since May', deleted_at = NULL WHERE id = 1"
    outcome = scheduled("soft_delete", tmp_path, change)
    assert (1, "opted_out") in outcome.issues
    assert outcome.warnings == {("unreadable_boolean", "contacts", "unsubscribed"): (1, [1])}


def test_placeholder_birthdays(tmp_path: Path) -> None:
    """1 January 1900, which 200 of 500 contacts have, is a date like others.

    The daily cap spreads its e-mails.
    """
    outcome = scheduled("placeholder_birthdays", tmp_path)
    per_day = outcome.result.volume
    # The cap is 20 % of the contacts.
    assert per_day["2026-12-18"] == 100
    assert max(per_day.values()) <= 120


def test_duplicate_people(tmp_path: Path) -> None:
    """Three contacts with one address are three contacts."""
    outcome = scheduled("duplicate_people", tmp_path)
    assert set(outcome.dates("birthday")) == {1, 2, 3}


def test_states(tmp_path: Path) -> None:
    """The built-in windows.

    Kentucky and Virginia have one, and it ends on the day that the table says.
    """
    outcome = scheduled("states_2026", tmp_path)
    assert outcome.rows[7, "effective_date"] == [("2026-11-24", "exclusion:KY:birthday_window")]
    # The window of 10 October ends 60 days later in Kentucky; the e-mail of the birthday comes the
    # day after.
    assert outcome.rows[7, "post_window"][0] == ("2026-12-10", "")


def test_other_names_of_the_dates(tmp_path: Path) -> None:
    """Without the columns birth_date and effective_date there are no e-mails for them."""
    outcome = scheduled("dob_column", tmp_path)
    assert outcome.rows == {(1, "aep"): [("2027-09-15", "")]}


def test_plain_file(tmp_path: Path) -> None:
    """A file without anything odd has its e-mails on their days."""
    outcome = scheduled("base", tmp_path)
    assert outcome.rows == {
        (1, "aep"): [("2027-09-15", "")],
        (1, "birthday"): [("2026-12-06", "")],
        (1, "effective_date"): [("2027-01-02", "")],
        # One e-mail a day is the cap of two contacts.
        (2, "aep"): [("2027-09-16", "")],
        (2, "birthday"): [("2027-01-06", "")],
    }
    assert outcome.warnings == {}


def test_transactions_left_in_the_log(tmp_path: Path) -> None:
    """Transactions that a killed application left in the write-ahead log are read.

    Contact 1 unsubscribed, contact 2 is new.
    """
    outcome = scheduled("wal_left", tmp_path)
    assert outcome.issues == [(1, "suppressed")]
    assert outcome.dates("birthday") == {2: "2027-01-06"}
    with closing(sqlite3.connect(outcome.path)) as connection:
        assert connection.execute("SELECT count(*) FROM contacts").fetchone() == (2,)
