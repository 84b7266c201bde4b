"""Data of `schedctl doctor`: the daemon's checks of itself and its volume."""

from __future__ import annotations

from datetime import datetime

import msgspec

OK, WARNING, FAILED, SKIPPED = "ok", "warning", "failed", "skipped"


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One check of the daemon or its volume, and its outcome.

    state: `ok`, `warning`, `failed` or `skipped`; remedy: what to do, if anything.
    """

    name: str
    state: str
    text: str
    remedy: str = ""


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """All checks. now: the daemon's clock, in UTC."""

    now: datetime
    checks: list[Check] = []
