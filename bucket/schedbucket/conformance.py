"""Whether a store keeps the promises that leases and versions rest on.

Conditional writes, tried for real.
"""

from __future__ import annotations

import secrets
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from .object_store import Condition, ConditionFailedError, ObjectStore

PREFIX = "selftest/"
#: Writers in a race, and races of either kind. A store that checks conditions, but not at one
#: place, has lost writes in most of such races (docs/BUCKET.md).
WRITERS, RACES = 3, 3


def broken_promise(store: ObjectStore) -> str | None:
    """Return which promise the store breaks, None if it keeps them.

    Raises `SchedulerError` where it cannot be asked.

    Writes small objects of new names and removes them.
    """
    run = secrets.token_hex(8)
    keys = [f"{PREFIX}{run}-{number}" for number in range(1 + RACES)]
    try:
        found = _one_writer(store, keys[0])
        for key in keys[1:]:
            found = found or _race(store, key)
        return found
    finally:
        for key in keys:
            store.delete(key)


def _one_writer(store: ObjectStore, key: str) -> str | None:
    first = store.put(key, b"1", Condition(None))
    if _writes(store, key, b"2", Condition(None)):
        return "a conditional write (If-None-Match) overwrote an existing object"
    second = store.put(key, b"3", Condition(first))
    if _writes(store, key, b"4", Condition(first)):
        return "a conditional write (If-Match) overwrote a newer object"
    data, stored = store.get(key)
    if data != b"3" or stored.etag != second:
        return "a read does not return the last write"
    return None


def _race(store: ObjectStore, key: str) -> str | None:
    """Have several write under the same condition at once: no object, then the one that has won."""
    condition = Condition(None)
    for name in ("If-None-Match", "If-Match"):
        together = Barrier(WRITERS)

        def write(
            number: int,
            name: str = name,
            condition: Condition = condition,
            start: Barrier = together,
        ) -> bool:
            start.wait(30)
            return _writes(store, key, f"{name} {number}".encode(), condition)

        with ThreadPoolExecutor(WRITERS) as pool:
            won = [number for number, done in enumerate(pool.map(write, range(WRITERS))) if done]
        data, stored = store.get(key)
        if len(won) != 1 or data != f"{name} {won[0]}".encode():
            return f"{len(won)} of {WRITERS} concurrent writers reported success ({name})"
        condition = Condition(stored.etag)
    return None


def _writes(store: ObjectStore, key: str, data: bytes, condition: Condition) -> bool:
    try:
        store.put(key, data, condition)
    except ConditionFailedError:
        return False
    return True
