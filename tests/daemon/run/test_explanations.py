"""explain and preview through the daemon, as a person and as a program ask."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from schedclient import errors
from schedproto import JobSpec
from schedproto.messages import JobReply, Submit
from tests.support.command_line import schedctl
from tests.support.daemons import AS_OF, RawClient, RunningDaemon
from tests.support.plans import read_plan


def test_explain(data: Path, daemons: Callable[..., RunningDaemon]) -> None:
    """`client.explain` and `schedctl explain` tell the rows that the plan has, with the rules.

    Nothing is changed.
    """
    before = (data / "org-a.db").read_bytes()
    with daemons().client() as client:
        explained = {
            contact: client.explain("org-a", contact, as_of=AS_OF) for contact in (3, 4, 5, 6)
        }
        assert (data / "org-a.db").read_bytes() == before
        assert not client.explain("org-a", 987_654, as_of=AS_OF).found
        client.schedule("org-a", as_of=AS_OF)
    plan = read_plan(data / "org-a.db")
    for contact, explanation in explained.items():
        rows = sorted((e.email_type, e.send_date, e.status) for e in explanation.events if e.status)
        assert rows == sorted((row[1], row[2], row[3]) for row in plan if row[0] == contact)
    document = json.loads(
        schedctl("explain", "org-a", "3", "--as-of", AS_OF, "--json", data=data).stdout
    )
    assert document["contact_id"] == 3
    assert document["events"][0]["steps"][0]["rule"]
    shown = schedctl("explain", "org-a", "3", "--as-of", AS_OF, data=data)
    assert shown.returncode == 0
    assert "section" in shown.stdout
    missing = schedctl("explain", "org-a", "987654", data=data)
    assert missing.returncode == 4
    assert "has no contact 987654" in missing.stdout


def test_preview(data: Path, daemons: Callable[..., RunningDaemon], tmp_path: Path) -> None:
    """`schedctl preview` lists the changes of a run, and changes nothing."""
    daemon = daemons()
    with daemon.client() as client:
        client.schedule("org-a", as_of=AS_OF)
    before = read_plan(data / "org-a.db")
    same = schedctl("preview", "org-a", "--as-of", AS_OF, data=data)
    assert "A run would not change the current plan" in same.stdout
    settings = tmp_path / "what-if.toml"
    settings.write_text("[anniversary]\nbirthday_days_before = 20\n")
    other = schedctl(
        "preview", "org-a", "--as-of", AS_OF, "--config", str(settings), "--json", data=data
    )
    preview = json.loads(other.stdout)["preview"]
    assert preview["types"]["birthday"]["moved"] > 100
    assert preview["types"]["aep"]["unchanged"] > 200
    shown = schedctl("preview", "org-a", "--as-of", AS_OF, "--config", str(settings), data=data)
    assert "birthday of contact" in shown.stdout
    assert read_plan(data / "org-a.db") == before
    with daemon.client() as client:
        result = client.schedule(
            "org-a", as_of=AS_OF, config={"anniversary": {"birthday_days_before": 20}}
        )
    moved = preview["types"]["birthday"]["moved"] + preview["types"]["birthday"]["inserted"]
    assert result.rows_inserted >= moved


def test_explanations_are_bounded(data: Path, daemons: Callable[..., RunningDaemon]) -> None:
    """Only dry runs explain, and at most a limited number of contacts."""
    daemon = daemons()
    with daemon.client() as client, pytest.raises(errors.InvalidArgumentError, match="explain"):
        client.submit("org-a", as_of=AS_OF, explain=[1])
    with (
        daemon.client() as client,
        pytest.raises(errors.InvalidArgumentError, match="101 contacts"),
    ):
        client.submit("org-a", as_of=AS_OF, dry_run=True, explain=range(101))
    raw = RawClient(daemon.endpoint)
    try:
        huge = raw.ask(
            Submit(id="1", spec=JobSpec(organization="org-a", dry_run=True, explain=[2**62]))
        )
        assert huge.error.code == "invalid_argument"
        good = raw.ask(
            Submit(id="2", spec=JobSpec(organization="org-a", dry_run=True, explain=[-1, 2**61]))
        )
        assert isinstance(good, JobReply)
    finally:
        raw.close()
