"""Single odd values as the rules want them: whole numbers, texts, lists (org-database, "Defaults")."""

from __future__ import annotations

from typing import Any

from .contacts import number_of, text_of, truth_of


def integer_of(value: Any, default: int) -> int:
    """Return a whole number, stored as such or as text; the default for anything else."""
    number = number_of(value)
    return int(number) if number is not None and number == int(number) else default


def boolean_of(value: Any, default: int) -> bool:
    """Return a truth value; the default for what is none."""
    found = truth_of(value)
    return bool(default) if found is None else found


def list_of(value: Any) -> list[str] | None:
    """Return the parts of a comma-separated list; None where it means everyone (NULL, empty, `ALL`)."""
    text = text_of(value).strip()
    return None if text in {"", "ALL"} else [part.strip() for part in text.split(",")]
