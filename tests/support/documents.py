"""Output of `schedctl`."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import msgspec

ESCAPE = "\x1b"


def document(answer: subprocess.CompletedProcess[str], kind: type | None = None) -> dict[str, Any]:
    """Return the JSON document that is the complete standard output."""
    found: dict[str, Any] = json.loads(answer.stdout)
    assert answer.stdout == answer.stdout.strip() + "\n"
    if kind is not None:
        assert msgspec.to_builtins(msgspec.convert(found, kind)) == found
        assert found.keys() == {field.encode_name for field in msgspec.structs.fields(kind)}
    return found
