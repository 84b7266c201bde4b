"""The check of words and phrases that `make lint` runs."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "tools" / "check_words.py"


@pytest.fixture(scope="module")
def check_words() -> ModuleType:
    """The checker, which is a script outside the packages."""
    spec = importlib.util.spec_from_file_location("check_words", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(path: Path) -> subprocess.CompletedProcess[str]:
    """Run the checker as `make lint` does, on one file."""
    return subprocess.run(
        [sys.executable, str(SCRIPT), str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("sentence", "found", "replacement"),
    [
        ("The client connects anew.", "anew", "again"),
        ("The file is spoilt.", "spoilt", "corrupted"),
        ("Twelve tries were in vain.", "in vain", "failed"),
        ("Show what becomes of them.", "becomes of", "outcome"),
        ("Then begin again.", "begin again", "retry"),
        ("The daemon stops by itself.", "by itself", "automatically"),
        ("This file is no database.", "is no", "is not a"),
        ("It recieves a message.", "recieves", "receives"),
        ("MOST_JOBS = 5", "MOST_", "MAX_"),
    ],
)
def test_unwanted_text_is_refused(
    tmp_path: Path, sentence: str, found: str, replacement: str
) -> None:
    """The finding has file, line, the unwanted text and its replacement; the exit code is 1."""
    path = tmp_path / "page.md"
    path.write_text(f"# A page\n\n{sentence}\n", encoding="utf-8")
    done = run(path)
    assert done.returncode == 1, done.stderr
    [line] = done.stdout.splitlines()
    assert line.startswith(f"{path}:3: ")
    assert found in line
    assert replacement in line.partition("==>")[2]


def test_plain_text_is_accepted(tmp_path: Path) -> None:
    """Correct sentences that contain parts of the unwanted phrases pass."""
    path = tmp_path / "page.md"
    path.write_text(
        "There is no file. It is no longer there. The value is a whole number.\n"
        "All rights reserved. The e-mail goes out on the day. The result is as long as that.\n",
        encoding="utf-8",
    )
    done = run(path)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_phrase_across_lines(check_words: ModuleType) -> None:
    """A line break, with or without a comment mark, does not hide a phrase.

    Its line is the first.
    """
    text = "x = 1\n# The transfer begins\n# again after that.\n"
    [finding] = check_words.find_phrases("file.py", text, check_words.read_phrases())
    assert (finding.line, finding.replacement) == (2, "retry, restart")


def test_lists_are_well_formed(check_words: ModuleType) -> None:
    """Every word has a replacement, every phrase compiles, no replacement is unwanted."""
    words = check_words.WORDS.read_text(encoding="utf-8").splitlines()
    assert words == sorted(words)
    assert all(re.fullmatch(r"[a-z]+->[^,]+(, [^,]+)*,", word) for word in words)
    phrases = check_words.read_phrases()
    assert len(phrases) > 15
    for phrase in phrases:
        assert not list(check_words.find_phrases("", phrase.replacement, phrases))


def test_malformed_phrase_is_refused(check_words: ModuleType, tmp_path: Path) -> None:
    """A line without a replacement names the file and the line."""
    path = tmp_path / "phrases.txt"
    path.write_text("# comment\nno arrow here\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"phrases\.txt:2: "):
        check_words.read_phrases(path)


def test_lint_runs_the_check() -> None:
    """`make lint` and the pre-commit hooks run the checker."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    lint = makefile[makefile.index("\nlint:") :].split("\n\n")[0]
    assert "tools/check_words.py" in lint
    assert "tests/test_layers.py" in lint
    assert "tools/check_words.py" in (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
