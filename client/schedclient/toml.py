"""Configuration as TOML text: the standard library reads TOML but does not write it.

Writes what a configuration holds: tables, arrays, texts, numbers and truth values.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def dotted(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, value) of nested tables, in their order; an empty table is a value."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from dotted(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def inline(value: Any) -> str:
    """Return a value in one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        # A TOML basic string has the escapes of JSON, and may not hold DEL unescaped either.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Mapping):
        return (
            "{ " + ", ".join(f"{_key(k)} = {inline(v)}" for k, v in value.items()) + " }"
            if value
            else "{}"
        )
    return "[" + ", ".join(map(inline, value)) + "]"


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else inline(name)


def render(values: Mapping[str, Any], comments: Mapping[str, str] | None = None) -> str:
    """Return a TOML document; `tomllib` reads it back as the same values.

    comments: dotted key -> what is noted behind the value; one line without control characters.
    """
    return "\n\n".join(_tables(values, (), comments or {})) + "\n" if values else ""


def _tables(
    values: Mapping[str, Any], path: tuple[str, ...], comments: Mapping[str, str]
) -> Iterator[str]:
    plain = {key: value for key, value in values.items() if not isinstance(value, Mapping)}
    lines = []
    for key, value in plain.items():
        comment = comments.get(".".join((*path, key)))
        lines.append(f"{_key(key)} = {inline(value)}" + (f"  # {comment}" if comment else ""))
    if path and (plain or not values):
        lines.insert(0, f"[{'.'.join(map(_key, path))}]")
    if lines:
        yield "\n".join(lines)
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _tables(value, (*path, key), comments)
