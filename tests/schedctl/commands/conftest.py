"""`schedctl` with an app of machines in its environment."""

from __future__ import annotations

import subprocess

import pytest

from tests.support.command_line import SCHEDCTL
from tests.support.machines import Call, Site


@pytest.fixture
def call(site: Site) -> Call:
    """Run `schedctl` with the site in its environment."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*SCHEDCTL, *arguments],
            env=site.environment() | environment,
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run
