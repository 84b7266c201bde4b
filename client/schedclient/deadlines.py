"""The time limit of a call, over all its attempts."""

from __future__ import annotations

import time

from .launch import Launcher


class Deadline:
    """The time limit of one call.

    The time in which the launcher starts a daemon does not count: the launcher limits it.

        deadline = Deadline(launcher, timeout_s=30.0)
        deadline.left_s()  # 30.0, less the time that has passed since
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
