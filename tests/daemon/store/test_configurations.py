"""Versioned configuration: stored, written out completely, and through the daemon."""

from __future__ import annotations

import json
import sqlite3
import threading
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schedclient import errors
from schedclient.toml import render
from schedctl.synthetic import make_organization
from schedd.engine.configuration import Configuration, Layer, build, dotted, dump_configuration
from schedd.store import configurations
from schedproto import ErrorCode, SchedulerError
from tests.reference.random_configuration import random_overrides
from tests.support.command_line import schedctl
from tests.support.daemons import AS_OF, RunningDaemon
from tests.support.paths import ROOT
from tests.support.plans import GOLDEN, make_database, run_locally

DEFAULTS = Layer("the daemon's configuration file", {})
NOW = "2026-11-23 12:00:00"


@pytest.fixture
def organization(tmp_path: Path) -> Path:
    import datetime as dt

    path = tmp_path / "org-a.db"
    make_organization(path, 300, 1, dt.date.fromisoformat(AS_OF))
    return path


@given(st.integers(0, 5000))
@settings(deadline=None, max_examples=200)
def test_effective_is_the_configuration(seed: int) -> None:
    """A completely written configuration reads back equal, as a dictionary and as TOML."""
    import random

    configuration = build(Layer("random", random_overrides(random.Random(seed))))
    complete = dump_configuration(configuration)
    assert build(Layer("complete", complete)) == configuration
    assert tomllib.loads(render(complete)) == complete
    assert build(Layer("text", tomllib.loads(render(complete)))) == configuration


VALUES = st.recursive(
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=8), VALUES, max_size=5))
def test_toml_round_trip(values: dict[str, Any]) -> None:
    """Whatever can be in a configuration is read back from its TOML text as it was."""
    assert tomllib.loads(render(values)) == values


def test_versions(organization: Path) -> None:
    """Versions have numbers; the newest that is not withdrawn applies."""
    first = configurations.set_version(
        organization, "org-a", DEFAULTS, 'send_time = "09:00:00"\n', "ann", NOW
    )
    assert (first.version, first.effective["send_time"]) == (1, "09:00:00")
    assert first.sources == {"send_time": "version 1"}
    again = configurations.set_version(
        organization, "org-a", DEFAULTS, 'send_time = "09:00:00"\n', "bob", NOW
    )
    assert [(v.version, v.created_by) for v in again.versions] == [(1, "ann")]
    second = configurations.set_version(
        organization, "org-a", DEFAULTS, "[frequency]\nperiod_days = 20\n", "bob", NOW
    )
    assert (second.version, second.effective["send_time"]) == (2, "08:30:00")
    withdrawn = configurations.withdraw(organization, "org-a", DEFAULTS, 2, "cleo", NOW)
    assert withdrawn.version == 1
    twice = configurations.withdraw(
        organization, "org-a", DEFAULTS, 2, "dora", "2027-01-01 00:00:00"
    )
    assert [(v.version, v.withdrawn_by, v.withdrawn_at) for v in twice.versions] == [
        (2, "cleo", NOW),
        (1, None, None),
    ]
    with pytest.raises(SchedulerError, match="no version 7") as caught:
        configurations.withdraw(organization, "org-a", DEFAULTS, 7, "x", NOW)
    assert "2, 1" in caught.value.hint


@pytest.mark.parametrize(
    "toml",
    [
        "[frequency]\nperiod_dys = 3\n",
        "send_time = 8\n",
        "[[[",
        "[balance]\nsmoothing_window_days = 4\n",
    ],
)
def test_invalid_text_is_never_stored(toml: str, organization: Path) -> None:
    """An invalid text is refused with its key or line, and the file stays."""
    before = organization.read_bytes()
    for call in (
        lambda: configurations.set_version(organization, "org-a", DEFAULTS, toml, "ann", NOW),
        lambda: configurations.check(organization, "org-a", DEFAULTS, toml),
    ):
        with pytest.raises(SchedulerError) as caught:
            call()
        assert caught.value.code == ErrorCode.INVALID_CONFIGURATION
    assert organization.read_bytes() == before


def test_odd_table(organization: Path) -> None:
    """A table of an older release, and odd rows in it, can be shown, completed and withdrawn."""
    connection = sqlite3.connect(organization)
    connection.executescript(
        """DROP TABLE IF EXISTS scheduler_config;
        CREATE TABLE scheduler_config(version, toml, created_at, created_by);
        INSERT INTO scheduler_config VALUES ('x', 'a', 1, 2), (4, NULL, NULL, NULL),
        (5, 'nonsense = 1', 17, x'00');"""
    )
    connection.close()
    shown = configurations.show(organization, "org-a", DEFAULTS)
    assert shown.error is not None
    assert "nonsense" in shown.error.message
    assert [version.version for version in shown.versions] == [5, 4]
    with pytest.raises(SchedulerError, match="nonsense"):
        run_locally(organization, organization.parent / "scratch", AS_OF)
    fixed = configurations.withdraw(organization, "org-a", DEFAULTS, 5, "ann", NOW)
    assert (fixed.version, fixed.error) == (4, None)
    newest = configurations.set_version(
        organization, "org-a", DEFAULTS, 'send_time = "10:00:00"', "ann", NOW
    )
    assert newest.version == 6


