"""The house: who may import whom, how long a file may be, and what no file may name."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = {
    "schedproto": ROOT / "protocol" / "schedproto",
    "schedbucket": ROOT / "bucket" / "schedbucket",
    "schedclient": ROOT / "client" / "schedclient",
    "schedctl": ROOT / "client" / "schedctl",
    "schedd": ROOT / "daemon" / "schedd",
}
MODULES = {
    ".".join([name, *path.relative_to(folder).with_suffix("").parts]).removesuffix(
        ".__init__"
    ): path
    for name, folder in SOURCES.items()
    for path in sorted(folder.rglob("*.py"))
}
MAX_LINES = 500

#: prefix of a module -> what it may import besides the standard library; the longest prefix counts
ALLOWED = {
    "schedproto": {"msgspec", "schedproto"},
    "schedbucket": {"msgspec", "numpy", "zstandard", "obstore", "schedproto", "schedbucket"},
    "schedclient": {"msgspec", "zmq", "schedproto", "schedclient"},
    "schedclient.fly": {"msgspec", "urllib3", "certifi", "dns", "schedproto", "schedclient"},
    "schedclient.bucket": {"schedproto", "schedbucket", "schedclient"},
    "schedctl": {
        "schedbucket",
        "msgspec",
        "zmq",
        "click",
        "rich",
        "schedproto",
        "schedclient",
        "schedctl",
    },
    "schedd.engine": {"numpy", "schedd.engine"},
    "schedd.store": {"numpy", "apsw", "msgspec", "schedproto", "schedd.engine", "schedd.store"},
    "schedd.backups": {
        "apsw",
        "numpy",
        "zstandard",
        "msgspec",
        "schedproto",
        "schedd.engine.hashing",
        "schedd.store",
        "schedd.backups",
    },
    "schedd.run": {
        "numpy",
        "apsw",
        "msgspec",
        "schedproto",
        "schedd.engine",
        "schedd.store",
        "schedd.backups",
        "schedd.run",
    },
    "schedd.replica": {
        "apsw",
        "msgspec",
        "schedproto",
        "schedbucket",
        "schedd.store",
        "schedd.backups",
        "schedd.run",
        "schedd.replica",
    },
    "schedd.inspection": {
        "numpy",
        "apsw",
        "msgspec",
        "schedproto",
        "schedd.engine",
        "schedd.store",
        "schedd.backups",
        "schedd.inspection",
    },
    "schedd.workers": {
        "apsw",
        "msgspec",
        "structlog",
        "schedproto",
        "schedd.store",
        "schedd.backups",
        "schedd.replica",
        "schedd.workers",
    },
    "schedd.jobs": {
        "apsw",
        "msgspec",
        "structlog",
        "schedproto",
        "schedd.store",
        "schedd.run.specification",
        "schedd.replica.location",
        "schedd.workers",
        "schedd.jobs",
    },
    "schedd.files": {
        "apsw",
        "msgspec",
        "structlog",
        "schedproto",
        "schedbucket",
        "schedd.engine",
        "schedd.store",
        "schedd.backups",
        "schedd.replica",
        "schedd.inspection",
        "schedd.run.specification",
        "schedd.jobs.service",
        "schedd.files",
    },
    "schedd.server": {
        "zmq",
        "structlog",
        "schedproto",
        "schedd.server",
        "schedd.jobs.service",
        "schedd.exitcodes",
    },
    "schedd": {"zmq", "structlog", "click", "schedproto", "schedbucket", "schedd"},
}
#: What the engine may not know, though the standard library has it.
ENGINE_FORBIDDEN = {
    "socket",
    "os",
    "io",
    "pathlib",
    "time",
    "random",
    "logging",
    "subprocess",
    "sqlite3",
    "asyncio",
}


def imports_of(module: str, path: Path) -> set[str]:
    """The modules that a file imports, at any place in it."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, *([node.module] if node.module else [])])
            names = {f"{base}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else base for name in names}
    return found


def cycles() -> list[list[str]]:
    """Return the groups of modules that import each other, at any place of their files (Tarjan's algorithm)."""
    graph = {
        module: {name for name in imports_of(module, path) if name in MODULES and name != module}
        for module, path in MODULES.items()
    }
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(module: str) -> None:
        index[module] = low[module] = len(index)
        stack.append(module)
        for name in graph[module]:
            if name not in index:
                visit(name)
                low[module] = min(low[module], low[name])
            elif name in stack:
                low[module] = min(low[module], index[name])
        if low[module] == index[module]:
            group = stack[stack.index(module) :]
            del stack[stack.index(module) :]
            if len(group) > 1:
                found.append(sorted(group))

    for module in graph:
        if module not in index:
            visit(module)
    return found


def test_no_import_cycle() -> None:
    """No modules import each other, not even inside functions or for the type checker."""
    assert cycles() == []


def within(name: str, prefixes: set[str]) -> bool:
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_downward(module: str) -> None:
    """A module imports only what its layer may."""
    layer = max((prefix for prefix in ALLOWED if within(module, {prefix})), key=len)
    for name in imports_of(module, MODULES[module]):
        if name.split(".")[0] in sys.stdlib_module_names:
            assert layer != "schedd.engine" or name.split(".")[0] not in ENGINE_FORBIDDEN, name
        else:
            assert within(name, ALLOWED[layer]), f"{module} may not import {name}"


def test_client_is_light() -> None:
    """Importing the client, and making one, loads neither numpy nor SQLite nor the terminal's libraries."""
    script = (
        "import sys, schedclient; heavy = {'numpy', 'apsw', 'structlog', 'click', 'rich', 'schedd'};"
        "assert not heavy & set(sys.modules) and 'zmq' not in sys.modules;"
        "schedclient.Client('ipc:///nowhere'); assert not heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)


@pytest.mark.parametrize("module", MODULES)
def test_size_and_docstring(module: str) -> None:
    """A module has at most 500 lines and says its job, unless it is empty."""
    text = MODULES[module].read_text()
    assert len(text.splitlines()) <= MAX_LINES
    assert not text.strip() or ast.get_docstring(ast.parse(text))


def test_nothing_foreign_is_named() -> None:
    """No tracked file names a package registry's host or a path of the machine it was written on."""
    words = [
        "py" + "pi.org",
        "python" + "hosted",
        "npm" + "js",
        "debian" + ".org",
        "/work" + "/",
        "/root" + "/",
    ]
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    for name in listed.stdout.splitlines():
        text = (ROOT / name).read_text(encoding="utf-8", errors="replace")
        for word in words:
            assert word not in text, f"{name} names {word}"


def test_the_daemon_listens_without_numpy() -> None:
    """What has to be loaded before the daemon listens does without the engine's arrays, which take longest to load."""
    code = "import sys, schedd.app; print([m for m in ('numpy', 'urllib3', 'dns') if m in sys.modules])"
    out = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=120
    ).stdout
    assert out.strip() == "[]"
