"""Guards, saved plans and warnings through a real daemon, by command and by library."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from pathlib import Path

import msgspec
import pytest

from schedclient import RunResult, SavedPlan, errors, load_plan, save_plan
from schedclient.aio import AsyncClient
from schedclient.plans import expected_plan
from schedctl.exitcodes import ExitCode
from schedproto import JobSpec

AS_OF = "2026-11-01"


def change(folder, sql: str) -> None:
    connection = sqlite3.connect(folder.path / "org-1.db")
    connection.executescript(sql)
    connection.close()


def plan_of(folder) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(folder.path / "org-1.db")
    rows = connection.execute("SELECT * FROM email_schedules ORDER BY id").fetchall()
    connection.close()
    return rows


class TestGuards:
    """A run that would change too much."""

    def test_stops_and_goes(self, folder, schedctl) -> None:
        """It fails with figures and a hint, also in a preview; --accept-changes permits it."""
        submit = ("submit", "org-1", "--data", folder.path, "--as-of", AS_OF)
        assert schedctl(*submit).returncode == ExitCode.OK
        before = plan_of(folder)
        change(folder, "UPDATE contacts SET zip_code = 'n/a'")

        shown = schedctl("preview", "org-1", "--data", folder.path, "--as-of", AS_OF)
        assert shown.returncode == ExitCode.OK
        assert (
            "A run would stop and write nothing, unless --accept-changes is given:" in shown.stdout
        )
        assert "planned e-mails (100 %) would be removed; at most 30 % may." in shown.stdout

        stopped = schedctl(*submit)
        assert stopped.returncode == ExitCode.JOB_FAILED
        assert "contacts became ineligible" not in stopped.stdout
        assert "became ineligible since the last run" in stopped.stderr
        assert "--accept-changes" in stopped.stderr
        assert plan_of(folder) == before
        as_json = json.loads(schedctl(*submit, "--json").stdout)["error"]
        assert as_json["code"] == "plan_abnormal"
        assert not as_json["retryable"]
        assert int(as_json["details"]["removed"]) > 100

        accepted = schedctl(*submit, "--accept-changes")
        assert accepted.returncode == ExitCode.OK, accepted.stderr
        assert (
            "Written although it exceeds the guards, because the changes were accepted:"
            in accepted.stdout
        )
        quiet = schedctl(*submit)
        assert quiet.returncode == ExitCode.OK
        assert "guards" not in quiet.stdout

    def test_from_a_program(self, folder) -> None:
        """The client has an exception for it, and `accept_changes`.

        Several organizations can have it, too.
        """
        with folder.client() as client:
            client.schedule("org-1", as_of=AS_OF)
            change(folder, "DELETE FROM contacts WHERE id > 20")
            with pytest.raises(errors.PlanAbnormalError) as caught:
                client.schedule("org-1", as_of=AS_OF)
            assert isinstance(caught.value, errors.PlanRefusedError)
            assert caught.value.job is not None
            outcomes = client.schedule_many(["org-1", "org-2"], as_of=AS_OF)
            assert [outcome.error and outcome.error.code for outcome in outcomes.outcomes] == [
                "plan_abnormal",
                None,
            ]
            assert (
                client.schedule_many(["org-1", "org-2"], as_of=AS_OF, accept_changes=True).succeeded
                == 2
            )
            assert client.schedule("org-1", as_of=AS_OF).guard[1].count == 0


class TestExpect:
    """A plan that was reviewed is written, or none."""

    def test_from_a_shell(self, folder, schedctl, tmp_path: Path) -> None:
        """preview --save names the command that writes the plan.

        When it differs, that command changes nothing.
        """
        settings = tmp_path / "what-if.toml"
        settings.write_text("[anniversary]\nbirthday_days_before = 20\n")
        where = ("--data", folder.path)
        preview = schedctl(
            "preview",
            "org-1",
            *where,
            "--as-of",
            AS_OF,
            "--config",
            settings,
            "--save",
            "plan.json",
        )
        assert preview.returncode == ExitCode.OK, preview.stderr
        assert f"schedctl submit org-1 --expect plan.json --data {folder.path}" in preview.stdout
        plan = load_plan(tmp_path / "plan.json")
        assert (plan.organization, plan.as_of) == ("org-1", AS_OF)
        assert plan.config == {"anniversary": {"birthday_days_before": 20}}

        change(folder, "UPDATE contacts SET birth_date = date(birth_date, '+1 day') WHERE id = 3")
        refused = schedctl("submit", "org-1", *where, "--expect", "plan.json")
        assert refused.returncode == ExitCode.JOB_FAILED
        assert "it differs from the reviewed one" in refused.stderr
        change(folder, "UPDATE contacts SET birth_date = date(birth_date, '-1 day') WHERE id = 3")
        written = schedctl("submit", "org-1", *where, "--expect", "plan.json", "--json")
        assert written.returncode == ExitCode.OK, written.stdout
        result = msgspec.json.decode(written.stdout, type=RunResult)
        assert (result.as_of, result.plan) == (AS_OF, plan)
        assert len(plan_of(folder)) >= plan.rows
        again = schedctl(
            "submit",
            "org-1",
            *where,
            "--expect",
            "plan.json",
            "--config",
            settings,
            "--as-of",
            AS_OF,
        )
        assert again.returncode == ExitCode.OK

    @pytest.mark.parametrize(
        ("arguments", "what"),
        [
            (("org-2",), "the expected plan belongs to org-1, not to org-2"),
            (("org-1", "--as-of", "2026-11-02"), "for 2026-11-01, the job for 2026-11-02"),
            (("org-1", "--config", "other.toml"), "computed with other overrides"),
            (
                ("org-1", "org-2"),
                "--expect, --detach, --timeout and --key require exactly one organization",
            ),
            (
                ("--all",),
                "--expect, --detach, --timeout and --key require exactly one organization",
            ),
        ],
    )
    def test_another_job(
        self, shared, schedctl, tmp_path: Path, arguments: tuple[str, ...], what: str
    ) -> None:
        """A plan of another organization, date or configuration is refused before the submit."""
        save_plan(SavedPlan(organization="org-1", as_of=AS_OF, digest="0"), tmp_path / "plan.json")
        (tmp_path / "other.toml").write_text("send_time = '10:00:00'\n")
        answer = schedctl("submit", *arguments, "--expect", "plan.json", "--data", shared.path)
        assert answer.returncode == ExitCode.USAGE
        assert what in answer.stderr

    @pytest.mark.parametrize(
        ("content", "what"),
        [
            (None, "cannot be read: No such file"),
            (b"\xff", "is not a saved plan"),
            (b"{}", "is not a saved plan"),
            (
                b'{"format": 2, "organization": "org-1", "as_of": "2026-11-01", "digest": "0"}',
                "has the format 2",
            ),
        ],
    )
    def test_other_files(
        self, shared, schedctl, tmp_path: Path, content: bytes | None, what: str
    ) -> None:
        """A file that is not a saved plan is refused as such."""
        if content is not None:
            (tmp_path / "plan.json").write_bytes(content)
        answer = schedctl("submit", "org-1", "--expect", "plan.json", "--data", shared.path)
        assert answer.returncode == ExitCode.USAGE
        assert what in answer.stderr
        assert "schedctl preview" in answer.stderr or "upgrade" in answer.stderr

    def test_file_that_cannot_be_made(self, shared, schedctl) -> None:
        """A plan that cannot be kept is an error."""
        answer = schedctl(
            "preview", "org-1", "--save", "no/folder/plan.json", "--data", shared.path
        )
        assert answer.returncode == ExitCode.USAGE
        assert "cannot be written" in answer.stderr

    def test_from_a_program(self, folder) -> None:
        """`RunResult.plan` of a dry run is what a job expects; date and overrides come from it."""
        with folder.client() as client:
            config = {"anniversary": {"aep_days": ["10-15"]}}
            plan = client.schedule("org-1", as_of=AS_OF, config=config, dry_run=True).plan
            assert plan is not None
            result = client.schedule("org-1", expect=plan)
            assert (result.as_of, result.plan, result.rows_planned) == (AS_OF, plan, plan.rows)
            with pytest.raises(errors.PlanDiffersError) as caught:
                client.schedule("org-1", expect=msgspec.structs.replace(plan, digest="0", rows=1))
            assert f"rows: 1 then, {plan.rows:,} now" in caught.value.message
            with pytest.raises(errors.SettingsError):
                client.submit("org-2", expect=plan)
            with pytest.raises(errors.InvalidArgumentError, match="format"):
                client.submit("org-1", expect=msgspec.structs.replace(plan, format=7))

    async def _with_asyncio(self, folder) -> None:
        async with AsyncClient(data=folder.path) as client:
            plan = (await client.schedule("org-1", as_of=AS_OF, dry_run=True)).plan
            assert plan is not None
            assert (await client.schedule("org-1", expect=plan, accept_changes=True)).plan == plan

    def test_with_asyncio(self, folder) -> None:
        """The client for asyncio has the same arguments."""
        asyncio.run(self._with_asyncio(folder))

    def test_older_daemons(self, shared) -> None:
        """A daemon that would ignore the expected plan is not sent one."""
        plan = SavedPlan(organization="org-1", as_of=AS_OF, digest="0")
        with shared.client() as client:
            welcome = client.welcome()
            assert "expect" in welcome.capabilities
            welcome.capabilities.remove("expect")
            with pytest.raises(errors.IncompatibleError, match="expect"):
                client.submit("org-1", expect=plan)
            welcome.capabilities.append("expect")

    def test_older_peers(self) -> None:
        """A job without the newer fields is one that expects and accepts nothing."""
        spec = msgspec.json.decode(b'{"organization": "org-1"}', type=JobSpec)
        assert (spec.accept_changes, spec.expect) == (False, None)
        plan = SavedPlan(organization="org-1", as_of=AS_OF, digest="0")
        assert expected_plan(plan, "org-1", None, None) == (plan, AS_OF, {})


class TestWarnings:
    """Warnings in the terminal."""

    def test_table(self, folder, schedctl) -> None:
        """Submit and preview show how many values could not be used, and what that means.

        They show at most ten kinds.
        """
        where = ("org-1", "--data", folder.path, "--as-of", AS_OF)
        change(folder, "UPDATE contacts SET birth_date = 'soon' WHERE id <= 3")
        assert "cannot be read as a date" in schedctl("submit", *where).stdout
        change(
            folder,
            "".join(
                "INSERT INTO email_schedules(contact_id, email_type, scheduled_send_date, "
                "scheduled_send_time, status) "
                f"VALUES (1, 'birthday', '2026-0{number % 9 + 1}-01', '08:30:00', 'state "
                f"{number}');"
                for number in range(9)
            )
            + "UPDATE email_schedules SET email_type = 'odd ' || id WHERE status IN ('state 1', "
            "'state 2')",
        )
        lines = schedctl("preview", *where).stdout.splitlines()
        start = lines.index(next(line for line in lines if line.startswith("warnings")))
        assert len([line for line in lines[start + 1 : start + 11] if "." in line]) == 10
        assert lines[start + 11] == "and 2 more; --json shows all"
        document = json.loads(schedctl("preview", *where, "--json").stdout)
        assert len(document["warnings"]) == 12
