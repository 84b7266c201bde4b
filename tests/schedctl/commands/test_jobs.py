"""`schedctl` as a process without a terminal: what scripts rely on."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import pytest

from schedctl.exitcodes import ExitCode
from schedctl.main import COMMANDS
from schedproto import Job, OrganizationInfo, RunResult, VolumeInfo
from schedproto.messages import Health
from tests.support.command_line import ESCAPE, document
from tests.support.folders import AS_OF


class TestSubmit:
    """submit and watch: the result, and how it fails."""

    def test_for_people(self, shared, schedctl) -> None:
        """The result is on standard output in plain text.

        Without a terminal there is no bar and no colour.
        """
        answer = schedctl("submit", "org-1", "--data", shared.path, "--as-of", AS_OF)
        assert answer.returncode == ExitCode.OK, answer.stderr
        assert answer.stdout.startswith(f"org-1 scheduled for {AS_OF}: ")
        for word in (
            "birthday",
            "pre-scheduled",
            "skipped",
            "total",
            "e-mails per day",
            "contacts/s",
            "inserted",
        ):
            assert word in answer.stdout
        assert answer.stderr == ""
        assert ESCAPE not in answer.stdout

    def test_json(self, shared, schedctl) -> None:
        """--json prints only the `RunResult`, equal to what the client returns."""
        answer = schedctl("submit", "org-1", "--data", shared.path, "--as-of", AS_OF, "--json")
        assert answer.returncode == ExitCode.OK
        assert answer.stderr == ""
        found = document(answer, RunResult)
        with shared.client() as client:
            job = client.status(found["run_id"].partition(".")[0])
        assert found == msgspec.to_builtins(job.result)

    def test_dry_run(self, folder, schedctl) -> None:
        """--dry-run says so, counts, and changes nothing."""
        before = (folder.path / "org-1.db").read_bytes()
        answer = schedctl("submit", "org-1", "--data", folder.path, "--as-of", AS_OF, "--dry-run")
        assert answer.returncode == ExitCode.OK
        assert "dry run" in answer.stdout.splitlines()[0]
        assert (folder.path / "org-1.db").read_bytes() == before

    def test_detach_and_watch(self, shared, schedctl) -> None:
        """--detach prints the job's id alone on standard output.

        The command it names shows the result.
        """
        answer = schedctl("submit", "org-1", "--data", shared.path, "--as-of", AS_OF, "--detach")
        assert answer.returncode == ExitCode.OK
        [job_id] = answer.stdout.split()
        assert f"schedctl watch {job_id} --data {shared.path}" in answer.stderr
        watched = schedctl("watch", job_id, "--data", shared.path)
        assert watched.returncode == ExitCode.OK
        assert job_id in watched.stdout
        again = schedctl("watch", job_id, "--data", shared.path, "--json")
        assert document(again, RunResult)["run_id"].startswith(job_id)

    def test_detach_as_json(self, shared, schedctl) -> None:
        """With --json a detached submit prints the `Job`."""
        answer = schedctl("submit", "org-1", "--data", shared.path, "--detach", "--json")
        job = document(answer, Job)
        assert job["job_id"].startswith("job-")
        assert job["state"] in {"queued", "running"}

    def test_idempotency_key(self, shared, schedctl) -> None:
        """--key twice gives the same job."""
        command = (
            "submit",
            "org-1",
            "--data",
            shared.path,
            "--as-of",
            AS_OF,
            "--key",
            "once",
            "--detach",
        )
        assert schedctl(*command).stdout == schedctl(*command).stdout

    @pytest.mark.slow
    def test_timeout(self, folder, schedctl) -> None:
        """--timeout ends the wait with its own exit code and says how to come back.

        The job continues.
        """
        with folder.client() as client:
            folder.pause_workers(client)
            answer = schedctl("submit", "org-1", "--data", folder.path, "--timeout", "0.3")
            assert answer.returncode == ExitCode.TIMED_OUT
            [job] = client.list("org-1")
            assert f"schedctl watch {job.job_id} --data {folder.path}" in answer.stderr
            assert not job.final
            as_json = schedctl(
                "watch", job.job_id, "--data", folder.path, "--timeout", "0.3", "--json"
            )
            assert as_json.returncode == ExitCode.TIMED_OUT
            assert document(as_json)["error"]["code"] == "wait_timeout"
            cancelled = schedctl("cancel", job.job_id, "--data", folder.path)
            assert cancelled.returncode == ExitCode.OK
            watched = schedctl("watch", job.job_id, "--data", folder.path)
            assert watched.returncode == ExitCode.CANCELLED
            assert "cancelled" in watched.stderr

    def test_job_that_fails(self, shared, schedctl) -> None:
        """A job that fails has exit code 1; as JSON it is an error document with the job's id."""
        answer = schedctl("submit", "org-99", "--data", shared.path)
        assert answer.returncode == ExitCode.JOB_FAILED
        assert answer.stdout == ""
        assert answer.stderr.startswith("Error: there is no file org-99.db")
        as_json = schedctl("submit", "org-99", "--data", shared.path, "--json")
        assert as_json.returncode == ExitCode.JOB_FAILED
        assert as_json.stderr == ""
        found = document(as_json)
        assert found["error"]["code"] == "database_missing"
        assert found["error"].keys() == {"code", "message", "hint", "retryable", "details"}
        assert found["job_id"].startswith("job-")

    def test_refused(self, shared, schedctl) -> None:
        """A request that the daemon refuses has exit code 4."""
        answer = schedctl("submit", "org-1.db", "--data", shared.path, "--json")
        assert answer.returncode == ExitCode.REFUSED
        assert document(answer)["error"]["code"] == "invalid_organization"


