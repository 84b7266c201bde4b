"""Keys of the encrypted socket: the server's secret and the admitted clients (ZAP, RFC 27)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from schedd.exitcodes import ExitCode, FatalError
from schedproto.keys import KeyFormatError, parse_public_keys, parse_secret_key


def server_secret(key_file: Path | None, key: str | None) -> bytes | None:
    """Return the server's secret key (Z85), or None if none is set. Raises `FatalError`."""
    if key_file is None and key is None:
        return None
    try:
        text = key if key_file is None else key_file.read_text(encoding="ascii")
        return parse_secret_key(text or "")
    except OSError as error:
        raise FatalError(
            ExitCode.USAGE, f"the key file {key_file} cannot be read: {error.strerror}"
        ) from None
    except (KeyFormatError, UnicodeDecodeError) as error:
        raise FatalError(
            ExitCode.USAGE, f"invalid server key: {error}", "Create one with `schedctl keys new`."
        ) from None


def admitted_clients(source: Path | None, keys: Iterable[str]) -> frozenset[bytes]:
    """Return the public keys (Z85) of the clients that are admitted. Raises `FatalError`."""
    texts = list(keys)
    try:
        if source is not None:
            files = (
                sorted(p for p in source.iterdir() if p.is_file()) if source.is_dir() else [source]
            )
            texts += [
                file.read_text(encoding="ascii") for file in files if not file.name.startswith(".")
            ]
        return frozenset(key for text in texts for key in parse_public_keys(text))
    except OSError as error:
        raise FatalError(
            ExitCode.USAGE, f"the client keys {source} cannot be read: {error.strerror}"
        ) from None
    except (KeyFormatError, UnicodeDecodeError) as error:
        raise FatalError(ExitCode.USAGE, f"invalid client keys: {error}") from None
