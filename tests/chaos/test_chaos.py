"""A short form of every chaos scenario; `make chaos` runs them at full length."""

from __future__ import annotations

import shutil

import pytest

from tests.chaos.table import BEGIN, END, SCENARIOS, run, section
from tests.chaos.world import Tally
from tests.support.sections import keep_section, section_of

#: Rounds of the short form: enough for a check of all promises, or several.
ROUNDS = {
    "kills": 50,
    "bucket-kills": 50,
    "full-disks": 10,
    "clock-jumps": 10,
    "paused-holder": 3,
    "second-daemon": 4,
    "damaged-files": 100,
}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", SCENARIOS)
def test_no_promise_is_broken(name: str) -> None:
    """After faults of each kind at random moments, every promise holds."""
    if name == "clock-jumps" and shutil.which("gcc") is None:
        pytest.skip("gcc compiles the library that shifts the clock")
    tally = run(name, ROUNDS[name], 7)
    if any(outcome.startswith("not run") for outcome in tally.outcomes):
        pytest.skip("needs the right to mount file systems")
    assert tally.broken == []
    assert tally.faults.total() >= ROUNDS[name]
    assert tally.checks >= 1


def test_the_section_is_replaced() -> None:
    """The page keeps what is around its chaos section, whether it had one or not."""
    first = keep_section("# Faults\n\ntable\n", section([Tally("one")], 1), BEGIN, END)
    second = keep_section(first + "after\n", section([Tally("two")], 2), BEGIN, END)
    assert second.startswith("# Faults\n\ntable\n")
    assert second.endswith("after\n")
    assert "| two |" in second
    assert "| one |" not in second
    assert section_of(second, BEGIN, END).startswith(BEGIN)
    assert section_of(second, BEGIN, END).endswith(END)
    assert section_of("# Faults\n", BEGIN, END) == ""
