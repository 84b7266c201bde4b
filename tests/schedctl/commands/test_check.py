"""schedctl check, adopt, doctor and the first submit, as processes; files in any folder."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import tempfile
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from schedclient.errors import LocalFileError
from schedctl.local_check import check_file, copy_database
from tests.support.checks import AS_OF, CLEAN, PREDECESSOR, write_database
from tests.support.folders import Folder

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def organizations(make_folder: Callable[..., Folder]) -> Path:
    """A data folder with a predecessor's file, a clean one, and one with warnings alone."""
    folder = make_folder(organizations=())
    write_database(folder.path / "org-206.db", (PREDECESSOR / "org-206.sql").read_text())
    write_database(folder.path / "org-clean.db", CLEAN)
    write_database(
        folder.path / "org-warning.db", CLEAN, "UPDATE contacts SET email = 'x' WHERE id = 5"
    )
    return folder.path


def test_check_and_adopt(schedctl: Run, organizations: Path) -> None:
    """The way of a predecessor's file.

    Checked, suggested, adopted once, checked again, scheduled.
    """
    place = ("--data", organizations)
    found = schedctl("check", "org-206", "--as-of", "2025-06-09", *place)
    assert found.returncode == 1
    for text in (
        "error    unreadable_date",
        "99-99-9999",
        '-> Add "MM-DD-YYYY"',
        "4 errors",
        "Use it:   schedctl adopt",
    ):
        assert text in found.stdout

    suggested = schedctl("check", "org-206", "--suggest", *place)
    assert suggested.returncode == 0
    assert tomllib.loads(suggested.stdout)["history"]["aliases"] == {
        "scheduled_rate_increase": "campaign_rate_increase"
    }
    (organizations / "suggested.toml").write_text(suggested.stdout)
    assert (
        schedctl("config", "check", "org-206", organizations / "suggested.toml", *place).returncode
        == 0
    )

    refused = schedctl("adopt", "org-206", *place)
    assert (refused.returncode, "--yes" in refused.stderr) == (2, True)
    shown = json.loads(schedctl("adopt", "org-206", "--json", *place).stdout)
    assert (shown["applied"], shown["left"][0]["code"]) == (False, "suppressed_status")
    done = schedctl(
        "adopt", "org-206", "--yes", "--accept-status", "requested_follow_up", "--by", "me", *place
    )
    assert done.returncode == 0
    assert "Version 1 of its configuration applies. Backup" in done.stdout
    again = schedctl("adopt", "org-206", "--yes", "--accept-status", "requested_follow_up", *place)
    assert again.stdout.strip() == "Nothing to do to adopt org-206."

    document = json.loads(schedctl("check", "org-206", "--json", *place).stdout)
    assert {item["severity"] for item in document["findings"]} == {"warning", "note"}
    first = schedctl("submit", "org-206", "--as-of", "2025-06-09", *place)
    assert (first.returncode, first.stderr) == (0, "")


def test_exit_codes(schedctl: Run, organizations: Path) -> None:
    """0 for no errors, 1 for errors, 4 for an organization that does not exist."""
    clean = schedctl("check", "org-clean", "--as-of", AS_OF, "--data", organizations)
    assert (clean.returncode, "nothing to report" in clean.stdout) == (0, True)
    warned = schedctl("check", "org-warning", "--as-of", AS_OF, "--data", organizations)
    assert (warned.returncode, "1 warning" in warned.stdout) == (0, True)
    assert schedctl("check", "org-206", "--json", "--data", organizations).returncode == 1
    assert schedctl("check", "org-none", "--data", organizations).returncode == 4
    assert (
        schedctl("check", "org-clean", "--as-of", "soon", "--data", organizations).returncode == 4
    )
    missing = schedctl("check", "./missing.db")
    assert (missing.returncode, "no such file" in missing.stderr) == (2, True)
    assert (
        schedctl("check", "org-206", "--suggest", "--json", "--data", organizations).returncode == 0
    )


def test_the_configuration_of_the_command_counts(schedctl: Run, organizations: Path) -> None:
    """Overrides are those that a run would be given."""
    (organizations / "more.toml").write_text(
        '[contacts]\ndate_formats = ["YYYY-MM-DD", "MM-DD-YYYY", "MMDDYYYY"]\n'
    )
    arguments = (
        "check",
        "org-206",
        "--config",
        organizations / "more.toml",
        "--json",
        "--data",
        organizations,
    )
    codes = {item["code"] for item in json.loads(schedctl(*arguments).stdout)["findings"]}
    assert "unreadable_date" not in codes
    assert "unknown_type" in codes


