"""A year of daily runs with a sender.

Each event's e-mail is sent at most once, and exactly once if nothing prevents it.
"""

from __future__ import annotations

import json
import sqlite3
from datetime import date, timedelta
from pathlib import Path
from random import Random

import pytest

from tests.reference.organizations import random_organization
from tests.reference.records import ANNIVERSARY_TYPES, KNOWN_STATUSES
from tests.reference.year import Year, faults, forgotten, run_year, write_plan

PREDECESSOR = Path(__file__).parents[1] / "predecessor"


def run(seed, contacts, days, outage_share=0.0, planner=write_plan):
    """Run a random organization, its sender and its planner with outages.

    Return its year and what is wrong.
    """
    organization = random_organization(seed, contacts)
    count_what_was_sent(organization.overrides)
    source = Random(seed)
    first = organization.as_of
    outages, sender_outages = random_outages(source, first, days, outage_share)
    connection = organization.connect()
    year = run_year(
        connection,
        first,
        organization.overrides,
        days=days,
        outages=outages,
        sender_outages=sender_outages,
        planner=planner,
    )
    problems = faults(year) + forgotten(connection, first, organization.overrides, year)
    connection.close()
    return year, problems


def count_what_was_sent(overrides):
    """Remove void statuses and aliases that hide what was sent.

    Such an email is planned and sent again every day.
    """
    history = overrides.get("history", {})
    if "void_statuses" in history:
        void = [
            status for status in history["void_statuses"] if status.lower() not in KNOWN_STATUSES
        ]
        history["void_statuses"] = void or ["failed"]
    if "aliases" in history:
        history["aliases"] = {
            old: new for old, new in history["aliases"].items() if not planned_type(old)
        }


def planned_type(name):
    """Return whether the plan itself has rows of the type."""
    return name in (*ANNIVERSARY_TYPES, "post_window") or name.startswith(
        ("campaign_", "followup_")
    )


def random_outages(source, first, days, share):
    """Return days without a plan, and days on which nothing is sent.

    A longer outage of each among them.
    """
    if not share:
        return set(), set()
    outages = {first + timedelta(days=n) for n in range(1, days) if source.random() < share}
    sender_outages = {first + timedelta(days=n) for n in range(days) if source.random() < share}
    outages |= {first + timedelta(days=days // 2 + n) for n in range(14)}
    sender_outages |= {first + timedelta(days=days // 4 + n) for n in range(days // 15)}
    return outages, sender_outages


@pytest.mark.parametrize("seed", [3, 4, 5, 6])
def test_two_months(seed):
    """Two months of daily runs, every other one with outages, send each email once."""
    year, problems = run(seed, contacts=4, days=60, outage_share=0.1 * (seed % 2))
    assert not problems
    assert year.sent


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 130))
def test_a_year(seed):
    """A year of daily runs, every other one with outages, sends each email once."""
    year, problems = run(seed, contacts=7, days=370, outage_share=0.1 * (seed % 2))
    assert not problems
    assert year.sent


def run_predecessor(days, overrides, sender_outages=()):
    """Run the predecessor's file, without its index that allows one email of a type a year only."""
    connection = sqlite3.connect(":memory:")
    connection.executescript((PREDECESSOR / "org-206.sql").read_text())
    connection.execute("DROP INDEX idx_schedules_one_a_year")
    first = date(2025, 6, 9)
    year = run_year(connection, first, overrides, days=days, sender_outages=sender_outages)
    problems = faults(year) + forgotten(connection, first, overrides, year)
    connection.close()
    return year, problems


def predecessor_configuration():
    return json.loads((PREDECESSOR / "org-206-adopted.json").read_text())["config"]


def test_ten_days_of_a_predecessor():
    """The first ten days over another scheduler's file send each email once."""
    year, problems = run_predecessor(10, predecessor_configuration())
    assert not problems
    assert year.sent


@pytest.mark.slow
@pytest.mark.parametrize("adopted", [False, True])
def test_a_year_of_a_predecessor(adopted):
    """A year over a predecessor's file, three weeks without sending: each e-mail once."""
    away = {date(2025, 8, 1) + timedelta(days=n) for n in range(21)}
    year, problems = run_predecessor(366, predecessor_configuration() if adopted else {}, away)
    assert not problems
    assert year.sent


def test_a_lost_email_is_found():
    """A planner that forgets or drops a birthday is found."""

    def forgetful(connection, as_of, overrides):
        found = write_plan(connection, as_of, overrides)
        connection.execute(
            "DELETE FROM email_schedules WHERE email_type = 'birthday' AND status = 'pre-scheduled'"
        )
        found.details = [row for row in found.details if row.email_type != "birthday"]
        return found

    def careless(connection, as_of, overrides):
        found = write_plan(connection, as_of, overrides)
        gone = "email_type = 'aep' AND status = 'pre-scheduled' AND scheduled_send_date = ?"
        connection.execute(f"DELETE FROM email_schedules WHERE {gone}", (as_of.isoformat(),))
        found.details = [row for row in found.details if row.email_type != "aep" or row.day > as_of]
        return found

    assert any(
        "birthday" in problem and "forgotten" in problem
        for problem in run(4, 6, 370, planner=forgetful)[1]
    )
    assert any(
        "'aep'" in problem and "never sent" in problem
        for problem in run(4, 6, 370, planner=careless)[1]
    )


def test_an_email_sent_twice_is_found():
    """Two emails for one event are a fault."""
    event = (1, "birthday", date(2027, 1, 1))
    assert faults(Year(sent=[(date(2026, 12, 18), event), (date(2026, 12, 19), event)])) == [
        f"{event} was sent 2 times"
    ]
