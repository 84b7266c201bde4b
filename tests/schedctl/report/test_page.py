"""The report: the records of runs, the page, and the command."""

from __future__ import annotations

import datetime as dt
import json
import re
import sqlite3
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from schedctl.report import render
from schedctl.synthetic import make_organization
from schedd.store.reports import read_report
from schedd.store.runs import SUMMARIES
from schedproto import ContactIssue, Report, RunResult
from tests.support.command_line import schedctl
from tests.support.daemons import AS_OF, RunningDaemon
from tests.support.plans import run_locally

NOW = "2026-11-23 12:00:00"
VOID = {"meta", "br", "link", "img", "line", "rect", "polyline"}


class Checker(HTMLParser):
    """Holds that tags are closed in their order, and gathers the text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text.append(data)


def checked(report: Report) -> tuple[Checker, str]:
    page = render(report)
    checker = Checker()
    checker.feed(page)
    checker.close()
    assert checker.open == []
    assert "http" not in page.replace("http-equiv", "")
    assert not re.search(r"url\(|@import|<script|<link|src=", page)
    return checker, " ".join(" ".join(checker.text).split())


def result(**fields: Any) -> RunResult:
    return RunResult(
        run_id="job-1.1",
        organization="org-1",
        as_of="2026-11-23",
        mode="reliable",
        workers=1,
        **fields,
    )


def days(count: int, number: int = 5) -> dict[str, int]:
    return {str(dt.date(2026, 11, 23) + dt.timedelta(days=n)): number for n in range(count)}


@pytest.mark.parametrize("count", [0, 1, 2, 40, 500])
def test_any_number_of_days(count: int) -> None:
    """No day, one day and more than a year of days make a page."""
    run = result(volume=days(count), volume_before=days(count, 9), daily_cap=5, daily_limit=6)
    checker, text = checked(Report(organization="org-1", generated_at=NOW, latest=run))
    rectangles = [attrs for tag, attrs in checker.tags if tag == "rect"]
    assert len(rectangles) == count
    assert all(
        0 <= float(a["x"] or 0) <= 1000 and 0 <= float(a["y"] or 0) <= 300 for a in rectangles
    )
    assert ("No e-mail is planned" in text) == (count == 0)
    assert "There was no run before this one" in text


def test_hostile_names() -> None:
    """Whatever the file holds is shown as text and never becomes part of the page."""
    evil = '<script>alert("x")</script>&'
    run = result(
        counts={evil: {"pre-scheduled": 3}},
        skipped={f"exclusion:{evil}:{evil}": 1, evil: 2},
        issues={evil: 1},
        states={evil: {evil: 3}},
        volume={"2026-11-23": 3, evil: 7},
        rows_planned=3,
    )
    report = Report(
        organization=evil,
        generated_at=evil,
        latest=run,
        previous=run,
        issues=[ContactIssue(contact_id=1, reason=evil)],
        issues_total=1,
    )
    _, text = checked(report)
    assert text.count(evil) > 8


def test_numbers_are_those_of_the_run(tmp_path: Path) -> None:
    """The page shows counts, cap, states, and the difference to the previous run."""
    path = tmp_path / "org-1.db"
    make_organization(path, 3000, 4, dt.date.fromisoformat(AS_OF))
    first = run_locally(path, tmp_path / "scratch", "2026-11-20", run_id="job-1.1")
    second = run_locally(path, tmp_path / "scratch", AS_OF, run_id="job-2.1")
    report = read_report(path, "org-1", NOW)
    assert report.latest is not None
    assert report.previous is not None
    assert (report.latest.run_id, report.previous.run_id) == ("job-2.1", "job-1.1")
    for found, run in ((report.latest, second), (report.previous, first)):
        assert (found.counts, found.volume, found.skipped, found.states) == (
            run.counts,
            run.volume,
            run.skipped,
            run.states,
        )
        assert sum(sum(types.values()) for types in run.states.values()) == sum(run.volume.values())
        assert sum(run.volume_before.values()) >= sum(run.volume.values())
    assert report.issues_total == sum(second.issues.values())
    _, text = checked(report)
    for number in (
        second.contacts,
        second.rows_planned,
        second.daily_cap,
        second.daily_limit,
        report.issues_total,
    ):
        assert f"{number:,}" in text
    for state in second.states:
        assert f" {state} " in text
    for kind, counts in second.counts.items():
        assert f"{kind} {counts.get('pre-scheduled', 0):,}" in text
    change = sum(first.volume.values()) - sum(second.volume.values())
    assert change != 0


def test_only_the_newest_summaries_stay(tmp_path: Path) -> None:
    """Of many runs the newest few keep their summary, so the file does not grow for ever."""
    path = tmp_path / "org-1.db"
    make_organization(path, 50, 4, dt.date.fromisoformat(AS_OF))
    for number in range(SUMMARIES + 3):
        run_locally(path, tmp_path / "scratch", AS_OF, run_id=f"job-{number:03d}.1")
    connection = sqlite3.connect(path)
    kept = [
        row[0]
        for row in connection.execute(
            "SELECT run_id FROM scheduler_runs WHERE summary NOT NULL ORDER BY 1"
        )
    ]
    [(runs,)] = connection.execute("SELECT count(*) FROM scheduler_runs")
    connection.close()
    assert kept == [f"job-{number:03d}.1" for number in range(3, SUMMARIES + 3)]
    assert runs == SUMMARIES + 3


def test_files_without_use(tmp_path: Path) -> None:
    """No runs, an older release or damaged summaries make an empty report, not an error."""
    path = tmp_path / "org-1.db"
    make_organization(path, 50, 4, dt.date.fromisoformat(AS_OF))
    assert read_report(path, "org-1", NOW).latest is None
    connection = sqlite3.connect(path)
    connection.execute(
        "CREATE TABLE scheduler_runs(run_id TEXT PRIMARY KEY, as_of, status, started_at)"
    )
    connection.commit()
    assert read_report(path, "org-1", NOW).latest is None
    run_locally(path, tmp_path / "scratch", AS_OF)
    assert read_report(path, "org-1", NOW).latest is not None
    connection.execute("UPDATE scheduler_runs SET summary = '{\"run_id\": 5}'")
    connection.execute("INSERT INTO contact_issues VALUES (-5, 'odd')")
    connection.commit()
    connection.close()
    report = read_report(path, "org-1", NOW)
    assert report.latest is None
    assert report.issues[0].contact_id == -5


@pytest.mark.slow
def test_command(data: Path, daemons: Callable[..., RunningDaemon], tmp_path: Path) -> None:
    """`schedctl report` needs a run, then writes the page, JSON, or a summary."""
    daemon = daemons()
    early = schedctl("report", "org-a", "--html", str(tmp_path / "r.html"), data=data)
    assert early.returncode == 2
    assert "schedctl submit org-a" in early.stderr
    with daemon.client() as client:
        client.schedule("org-a", as_of=AS_OF)
    page = tmp_path / "r.html"
    done = schedctl("report", "org-a", "--html", str(page), data=data)
    assert done.returncode == 0, done.stderr
    assert str(page) in done.stdout
    assert page.read_text().startswith("<!doctype html>")
    assert schedctl("report", "org-a", "--html", "-", data=data).stdout.startswith(
        "<!doctype html>"
    )
    document = json.loads(schedctl("report", "org-a", "--json", data=data).stdout)
    assert document["latest"]["as_of"] == AS_OF
    assert "aep" in schedctl("report", "org-a", data=data).stdout
    nowhere = schedctl("report", "org-a", "--html", str(tmp_path / "no" / "r.html"), data=data)
    assert nowhere.returncode == 2
    assert "cannot be written" in nowhere.stderr
    assert [path.name for path in tmp_path.glob("*.html*")] == ["r.html"]
