"""The engine against the reference (`tests/reference`), over random organizations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from tests.reference.compare import differences
from tests.reference.compare import read_plan as read_whole_plan
from tests.reference.organizations import RandomOrganization, organizations, random_organization
from tests.support.plans import make_database, run_locally

#: Seeds in one test; 8 slow tests of 250 make the 2,000 organizations that CI compares.
BLOCK = 250


def compare(organization: RandomOrganization, folder: Path, number: int) -> list[str]:
    """Schedule an organization, compare with the reference, schedule it again.

    Returns what is wrong, in words.
    """
    path = make_database(folder / f"org-{number}.db", organization.script)
    workers, mode = (1, 2, 5)[number % 3], ("reliable", "highperf")[number % 2]
    # Odd values are many, and the guards are not what is compared.
    spec: dict[str, Any] = {
        "config": organization.overrides,
        "workers": workers,
        "mode": mode,
        "accept_changes": True,
    }
    result = run_locally(path, folder / "scratch", organization.as_of.isoformat(), **spec)
    actual = read_whole_plan(path)
    actual.limit, actual.duplicates_dropped = result.daily_limit, result.duplicates_dropped
    actual.keys_held = result.keys_held
    found = differences(organization.plan(), actual)
    again = run_locally(
        path, folder / "scratch", organization.as_of.isoformat(), run_id="job-again.1", **spec
    )
    if again.rows_inserted or again.rows_updated or again.rows_deleted:
        found.append(
            f"the second run changed {again.rows_inserted}, {again.rows_updated}, "
            f"{again.rows_deleted} rows"
        )
    path.unlink()
    return [f"{organization.name}: {line}" for line in found]


def compare_block(start: int, size: int, folder: Path) -> None:
    wrong = [
        line
        for seed in range(start, start + size)
        for line in compare(random_organization(seed), folder, seed)
    ]
    assert not wrong, "\n".join(wrong[:20])


def test_random_organizations_fast(tmp_path: Path) -> None:
    """Some random organizations come out as the reference has them."""
    compare_block(100_000, 20, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("block", range(8))
def test_random_organizations(block: int, tmp_path: Path) -> None:
    """2,000 random organizations get the reference's plan for any shards and mode."""
    compare_block(block * BLOCK, BLOCK, tmp_path)


@pytest.mark.slow
@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(organizations())
def test_organizations_of_hypothesis(
    tmp_path_factory: pytest.TempPathFactory, organization: RandomOrganization
) -> None:
    """Small organizations get the reference's plan; Hypothesis shrinks what fails."""
    wrong = compare(organization, tmp_path_factory.mktemp("org"), 1)
    assert not wrong, "\n".join(wrong)
