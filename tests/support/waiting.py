"""Waiting for something that another process or thread does."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(
    condition: Callable[[], T | None], what: str = "the condition", timeout_s: float = 120.0
) -> T:
    """Wait until a condition is true and return its value.

    The limit only ends a test that would otherwise hang: it is far longer than what is waited for
    takes on a loaded machine, so no test passes or fails by how fast the machine is.
    """
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not happen within {timeout_s:g} seconds")
        time.sleep(0.01)
    return found
