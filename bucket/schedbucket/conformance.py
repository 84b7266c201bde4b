"""Check of a store's conditional writes, on which leases and versions rely, with real requests."""

from __future__ import annotations

import secrets
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from .object_store import Condition, ConditionFailedError, ObjectStore

PREFIX = "selftest/"
#: Concurrent writers, and races of either kind. A server that checks a condition and writes in two
#: separate steps loses writes in most of such races (docs/BUCKET.md).
WRITERS, RACES = 3, 3


def check_conditional_writes(store: ObjectStore) -> str | None:
    """Return how the store violates conditional writes, or None if it does not.

    Writes small objects under new names and deletes them; blocks for some 20 round trips. Raises
    `SchedulerError` if the store does not answer.
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
    if _succeeds(store, key, b"2", Condition(None)):
        return "a conditional write (If-None-Match) overwrote an existing object"
    second = store.put(key, b"3", Condition(first))
    if _succeeds(store, key, b"4", Condition(first)):
        return "a conditional write (If-Match) overwrote a newer object"
    data, info = store.get(key)
    if data != b"3" or info.etag != second:
        return "a read does not return the last write"
    return None


def _race(store: ObjectStore, key: str) -> str | None:
    """Have several threads write under the same condition at once, first If-None-Match."""
    condition = Condition(None)
    for name in ("If-None-Match", "If-Match"):
        barrier = Barrier(WRITERS)

        def write(
            number: int,
            name: str = name,
            condition: Condition = condition,
            barrier: Barrier = barrier,
        ) -> bool:
            barrier.wait(30)
            return _succeeds(store, key, f"{name} {number}".encode(), condition)

        with ThreadPoolExecutor(WRITERS) as pool:
            won = [number for number, done in enumerate(pool.map(write, range(WRITERS))) if done]
        data, info = store.get(key)
        if len(won) != 1 or data != f"{name} {won[0]}".encode():
            return f"{len(won)} of {WRITERS} concurrent writers reported success ({name})"
        condition = Condition(info.etag)
    return None


def _succeeds(store: ObjectStore, key: str, data: bytes, condition: Condition) -> bool:
    try:
        store.put(key, data, condition)
    except ConditionFailedError:
        return False
    return True
