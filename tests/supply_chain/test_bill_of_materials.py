"""The bill of materials and the licences of what is in it."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import Distribution
from pathlib import Path

import pytest
from components import (
    UNKNOWN,
    Component,
    SupplyChainError,
    components,
    licence_of,
    locked,
    notes,
)
from licences import PAGE, from_sbom, is_allowed, page, refused
from sbom import bill_of_materials

from tests.support.binaries import BUILT

ROOT = Path(__file__).parents[2]
REPORT = """<?xml version='1.0' encoding='utf8'?>
<nuitka-compilation-report nuitka_version="{nuitka}">
  <included_dll name="{library}" source_path="{path}" />
  <distributions>
    <distribution name="{name}" version="{version}" />
    <distribution name="email-scheduler" version="1" />
  </distributions>
  <python python_version="3.11.2" />
</nuitka-compilation-report>
"""


def report(tmp_path: Path, **changes: str) -> Path:
    values = {
        "nuitka": locked(ROOT / "requirements" / "build.txt")["nuitka"][0],
        "name": "pyzmq",
        "version": locked()["pyzmq"][0],
        "library": "libzmq-1234.so.5",
        "path": "${sys.prefix}/lib/libzmq-1234.so.5",
        **changes,
    }
    path = tmp_path / "report.xml"
    path.write_text(REPORT.format(**values))
    return path


def test_all_locked_packages() -> None:
    """It has every locked package with version and licence, and libraries in wheels."""
    found = {(part.ecosystem, part.name): part for part in components()}
    for name, (version, _) in locked().items():
        assert found["pypi", name].version == version
    for name in notes()["native"]:
        assert found["generic", name].version[0].isdigit(), name
    assert ("cargo", "tokio") in found
    assert not [part for part in found.values() if part.licence == UNKNOWN]


def test_document() -> None:
    """The document fits the schema, has no time or random number, and says what belongs to what."""
    parts = components()
    text = bill_of_materials(parts)
    assert text == bill_of_materials(list(parts))
    document = json.loads(text)
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    assert document["metadata"]["component"]["name"] == "email-scheduler"
    assert len(document["components"]) == len(parts)
    depends = {entry["ref"]: entry.get("dependsOn", []) for entry in document["dependencies"]}
    assert any(
        ref.startswith("pkg:cargo/")
        for ref in depends[f"pkg:pypi/obstore@{locked()['obstore'][0]}"]
    )


def test_schema_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A document that does not fit the schema is not written."""
    monkeypatch.setattr(
        "cyclonedx.output.json.JsonV1Dot6.output_as_string", lambda *_, **__: '{"bomFormat": "x"}'
    )
    with pytest.raises(SupplyChainError, match="does not fit"):
        bill_of_materials(components())


def test_what_was_compiled(tmp_path: Path) -> None:
    """With Nuitka's report: only what was compiled in, and the Python that it was compiled with."""
    found = {part.name: part for part in components(report(tmp_path))}
    assert set(found) == {"pyzmq", "libzmq", "libsodium", "cpython", "nuitka-runtime"}
    assert found["cpython"].version == "3.11.2"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "requests"}, "not in runtime.txt"),
        ({"version": "0.0"}, "several versions"),
        ({"nuitka": "0.1"}, "compiled with Nuitka 0.1"),
    ],
)
def test_contradictions(tmp_path: Path, changes: dict[str, str], message: str) -> None:
    """The compiled packages must be the locked ones."""
    with pytest.raises(SupplyChainError, match=message):
        components(report(tmp_path, **changes))


def test_unknown_library(tmp_path: Path) -> None:
    """A library that nobody has described is in the list, and its licence is refused."""
    path = report(tmp_path, library="libnew.so.1", path="/opt/libnew.so.1")
    assert refused(components(path)) == ["libnew.so.1 unknown has no known licence: not accepted"]


def wheels(tmp_path: Path, sha256: str) -> Path:
    entry = {
        "metadata": {"name": "pyzmq"},
        "download_info": {"archive_info": {"hashes": {"sha256": sha256}}},
    }
    path = tmp_path / "installed.json"
    path.write_text(json.dumps({"install": [entry]}))
    return path


def test_hashes_of_wheels(tmp_path: Path) -> None:
    """The hash of the installed wheel is in the document, and has to be in the lock file."""
    sha256 = min(locked()["pyzmq"][1])
    found = components(report(tmp_path), wheels(tmp_path, sha256))
    document = json.loads(bill_of_materials(found))
    [entry] = [entry for entry in document["components"] if entry["name"] == "pyzmq"]
    assert entry["hashes"] == [{"alg": "SHA-256", "content": sha256}]
    with pytest.raises(SupplyChainError, match="is not one of"):
        components(report(tmp_path), wheels(tmp_path, "0" * 64))


@pytest.mark.parametrize(
    ("expression", "allowed"),
    [
        ("MIT", True),
        ("MIT OR GPL-3.0-only", True),
        ("MIT AND GPL-3.0-only", False),
        ("(Apache-2.0 OR ISC) AND MIT", True),
        ("Apache-2.0 WITH LLVM-exception", True),
        ("GPL-2.0-only WITH Classpath-exception-2.0", False),
        ("AGPL-3.0-only", False),
        (UNKNOWN, False),
        ("no licence at all", False),
        ("", False),
    ],
)
def test_expressions(expression: str, allowed: bool) -> None:
    """Of OR one choice is enough, of AND all parts are needed; what is unknown is not allowed."""
    assert is_allowed(expression, notes()["allowed"]) is allowed


def test_accepted_for_one_component() -> None:
    """A licence that is accepted for one component is refused for another, and any other for it."""
    same = Component("pypi", "certifi", "1", "MPL-2.0")
    assert refused([same]) == []
    other = Component("pypi", "requests", "1", "MPL-2.0")
    changed = Component("pypi", "certifi", "1", "GPL-3.0-only")
    assert [text.split()[0] for text in refused([other, changed])] == ["requests", "certifi"]


def test_current_licences() -> None:
    """All licences are accepted, the page is current, and every exception is needed."""
    parts = components()
    assert refused(parts) == []
    assert PAGE.read_text() == page(parts)
    used = {(part.name, part.licence) for part in parts}
    for name, exception in notes()["accepted"].items():
        assert (name, exception["licence"]) in used
        assert len(exception["reason"]) > 20


def test_licence_of_packages_without_metadata(tmp_path: Path) -> None:
    """A package that says nothing about its licence has none."""

    (tmp_path / "METADATA").write_text("Metadata-Version: 2.4\nName: nothing\nVersion: 1\n")
    assert licence_of(Distribution.at(tmp_path)) == UNKNOWN


@pytest.mark.binary
def test_compiled_program() -> None:
    """`make binary` writes the bill of what it compiled, with the hashes of the wheels."""
    path = BUILT / "sbom.cdx.json"
    parts = from_sbom(path)
    assert refused(parts) == []
    names = {part.name for part in parts}
    assert {"cpython", "nuitka-runtime", "numpy", "libzmq"} <= names
    # Excluded from compilation (tools/binary.sh).
    assert "pygments" not in names
    packages = [e for e in json.loads(path.read_text())["components"] if "pkg:pypi" in e["purl"]]
    assert all(entry.get("hashes") for entry in packages)


def test_commands(tmp_path: Path) -> None:
    """The commands as `make sbom` and `make licences` call them."""
    out = tmp_path / "new" / "sbom.cdx.json"
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "sbom.py", "--out", out], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    for arguments in (["--check"], ["--sbom", out]):
        done = subprocess.run(
            [sys.executable, ROOT / "tools" / "licences.py", *arguments],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
