"""A daemon for the checks of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.checks import Checked
from tests.support.folders import Folder


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checked]:
    """A daemon for all tests of a module."""
    folder = Folder(tmp_path_factory.mktemp("checked"))
    with folder.client() as client:
        yield Checked(folder, client)
    folder.stop()


@pytest.fixture(autouse=True)
def without_settings_of_the_user(clean_environment: None) -> None:
    """Remove settings from the environment before each test."""
