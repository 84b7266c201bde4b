"""The examples in README.md and docs.

Their commands must exist, their Python must run, and their files must be there.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from schedctl.main import cli as schedctl
from schedd.cli import cli as schedd

ROOT = Path(__file__).parent.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    *sorted(path for path in (ROOT / "docs").glob("*.md") if path.name != "CLI.md"),
]
PROGRAMS: dict[str, click.Command] = {"schedctl": schedctl, "schedd": schedd}
#: Where the paths that pages name start.
FOLDERS = (
    *("", "protocol", "bucket", "client", "daemon"),
    *("daemon/schedd", "bucket/schedbucket", "client/schedclient", "client/schedctl"),
)


def blocks(page: Path) -> Iterator[str]:
    """Yield the indented code blocks of a page."""
    yield from blocks_of(page.read_text(encoding="utf-8"))


def blocks_of(text: str) -> Iterator[str]:
    """Yield the indented code blocks of a text."""
    for match in re.finditer(r"(?<=\n\n)(?:    .*\n|\n(?=    ))+", text):
        yield textwrap.dedent(match.group())


def commands(text: str) -> Iterator[list[str]]:
    """Yield the words of each command of schedctl and schedd in a block."""
    for line in text.replace("\\\n", " ").splitlines():
        if line.startswith(("schedctl ", "schedd ")) and "..." not in line:
            yield shlex.split(line, comments=True)


EXAMPLES = [
    pytest.param(words, id=f"{page.name}: {' '.join(words)}")
    for page in PAGES
    for block in blocks(page)
    for words in commands(block)
]


@pytest.mark.parametrize("words", EXAMPLES)
def test_command_is_valid(words: list[str]) -> None:
    """The command exists, with the options and arguments of the example."""
    command, rest = PROGRAMS[words[0]], words[1:]
    context = click.Context(command, info_name=words[0], **command.context_settings)
    while isinstance(command, click.Group):
        name, found, rest = command.resolve_command(context, rest)
        assert found is not None, name
        command = found
        context = click.Context(command, info_name=name, parent=context)
    missing_files = [
        parameter
        for parameter in command.params
        if isinstance(parameter.type, click.Path) and parameter.type.exists
    ]
    for parameter in missing_files:
        assert isinstance(parameter.type, click.Path)
        parameter.type.exists = False
    try:
        command.make_context(words[0], list(rest), parent=context)
    finally:
        for parameter in missing_files:
            assert isinstance(parameter.type, click.Path)
            parameter.type.exists = True


def test_examples_are_found() -> None:
    """The pages have examples of both programs, so that an empty list cannot pass unnoticed."""
    programs = [
        str(example.values[0][0])  # type: ignore[index]
        for example in EXAMPLES
        if example.values
    ]
    assert programs.count("schedctl") > 30
    assert programs.count("schedd") >= 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with DIR/org-123.db and the files that the README's commands name."""
    folder = tmp_path_factory.mktemp("examples")
    (folder / "DIR").mkdir()
    for name in ("overrides.toml", "settings.toml"):
        (folder / name).write_text("[balance]\ndaily_cap_percent = 5.0\n", encoding="utf-8")
    run(folder, [script("schedctl"), "demo", "--out", "DIR/org-123.db", "--contacts", "5000"])
    return folder


def script(name: str) -> str:
    """Return the path of a program of the virtual environment."""
    return str(Path(sys.executable).parent / name)


def run(folder: Path, command: list[str]) -> str:
    """Run a command in a folder, without the caller's settings, and return its output."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("SCHED")
    }
    environment |= {
        "HOME": str(folder),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "SCHEDCTL_DATA": str(folder / "DIR"),
        "SCHEDCTL_IDLE_TIMEOUT": "10",
    }
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def section(title: str) -> str:
    """Return a section of the README."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return text[text.index(f"\n## {title}\n") :].split("\n## ")[1]


@pytest.mark.slow
@pytest.mark.xdist_group("examples")
def test_shell_section_runs(folder: Path) -> None:
    """Every command of "From a shell" succeeds, in order, on one organization."""
    text = section("From a shell").replace("4711", "1")
    found = [words for block in blocks_of(text) for words in commands(block)]
    assert len(found) > 10
    assert "demo" in found[0]
    for words in found[1:]:
        run(folder, [script(words[0]), *words[1:]])


@pytest.mark.xdist_group("examples")
@pytest.mark.parametrize("number", [0, 1])
def test_python_runs(folder: Path, number: int) -> None:
    """Each Python example of the README is a complete program that schedules the organization."""
    found = [block for block in blocks_of(section("From a program")) if "import" in block]
    assert len(found) == 2
    output = run(folder, [sys.executable, "-c", found[number]])
    assert output.strip()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_paths_exist(page: Path) -> None:
    """Each relative link and each path in code quotes exists."""
    text = page.read_text(encoding="utf-8")
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", text):
        path = page.parent / target if target else page
        assert path.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in anchors(path), f"{page.name}: {target}#{anchor}"
    for name in re.findall(r"`([\w./-]+/[\w.-]+\.(?:py|sh|toml|json|sql|md))`", text):
        if name.startswith(("build/", "DATA/", "/")):  # made by `make`, or on the machine
            continue
        found = [folder for folder in FOLDERS if (ROOT / folder / name).exists()]
        assert found, f"{page.name}: {name}"


def anchors(page: Path) -> set[str]:
    """Return the anchors of the sections of a page."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
