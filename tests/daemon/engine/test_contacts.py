"""Addresses of contacts."""

from __future__ import annotations

import pytest

from schedd.engine.contacts import (
    Reason,
    email_reason,
)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, Reason.MISSING_EMAIL),
        ("  ", Reason.MISSING_EMAIL),
        (" ok@example.org ", Reason.OK),
        ("@x.org", Reason.INVALID_EMAIL),
        ("a@.org", Reason.INVALID_EMAIL),
        ("a@org.", Reason.INVALID_EMAIL),
        ("a@org", Reason.INVALID_EMAIL),
        ("a b@c.org", Reason.INVALID_EMAIL),
        ("a@b@c.org", Reason.INVALID_EMAIL),
        ("a\u00a0b@c.org", Reason.INVALID_EMAIL),
        ("ü@example.org", Reason.OK),
        (5, Reason.INVALID_EMAIL),
    ],
)
def test_emails(value: object, reason: Reason) -> None:
    """One @ with something before it, a dot inside the part after it, no white space."""
    assert email_reason(value) == reason
