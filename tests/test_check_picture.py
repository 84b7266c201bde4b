"""The picture of a check in the documentation."""

from __future__ import annotations

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_picture_is_current() -> None:
    """The picture shows what the check of the predecessor's file says today.

    `tools/check_picture.py` makes it.
    """
    spec = importlib.util.spec_from_file_location(
        "check_picture", ROOT / "tools" / "check_picture.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.PICTURE.read_text(encoding="utf-8") == module.picture()
    assert "docs/pictures/check-predecessor.svg" in (ROOT / "README.md").read_text(encoding="utf-8")
