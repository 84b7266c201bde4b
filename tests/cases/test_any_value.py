"""Values of every type in every column.

The engine against the reference, and what must always hold.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, assume, given, seed, settings

from schedproto import ErrorCode, RunResult, SchedulerError
from tests.cases.any_value import OddOrganization, odd_organizations
from tests.cases.checks import (
    PLAN,
    duplicate_keys,
    index_differences,
    integrity,
    plan_rows,
    sender_rows,
    table_columns,
)
from tests.reference import values
from tests.reference.compare import differences, read_plan
from tests.reference.plan import Plan, plan
from tests.support.plans import run_locally

SETTINGS = settings(
    deadline=None,
    database=None,
    derandomize=True,
    print_blob=False,
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.large_base_example,
    ],
)


def expected_plan(path: Path, organization: OddOrganization) -> Plan:
    """Return the reference's plan, its rows as the columns of the file's own table store them."""
    with closing(sqlite3.connect(path)) as connection:
        found = plan(connection, organization.as_of, organization.overrides)
        [(encoding,)] = connection.execute("PRAGMA encoding")
        declared = {
            row[1].lower(): row[2] for row in connection.execute(f"PRAGMA table_info({PLAN})")
        }
    stored = path.with_name("expected.db")
    names = found.rows[0]._fields[:-1] if found.rows else ()
    with closing(sqlite3.connect(stored)) as connection:
        connection.execute(f"PRAGMA encoding = '{encoding}'")
        columns = ", ".join(f"{name} {declared.get(name, '')}" for name in (*names, "metadata"))
        connection.execute(f"CREATE TABLE {PLAN}(id INTEGER PRIMARY KEY, {columns})")
        connection.execute("CREATE TABLE contact_issues(contact_id, reason)")
        connection.executemany("INSERT INTO contact_issues VALUES (?, ?)", found.issues)
        connection.executemany(
            f"INSERT INTO {PLAN} VALUES (NULL, {', '.join('?' * (len(names) + 1))})",
            [
                (*row[:-1], None if row.parent_id is None else f'{{"parent_id": {row.parent_id}}}')
                for row in found.rows
            ],
        )
        connection.commit()
    if found.rows:
        found.rows = read_plan(stored).rows
    stored.unlink()
    return found


def repeated_instances(path: Path) -> bool:
    """Return whether two campaign instances have one id, of which the rules say nothing."""
    with closing(sqlite3.connect(path)) as connection:
        connection.text_factory = bytes
        ids = [
            integer_or_none(row[0])
            for row in connection.execute("SELECT id FROM campaign_instances")
        ]
    known = [number for number in ids if number is not None]
    return len(known) != len(set(known))


def inexact_ids(path: Path) -> bool:
    """Return whether the plan table cannot hold the contact ids; a run refuses such a file."""
    with closing(sqlite3.connect(path)) as connection:
        declared = {row[1]: row[2] for row in connection.execute(f"PRAGMA table_info({PLAN})")}
        [(largest,)] = connection.execute("SELECT max(id) FROM contacts")
    return declared["contact_id"] == "REAL" and largest is not None and int(largest) > 2**53


def integer_or_none(value: bytes | float | None) -> int | None:
    """Return the integer that a value stands for (rules, section 0), None for none."""
    try:
        return values.integer(value)
    except values.UnreadableError:
        return None


def run(path: Path, organization: OddOrganization, number: int) -> RunResult:
    """Schedule the file; the mode and the number of workers change with the organization."""
    return run_locally(
        path,
        path.parent / "scratch",
        organization.as_of.isoformat(),
        run_id=f"job-{number}.1",
        config=organization.overrides,
        workers=1 + organization.base % 3,
        mode=("reliable", "highperf")[organization.base % 2],
    )


def wrong_with(organization: OddOrganization, folder: Path) -> list[str]:
    """Schedule an organization twice; return what is wrong, in words."""
    path = organization.write(folder / "org.db")
    assume(not repeated_instances(path) and not inexact_ids(path))
    columns, before, rows = table_columns(path), sender_rows(path), plan_rows(path)
    expected = expected_plan(path, organization)
    try:
        result = run(path, organization, 1)
    except SchedulerError as error:
        if refused_rightly(error, path):
            return [] if plan_rows(path) == rows else ["the failed run changed the file"]
        return [f"{error.code}: {error.message}"]
    actual = read_plan(path)
    actual.limit, actual.duplicates_dropped = result.daily_limit, result.duplicates_dropped
    actual.keys_held = result.keys_held
    found = differences(expected, actual)
    after = plan_rows(path)
    again = run(path, organization, 2)
    if (again.rows_inserted, again.rows_updated, again.rows_deleted) != (0, 0, 0) or plan_rows(
        path
    ) != after:
        found.append(
            f"the second run changed {again.rows_inserted}, {again.rows_updated}, "
            f"{again.rows_deleted} rows"
        )
    if not counts(again).items() <= counts(result).items():
        found.append("the second run has other warnings")
    if integrity(path) != "ok":
        found.append(f"integrity_check: {integrity(path)}")
    if sender_rows(path, columns) != before:
        found.append("rows of another program were changed")
    return found + index_differences(path) + warnings_missing(expected, result)


def refused_rightly(error: SchedulerError, path: Path) -> bool:
    """Return whether a file cannot be scheduled: two rows that are not the plan's have one key."""
    return error.code == ErrorCode.DUPLICATE_KEYS and duplicate_keys(path)


def counts(result: RunResult) -> dict[tuple[str, ...], int]:
    """Return the warnings of a run as numbers.

    Rows of an old plan are left out, as only the first run has them.
    """
    return {
        (w.code, w.table, w.column, w.name): w.count
        for w in result.warnings
        if w.code != "unreadable_contact_id"
    }


def warnings_missing(expected: Plan, result: RunResult) -> list[str]:
    """Return the unreadable values that the reference names and the result does not count."""
    counted: dict[tuple[str, str, str], int] = {}
    for warning in result.warnings:
        key = (warning.code, warning.table, warning.column)
        counted[key] = counted.get(key, 0) + warning.count
    for column in ("birth_date",):
        key = ("unreadable_date", "contacts", column)
        counted[key] = counted.get(key, 0) + counted.get(("future_date", "contacts", column), 0)
    return [
        f"{len(found)} values of {table}.{column} are {code}, and the result counts "
        f"{counted.get((code, table, column), 0)}"
        for (code, table, column), found in expected.warnings.items()
        if (
            table == "contacts"
            or (table == PLAN and code in {"unreadable_contact_id", "unknown_status"})
        )
        and counted.get((code, table, column), 0) < len(found)
    ]


def check(organization: OddOrganization) -> None:
    folder = Path(tempfile.mkdtemp(prefix="any-value-"))
    try:
        wrong = wrong_with(organization, folder)
    finally:
        shutil.rmtree(folder)
    assert not wrong, "\n".join(wrong)


@settings(SETTINGS, max_examples=40)
@given(odd_organizations())
def test_any_value_fast(organization: OddOrganization) -> None:
    """A few dozen organizations with odd values in any column get the correct plan."""
    check(organization)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("block", range(8))
def test_any_value(block: int) -> None:
    """Thousands of organizations with odd values in any column get the correct plan."""
    blocks = settings(
        SETTINGS, max_examples=100, derandomize=False, phases=[Phase.generate, Phase.shrink]
    )
    seed(block)(blocks(given(odd_organizations())(check)))()
