"""Files of other programs.

A check says what a run refuses and counts what a run counts, and changes nothing.
"""

from __future__ import annotations

import datetime as dt
import importlib.util
import sqlite3
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from schedd.engine.configuration import Layer
from schedd.inspection.adopt import Adopter
from schedd.inspection.report import CheckRequest, check
from schedproto import SchedulerError
from schedproto.checks import CheckReport
from tests.support.checks import counts
from tests.support.paths import TESTS
from tests.support.plans import run_locally

DATA = TESTS / "cases" / "data"
CASES = sorted(path.name for path in DATA.iterdir() if path.stem != "base")
AS_OF = dt.date(2026, 11, 23)
REFUSED = {
    "foreign_schema",
    "column_missing",
    "contacts_missing",
    "contacts_empty",
    "duplicate_keys",
}
COUNTED = (
    *("unreadable_date", "missing_date", "unreadable_boolean", "unreadable_integer"),
    *("unreadable_contact_id", "unknown_status", "unknown_type"),
)


def build(name: str, path: Path) -> None:
    source = DATA / name
    if source.suffix == ".sql":
        connection = sqlite3.connect(path)
        connection.executescript(source.read_text())
        connection.close()
        return
    spec = importlib.util.spec_from_file_location(source.stem, source)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.build(str(path))


def checked(path: Path) -> CheckReport:
    return check(
        CheckRequest(
            path=path,
            organization=path.stem,
            defaults=Layer("defaults", {}),
            as_of=AS_OF,
            now=lambda: dt.datetime.now(dt.UTC),
        )
    )


@pytest.mark.parametrize("name", CASES)
def test_a_check_and_a_run_agree(name: str, tmp_path: Path) -> None:
    """A check reports an error if and only if a run refuses the file.

    Issues and warnings have the same counts.
    """
    path = tmp_path / "org-1.db"
    try:
        build(name, path)
    except OSError:
        pytest.skip("this file is made from another one")
    before = path.read_bytes()
    report = checked(path)
    with suppress(SchedulerError):
        Adopter(path, "org-1", Layer("defaults", {}), (), lambda: dt.datetime.now(dt.UTC)).plan()
    assert path.read_bytes() == before

    refused = [item for item in report.findings if item.code in REFUSED]
    try:
        run = run_locally(path, tmp_path / "scratch", AS_OF.isoformat(), dry_run=True)
    except SchedulerError as error:
        assert str(error.code) in {item.code for item in refused}, error.message
        return
    assert not refused, [item.message for item in refused]
    assert report.contacts_eligible == run.contacts_eligible
    warned: Counter[tuple[str, str, str, str]] = Counter()
    for warning in run.warnings:
        if warning.code in COUNTED:
            warned[warning.code, warning.table, warning.column, warning.name] += warning.count
    found = counts(report, *COUNTED)
    # A run does not warn of dates of contacts that it counts as issues; of side tables it reads
    # what it needs.
    for key, count in warned.items():
        assert found[key] >= count, key
    by_code = Counter[str]()
    for item in report.findings:
        by_code[item.code] += item.count
    for code in ("invalid_email", "missing_email", "missing_zip", "unknown_zip"):
        assert by_code[code] == run.issues.get(code, 0), code
