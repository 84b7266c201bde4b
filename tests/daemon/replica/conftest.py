"""A bucket with machines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from schedbucket import BucketSettings
from tests.support.buckets import Site


@pytest.fixture
def sites(tmp_path: Path) -> Iterator[Callable[[BucketSettings], Site]]:
    made: list[Site] = []

    def make(settings: BucketSettings) -> Site:
        made.append(Site(tmp_path, settings))
        return made[-1]

    yield make
    for site in made:
        for daemon in site.daemons:
            daemon.clean_up()


@pytest.fixture
def site(
    settings_of: Callable[..., BucketSettings], sites: Callable[[BucketSettings], Site], layout: str
) -> Site:
    return sites(settings_of(layout))
