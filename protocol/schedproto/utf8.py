"""UTF-8 for file names, arguments and output, whatever the locale says.

Under the locale `C` with Python's UTF-8 mode switched off, a path with other letters than ASCII is
a text that neither SQLite nor ZeroMQ accepts, and such a letter in the output is an error.
"""

from __future__ import annotations

import os
import sys


def ensure_utf8() -> None:
    """Start this program again in Python's UTF-8 mode, unless it uses UTF-8 already.

    For the first line of a program's `main`. The process keeps its id, and its children inherit the
    mode.
    """
    uses_utf8 = sys.getfilesystemencoding() == "utf-8" and _encoding_of_output() == "utf-8"
    if uses_utf8 or os.environ.get("PYTHONUTF8") == "1":
        return
    environment = os.environ | {"PYTHONUTF8": "1"}
    os.execve("/proc/self/exe", sys.orig_argv, environment)  # noqa: S606 - itself


def _encoding_of_output() -> str:
    return str(getattr(sys.stdout, "encoding", None) or "utf-8").lower()
