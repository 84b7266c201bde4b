"""Check of e-mail addresses as one block of bytes (rules, section 1).

Recognizes plain addresses, which nearly all are. The others are checked one by one
(`engine.coercions.is_email`). An address is plain if it is ASCII, its domain has at most 63
characters, ends in a letter and has a dot, and no hyphen is next to a dot.
"""

from __future__ import annotations

import string

import numpy as np
from numpy.typing import NDArray

from schedd.engine.coercions import MAX_EMAIL, MAX_LABEL, MAX_LOCAL

from .blocks import MisalignedError

_NEWLINE, _ALNUM, _DOT, _HYPHEN, _SYMBOL, _AT, _BAD = range(7)


def _kinds() -> NDArray[np.uint8]:
    """Return the kind of each byte."""
    kinds = np.full(256, _BAD, np.uint8)
    for kind, characters in (
        (_NEWLINE, "\n"),
        (_ALNUM, string.ascii_letters + string.digits),
        (_DOT, "."),
        (_HYPHEN, "-"),
        (_SYMBOL, "!#$%&'*+/=?^_`{|}~"),
        (_AT, "@"),
    ):
        kinds[[ord(character) for character in characters]] = kind
    return kinds


def _odd_pairs() -> NDArray[np.bool_]:
    """Return which pairs of kinds, as 8 * first + second, make an address odd."""
    odd = np.zeros((8, 8), np.bool_)
    odd[_DOT, [_NEWLINE, _DOT, _HYPHEN, _AT]] = True
    odd[[_NEWLINE, _HYPHEN, _AT], _DOT] = True
    odd[_AT, _HYPHEN] = odd[_HYPHEN, _NEWLINE] = True
    return odd.ravel()


_KIND = _kinds()
_ODD_PAIR = _odd_pairs()


def odd_emails(block: bytes | None, count: int) -> NDArray[np.bool_]:
    """Return which addresses have to be checked one by one.

    block: `count` addresses, separated by line breaks.   Raises `MisalignedError`.
    """
    text = np.frombuffer(b"\n" + (block or b"") + b"\n", np.uint8)
    kinds = _KIND[text]
    # Letters and digits, which most bytes are, need no further checks.
    special = np.flatnonzero(kinds != _ALNUM)
    kinds = kinds[special]
    ends = special[kinds == _NEWLINE]
    if len(ends) != count + 1:
        raise MisalignedError
    start, stop = ends[:-1], ends[1:]
    odd = np.zeros(count, np.bool_)
    together = _ODD_PAIR[(kinds[:-1] << 3) | kinds[1:]] & (np.diff(special) == 1)
    wrong = np.concatenate([special[1:][together], special[kinds == _BAD]])
    odd[np.searchsorted(stop, wrong)] = True

    at = special[kinds == _AT]
    if len(at) != count or (at <= start).any() or (at >= stop).any():
        at = _only_one(at, start, stop, odd)
    symbols = special[kinds == _SYMBOL]
    rows = np.searchsorted(stop, symbols)
    odd[rows[symbols > at[rows]]] = True

    # With its bit of the case set, a letter is between `a` and `z`.
    last = text[stop - 1] | 0x20
    odd |= (last < ord("a")) | (last > ord("z"))
    odd |= (
        (at - start < 2)
        | (at - start > MAX_LOCAL + 1)
        | (stop - at > MAX_LABEL + 1)
        | (stop - start > MAX_EMAIL + 1)
    )
    odd |= ~_has_dot(text, special[kinds == _DOT], at, stop)
    return odd


def _only_one(
    at: NDArray[np.intp], start: NDArray[np.intp], stop: NDArray[np.intp], odd: NDArray[np.bool_]
) -> NDArray[np.intp]:
    """Return the position of the `@` of each address; marks those without exactly one as odd."""
    first = np.searchsorted(at, start)
    wrong = np.searchsorted(at, stop) - first != 1
    odd |= wrong
    return np.where(wrong, start, np.append(at, 0)[first])


def _has_dot(
    text: NDArray[np.uint8], dots: NDArray[np.intp], at: NDArray[np.intp], stop: NDArray[np.intp]
) -> NDArray[np.bool_]:
    """Return which domains have a dot; nearly all have it before the last two or three letters."""
    found = np.zeros(len(at), np.bool_)
    for length in (3, 4):
        dot = np.maximum(stop - length, 0)
        found |= (text[dot] == ord(".")) & (dot > at)
    rest = np.flatnonzero(~found)
    if len(rest):
        found[rest] = np.searchsorted(dots, stop[rest]) > np.searchsorted(dots, at[rest])
    return found
