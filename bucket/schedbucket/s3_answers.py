"""Interpretation of obstore's errors: the server's answer, whether a repeat can help, what to do.

Knows nothing about the store; `s3_store` decides what an answer means for a request.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

#: Codes of answers to data that did not arrive as it was sent.
_CORRUPTED = frozenset(
    {"XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch", "BadDigest", "IncompleteBody"}
)
#: obstore's texts for requests without an answer.
_NO_ANSWER = re.compile(
    r"error sending request|body error|error decoding response body|timed? ?out|connection",
    re.IGNORECASE,
)
_STATUS = re.compile(r"status code: (\d{3}) ?([A-Za-z -]*)")
_CODE = re.compile(r"<Code>\s*([^<\s]*)\s*</Code>")
_REDIRECT_WITHOUT_LOCATION = "redirect without LOCATION"

_EXPIRED = (
    "The temporary credentials have expired or are not valid. Set a new AWS_ACCESS_KEY_ID, "
    "AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, and restart the daemon; or use permanent keys."
)
_CLOCK = (
    "Set this machine's clock: the server rejects requests whose time is minutes off its own "
    "(NTP synchronizes clocks)."
)
_REDIRECT = (
    "The bucket is in another region or at another address. Set AWS_REGION and "
    "AWS_ENDPOINT_URL_S3 to the bucket's own (docs/BUCKET.md)."
)
_UNSUPPORTED = "The server does not support this request; docs/BUCKET.md lists the requirements."
_HINTS = {
    "ExpiredToken": _EXPIRED,
    "InvalidToken": _EXPIRED,
    "TokenRefreshRequired": _EXPIRED,
    "RequestTimeTooSkewed": _CLOCK,
    "RequestExpired": _CLOCK,
    "PermanentRedirect": _REDIRECT,
    "TemporaryRedirect": _REDIRECT,
    "AuthorizationHeaderMalformed": _REDIRECT,
    "IllegalLocationConstraintException": _REDIRECT,
    "NotImplemented": _UNSUPPORTED,
}


@dataclass(frozen=True)
class Answer:
    """A server's answer to a failed request.

    status: None if there was no answer.   code: of the XML body, empty if there was none.
    reason: for messages.   transient: the same request may succeed a moment later.
    corrupted: the server received other data than was sent.   hint: empty for the general one.

        answer_of(error).code   # "SlowDown"
    """

    status: int | None
    code: str
    reason: str
    transient: bool
    corrupted: bool
    hint: str


def answer_of(error: Exception) -> Answer:
    """Return what an obstore error says about the server's answer."""
    # What follows is a dump of the library's structures.
    text = str(error).partition("\n\nDebug source")[0]
    if _REDIRECT_WITHOUT_LOCATION in text:
        return Answer(
            status=301,
            code="PermanentRedirect",
            reason="redirected to another address",
            transient=False,
            corrupted=False,
            hint=_REDIRECT,
        )

    found = _STATUS.search(text)
    if found is None:
        reason = text.split("\n", maxsplit=1)[0].rpartition(" - ")[2][:200]
        no_answer = _NO_ANSWER.search(text) is not None
        return Answer(None, "", reason, transient=no_answer, corrupted=False, hint="")

    status = int(found.group(1))
    named = _CODE.search(text)
    code = named.group(1) if named is not None else ""
    corrupted = code in _CORRUPTED
    return Answer(
        status=status,
        code=code,
        reason=f"HTTP {status} {code or found.group(2).strip()}".strip(),
        transient=corrupted or code == "RequestTimeout" or _is_transient(status),
        corrupted=corrupted,
        hint=_HINTS.get(code) or _hint_of_status(status),
    )


def _is_transient(status: int) -> bool:
    return status in (408, 409, 412, 429) or (status >= 500 and status != 501)


def _hint_of_status(status: int) -> str:
    if 300 <= status < 400 and status != 304:
        return _REDIRECT
    return _UNSUPPORTED if status == 501 else ""
