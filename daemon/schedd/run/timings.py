"""Wall-clock time of each stage of a job."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stages:
    """Wall seconds of each stage, in the order in which they began.

    The time of a stage within another one counts only for the inner one.

        stages = Stages()
        with stages.stage("plan"):
            plan()
        stages.seconds["plan"]  # for example 0.25
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._inner = 0.0
        self._start = time.perf_counter()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time that the block takes."""
        start = time.perf_counter()
        outside, self._inner = self._inner, 0.0
        self.seconds.setdefault(name, 0.0)
        try:
            yield
        finally:
            elapsed = time.perf_counter() - start
            self.seconds[name] = round(self.seconds[name] + elapsed - self._inner, 6)
            self._inner = outside + elapsed

    @property
    def total(self) -> float:
        """Return the seconds since the beginning."""
        return time.perf_counter() - self._start
