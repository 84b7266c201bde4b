"""Whether a store keeps the promises that leases and versions rest on: conditional writes, tried for real."""

from __future__ import annotations

import secrets

from .store import Condition, ConditionFailedError, ObjectStore

PREFIX = "selftest/"


def broken_promise(store: ObjectStore) -> str | None:
    """Return which promise the store breaks, None if it keeps them; raises `SchedulerError` where it cannot be asked.

    Writes one small object of a new name and removes it.
    """
    key = f"{PREFIX}{secrets.token_hex(8)}"
    try:
        first = store.put(key, b"1", Condition(None))
        try:
            store.put(key, b"2", Condition(None))
        except ConditionFailedError:
            pass
        else:
            return "an object was overwritten by a write that asked for none to be there (If-None-Match)"
        second = store.put(key, b"3", Condition(first))
        try:
            store.put(key, b"4", Condition(first))
        except ConditionFailedError:
            pass
        else:
            return "an object was overwritten by a write that asked for an older one (If-Match)"
        data, stored = store.get(key)
        if data != b"3" or stored.etag != second:
            return "what was written last is not what is read"
        return None
    finally:
        store.delete(key)
