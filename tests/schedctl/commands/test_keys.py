"""`schedctl keys`."""

from __future__ import annotations

import stat
from pathlib import Path

from schedctl.exitcodes import ExitCode
from tests.support.command_line import document


class TestKeys:
    """keys new, keys show."""

    def test_new_and_show(self, schedctl, tmp_path: Path) -> None:
        """Secrets are for their owner alone.

        The public half that is shown is the one in the file.
        """
        answer = schedctl("keys", "new", "--out", "my keys", "--client", "one", "--client", "two")
        assert answer.returncode == ExitCode.OK, answer.stderr
        folder = tmp_path / "my keys"
        for name in ("server", "one", "two"):
            secret = folder / f"{name}.secret"
            assert stat.S_IMODE(secret.stat().st_mode) == 0o600
            shown = schedctl("keys", "show", secret)
            public = (
                folder / "server.public"
                if name == "server"
                else folder / "clients" / f"{name}.public"
            )
            assert shown.stdout.strip() in public.read_text()
            assert document(schedctl("keys", "show", secret, "--json")) == {
                "public_key": shown.stdout.strip()
            }
            assert not set(secret.read_text().split()[-1:]) & set(answer.stdout.split())
        assert "schedd serve" in answer.stdout

    def test_never_overwritten(self, schedctl, tmp_path: Path) -> None:
        """Keys that exist stay; the error says which file, and nothing else was made."""
        assert schedctl("keys", "new", "--json").returncode == ExitCode.OK
        files = {
            path: path.read_bytes() for path in (tmp_path / "keys").rglob("*") if path.is_file()
        }
        again = schedctl("keys", "new", "--client", "another")
        assert again.returncode == ExitCode.USAGE
        assert "already exists" in again.stderr
        assert {
            path: path.read_bytes() for path in (tmp_path / "keys").rglob("*") if path.is_file()
        } == files

    def test_bad_name(self, schedctl, tmp_path: Path) -> None:
        """A client's name cannot lead out of the folder."""
        answer = schedctl("keys", "new", "--client", "../evil")
        assert answer.returncode == ExitCode.USAGE
        assert not (tmp_path / "keys").exists()

    def test_show_what_is_no_key(self, schedctl, tmp_path: Path) -> None:
        """A file without a secret key is refused without showing it."""
        (tmp_path / "note").write_text("attack at dawn")
        answer = schedctl("keys", "show", "note")
        assert answer.returncode == ExitCode.USAGE
        assert "dawn" not in answer.stderr

    def test_place_that_cannot_be_written(self, schedctl, tmp_path: Path) -> None:
        """A place where no folder can be made is an error, not a traceback."""
        (tmp_path / "file").write_text("")
        answer = schedctl("keys", "new", "--out", "file/keys")
        assert answer.returncode == ExitCode.USAGE
        assert "Traceback" not in answer.stderr