def test_the_first_submit_says_what_is_wrong(schedctl: Run, organizations: Path) -> None:
    """Before the first run the errors are shown, and the run continues.

    Not again after it, and not with --json.
    """
    script = (
        "ALTER TABLE contacts ADD COLUMN bounced_at; UPDATE contacts SET bounced_at = "
        "'2026-01-01' WHERE id = 5"
    )
    write_database(organizations / "org-first.db", CLEAN, script)
    arguments = ("submit", "org-first", "--as-of", AS_OF, "--data", organizations)
    document = schedctl(*arguments, "--dry-run", "--json")
    assert (document.returncode, document.stderr) == (0, "")
    first = schedctl(*arguments)
    assert first.returncode == 0
    assert "First run of org-first" in first.stderr
    assert "contacts.bounced_at says that 1 contact want" in first.stderr
    assert f"schedctl check org-first --data {organizations}" in first.stderr
    assert "scheduled for" in first.stdout
    second = schedctl(*arguments)
    assert (second.returncode, second.stderr) == (0, "")


def test_doctor_says_how_many(schedctl: Run, organizations: Path) -> None:
    """`doctor` counts errors as failed, and warnings do not fail."""
    found = schedctl("doctor", "org-206", "--data", organizations)
    assert found.returncode == 1
    assert "contents org-206: 4 errors, first: " in found.stdout
    assert "`schedctl check org-206` shows all" in found.stdout
    fine = schedctl("doctor", "org-warning", "--data", organizations)
    assert (fine.returncode, "contents org-warning: no errors, 1 warnings" in fine.stdout) == (
        0,
        True,
    )


# Files in any folder ------------------------------------------------------------------------------


def listing(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}


def test_a_file_is_never_changed(tmp_path: Path, schedctl: Run) -> None:
    """A checked file, its log, and its folder are as they were.

    A log that is not in the file yet is read.
    """
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    write_database(folder / "plain.db", CLEAN)
    write_database(folder / "logged.db", CLEAN)
    writer = sqlite3.connect(folder / "logged.db")
    writer.execute("PRAGMA journal_mode = WAL")
    writer.execute("UPDATE contacts SET email = 'x' WHERE id = 5")
    writer.commit()
    before = listing(folder)
    assert "logged.db-wal" in before
    environment = {
        "SCHEDD_BUCKET_FOLDER": str(tmp_path / "bucket"),
        "SCHEDCTL_ENDPOINT": "tcp://127.0.0.1:1",
    }
    plain = schedctl("check", folder / "plain.db", "--as-of", AS_OF, **environment)
    assert (plain.returncode, "nothing to report" in plain.stdout) == (0, True)
    logged = json.loads(schedctl("check", folder / "logged.db", "--as-of", AS_OF, "--json").stdout)
    assert [item["code"] for item in logged["findings"]] == ["invalid_email"]
    assert listing(folder) == before
    writer.close()


def test_a_transaction_that_broke_off_is_rolled_back_in_the_copy(tmp_path: Path) -> None:
    """The journal of a killed program belongs to the file.

    Its state is the one before the transaction.
    """
    path = write_database(tmp_path / "org-1.db", CLEAN)
    script = (
        "import os, sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('PRAGMA cache_size "
        "= 2'); "
        "c.execute('PRAGMA cache_spill = 1'); c.execute('BEGIN'); "
        "c.execute(\"UPDATE contacts SET email = 'x', carrier = printf('%5000s', '')\"); "
        "os._exit(0)"
    )
    subprocess.run(["python3", "-c", script, str(path)], check=True)
    assert path.with_name("org-1.db-journal").exists()
    before = listing(tmp_path)
    report = check_file(path, as_of=AS_OF)
    assert report.findings == []
    assert listing(tmp_path) == before


def test_no_daemon_and_no_copy_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon of a file's check is ended, and its folder removed, also where the check fails."""
    # A short path: a longer one would not do for the daemon's socket.
    temporary = Path(tempfile.mkdtemp(prefix="t"))
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    assert check_file(write_database(tmp_path / "org-1.db", CLEAN), as_of=AS_OF).findings == []
    broken = tmp_path / "broken.db"
    broken.write_bytes(b"no database" * 1000)
    with pytest.raises(Exception, match="SQLite database"):
        check_file(broken)
    assert list(temporary.iterdir()) == []
    temporary.rmdir()


def test_copies_wait_for_writers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that changes while it is copied is copied again; one that always does is an error."""
    path = write_database(tmp_path / "busy.db", CLEAN)
    monkeypatch.setattr("schedctl.local_check._PAUSE_S", 0.0)
    changes = iter(range(3))
    real = os.stat

    from schedctl import local_check

    states = local_check._states

    def changing(target: Path) -> object:
        if next(changes, None) is not None:
            os.utime(target, ns=(0, real(target).st_mtime_ns + 1))
        return states(target)

    monkeypatch.setattr(local_check, "_states", changing)
    copy_database(path, tmp_path / "copy.db")
    assert (tmp_path / "copy.db").read_bytes() == path.read_bytes()
    changes = iter(range(1000))
    with pytest.raises(LocalFileError, match="changes continuously"):
        copy_database(path, tmp_path / "copy.db")
