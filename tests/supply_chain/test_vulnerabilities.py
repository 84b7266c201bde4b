"""The check against advisories in files, with synthetic advisories."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from check_vulnerabilities import AdvisoryError, findings, is_affected, read
from components import locked

TOOL = Path(__file__).parents[2] / "tools" / "check_vulnerabilities.py"
VERSION = locked()["urllib3"][0]


def advisory(
    package: str = "urllib3",
    ecosystem: str = "PyPI",
    versions: list[str] | None = None,
    events: list[dict[str, str]] | None = None,
    **fields: Any,
) -> dict[str, Any]:
    affected: dict[str, Any] = {"package": {"ecosystem": ecosystem, "name": package}}
    if versions is not None:
        affected["versions"] = versions
    if events is not None:
        affected["ranges"] = [{"type": "ECOSYSTEM", "events": events}]
    return {
        "id": "SYNTHETIC-1",
        "aliases": ["CVE-0000-0001"],
        "summary": "a synthetic advisory",
        "affected": [affected],
        **fields,
    }


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, TOOL, *map(str, arguments)], capture_output=True, text=True, timeout=60
    )


def test_locked_version_is_named(tmp_path: Path) -> None:
    """An advisory that names a locked version is reported with its fix (exit code 1)."""
    file = tmp_path / "advisories.json"
    events = [{"introduced": "0"}, {"fixed": "999.0"}]
    file.write_text(json.dumps({"vulns": [advisory(versions=[VERSION], events=events)]}))
    done = run(file)
    assert done.returncode == 1
    assert done.stdout == (
        f"urllib3 {VERSION}: SYNTHETIC-1, CVE-0000-0001: a synthetic advisory; fixed in 999.0\n"
    )
    assert "1 findings" in done.stderr


def test_no_locked_version_is_named(tmp_path: Path) -> None:
    """Other packages, other ecosystems, older versions and withdrawn advisories (exit code 0)."""
    file = tmp_path / "advisories.json"
    everything = [{"introduced": "0"}]
    entries = [
        advisory("another-package", events=everything),
        advisory("urllib3", ecosystem="npm", events=everything),
        advisory(versions=["0.1"], events=[{"introduced": "0"}, {"fixed": VERSION}]),
        advisory(events=everything, withdrawn="2026-01-01T00:00:00Z"),
    ]
    file.write_text(json.dumps(entries))
    done = run(file)
    assert (done.returncode, done.stdout) == (0, "")
    assert "4 advisories: 0 findings" in done.stderr


def test_forms_of_files(tmp_path: Path) -> None:
    """One advisory, a list, an object with vulns, a folder and a ZIP file are read alike."""
    one = advisory()
    folder = tmp_path / "folder"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "one.json").write_text(json.dumps(one))
    forms = [folder]
    for name, document in (("one", one), ("list", [one]), ("vulns", {"vulns": [one]})):
        forms.append(tmp_path / f"{name}.json")
        forms[-1].write_text(json.dumps(document))
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("SYNTHETIC-1.json", json.dumps(one))
    for path in (*forms, tmp_path / "all.zip"):
        assert list(read(path)) == [one], path


@pytest.mark.parametrize("content", ["not JSON", '{"name": "x"}', "[1]", '"text"'])
def test_not_advisories(tmp_path: Path, content: str) -> None:
    """A file in another format is an error, never "nothing found" (exit code 2)."""
    file = tmp_path / "file.json"
    file.write_text(content)
    with pytest.raises(AdvisoryError):
        list(read(file))
    assert run(file).returncode == 2
    assert run(tmp_path / "missing.json").returncode == 2


@pytest.mark.parametrize(
    ("ecosystem", "version", "events", "affected"),
    [
        ("PyPI", "2.0", [{"introduced": "0"}], True),
        ("PyPI", "2.0", [{"introduced": "0"}, {"fixed": "2.0"}], False),
        ("PyPI", "2.0rc1", [{"introduced": "0"}, {"fixed": "2.0"}], True),
        ("PyPI", "1.9", [{"introduced": "2.0"}], False),
        ("PyPI", "2.10", [{"introduced": "2.9"}, {"fixed": "2.11"}], True),
        ("PyPI", "2.0", [{"introduced": "0"}, {"last_affected": "2.0"}], True),
        ("PyPI", "2.0.1", [{"introduced": "0"}, {"last_affected": "2.0"}], False),
        (
            "PyPI",
            "2.5",
            [{"introduced": "0"}, {"fixed": "1.0"}, {"introduced": "2.0"}, {"fixed": "3.0"}],
            True,
        ),
        (
            "PyPI",
            "1.5",
            [{"introduced": "0"}, {"fixed": "1.0"}, {"introduced": "2.0"}, {"fixed": "3.0"}],
            False,
        ),
        ("PyPI", "2.0", [{"fixed": "3.0"}, {"introduced": "1.0"}], True),
        ("crates.io", "1.2.3", [{"introduced": "0.0.0-0"}, {"fixed": "1.2.3"}], False),
        ("crates.io", "1.2.3-rc.2", [{"introduced": "0.0.0-0"}, {"fixed": "1.2.3-rc.10"}], True),
        ("crates.io", "1.10.0", [{"introduced": "1.9.0"}], True),
        ("PyPI", "2.0", [{"introduced": "not a version"}], True),
    ],
)
def test_ranges(ecosystem: str, version: str, events: list[dict[str, str]], affected: bool) -> None:
    """Ranges as OSV defines them; what cannot be compared is reported."""
    entry = {"ranges": [{"type": "ECOSYSTEM", "events": events}]}
    assert is_affected(ecosystem, version, entry) is affected


def test_names_and_crates() -> None:
    """Names are compared as indexes write them; crates are checked too."""
    parts = [("PyPI", "typing-extensions", "4.0"), ("crates.io", "tokio", "1.0.0")]
    entries = [
        advisory("Typing_Extensions", events=[{"introduced": "0"}]),
        advisory("tokio", ecosystem="crates.io", events=[{"introduced": "0"}]),
    ]
    assert [entry.name for entry in findings(parts, entries)] == ["tokio", "typing-extensions"]


def test_bill_of_materials(tmp_path: Path) -> None:
    """The check of a bill of materials, as of a program that was deployed months ago."""
    sbom = tmp_path / "sbom.json"
    entry = {"name": "urllib3", "version": "1.0", "purl": "pkg:pypi/urllib3@1.0"}
    sbom.write_text(json.dumps({"components": [entry]}))
    file = tmp_path / "advisories.json"
    file.write_text(json.dumps(advisory(versions=["1.0"])))
    done = run("--sbom", sbom, file)
    assert (done.returncode, done.stdout.split(":")[0]) == (1, "urllib3 1.0")


def test_ignored_advisories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """An advisory with a reason in supply_chain.toml is shown and does not fail the check."""
    import check_vulnerabilities

    file = tmp_path / "advisories.json"
    file.write_text(json.dumps(advisory(versions=[VERSION])))
    monkeypatch.setattr(
        check_vulnerabilities, "notes", lambda: {"ignored": {"SYNTHETIC-1": "not reached"}}
    )
    monkeypatch.setattr(sys, "argv", ["check_vulnerabilities", str(file)])
    with pytest.raises(SystemExit) as ended:
        check_vulnerabilities.main()
    assert ended.value.code == 0
    assert "ignored: not reached" in capsys.readouterr().out
