"""How long a call may take in all."""

from __future__ import annotations

import time

from .launch import Launcher


class Deadline:
    """The end of a call's time.

    What a launcher needs to start a daemon (bounded by itself) does not count.
    """

    def __init__(self, launcher: Launcher, timeout_s: float) -> None:
        self._launcher, self._begun_s = launcher, launcher.starting_s
        self._end = time.monotonic() + timeout_s

    @property
    def left_s(self) -> float:
        """Return the seconds that are left; negative after the end."""
        return self._end + self._launcher.starting_s - self._begun_s - time.monotonic()

    @property
    def over(self) -> bool:
        """Return whether the time has ended."""
        return self.left_s <= 0
