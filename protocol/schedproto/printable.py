"""Texts of other programs, made safe for terminals and logs.

A name or value in an organization's file may hold anything: escape sequences that rewrite a
terminal's screen, line breaks that look like lines of ours, characters that reverse the direction
of what follows.
"""

from __future__ import annotations

import datetime as dt
import functools
import unicodedata
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import msgspec

_P = ParamSpec("_P")
_T = TypeVar("_T")

#: Fields whose texts have several lines.
_WITH_LINES = frozenset({"toml"})
#: Unicode's categories of characters that are not shown as they are: controls, formats (such as
#: those of direction), surrogates, private and unassigned ones, separators of lines and paragraphs.
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def printable(text: str, *, lines: bool = False) -> str:
    r"""Return a text with all characters escaped that control a terminal or the text's direction.

    lines: keep line breaks.

    >>> printable("sent\x1b[2J")
    'sent\\x1b[2J'
    """
    if text.isprintable():
        return text
    return "".join(
        character
        if unicodedata.category(character) not in _HIDDEN or (lines and character in "\n\t")
        else character.encode("unicode_escape").decode()
        for character in text
    )


def printable_copy(value: _T) -> _T:
    """Return a message with all its texts made printable, the names in mappings as well."""
    plain = msgspec.to_builtins(value, builtin_types=(dt.datetime, bytes))
    cleaned = _cleaned(plain, lines=False)
    return value if cleaned == plain else msgspec.convert(cleaned, type(value))


def _cleaned(value: Any, *, lines: bool) -> Any:
    if isinstance(value, str):
        return printable(value, lines=lines)
    if isinstance(value, dict):
        return {
            _cleaned(key, lines=False): _cleaned(item, lines=key in _WITH_LINES)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_cleaned(item, lines=lines) for item in value]
    return value


def shows_printable(show: Callable[_P, _T]) -> Callable[_P, _T]:
    """Have a function that shows messages show only printable texts of them."""

    @functools.wraps(show)
    def wrapped(*args: _P.args, **options: _P.kwargs) -> _T:
        cleaned = [_shown(value) for value in args]
        return show(*cleaned, **{name: _shown(value) for name, value in options.items()})

    return wrapped


def _shown(value: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        return printable_copy(value)
    if isinstance(value, list):
        return [_shown(item) for item in value]
    return value
