"""Random organizations.

That they cover the rules, and that the reference's plans keep the invariants on them.
"""

from __future__ import annotations

import functools
from collections import Counter
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings

from tests.reference.compare import explain
from tests.reference.invariants import violations
from tests.reference.organizations import organizations, random_organization
from tests.reference.plan import plan
from tests.reference.year import prepare, write_plan

#: An organization of 60 contacts with rows of every kind, for plans that are made wrong.
RICH = 40
#: Outcomes that random organizations must bring about, each in several of 300.
ANNIVERSARIES = ("birthday", "effective_date", "aep")
WINDOWS = ("exclusion:birthday_window", "exclusion:effective_date_window", "exclusion:year_round")
CLOSED = ("exclusion:unreadable_date", "exclusion:missing_date")
WARNINGS = {
    *(
        f"unreadable_date {table}"
        for table in (
            "contacts",
            "campaign_instances",
            "contact_campaigns",
            "email_schedules",
            "tracking_clicks",
        )
    ),
    *(
        "unreadable_date contact_events",
        "unreadable_boolean contacts",
        "unreadable_boolean campaign_types",
    ),
    *(
        f"unreadable_number {table}"
        for table in ("campaign_types", "contact_campaigns", "email_schedules")
    ),
    *(
        f"unreadable_contact_id {table}"
        for table in ("contact_campaigns", "email_schedules", "tracking_clicks")
    ),
    *(
        "unknown_status email_schedules",
        "unknown_type email_schedules",
        "unknown_state campaign_instances",
    ),
    *("campaign_not_planned campaign_types", "campaign_not_planned campaign_instances"),
}
LIMITS = ("same_day_conflict", "frequency_limit")
FOLLOWUPS = (
    "followup_1_cold",
    "followup_2_clicked_no_hq",
    "followup_3_hq_no_yes",
    "followup_4_hq_with_yes",
)
WANTED = {
    *(
        f"{email_type} {outcome}"
        for email_type in (*ANNIVERSARIES, "campaign")
        for outcome in (*WINDOWS, *LIMITS)
    ),
    *(
        f"{email_type} pre-scheduled"
        for email_type in (*ANNIVERSARIES, "campaign", "post_window", *FOLLOWUPS)
    ),
    *(f"{FOLLOWUPS[0]} {outcome}" for outcome in WINDOWS),
    *(f"post_window {outcome}" for outcome in LIMITS),
    *(
        f"{email_type} {outcome}"
        for email_type in ("aep", "effective_date", FOLLOWUPS[0])
        for outcome in CLOSED
    ),
    *(
        "birthday exclusion:unreadable_date",
        "campaign exclusion:unreadable_date",
        "post_window caught up",
    ),
    *WARNINGS,
    *("suppressed", "opted_out", "missing_email", "invalid_email", "missing_zip", "unknown_zip"),
    *("invalid_birth_date", "invalid_effective_date"),
    *(
        "duplicates_dropped",
        "keys_held",
        "keys_dispatched",
        "moved_by_smoothing",
        "moved_by_cap",
        "triggers_ignored",
    ),
}


@functools.cache
def planned(seed):
    organization = random_organization(seed)
    return organization, organization.plan()


def outcomes(found):
    """Return the outcomes in a plan, by their names in `WANTED`."""
    for row in found.rows:
        email_type = "campaign" if row.email_type.startswith("campaign_") else row.email_type
        first, _, rest = (row.skip_reason or row.status).partition(":")
        yield f"{email_type} {first}:{rest.partition(':')[2]}" if rest else f"{email_type} {first}"
    yield from (reason for _, reason in found.issues)
    yield from (f"{code} {table}" for code, table, _ in found.warnings)
    if any(row.email_type == "post_window" and row.event < found.as_of for row in found.details):
        yield "post_window caught up"
    for name in (
        "duplicates_dropped",
        "keys_held",
        "keys_dispatched",
        "moved_by_smoothing",
        "moved_by_cap",
        "triggers_ignored",
    ):
        if getattr(found, name):
            yield name


@pytest.mark.slow
def test_every_outcome_occurs():
    """Over 300 seeds each kind of outcome occurs in at least three organizations."""
    seen = Counter(outcome for seed in range(300) for outcome in set(outcomes(planned(seed)[1])))
    assert not {outcome: seen[outcome] for outcome in WANTED if seen[outcome] < 3}


def test_a_seed_is_an_organization():
    """The same seed gives the same script, date and overrides; another seed others."""
    assert random_organization(7) == random_organization(7)
    assert random_organization(7).script != random_organization(8).script
    assert random_organization(7, contacts=3).connect().execute(
        "SELECT count(*) FROM contacts"
    ).fetchone() == (3,)


def check(organization, found):
    connection = organization.connect()
    problems = violations(connection, organization.as_of, organization.overrides, found)
    connection.close()
    assert not problems, f"{organization.name} on {organization.as_of}: {problems[:5]}"


@pytest.mark.parametrize("seed", range(40))
def test_invariants(seed):
    """The plan of a random organization keeps section 12."""
    check(*planned(seed))


@pytest.mark.slow
@pytest.mark.parametrize("part", range(10))
def test_invariants_of_many(part):
    """The plans of a thousand random organizations keep section 12."""
    for seed in range(1000 + 100 * part, 1100 + 100 * part):
        organization = random_organization(seed)
        check(organization, organization.plan())


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(organizations())
def test_invariants_by_hypothesis(organization):
    """The plans of organizations that Hypothesis makes keep section 12."""
    check(organization, organization.plan())