class TestConfig:
    """submit --config FILE.toml."""

    def test_good(self, shared, schedctl, tmp_path: Path) -> None:
        """The overrides reach the run."""
        (tmp_path / "mine.toml").write_text("[anniversary]\nbirthday_days_before = 30\n")
        common = ("submit", "org-1", "--data", shared.path, "--as-of", AS_OF, "--dry-run", "--json")
        usual, changed = schedctl(*common), schedctl(*common, "--config", "mine.toml")
        assert changed.returncode == ExitCode.OK, changed.stdout
        assert document(changed)["volume"] != document(usual)["volume"]

    @pytest.mark.parametrize(
        ("text", "code", "words"),
        [
            ("a = ", ExitCode.USAGE, ["mine.toml", "not valid TOML", "end of document"]),
            ("[anniversary]\nbirthday_days_befor = 3\n", ExitCode.REFUSED, ["birthday_days_befor"]),
            (
                "[anniversary]\nbirthday_days_before = 'x'\n",
                ExitCode.REFUSED,
                ["birthday_days_before"],
            ),
        ],
    )
    def test_bad(
        self, shared, schedctl, tmp_path: Path, text: str, code: ExitCode, words: list[str]
    ) -> None:
        """The error in the file is named, before any work is done."""
        (tmp_path / "mine.toml").write_text(text)
        answer = schedctl("submit", "org-1", "--data", shared.path, "--config", "mine.toml")
        assert answer.returncode == code
        for word in words:
            assert word in answer.stderr
        as_json = schedctl(
            "submit", "org-1", "--data", shared.path, "--config", "mine.toml", "--json"
        )
        assert as_json.returncode == code
        assert "error" in document(as_json)

    def test_missing(self, schedctl) -> None:
        """A file that is not there is named."""
        answer = schedctl("submit", "org-1", "--config", "nothing.toml")
        assert answer.returncode == ExitCode.USAGE
        assert "nothing.toml" in answer.stderr


