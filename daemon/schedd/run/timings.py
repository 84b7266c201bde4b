"""How long each stage of a job took."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stages:
    """Wall seconds of each stage, in the order in which they began.

    A stage within another counts for itself alone.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._inner = 0.0
        self._start = time.perf_counter()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time that the block takes."""
        start, outside, self._inner = time.perf_counter(), self._inner, 0.0
        self.seconds.setdefault(name, 0.0)
        try:
            yield
        finally:
            whole = time.perf_counter() - start
            self.seconds[name] = round(self.seconds[name] + whole - self._inner, 6)
            self._inner = outside + whole

    @property
    def total(self) -> float:
        """Return the seconds since the beginning."""
        return time.perf_counter() - self._start
