"""The hash that spreads emails over days (rules, section 2)."""

from __future__ import annotations

_MASK = (1 << 64) - 1

BIRTHDAY, EFFECTIVE_DATE, AEP, POST_WINDOW, CAMPAIGN = 1, 2, 3, 4, 16


def mix64(z: int) -> int:
    """Return the splitmix64 finalizer of a 64-bit integer (two's complement)."""
    z &= _MASK
    z ^= z >> 30
    z = (z * 0xBF58476D1CE4E5B9) & _MASK
    z ^= z >> 27
    z = (z * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


def h(contact_id: int, salt: int, year: int) -> int:
    """Return the hash of one email; `year` is the year of its event date."""
    return mix64(mix64(contact_id) ^ ((salt * 65536 + year) & _MASK))
