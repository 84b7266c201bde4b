"""The page in a real browser: light and dark, wide and narrow.

Needs Chromium (tools/browser.sh).
"""

from __future__ import annotations

import datetime as dt
import json
import re
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from schedctl.report import render
from schedctl.synthetic import make_organization
from schedd.store.reports import read_report
from tests.support.daemons import AS_OF
from tests.support.plans import run_locally

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--allow-file-access-from-files",
)
#: A page that shows the report in a frame of some width and writes what it measures into itself.
FRAME = """<!doctype html><body>
<iframe id="frame" src="report.html" style="width:WIDTHpx;height:900px;border:0"></iframe>
<pre id="found"></pre><script>
onload = () => {
  const page = document.getElementById("frame").contentDocument, root = page.documentElement;
  const style = getComputedStyle(page.body), bar = page.querySelector("rect.after");
  document.getElementById("found").textContent = JSON.stringify({
    scroll: root.scrollWidth, width: root.clientWidth,
    background: style.backgroundColor, text: style.color,
    bar: bar ? getComputedStyle(bar).fill : "",
    barHeight: bar ? bar.getBoundingClientRect().height : 0,
    sections: page.querySelectorAll("section, figure").length, title: page.title,
    requests: page.defaultView.performance.getEntriesByType("resource").length});
};
</script></body>"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the report of a synthetic organization."""
    folder = tmp_path_factory.mktemp("report")
    path = folder / "org-1.db"
    make_organization(path, 3000, 4, dt.date.fromisoformat(AS_OF))
    run_locally(path, folder / "scratch", "2026-11-20", run_id="job-1.1")
    run_locally(path, folder / "scratch", AS_OF, run_id="job-2.1")
    (folder / "report.html").write_text(render(read_report(path, "org-1", "2026-11-23 12:00:00")))
    return folder


def look(folder: Path, width: int, scheme: str) -> dict[str, Any]:
    """Open the page in Chromium and return what it looks like."""
    frame = folder / f"frame-{width}-{scheme}.html"
    frame.write_text(FRAME.replace("WIDTH", str(width)))
    done = subprocess.run(
        [
            "chromium",
            *FLAGS,
            f"--user-data-dir={folder / f'profile-{width}-{scheme}'}",
            f"--blink-settings=preferredColorScheme={0 if scheme == 'dark' else 1}",
            "--virtual-time-budget=4000",
            "--dump-dom",
            frame.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    found = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr[-2000:]
    values: dict[str, Any] = json.loads(unescape(found.group(1)))
    return values


def brightness(colour: str) -> float:
    return sum(map(float, re.findall(r"[\d.]+", colour)[:3])) / 3


@pytest.mark.slow
@pytest.mark.parametrize("width", [360, 1200])
def test_light_and_dark(width: int, folder: Path) -> None:
    """The page never scrolls sideways, fetches nothing, and follows the reader's colour scheme."""
    light, dark = look(folder, width, "light"), look(folder, width, "dark")
    for found in (light, dark):
        assert found["scroll"] <= found["width"] == width
        assert found["requests"] == 0
        assert found["sections"] >= 6
        assert found["barHeight"] > 0
        assert found["title"].startswith("org-1")
    assert brightness(light["background"]) > 200 > 100 > brightness(light["text"])
    assert brightness(dark["background"]) < 60 < 200 < brightness(dark["text"])
    assert light["bar"] != dark["bar"]
