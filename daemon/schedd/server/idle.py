"""The time until a daemon without work exits."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class IdleTimer:
    """Measures how long the daemon has had no work.

    timeout_s: 0 for a daemon that never exits for idleness.   has_jobs: returns whether a job is
    queued or running.

        timer = IdleTimer(300.0, lambda: service.active)
        timer.touch()  # a message has arrived
        timer.exit_in_s  # 300.0; None while there is work
    """

    def __init__(self, timeout_s: float, has_jobs: Callable[[], bool]) -> None:
        self._timeout_s = timeout_s
        self._has_jobs = has_jobs
        self._last_active = time.monotonic()
        self._requests = 0

    def touch(self) -> None:
        """Restart the time: a client has sent something."""
        self._last_active = time.monotonic()

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Count a request as work until its reply is ready."""
        self._requests += 1
        try:
            yield
        finally:
            self._requests -= 1

    @property
    def exit_in_s(self) -> float | None:
        """Return the seconds until the exit; None while there is work, or without a timeout."""
        if not self._timeout_s or self._requests or self._has_jobs():
            self.touch()
            return None
        return max(0.0, self._timeout_s - (time.monotonic() - self._last_active))
