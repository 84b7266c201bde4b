"""`schedctl config`: prompts on a terminal, odd files and arguments, and invalid versions."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from schedproto.configurations import MAX_TOML_BYTES
from tests.support.command_line import SCHEDCTL
from tests.support.daemons import RunningDaemon

COMMAND = [*SCHEDCTL, "config"]


def schedctl(
    *arguments: str | bytes, data: Path, content: bytes = b"", **environment: str
) -> subprocess.CompletedProcess[bytes]:
    command = [*COMMAND, *arguments, "--data", str(data)]
    complete = {"PATH": "/usr/bin:/bin", "HOME": str(data), **environment}
    return subprocess.run(
        command, input=content, capture_output=True, timeout=120, check=False, env=complete
    )


def test_withdraw_asks_on_a_terminal(data: Path, daemons: Any, terminal: Any) -> None:
    """On a terminal it asks before it withdraws.

    Anything but yes changes nothing, and --yes does not ask.
    """
    daemon: RunningDaemon = daemons()
    with daemon.client() as client:
        client.set_configuration("org-a", "# one", "ann")
        screen = terminal("config", "withdraw", "org-a", "1", "--data", data)
        screen.expect("Withdraw version 1 of org-a?")
        screen.type("\n")
        screen.expect("Nothing was changed")
        assert screen.wait() == 0
        assert client.configuration("org-a").version == 1
        screen = terminal("config", "withdraw", "org-a", "1", "--by", "bob", "--data", data)
        screen.expect("Withdraw version 1 of org-a?")
        screen.type("y\n")
        screen.expect("Version 1 is withdrawn")
        assert screen.wait() == 0
        assert client.configuration("org-a").versions[0].withdrawn_by == "bob"
        client.set_configuration("org-a", "# two", "ann")
        screen = terminal("config", "withdraw", "org-a", "2", "--yes", "--data", data)
        assert screen.wait() == 0
        assert "?" not in screen.screen


def test_sources_as_comments(data: Path, daemons: Any) -> None:
    """The TOML of `show` has the source of each setting, and reads back equal."""
    daemons()
    text = (
        b'\xef\xbb\xbfsend_time = "09:00:00"\r\n[exclusion.rules]\r\nTX = [{ kind = '
        b'"year_round" }]\r\n'
    )
    assert schedctl("set", "org-a", "-", data=data, content=text).returncode == 0
    shown = schedctl("show", "org-a", "--toml", data=data).stdout
    noted = [line.split(b" ")[0] for line in shown.splitlines() if line.endswith(b"  # version 1")]
    assert noted == [b"send_time", b"TX"]
    effective = json.loads(schedctl("show", "org-a", "--json", data=data).stdout)["effective"]
    assert tomllib.loads(shown.decode()) == effective
    again = schedctl("check", "org-a", "-", data=data, content=shown)
    assert again.returncode == 0
    assert b"No setting changes" in again.stdout


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'send_time = "\xff"', b"standard input is not UTF-8 text"),
        (b"#" * (MAX_TOML_BYTES + 1), b"is larger than 524,288 bytes"),
        ("ü".encode() * MAX_TOML_BYTES, b"is larger than 524,288 bytes"),
    ],
    ids=["no text", "too large", "too large and cut within a character"],
)
def test_input_that_is_no_configuration(content: bytes, says: bytes, data: Path) -> None:
    """A file that is not TOML is refused before a request to the daemon, in any locale."""
    for locale in ("C", "C.UTF-8"):
        refused = schedctl("set", "org-a", "-", data=data, content=content, LC_ALL=locale)
        assert refused.returncode == 2
        assert says in refused.stderr
        assert b"Traceback" not in refused.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("withdraw", "org-a", str(2**63)),
        ("withdraw", "org-a", "one"),
        ("history", "org-a", str(2**70)),
        ("set", "org-a", "-", "--by", b"a\xffb"),
        ("set", "org-a", "-", "--by", "two\nlines"),
        ("set", "org-a", "-", "--by", "n" * 201),
    ],
)
def test_impossible_arguments(arguments: tuple[str | bytes, ...], data: Path) -> None:
    """Impossible version numbers and table names are usage errors, as text and as JSON."""
    refused = schedctl(*arguments, data=data)
    assert refused.returncode == 2
    assert b"Invalid value" in refused.stderr
    document = json.loads(schedctl(*arguments, "--json", data=data).stdout)
    assert document["error"]["code"] == "usage"


def test_broken_version_is_told_everywhere(data: Path, daemons: Any) -> None:
    """A broken version is reported with exit code 1 until it is withdrawn."""
    connection = sqlite3.connect(data / "org-a.db")
    connection.executescript(
        "CREATE TABLE IF NOT EXISTS scheduler_config(version INTEGER PRIMARY KEY, toml, "
        "created_at, created_by);"
        "INSERT INTO scheduler_config(version, toml, created_at, created_by) VALUES (1, 'nonsense "
        "= 1', '', '');"
    )
    connection.close()
    daemons()
    for options in ((), ("--toml",)):
        shown = schedctl("show", "org-a", *options, data=data)
        assert shown.returncode == 1
        assert b"nonsense" in shown.stderr
        assert b"withdraw" in shown.stderr
        assert b"send_time" in shown.stdout
    document = schedctl("show", "org-a", "--json", data=data)
    assert document.returncode == 1
    assert json.loads(document.stdout)["error"]["code"] == "invalid_configuration"
    listed = schedctl("history", "org-a", data=data)
    assert listed.returncode == 0
    assert b"1 applies" in listed.stdout
    assert schedctl("withdraw", "org-a", "1", data=data).returncode == 0
    assert schedctl("show", "org-a", data=data).returncode == 0
