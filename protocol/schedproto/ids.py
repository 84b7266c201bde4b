"""Organization ids and job ids: their form and their checks.

An organization id becomes a file name (`<data folder>/<id>.db`), so this module is the first of the
two places that keep a request inside the data folder (the second is the daemon's path resolution,
which also looks at symbolic links).
"""

from __future__ import annotations

import re
import secrets
import time

from .errors import ErrorCode, SchedulerError

#: Letters, digits, `_`, `-` and inner dots; at most 100 characters; never hidden, never a path.
ORGANIZATION_ID = re.compile(
    r"[A-Za-z0-9_-](?:[A-Za-z0-9_-]|\.(?!\.)){0,98}[A-Za-z0-9_-]|[A-Za-z0-9_-]", re.ASCII
)

DATABASE_SUFFIX = ".db"

_CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"


def check_organization(organization: str) -> str:
    """Return the id unchanged, or raise `SchedulerError` (`invalid_organization`).

    `org-123.db` is refused too, because it nearly always means that a file name was given for an
    id.
    """
    if not ORGANIZATION_ID.fullmatch(organization):
        raise SchedulerError(
            ErrorCode.INVALID_ORGANIZATION,
            f"{organization!r:.130} is not an organization id",
            hint="Use letters, digits, '-', '_' and inner dots, at most 100 characters, for "
            "example org-123.",
        )
    if organization.lower().endswith(DATABASE_SUFFIX):
        raise SchedulerError(
            ErrorCode.INVALID_ORGANIZATION,
            f"{organization!r} looks like a file name, not an organization id",
            hint=f"Omit the suffix: {organization[: -len(DATABASE_SUFFIX)]}",
        )
    return organization


def _base32(value: int, digits: int) -> str:
    return "".join(_CROCKFORD[(value >> (5 * i)) & 31] for i in reversed(range(digits)))


def new_job_id(now_s: float | None = None) -> str:
    """Return a new job id.

    48 bits of milliseconds, then 40 random bits, so ids sort by submission time.
    """
    milliseconds = int((time.time() if now_s is None else now_s) * 1000) & ((1 << 48) - 1)
    return f"job-{_base32(milliseconds, 10)}{_base32(secrets.randbits(40), 8)}"


def new_key() -> str:
    """Return a new idempotency key (128 random bits, hexadecimal)."""
    return secrets.token_hex(16)
