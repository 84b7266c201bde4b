"""Data of `schedctl report`: the newest runs of an organization."""

from __future__ import annotations

import msgspec

from .jobs import RunResult


class ContactIssue(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `contact_issues`."""

    contact_id: int
    reason: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The newest completed run of an organization and the one before it, as they were recorded.

    generated_at: UTC, `YYYY-MM-DD HH:MM:SS`.   latest, previous: None if there was no such run.
    issues: the first contacts with an issue, in the order of their ids; `issues_total` says how
    many there are.
    """

    organization: str
    generated_at: str
    latest: RunResult | None = None
    previous: RunResult | None = None
    issues: list[ContactIssue] = []
    issues_total: int = 0
