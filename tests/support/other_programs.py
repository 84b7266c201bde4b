"""Other programs that work on an organization's file.

SQLite's locks count between processes only.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN {kind}")
print("locked", flush=True)
sys.stdin.readline()
connection.close()
"""


class OtherProgram:
    """A Python process over a file. Its script prints one line, then reads one."""

    def __init__(self, script: str, path: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", script, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.said = self._process.stdout.readline().strip()

    def end(self) -> None:
        """Let the script continue from the line that it waits for, and wait for its end."""
        if self._process.returncode is None:
            self._process.communicate("\n", timeout=120)


@contextmanager
def other_program(script: str, path: Path) -> Iterator[OtherProgram]:
    """Run a script over a file until the end of the block."""
    program = OtherProgram(script, path)
    try:
        yield program
    finally:
        program.end()


@contextmanager
def locked(path: Path, kind: str = "EXCLUSIVE") -> Iterator[OtherProgram]:
    """Hold the lock of a file until the end of the block, or until `end` is called.

    kind: `EXCLUSIVE` locks readers out as well, `IMMEDIATE` only writers.
    """
    with other_program(_LOCK.format(kind=kind), path) as program:
        assert program.said == "locked"
        yield program
