"""Two machines that share a bucket."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from schedbucket import BucketSettings
from tests.support.working_copies import Machine, two_machines


@pytest.fixture
def machines(
    settings_of: Callable[..., BucketSettings], layout: str, organization: str, tmp_path: Path
) -> tuple[Machine, Machine]:
    return two_machines(settings_of(layout), organization, tmp_path)
