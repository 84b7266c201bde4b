"""`schedctl demo`, `version` and `completion`."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from schedctl.exitcodes import ExitCode
from schedproto import RunResult, __version__
from tests.support.command_line import ESCAPE, document
from tests.support.folders import AS_OF


class TestDemo:
    """demo, demo --out, version, completion."""

    def test_out_is_deterministic(self, schedctl, tmp_path: Path) -> None:
        """The same contacts, seed and date give the same file byte for byte.

        Another seed gives another.
        """
        sums = {}
        for name, seed in (("a", 5), ("b", 5), ("c", 6)):
            answer = schedctl(
                "demo",
                "--contacts",
                500,
                "--seed",
                seed,
                "--as-of",
                AS_OF,
                "--out",
                f"{name}.db",
                "--json",
            )
            assert document(answer) == {
                "file": f"{name}.db",
                "contacts": 500,
                "seed": seed,
                "as_of": AS_OF,
            }
            sums[name] = hashlib.sha256((tmp_path / f"{name}.db").read_bytes()).hexdigest()
        assert sums["a"] == sums["b"] != sums["c"]
        assert sorted(path.name for path in tmp_path.iterdir() if path.suffix == ".db") == [
            "a.db",
            "b.db",
            "c.db",
        ]

    def test_demo(self, make_folder, schedctl) -> None:
        """demo creates an organization, schedules it and shows the plan's chart."""
        folder = make_folder("demo", ())
        answer = schedctl("demo", "--contacts", 200, "--as-of", AS_OF)
        assert answer.returncode == ExitCode.OK, answer.stderr
        assert "e-mails per day" in answer.stdout
        assert "schedctl submit demo --data demo" in answer.stdout
        assert ESCAPE not in answer.stdout + answer.stderr
        again = schedctl("demo", "--contacts", 200, "--as-of", AS_OF, "--json")
        assert again.stderr == ""
        assert document(again, RunResult)["contacts"] == 200
        assert folder.daemon() is not None

    def test_bad_date(self, schedctl) -> None:
        """A date that is none is a usage error."""
        answer = schedctl("demo", "--as-of", "tomorrow", "--out", "x.db")
        assert answer.returncode == ExitCode.USAGE
        assert "YYYY-MM-DD" in answer.stderr

    def test_place_that_cannot_be_written(self, schedctl, tmp_path: Path) -> None:
        """A place where no file can be made is an error that names it."""
        (tmp_path / "file").write_text("")
        answer = schedctl("demo", "--contacts", 1, "--out", "file/x.db")
        assert answer.returncode == ExitCode.USAGE
        assert "file" in answer.stderr
        assert "Traceback" not in answer.stderr

    def test_version(self, schedctl) -> None:
        """version prints the version alone."""
        assert schedctl("version").stdout == f"{__version__}\n"
        assert document(schedctl("version", "--json")) == {"version": __version__, "protocol": 1}
        assert __version__ in schedctl("--version").stdout

    @pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
    def test_completion(self, schedctl, shell: str) -> None:
        """The script is for the shell that was named and calls schedctl back."""
        answer = schedctl("completion", shell)
        assert answer.returncode == ExitCode.OK
        assert "_SCHEDCTL_COMPLETE" in answer.stdout

    def test_completion_completes(self, schedctl) -> None:
        """Asked as bash asks, schedctl offers its commands and options."""
        commands = schedctl(
            _SCHEDCTL_COMPLETE="bash_complete", COMP_WORDS="schedctl s", COMP_CWORD="1"
        )
        assert {"submit", "status"} <= {
            line.partition(",")[2] for line in commands.stdout.splitlines()
        }
        options = schedctl(
            _SCHEDCTL_COMPLETE="bash_complete", COMP_WORDS="schedctl submit --d", COMP_CWORD="2"
        )
        assert {"--data", "--dry-run", "--detach"} <= {
            line.partition(",")[2] for line in options.stdout.splitlines()
        }
