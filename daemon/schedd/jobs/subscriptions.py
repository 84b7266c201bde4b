"""Callbacks that several parties register for one event."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import structlog

_T = TypeVar("_T")


class Subscriptions(Generic[_T]):
    """The subscribers of one event, called in the order in which they subscribed.

    A subscriber that raises is logged; the others and the notifying code are not affected.

        on_job_finished: Subscriptions[Job] = Subscriptions()
        unsubscribe = on_job_finished.subscribe(lambda job: print(job.job_id))
        on_job_finished.notify(job)
        unsubscribe()
    """

    def __init__(self) -> None:
        self._callbacks: list[Callable[[_T], None]] = []

    def subscribe(self, callback: Callable[[_T], None]) -> Callable[[], None]:
        """Have `callback` called at each event; returns the function that ends this."""
        self._callbacks.append(callback)

        def unsubscribe() -> None:
            if callback in self._callbacks:
                self._callbacks.remove(callback)

        return unsubscribe

    def notify(self, event: _T) -> None:
        """Call all subscribers."""
        for callback in tuple(self._callbacks):
            try:
                callback(event)
            except Exception:  # noqa: BLE001 - one subscriber must not keep others from the event
                structlog.get_logger().exception("a subscriber of an event failed")
