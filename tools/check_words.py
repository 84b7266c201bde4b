"""Refuse misspellings, unwanted words and unwanted phrases in every tracked text file.

`make lint` runs it: `python tools/check_words.py [FILE ...]`, by default for all tracked files.
codespell checks single words, with its own dictionary and with tools/words.txt; this script checks
the phrases of tools/phrases.txt. Each finding is one line with the file, the line, the wrong text
and the replacement. Exit code 1 if there are findings.
"""

from __future__ import annotations

import re
import subprocess
import sys
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

TOOLS = Path(__file__).parent
ROOT = TOOLS.parent
WORDS = TOOLS / "words.txt"
PHRASES = TOOLS / "phrases.txt"

#: Files whose text is not ours, is generated data, or names the unwanted words on purpose.
SKIPPED = (
    "tests/cases/data/",
    "tests/golden/",
    "tests/predecessor/",
    "tests/bench/results.jsonl",
    "tests/test_words.py",
    "daemon/schedd/engine/zipdata.py",
    "requirements/",
    "tools/words.txt",
    "tools/phrases.txt",
)
SKIPPED_ENDINGS = (".png", ".svg", ".db", ".bin", ".ico")

#: White space, with the comment mark that a line break inside a comment leaves in the middle of a
#: sentence.
_GAP = re.compile(r"\s+(?:(?:#:?|//|--|>|\*)[ \t]+)?")


class Phrase(NamedTuple):
    """An unwanted phrase and what to write instead."""

    pattern: re.Pattern[str]
    replacement: str


class Finding(NamedTuple):
    """An unwanted phrase in a file; `line` counts from 1."""

    path: str
    line: int
    text: str
    replacement: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.text!r} ==> {self.replacement}"


def read_phrases(path: Path = PHRASES) -> list[Phrase]:
    """Read the list of phrases.

    Raises ValueError for a line that is not `pattern -> replacement`.
    """
    phrases = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        pattern, arrow, replacement = line.rpartition("->")
        if not arrow or not replacement.strip():
            raise ValueError(f"{path}:{number}: expected 'pattern -> replacement'")
        phrases.append(Phrase(re.compile(pattern.strip(), re.IGNORECASE), replacement.strip()))
    return phrases


def find_phrases(path: str, text: str, phrases: list[Phrase]) -> Iterator[Finding]:
    """Find the unwanted phrases of a text, also those that a line break divides."""
    parts, starts = [], []
    position = 0
    for gap in _GAP.finditer(text):
        parts.append(text[position : gap.start()])
        starts.append(position)
        position = gap.end()
    parts.append(text[position:])
    starts.append(position)

    joined = " ".join(parts)
    offsets, offset = [], 0
    for part in parts:
        offsets.append(offset)
        offset += len(part) + 1

    for phrase in phrases:
        for match in phrase.pattern.finditer(joined):
            line = text.count("\n", 0, _original(match.start(), offsets, starts)) + 1
            yield Finding(path, line, match.group().strip(), phrase.replacement)


def _original(position: int, offsets: list[int], starts: list[int]) -> int:
    """Convert a position in the joined text into one in the original text."""
    part = bisect_right(offsets, position) - 1
    return starts[part] + position - offsets[part]


def tracked_files() -> list[str]:
    """List the files to check, relative to the project's folder."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    return [name for name in listed if not is_skipped(name) and (ROOT / name).is_file()]


def is_skipped(name: str) -> bool:
    """Return whether a file is excluded from the check."""
    return name.startswith(SKIPPED) or name.endswith(SKIPPED_ENDINGS)


def misspellings(names: list[str]) -> list[str]:
    """Return codespell's findings, one a line. It reads [tool.codespell] of pyproject.toml."""
    command = [sys.executable, "-m", "codespell_lib", "-D", "-", "-D", str(WORDS), *names]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    if done.stderr or done.returncode not in (0, 65):
        raise RuntimeError(f"codespell failed: {done.stderr.strip() or done.returncode}")
    return done.stdout.splitlines()


def main(arguments: list[str]) -> int:
    """Check files and print the findings; returns the exit code."""
    names = [name for name in arguments if not is_skipped(name)] if arguments else tracked_files()
    phrases = read_phrases()
    found = misspellings(names) if names else []
    for name in names:
        text = (ROOT / name).read_text(encoding="utf-8", errors="replace")
        found += map(str, find_phrases(name, text, phrases))
    for line in found:
        print(line)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
