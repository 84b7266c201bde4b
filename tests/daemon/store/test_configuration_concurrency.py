"""Configuration changed while others use the file: other clients, other programs, a running job."""

from __future__ import annotations

import contextlib
import datetime as dt
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest

from schedclient import errors
from schedctl.synthetic import make_organization
from schedd.engine.configuration import Layer
from schedd.store import configurations, connection
from schedproto import FINAL_STATES, ErrorCode, SchedulerError
from tests.support.daemons import AS_OF, RunningDaemon
from tests.support.other_programs import locked
from tests.support.waiting import wait_until

DEFAULTS = Layer("the daemon's configuration file", {})
NOW = "2026-11-23 12:00:00"


def test_locked_file(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While another program writes, a change ends with `database_locked`, which may be tried again.

    Then it works.
    """
    monkeypatch.setattr(connection, "BUSY_TIMEOUT_MS", 50)
    path = data / "org-a.db"
    with locked(path, "IMMEDIATE"):
        for change in (
            lambda: configurations.set_version(path, "org-a", DEFAULTS, "# new", "ann", NOW),
            lambda: configurations.withdraw(path, "org-a", DEFAULTS, 1, "ann", NOW),
        ):
            with pytest.raises(SchedulerError) as caught:
                change()
            assert caught.value.code == ErrorCode.DATABASE_LOCKED
            assert caught.value.retryable
        assert configurations.show(path, "org-a", DEFAULTS).version is None
    assert configurations.set_version(path, "org-a", DEFAULTS, "# new", "ann", NOW).version == 1


def test_waits_for_a_short_lock(data: Path) -> None:
    """A lock that another program soon gives up is waited for."""
    path = data / "org-a.db"
    done: list[int | None] = []

    def change() -> None:
        done.append(
            configurations.set_version(path, "org-a", DEFAULTS, "# new", "ann", NOW).version
        )

    with locked(path) as holder:
        thread = threading.Thread(target=change)
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
        assert not done
        holder.end()
        thread.join(120)
    assert done == [1]


def _set_until_stored(client: Any, organization: str, toml: str) -> int:
    def stored() -> int | None:
        with contextlib.suppress(errors.DatabaseLockedError):
            return client.set_configuration(organization, toml, "ann").version
        return None

    version = wait_until(stored, "storing while the job has the lock")
    assert version is not None
    return version


@pytest.mark.slow
def test_set_while_a_job_runs(data: Path, daemons: Any) -> None:
    """Versions set while a job runs are all kept.

    The job has one configuration, and the next run has the newest.
    """
    make_organization(data / "org-big.db", 40_000, 1, dt.date.fromisoformat(AS_OF))
    daemon: RunningDaemon = daemons()
    stored: list[int] = []
    during = 0
    with daemon.client() as client:
        first = _set_until_stored(
            client, "org-big", "[exclusion.rules]\nTX = [{ kind = 'year_round' }]\n"
        )
        handle = client.submit("org-big", as_of=AS_OF)
        while True:
            running = handle.status().state not in FINAL_STATES
            stored.append(_set_until_stored(client, "org-big", f"# {len(stored)}\n"))
            during += running
            if not running:
                break
        result = handle.wait(timeout_s=120)
        assert stored == list(range(first + 1, first + 1 + len(stored)))
        assert during
        if result.config_version == first:
            assert "exclusion:TX:year_round" in result.skipped
        else:
            assert result.config_version in stored
            assert "exclusion:TX:year_round" not in result.skipped
        after = client.schedule("org-big", as_of=AS_OF, timeout_s=120)
        assert after.config_version == stored[-1]
        assert "exclusion:TX:year_round" not in after.skipped
        assert len(client.configuration("org-big").versions) == len(stored) + 1
    check = sqlite3.connect(data / "org-big.db")
    assert check.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    check.close()
