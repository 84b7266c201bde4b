"""Single odd values as the rules want them: whole numbers, texts, lists (org-database, "Defaults")."""

from __future__ import annotations

import math
from typing import Any

from .contacts import text_of, truth


def integer_of(value: Any, default: int) -> int:
    """Return a whole number; the default for NULL and for what is no number. Fractions are cut off."""
    if isinstance(value, int):
        return value
    try:
        number = float(value) if isinstance(value, float) else float(text_of(value).strip())
    except ValueError:
        return default
    if not math.isfinite(number):
        return default
    try:
        return int(text_of(value).strip())
    except ValueError:
        return int(number)


def boolean_of(value: Any, default: int) -> bool:
    """Return a truth value; the default for NULL."""
    return bool(default) if value is None else truth(value)


def list_of(value: Any) -> list[str] | None:
    """Return the parts of a comma-separated list; None where it means everyone (NULL, empty, `ALL`)."""
    parts = [part.strip() for part in text_of(value).split(",")]
    parts = [part for part in parts if part]
    if not parts or any(part.upper() == "ALL" for part in parts):
        return None
    return parts
