"""Every file of the cases is used."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cases.runs import NAMES


@pytest.mark.parametrize("name", NAMES)
def test_case_is_used(name: str) -> None:
    """A test names the case."""
    modules = [path.read_text() for path in Path(__file__).parent.glob("test_*.py")]
    assert any(f'"{name}"' in module for module in modules)