def test_layers_are_named(organization: Path) -> None:
    """The sources say which layer set a value; a later one wins."""
    defaults = Layer(
        "the daemon's configuration file", {"send_time": "07:00:00", "followup": {"delay_days": 3}}
    )
    shown = configurations.set_version(
        organization, "org-a", defaults, 'send_time = "09:00:00"', "ann", NOW
    )
    assert shown.effective["send_time"] == "09:00:00"
    assert shown.effective["followup"]["delay_days"] == 3
    assert shown.sources == {
        "send_time": "version 1",
        "followup.delay_days": "the daemon's configuration file",
    }


def test_every_setting_is_shown() -> None:
    """The complete configuration has every key of section 13 that does not depend on size."""
    keys = {key for key, _ in dotted(dump_configuration(Configuration()))}
    text = (ROOT / "docs" / "RULES.md").read_text()
    example = text[text.index('    timezone = "America/Chicago"') :]
    lines = [line.strip() for line in example.splitlines() if line.startswith("    ")]
    section, wanted = "", set()
    for line in lines:
        if line.startswith("["):
            section = line.split("]")[0].strip("[") + "."
        elif "=" in line:
            wanted.add(section + line.split("=")[0].strip())
    assert len(wanted) > 20
    assert wanted - keys == {"balance.daily_cap_percent", "balance.effective_date_soft_limit"}


@pytest.mark.slow
def test_commands(data: Path, daemons: Any) -> None:
    """set, show, history, check and withdraw through the daemon.

    The next run uses the new version.
    """
    daemon: RunningDaemon = daemons()
    text = 'send_time = "09:15:00"\n[exclusion.rules]\nTX = [{ kind = "year_round" }]\n'
    stored = schedctl("config", "set", "org-a", "-", "--by", "ann", "--json", data=data, text=text)
    assert stored.returncode == 0, stored.stdout + stored.stderr
    assert json.loads(stored.stdout)["version"] == 1
    with daemon.client() as client:
        result = client.schedule("org-a", as_of=AS_OF)
        assert result.config_version == 1
        assert "exclusion:TX:year_round" in result.skipped
        assert client.configuration("org-a").effective["send_time"] == "09:15:00"
        connection = sqlite3.connect(data / "org-a.db")
        assert connection.execute(
            "SELECT DISTINCT scheduled_send_time FROM email_schedules WHERE status = "
            "'pre-scheduled'"
        ).fetchall() == [("09:15:00",)]
        connection.close()
        with pytest.raises(errors.ConfigurationError, match="period_dais"):
            client.set_configuration("org-a", "[frequency]\nperiod_dais = 3")
    shown = schedctl("config", "show", "org-a", "--toml", data=data)
    assert tomllib.loads(shown.stdout)["exclusion"]["rules"]["TX"] == [{"kind": "year_round"}]
    assert "version 1" in schedctl("config", "show", "org-a", data=data).stdout
    assert schedctl("config", "history", "org-a", "1", data=data).stdout == text
    wrong = schedctl(
        "config", "check", "org-a", "-", data=data, text="[balance]\ndaily_cap_procent = 5\n"
    )
    assert wrong.returncode == 4
    assert "daily_cap_percent" in wrong.stderr
    good = schedctl(
        "config", "check", "org-a", "-", data=data, text="[balance]\ndaily_cap_percent = 5\n"
    )
    assert good.returncode == 0
    assert "5.0" in good.stdout
    withdrawn = schedctl("config", "withdraw", "org-a", "1", data=data)
    assert "the defaults apply" in withdrawn.stdout
    assert schedctl("config", "withdraw", "org-a", "9", data=data).returncode == 4
    missing = schedctl("config", "set", "org-a", str(data / "nowhere.toml"), data=data)
    assert missing.returncode == 2
    assert "Name a TOML file" in missing.stderr
    typo = schedctl("config", "histroy", "org-a", data=data)
    assert "history" in typo.stderr


def test_two_writers(data: Path, daemons: Any) -> None:
    """Versions set by several clients at once are all kept, each with its own number."""
    daemon: RunningDaemon = daemons()

    def work(name: str) -> None:
        with daemon.client() as client:
            for number in range(5):
                client.set_configuration("org-a", f"# {name} {number}\n", name)

    threads = [threading.Thread(target=work, args=(name,)) for name in ("ann", "bob", "cleo")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    with daemon.client() as client:
        versions = client.configuration("org-a").versions
    assert sorted(version.version for version in versions) == list(range(1, 16))
    assert len({version.toml for version in versions}) == 15


def test_golden_configuration_as_a_version(tmp_path: Path) -> None:
    """Overrides of a job and the same text as a stored version make the same plan."""
    case = json.loads((GOLDEN / "09-own-configuration.json").read_text())
    script = (GOLDEN / "09-own-configuration.sql").read_text()
    paths = [make_database(tmp_path / f"org-{n}.db", script) for n in range(2)]
    one = run_locally(paths[0], tmp_path / "scratch", case["as_of"], config=case["config"])
    assert case["config"]
    configurations.set_version(paths[1], "org", DEFAULTS, render(case["config"]), "ann", NOW)
    other = run_locally(paths[1], tmp_path / "scratch", case["as_of"])
    assert (one.counts, one.volume, one.skipped) == (other.counts, other.volume, other.skipped)
    assert other.config_version == 1
