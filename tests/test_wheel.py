"""The built wheel: its contents, and that the client's installation is small.

The client is installed without the daemon's dependencies.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
#: The maximum size of the client and its dependencies when installed, without pip's own files.
MAX_INSTALLED_BYTES = 40_000_000


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("protocol", "bucket", "client", "daemon"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(out),
        str(source),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    [path] = out.glob("*.whl")
    return path


@pytest.mark.slow
def test_contents(wheel: Path) -> None:
    """Five packages, typed, without tests; the daemon's dependencies are an extra."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(next(name for name in names if name.endswith("METADATA"))).decode()
    tops = {name.split("/")[0] for name in names if ".dist-info" not in name}
    assert tops == {"schedproto", "schedbucket", "schedclient", "schedctl", "schedd"}
    assert {f"{top}/py.typed" for top in tops} <= set(names)
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    needs = re.findall(r"^Requires-Dist: ([a-z0-9]+)([^;\n]*)(.*)$", metadata, re.MULTILINE)
    assert {name for name, _, extra in needs if not extra} == {
        *("msgspec", "pyzmq", "click", "rich"),
        *("urllib3", "certifi", "dnspython"),
    }
    assert {name for name, _, extra in needs if "daemon" in extra} >= {"apsw", "numpy", "structlog"}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_client_alone(wheel: Path, tmp_path: Path) -> None:
    """The base installation works without numpy and apsw, and is small."""
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True, timeout=120)
    python = venv / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "-q"]
    before = installed_bytes(venv)
    lock = ROOT / "requirements" / "client.txt"
    subprocess.run([*pip, "--require-hashes", "-r", str(lock)], check=True, timeout=200)
    subprocess.run([*pip, "--no-deps", str(wheel)], check=True, timeout=120)
    assert installed_bytes(venv) - before < MAX_INSTALLED_BYTES
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    script = (
        "import importlib.util as u, sys; from schedclient import Client, AsyncClient;"
        "assert not any(u.find_spec(n) for n in ('numpy', 'apsw', 'structlog'));"
        "assert not {'numpy', 'apsw'} & set(sys.modules)"
    )
    subprocess.run(
        [str(python), "-c", script], check=True, env=environment, cwd=tmp_path, timeout=120
    )
    schedctl = str(venv / "bin" / "schedctl")
    subprocess.run([schedctl, "version"], check=True, env=environment, timeout=120)
    (tmp_path / "data").mkdir()
    submit = subprocess.run(
        [schedctl, "submit", "org-1", "--data", str(tmp_path / "data")],
        env=environment | {"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert submit.returncode == 3
    assert "email-scheduler[daemon]" in submit.stderr


def installed_bytes(venv: Path) -> int:
    return sum(
        path.stat().st_size for path in venv.rglob("*") if path.is_file() and not path.is_symlink()
    )


@pytest.mark.parametrize("name", ["client", "runtime", "dev"])
def test_locks(name: str) -> None:
    """Every locked package has its version and hashes, and no address is named."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    assert "://" not in text
    assert "--index" not in text
    entries = re.findall(
        r"^([a-z0-9._-]+)==\S+ \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)",
        text,
        re.MULTILINE,
    )
    assert len(entries) == len(re.findall(r"^[a-z0-9._-]+==", text, re.MULTILINE)) > 5
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + (
        [] if name == "client" else project["optional-dependencies"]["daemon"]
    )
    assert {re.findall(r"^[a-z0-9]+", need)[0] for need in wanted} <= {
        entry for entry, _ in entries
    }
