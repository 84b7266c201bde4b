"""Generate docs/pictures/check-predecessor.svg: the output of `schedctl check`.

The checked file is the predecessor's.
Run it with `make docs`. A test fails if the picture is not current.
"""

from __future__ import annotations

import datetime as dt
import io
import re
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console

from schedctl.views.check import print_report
from schedd.engine.configuration import Layer
from schedd.inspection.report import CheckRequest, check

ROOT = Path(__file__).parent.parent
PICTURE = ROOT / "docs" / "pictures" / "check-predecessor.svg"
SCRIPT = ROOT / "tests" / "predecessor" / "org-206.sql"
AS_OF = dt.date(2025, 6, 9)
WIDTH = 120


def picture() -> str:
    """Return the picture as SVG that uses the reader's own fonts."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "org-206.db"
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(SCRIPT.read_text(encoding="utf-8"))
        report = check(
            CheckRequest(
                path=path,
                organization="org-206",
                defaults=Layer("defaults", {}),
                as_of=AS_OF,
                accept_statuses=["requested_follow_up"],
                now=lambda: dt.datetime.now(dt.UTC),
            )
        )
    console = Console(
        file=io.StringIO(),
        record=True,
        width=WIDTH,
        force_terminal=True,
        color_system="truecolor",
        highlight=False,
        markup=False,
        emoji=False,
        legacy_windows=False,
    )
    steps = [
        "Print it: schedctl check org-206 --accept-status requested_follow_up --suggest",
        "Use it:   schedctl adopt org-206 --accept-status requested_follow_up",
    ]
    print_report(report, steps, console)
    without_fonts = re.sub(r"\s*@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    return console.export_svg(
        title="schedctl check org-206 --accept-status requested_follow_up",
        code_format=without_fonts,
        unique_id="check",
    )


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
    print(PICTURE.relative_to(ROOT))
