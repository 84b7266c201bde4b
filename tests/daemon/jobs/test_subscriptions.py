"""Callbacks that several parties register."""

from __future__ import annotations

from schedd.jobs.subscriptions import Subscriptions


def test_several_subscribers() -> None:
    """Each subscriber is called, in order, until it unsubscribes; twice is harmless."""
    events: Subscriptions[int] = Subscriptions()
    seen: list[tuple[str, int]] = []
    first = events.subscribe(lambda event: seen.append(("first", event)))
    events.subscribe(lambda event: seen.append(("second", event)))
    events.notify(1)
    first()
    first()
    events.notify(2)
    assert seen == [("first", 1), ("second", 1), ("second", 2)]


def test_a_subscriber_that_fails() -> None:
    """An error of one subscriber reaches neither the others nor the notifying code."""
    events: Subscriptions[int] = Subscriptions()
    seen: list[int] = []

    def fail(event: int) -> None:
        raise ValueError(event)

    events.subscribe(fail)
    events.subscribe(seen.append)
    events.notify(7)
    assert seen == [7]


def test_the_same_callback_twice() -> None:
    """Two subscriptions of one callback are two."""
    events: Subscriptions[int] = Subscriptions()
    seen: list[int] = []
    end = events.subscribe(seen.append)
    events.subscribe(seen.append)
    events.notify(1)
    end()
    events.notify(2)
    assert seen == [1, 1, 2]
