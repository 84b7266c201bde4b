"""`schedctl` as a process, and the documents that it prints."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec

ESCAPE = "\x1b"
#: The start of every command line of `schedctl`.
SCHEDCTL = [sys.executable, "-c", "from schedctl import main; main()"]


def schedctl(
    *arguments: str, data: Path, text: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run `schedctl` over a data folder.

    text: its standard input.
    """
    return subprocess.run(
        [*SCHEDCTL, *arguments, "--data", str(data)],
        input=text,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, **environment},
    )


def document(answer: subprocess.CompletedProcess[str], kind: type | None = None) -> dict[str, Any]:
    """Return the JSON document that is the complete standard output."""
    found: dict[str, Any] = json.loads(answer.stdout)
    assert answer.stdout == answer.stdout.strip() + "\n"
    if kind is not None:
        assert msgspec.to_builtins(msgspec.convert(found, kind)) == found
        assert found.keys() == {field.encode_name for field in msgspec.structs.fields(kind)}
    return found
