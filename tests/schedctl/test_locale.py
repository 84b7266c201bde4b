"""Paths with other letters than ASCII under the locale `C`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support.command_line import SCHEDCTL
from tests.support.daemons import RunningDaemon

_CLIENT = """
import sys
from schedclient import Client
assert sys.getfilesystemencoding() == "ascii"
with Client(data=sys.argv[1]) as client:
    print(client.schedule("org-a", as_of="2026-11-23").contacts)
"""


def test_paths_under_the_locale_c(data: Path) -> None:
    """Daemon, client and `schedctl` work in a folder named in any script."""
    folder = data.rename(data.with_name("Zoë-日本"))
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    daemon = RunningDaemon(folder, environment=environment).start()
    try:
        with daemon.client(timeout_s=60) as client:
            assert client.info("org-a").contacts == 300
        for command in (
            [sys.executable, "-c", _CLIENT, str(folder)],
            [*SCHEDCTL, "info", "org-a", "--data", str(folder)],
            [*SCHEDCTL, "check", str(folder / "org-a.db")],
        ):
            done = subprocess.run(
                command, env=environment, capture_output=True, timeout=120, check=False
            )
            assert done.returncode == 0, done.stderr.decode()
            assert b"300" in done.stdout
        assert daemon.stop() == 0
    finally:
        daemon.clean_up()
