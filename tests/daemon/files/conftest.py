"""No setting of the machine's user reaches these tests."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def without_settings_of_the_user(clean_environment: None) -> None:
    """Remove settings from the environment before each test."""