class TestLooking:
    """status, list, cancel, info."""

    def test_status(self, shared, schedctl) -> None:
        """Without a job: the daemon's health; with one: the job."""
        health = schedctl("status", "--data", shared.path)
        assert health.returncode == ExitCode.OK
        assert "serving" in health.stdout
        found = document(schedctl("status", "--data", shared.path, "--json"))
        assert found.keys() == {field.name for field in msgspec.structs.fields(Health)} - {"id"}
        job_id = schedctl("submit", "org-1", "--data", shared.path, "--detach").stdout.strip()
        schedctl("watch", job_id, "--data", shared.path)
        job = schedctl("status", job_id, "--data", shared.path)
        assert "succeeded" in job.stdout
        assert (
            document(schedctl("status", job_id, "--data", shared.path, "--json"), Job)["job_id"]
            == job_id
        )
        unknown = schedctl("status", "job-0", "--data", shared.path)
        assert unknown.returncode == ExitCode.REFUSED
        assert "job-0" in unknown.stderr

    def test_list(self, folder, schedctl) -> None:
        """Jobs are listed without truncation, however narrow a terminal would be.

        The options choose among them.
        """
        assert "No jobs" in schedctl("list", "--data", folder.path).stdout
        ids = {}
        for name in ("org-1", "org-2"):
            ids[name] = schedctl("submit", name, "--data", folder.path, "--detach").stdout.strip()
            schedctl("watch", ids[name], "--data", folder.path)
        listed = schedctl("list", "--data", folder.path)
        for name, job_id in ids.items():
            assert any(
                job_id in line and name in line and "succeeded" in line
                for line in listed.stdout.splitlines()
            )
        only = schedctl(
            "list",
            "--data",
            folder.path,
            "--organization",
            "org-2",
            "--state",
            "succeeded",
            "--json",
        )
        assert [job["job_id"] for job in document(only)["jobs"]] == [ids["org-2"]]
        assert document(schedctl("list", "--data", folder.path, "--state", "failed", "--json")) == {
            "jobs": []
        }
        assert (
            len(document(schedctl("list", "--data", folder.path, "--limit", "1", "--json"))["jobs"])
            == 1
        )

    def test_cancel(self, folder, schedctl) -> None:
        """cancel ends a waiting job at once, and succeeds for one that has ended."""
        with folder.client() as client:
            folder.pause_workers(client)
            client.submit("org-1")
            waiting = client.submit("org-1").job_id
            answer = schedctl("cancel", waiting, "--data", folder.path)
            assert (answer.returncode, answer.stdout) == (ExitCode.OK, f"{waiting} is cancelled.\n")
            again = schedctl("cancel", waiting, "--data", folder.path, "--json")
            assert document(again, Job)["state"] == "cancelled"

    def test_info(self, shared, schedctl) -> None:
        """info shows an organization, or the data folder."""
        one = schedctl("info", "org-1", "--data", shared.path)
        assert one.returncode == ExitCode.OK
        assert "email_schedules" in one.stdout
        found = document(
            schedctl("info", "org-1", "--data", shared.path, "--json"), OrganizationInfo
        )
        assert found["contacts"] == 300
        complete = schedctl("info", "--data", shared.path)
        assert "org-1" in complete.stdout
        assert "org-2" in complete.stdout
        found = document(schedctl("info", "--data", shared.path, "--json"), VolumeInfo)
        assert set(found["organizations"]) == {"org-1", "org-2"}
        missing = schedctl("info", "org-99", "--data", shared.path)
        assert missing.returncode == ExitCode.REFUSED
        assert "org-99" in missing.stderr


class TestUsage:
    """Wrong command lines and wrong settings."""

    @pytest.mark.parametrize("workers", ["0", "33", "many"])
    def test_workers(self, schedctl, workers: str) -> None:
        """--workers takes 1 to 32."""
        answer = schedctl("submit", "org-1", "--workers", workers)
        assert answer.returncode == ExitCode.USAGE
        assert "--workers" in answer.stderr
        as_json = schedctl("submit", "org-1", "--workers", workers, "--json")
        assert as_json.returncode == ExitCode.USAGE
        assert as_json.stderr == ""
        error = document(as_json)["error"]
        assert error["code"] == "usage"
        assert "--workers" in error["message"]

    @pytest.mark.parametrize(
        ("wrong", "near"),
        [
            ("sumbit", "submit"),
            ("stats", "status"),
            ("wacth", "watch"),
            ("key", "keys"),
            ("info-db", "info"),
        ],
    )
    def test_typo_in_a_command(self, schedctl, wrong: str, near: str) -> None:
        """The command that was probably meant is named."""
        answer = schedctl(wrong)
        assert answer.returncode == ExitCode.USAGE
        assert f"Did you mean {near}?" in answer.stderr

    def test_typo_in_an_option(self, schedctl) -> None:
        """So is the option."""
        answer = schedctl("submit", "org-1", "--dryrun")
        assert answer.returncode == ExitCode.USAGE
        assert "--dry-run" in answer.stderr

    def test_bad_endpoint(self, schedctl) -> None:
        """An address of the wrong form is a usage error."""
        answer = schedctl("status", "--endpoint", "localhost:7300")
        assert answer.returncode == ExitCode.USAGE
        assert "tcp://" in answer.stderr

    def test_unreachable(self, schedctl, tmp_path: Path) -> None:
        """No data folder, and so no daemon, is exit code 3, with what to do."""
        answer = schedctl("status", "--data", tmp_path / "nowhere")
        assert answer.returncode == ExitCode.UNREACHABLE
        assert "nowhere" in answer.stderr
        assert "--data" in answer.stderr
        as_json = schedctl("status", "--data", tmp_path / "nowhere", "--json")
        assert document(as_json)["error"]["code"] == "launch"

    def test_help_of_every_command(self, schedctl) -> None:
        """Each command has a help with a sentence on what it does, and the group lists them all."""
        complete = schedctl("--help").stdout
        for command in COMMANDS:
            assert command in complete
        assert schedctl("submit", "-h").returncode == ExitCode.OK

    def test_light_start(self) -> None:
        """The modules that every call loads include neither ZeroMQ nor the daemon."""
        import subprocess

        script = (
            "import sys, schedctl; print([m for m in ('zmq', 'numpy', 'apsw', 'schedd') if m "
            "in sys.modules])"
        )
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120
        )
        assert done.stdout.strip() == "[]"
