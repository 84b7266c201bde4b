"""The layers: allowed imports, the size of files, and names that no file may contain."""

from __future__ import annotations

import ast
import importlib.util
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

#: Prefix of a module -> what it may import besides the standard library. The longest prefix counts.
#: tools/layers_picture.py draws docs/pictures/layers.svg from this table; run `make docs` after a
#: change.
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
        "schedd.run",
        "schedd.replica",
        "schedd.hardening",
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
        "schedd.settings",
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
        "schedd.files.requests",
        "schedd.jobs.service",
        "schedd.settings",
        "schedd.exitcodes",
    },
    "schedd": {"zmq", "structlog", "click", "schedproto", "schedbucket", "schedd"},
}
#: Modules of the standard library that the engine must not use.
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
    """Return the modules that a file imports, also inside functions."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    return imports_in(path.read_text(), package)


def imports_in(source: str, package: str) -> set[str]:
    """Return the modules that the source of a module in `package` imports."""
    found = set()
    for node in ast.walk(ast.parse(source)):
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
    """Return the groups of modules that import each other, found by Tarjan's algorithm."""
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


def forbidden(module: str, imports: set[str]) -> set[str]:
    """Return those of a module's imports that its layer does not allow."""
    layer = max((prefix for prefix in ALLOWED if within(module, {prefix})), key=len)
    standard = {name for name in imports if name.split(".")[0] in sys.stdlib_module_names}
    found = {name for name in imports - standard if not within(name, ALLOWED[layer])}
    if layer == "schedd.engine":
        found |= {name for name in standard if name.split(".")[0] in ENGINE_FORBIDDEN}
    return found


def within(name: str, prefixes: set[str]) -> bool:
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_downward(module: str) -> None:
    """A module imports only what its layer allows."""
    assert forbidden(module, imports_of(module, MODULES[module])) == set()


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("schedd.engine.balance", "from schedd.store import connection"),
        ("schedd.engine.balance", "import time"),
        ("schedd.store.write", "def f():\n    from schedd.run.runner import run_job"),
        ("schedd.run.runner", "from ..replica import job"),
        ("schedclient.aio", "from schedctl import main"),
        ("schedproto.jobs", "import schedclient"),
        ("schedbucket.lease", "import apsw"),
    ],
)
def test_import_upward_is_refused(module: str, source: str) -> None:
    """The check finds an import of a higher layer in any form.

    Absolute, relative, inside a function.
    """
    assert forbidden(module, imports_in(source, module.rpartition(".")[0])) != set()


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("schedd.engine.balance", "import numpy as np\nfrom . import rows"),
        ("schedd.store.write", "from ..engine import rows"),
        ("schedctl.main", "from schedclient import Client"),
    ],
)
def test_import_downward_is_accepted(module: str, source: str) -> None:
    """The same check accepts imports of the own and of lower layers."""
    assert forbidden(module, imports_in(source, module.rpartition(".")[0])) == set()


def test_picture_is_current() -> None:
    """docs/pictures/layers.svg shows the layers of ALLOWED; `make docs` writes it."""
    spec = importlib.util.spec_from_file_location(
        "layers_picture", ROOT / "tools" / "layers_picture.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.PICTURE.read_text(encoding="utf-8") == module.picture(ALLOWED), "run `make docs`"


def test_client_is_light() -> None:
    """Importing and creating the client loads neither numpy nor SQLite nor a terminal library."""
    script = (
        "import sys, schedclient;"
        "heavy = {'numpy', 'apsw', 'structlog', 'click', 'rich', 'schedd'};"
        "assert not heavy & set(sys.modules) and 'zmq' not in sys.modules;"
        "schedclient.Client('ipc:///nowhere'); assert not heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)


@pytest.mark.parametrize("module", MODULES)
def test_size_and_docstring(module: str) -> None:
    """A module has at most 500 lines and, unless it is empty, a docstring."""
    text = MODULES[module].read_text()
    assert len(text.splitlines()) <= MAX_LINES
    assert not text.strip() or ast.get_docstring(ast.parse(text))


def test_nothing_foreign_is_named() -> None:
    """No tracked file names a package registry's host or a path of a development machine."""
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
    """The daemon loads none of the slow libraries before it listens: they would delay its start."""
    code = (
        "import sys, schedd.app;print([m for m in ('numpy', 'urllib3', 'dns') if m in sys.modules])"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=120
    ).stdout
    assert out.strip() == "[]"


def test_conftest_files_have_fixtures_only() -> None:
    """Helpers of tests are in tests/support: no test imports a conftest, and none defines them."""
    for path in sorted((ROOT / "tests").rglob("*.py")):
        tree = ast.parse(path.read_bytes())
        imported = {
            node.module
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.module
        }
        assert not [name for name in imported if name.endswith("conftest")], path
        if path.name == "conftest.py":
            for node in tree.body:
                if isinstance(node, ast.FunctionDef | ast.ClassDef):
                    decorators = [ast.unparse(decorator) for decorator in node.decorator_list]
                    assert any("fixture" in text for text in decorators), f"{path}: {node.name}"


def test_size_of_test_files() -> None:
    """A file of tests has at most 500 lines, like a module."""
    for path in sorted((ROOT / "tests").rglob("*.py")):
        if "data" not in path.parts:
            assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_LINES, path
