"""A short form of every attack; `make attack` runs them at full length."""

from __future__ import annotations

import pytest

from .attacks import ATTACKS
from .table import run, section
from .target import Measured, p99

#: A client waits longer on a loaded machine; without the limits it waits for the end of the attack.
MAX_WAIT_S = 60.0


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ATTACKS)
def test_others_are_served(name: str) -> None:
    """The daemon lives, its memory is bounded, and another client is served all the time."""
    measured = run(name, ATTACKS[name][2], quiet_s=1.0)
    assert measured.broken == []
    assert p99(measured.during) < MAX_WAIT_S


def test_the_table_has_a_line_for_each() -> None:
    """A line has the memory in megabytes and the latencies in milliseconds."""
    measured = Measured("one", 1000, 50 << 20, 60 << 20, 51 << 20, [0.001], [0.002, 0.003], ["x"])
    assert section([measured])[-1] == "| one | 1,000 | 50 | 60 | 51 | 1 | 3 | 1 |"