@pytest.mark.parametrize("seed", range(40))
def test_planning_again_changes_nothing(seed):
    """With its own plan in the file, a second plan of the same day is the same (section 11)."""
    organization, first = planned(seed)
    connection = organization.connect()
    prepare(connection)
    write_plan(connection, organization.as_of, organization.overrides)
    again = plan(connection, organization.as_of, organization.overrides)
    connection.close()
    assert not explain(first, again)
    assert first.rows == again.rows


def one_planned(found, wanted=lambda row: True):
    return next(
        index
        for index, row in enumerate(found.rows)
        if row.status == "pre-scheduled"
        and not row.email_type.startswith("followup_")
        and wanted(row)
    )


def corrupt_window(organization, found):
    index = next(
        i for i, row in enumerate(found.rows) if (row.skip_reason or "").startswith("exclusion:")
    )
    found.rows[index] = found.rows[index]._replace(status="pre-scheduled", skip_reason=None)
    return "planned in a window"


def corrupt_endless(organization, found):
    index = next(
        i for i, row in enumerate(found.rows) if (row.skip_reason or "").endswith("unreadable_date")
    )
    found.rows[index] = found.rows[index]._replace(status="pre-scheduled", skip_reason=None)
    return "every date is excluded"


def corrupt_handled(organization, found):
    index = one_planned(found, lambda row: row.email_type == "aep")
    row = found.rows[index]
    organization.overrides["history"] = {"aliases": {"welcome": "aep"}}
    sent = f"VALUES ({row.contact_id}, 'Welcome', '{row.scheduled_send_date}', 'Opened')"
    return (
        "handled by",
        (
            "INSERT INTO email_schedules (contact_id, email_type, scheduled_send_date, status) "
            f"{sent};"
        ),
    )


def corrupt_campaign(organization, found):
    one_planned(found, lambda row: row.campaign_instance_id is not None)
    return "unreadable values", "UPDATE campaign_types SET enable_followups = 'perhaps';"


def corrupt_reason(organization, found):
    index = one_planned(found, lambda row: row.email_type == "aep")
    found.rows[index] = found.rows[index]._replace(
        status="skipped", skip_reason="exclusion:ZZ:birthday_window"
    )
    return "the window is"


def corrupt_past(organization, found):
    yesterday = (organization.as_of - timedelta(days=1)).isoformat()
    found.rows[0] = found.rows[0]._replace(scheduled_send_date=yesterday)
    return "before"


def corrupt_latest(organization, found):
    index = one_planned(found, lambda row: row.email_type == "birthday")
    row = found.rows[index]
    found.rows[index] = row._replace(scheduled_send_date=f"{row.event_year + 1}-01-02")
    return "after its latest date"


def corrupt_contact(organization, found):
    found.rows[0] = found.rows[0]._replace(contact_id=-99)
    return "not eligible"


def corrupt_day(organization, found):
    index = one_planned(found)
    found.rows.append(
        found.rows[index]._replace(
            email_type="aep" if found.rows[index].email_type != "aep" else "birthday"
        )
    )
    return "two emails"


def corrupt_key(organization, found):
    found.rows.append(found.rows[-1])
    return "is there 2 times"


def corrupt_status(organization, found):
    found.rows[one_planned(found)] = found.rows[one_planned(found)]._replace(skip_reason="why not")
    return "do not fit"


def corrupt_followup(organization, found):
    index = next(i for i, row in enumerate(found.rows) if row.email_type.startswith("followup_"))
    found.rows[index] = found.rows[index]._replace(parent_id=-1)
    return "no such parent"


def corrupt_issues(organization, found):
    found.issues.append((found.rows[0].contact_id, "suppressed"))
    return "the wrong issues"


CORRUPTIONS = [value for name, value in sorted(globals().items()) if name.startswith("corrupt_")]


@pytest.mark.parametrize("corrupt", CORRUPTIONS, ids=lambda one: one.__name__)
def test_violations_are_found(corrupt):
    """Each single fault that is put into a correct plan is found and named."""
    organization = random_organization(RICH, contacts=60)
    found = organization.plan()
    check(organization, found)
    expected = corrupt(organization, found)
    connection = organization.connect()
    if isinstance(expected, tuple):
        expected, script = expected
        connection.executescript(script)
    problems = violations(connection, organization.as_of, organization.overrides, found)
    connection.close()
    assert any(expected in problem for problem in problems), problems[:5]


def test_crowded_days_are_found():
    """A plan with all movable rows on one day violates an invariant."""
    organization = random_organization(RICH, contacts=60)
    found = organization.plan()
    target = found.rows[one_planned(found, lambda row: row.email_type == "aep")].scheduled_send_date
    for index, row in enumerate(found.rows):
        if row.status == "pre-scheduled" and row.email_type == "aep":
            found.rows[index] = row._replace(scheduled_send_date=target)
    organization.overrides.setdefault("balance", {})["daily_cap_percent"] = 0.01
    connection = organization.connect()
    problems = violations(connection, organization.as_of, organization.overrides, found)
    connection.close()
    assert any("could move" in problem for problem in problems), problems[:5]
