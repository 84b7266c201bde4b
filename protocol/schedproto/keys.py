"""Key files of the encrypted socket: plain text, one Z85 key of 40 characters a line.

A line is `public-key KEY` or `secret-key KEY`, or a bare key if only one kind makes sense; `#`
begins a comment. The same text works as the value of an environment variable.
"""

from __future__ import annotations

import re

#: The alphabet of ZeroMQ's Z85 (RFC 32); 32 bytes take 40 characters.
_KEY = re.compile(r"[0-9a-zA-Z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")

PUBLIC, SECRET = "public-key", "secret-key"


class KeyFormatError(ValueError):
    """A text that is not a key file."""


def render(public_key: str, secret_key: str | None, comment: str) -> str:
    """Return the text of a key file; without a secret key, of a file that may be shown."""
    lines = [f"# {comment}", f"{PUBLIC} {public_key}"]
    if secret_key is not None:
        lines.append(f"{SECRET} {secret_key}")
    return "\n".join(lines) + "\n"


def _parse(text: str) -> list[tuple[str, str]]:
    """Return (kind, key) of each line; the kind is empty for a bare key."""
    found = []
    for raw in text.splitlines():
        line = raw.strip()
        # A key may itself begin with '#'; a comment has a space after it or is not a key.
        if not line or (line.startswith("#") and not _KEY.fullmatch(line)):
            continue
        kind, _, key = line.rpartition(" ")
        kind = kind.strip()
        if kind not in {"", PUBLIC, SECRET} or not _KEY.fullmatch(key):
            raise KeyFormatError(
                "a line is not 'public-key KEY' or 'secret-key KEY' with a key of 40 characters"
            )
        found.append((kind, key))
    return found


def parse_public_keys(text: str) -> list[bytes]:
    """Return all public keys of a text, Z85 as ZeroMQ takes them. Raises `KeyFormatError`."""
    return [key.encode() for kind, key in _parse(text) if kind != SECRET]


def parse_secret_key(text: str) -> bytes:
    """Return the one secret key of a text. Raises `KeyFormatError`."""
    keys = [key for kind, key in _parse(text) if kind != PUBLIC]
    if len(keys) != 1:
        raise KeyFormatError(f"expected one secret key, found {len(keys)}")
    return keys[0].encode()
