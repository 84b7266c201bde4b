"""The generated pages are current and complete."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from schedbucket.settings import TABLE as BUCKET
from schedclient.settings import TABLE
from schedctl.exitcodes import ExitCode
from schedctl.main import COMMANDS
from schedd.settings import SETTINGS
from schedproto import ErrorCode

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def make_docs() -> ModuleType:
    """The generator, which is a script outside the packages."""
    spec = importlib.util.spec_from_file_location("make_docs", ROOT / "tools" / "make_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["CLI.md", "SETTINGS.md"])
def test_page_is_current(make_docs: ModuleType, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each page equals what the generator writes, at any width of the terminal.

    `make docs` writes it.
    """
    for width in ("40", "200"):
        monkeypatch.setenv("COLUMNS", width)
        assert (ROOT / "docs" / name).read_text(encoding="utf-8") == make_docs.PAGES[name](), (
            "run `make docs`"
        )


def test_commands_and_codes_are_all_there() -> None:
    """docs/CLI.md has every command, exit code and error code."""
    page = (ROOT / "docs" / "CLI.md").read_text(encoding="utf-8")
    for command in COMMANDS:
        assert f"### schedctl {command}\n" in page
    for code in ExitCode:
        assert f"| {code.value} | `{code.name}` |" in page
    for error in ErrorCode:
        assert f"`{error}`" in page


def test_settings_are_all_there() -> None:
    """Every setting of daemon, client and bucket is in docs/SETTINGS.md, with its variable."""
    page = (ROOT / "docs" / "SETTINGS.md").read_text(encoding="utf-8")
    for setting in SETTINGS:
        flag = "none" if setting.secret else f"`{setting.flag}`"
        assert f"| `{setting.name}` | {flag} | `{setting.variable}` |" in page
    for table in (TABLE, BUCKET):
        for setting in table:
            assert f"| `{setting.name}` | `{setting.variable}` |" in page


def test_links_within_a_page_lead_somewhere() -> None:
    """Each link within a page has its section."""
    import re

    for name in ("CLI.md", "SETTINGS.md"):
        page = (ROOT / "docs" / name).read_text(encoding="utf-8")
        sections = {
            re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
            for title in re.findall(r"^#+ (.*)$", page, re.MULTILINE)
        }
        assert set(re.findall(r"\]\(#([\w-]+)\)", page)) <= sections


@pytest.mark.parametrize("path", [(), ("config",), ("backup",), ("machine",), ("keys",)])
def test_summaries_of_commands_are_complete(
    path: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a terminal of 80 columns no command's summary is cut off."""
    from click.testing import CliRunner

    from schedctl.main import cli

    monkeypatch.setenv("COLUMNS", "80")
    help_text = CliRunner().invoke(cli, [*path, "--help"], terminal_width=80).output
    listed = help_text.partition("Commands:")[2]
    assert listed
    assert "..." not in listed
