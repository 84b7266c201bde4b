"""Texts of other programs on terminals and in logs."""

from __future__ import annotations

import io
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import structlog
from click.testing import CliRunner

from schedctl.main import cli
from schedd import logs
from schedproto import OrganizationInfo
from schedproto.printable import printable, printable_copy
from tests.support.daemons import RunningDaemon

HOSTILE = "sent\x1b[2J\x1b]0;owned\x07\nError: all is lost\u202egnp.exe\u2028\x9b31m\r"


def is_safe(text: str) -> bool:
    return not set(text) & set("\x1b\x07\u202e\u2028\x9b\r") and "\nError: all" not in text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Zoë 日本 🎉 50\u00a0%", "Zoë 日本 🎉 50\u00a0%"),
        ("a\x1b[31mb", "a\\x1b[31mb"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("a\u202eb\u2066c", "a\\u202eb\\u2066c"),
        ("\ud800", "\\ud800"),
    ],
)
def test_printable(text: str, shown: str) -> None:
    """What controls a terminal is escaped; letters of any script are not."""
    assert printable(text) == shown
    assert printable(shown) == shown


def test_lines_are_kept_on_request() -> None:
    """Line breaks of our own texts stay."""
    assert printable("a\nb\x1b", lines=True) == "a\nb\\x1b"


def test_messages() -> None:
    """All texts of a message are escaped, names in mappings too; an ordinary one stays itself."""
    info = OrganizationInfo(
        organization="org-1",
        path="/data/org-1.db",
        size_bytes=1,
        journal_mode="wal",
        page_size=4096,
        tables=[],
        plan={HOSTILE: 3},
    )
    assert list(printable_copy(info).plan) == [printable(HOSTILE)]
    assert printable_copy(printable_copy(info)).plan == printable_copy(info).plan


def test_terminal(data: Path, daemons: Callable[..., RunningDaemon]) -> None:
    """`schedctl` shows a hostile status of a plan, and a hostile name in an error, escaped."""
    with closing(sqlite3.connect(data / "org-a.db")) as connection, connection:
        connection.execute(
            "INSERT INTO email_schedules(contact_id, email_type, scheduled_send_date, "
            "scheduled_send_time, status) VALUES (1, 'x', '2026-01-01', '', ?)",
            (HOSTILE,),
        )
    with closing(sqlite3.connect(data / "org-b.db")) as connection, connection:
        message = HOSTILE.replace("\x00", "")
        connection.execute(
            "CREATE TRIGGER hostile BEFORE INSERT ON email_schedules BEGIN "
            f"SELECT RAISE(ABORT, '{message}'); END"
        )
    daemon = daemons()
    connected = ["--data", str(daemon.data)]
    shown = CliRunner().invoke(cli, ["info", "org-a", *connected])
    assert shown.exit_code == 0
    assert is_safe(shown.output)
    assert "sent\\x1b[2J" in shown.output
    refused = CliRunner().invoke(cli, ["submit", "org-b", "--as-of", "2026-11-23", *connected])
    assert refused.exit_code != 0
    assert "\\x1b[2J" in refused.output
    assert not set(refused.output) & set("\x1b\x07\u202e\u2028\x9b\r")


@pytest.mark.parametrize("log_format", ["pretty", "json"])
def test_logs(log_format: str) -> None:
    """A log line with such a text is one line, and controls nothing."""

    class Output(io.StringIO):
        lost_lines_text = None

        def count_lost(self, count: int) -> None:
            raise AssertionError(count)

    output = Output()
    before = structlog.get_config()
    try:
        logs.configure(log_format, "info", output)  # type: ignore[arg-type]
        structlog.get_logger().warning("job ended", error=HOSTILE)
    finally:
        structlog.configure(**before)
    assert is_safe(output.getvalue())
    assert output.getvalue().count("\n") == 1
