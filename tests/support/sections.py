"""Generated sections of a page, between markers."""

from __future__ import annotations


def keep_section(page: str, lines: list[str], begin: str, end: str) -> str:
    """Return the page with the section between two markers replaced, or added at the end."""
    block = "\n".join([begin, "", *lines, "", end])
    if begin in page:
        before, _, rest = page.partition(begin)
        return before + block + rest.partition(end)[2]
    return page.rstrip("\n") + "\n\n" + block + "\n"


def section_of(page: str, begin: str, end: str) -> str:
    """Return the section of a page with its markers, or an empty text."""
    if begin not in page:
        return ""
    return begin + page.partition(begin)[2].partition(end)[0] + end
