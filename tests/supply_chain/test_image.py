"""The inputs of the image are fixed.

The base is fixed by digest, Debian packages by version, everything else by hash.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
#: Debian's sources as the official images have them.
SOURCES = """Types: deb
# http://snapshot.example.org/archive/debian/20260918T000000Z
URIs: http://archive.example.org/debian
Suites: bookworm bookworm-updates

Types: deb
# http://snapshot.example.org/archive/debian-security/20260918T000000Z
URIs: http://archive.example.org/debian-security
Suites: bookworm-security
"""


def test_base_by_digest() -> None:
    [base] = re.findall(r"^ARG BASE=(\S+)$", DOCKERFILE, re.MULTILINE)
    assert re.fullmatch(r"debian:bookworm-\d{8}-slim@sha256:[0-9a-f]{64}", base)
    assert set(re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)) == {"${BASE}"}


def test_packages_by_version() -> None:
    """Every Debian package has a version, and nothing is installed otherwise."""
    assert "apt-get" not in DOCKERFILE
    calls = re.findall(r"install-packages\.sh \\\n((?: +\S+(?: \\)?\n)+)", DOCKERFILE)
    assert len(calls) == DOCKERFILE.count("RUN APT_SNAPSHOT") == 2
    packages = " ".join(calls).replace("\\", " ").split()
    assert len(packages) > 10
    for package in packages:
        assert re.fullmatch(r"[a-z0-9.+-]+=\d[A-Za-z0-9.+:~-]*", package), package


@pytest.mark.parametrize("lock", ["runtime", "build", "dev", "client"])
def test_locks_have_hashes(lock: str) -> None:
    """Each locked package has at least one hash; pip then accepts no other file."""
    text = (ROOT / "requirements" / f"{lock}.txt").read_text()
    blocks = [block for block in re.split(r"\n(?=[A-Za-z0-9])", text) if "==" in block]
    assert len(blocks) > 1
    assert all("--hash=sha256:" in block for block in blocks)


def run_installation(tmp_path: Path, sources: str, snapshot: str) -> tuple[str, str, str]:
    """Run install-packages.sh with stand-ins for apt.

    Its calls, the sources they saw, those left.
    """
    (tmp_path / "bin").mkdir()
    calls, seen, file = (tmp_path / name for name in ("calls", "seen", "debian.sources"))
    file.write_text(sources)
    apt = tmp_path / "bin" / "apt-get"
    apt.write_text(f'#!/bin/sh\necho "$@" >>{calls}\ncat {file} >{seen}\n')
    apt.chmod(0o755)
    script = (ROOT / "tools" / "install-packages.sh").read_text()
    script = script.replace("/etc/apt/sources.list.d/debian.sources", str(file))
    script = script.replace("rm -rf /var/lib/apt/lists/*", "")
    done = subprocess.run(
        ["sh", "-c", script, "sh", "gcc=4:12.2.0-3", "less=590-2"],
        env={"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin", "APT_SNAPSHOT": snapshot},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        return done.stderr, "", ""
    return calls.read_text(), seen.read_text(), file.read_text()


def test_snapshot(tmp_path: Path) -> None:
    """Packages come from the snapshot in the base image; the sources are as before afterwards."""
    calls, seen, left = run_installation(tmp_path, SOURCES, "1")
    assert re.findall("^URIs: (.*)", seen, re.MULTILINE) == [
        "http://snapshot.example.org/archive/debian/20260918T000000Z",
        "http://snapshot.example.org/archive/debian-security/20260918T000000Z",
    ]
    assert seen.count("Suites:") == 2
    assert left == SOURCES
    assert "gcc=4:12.2.0-3 less=590-2" in calls


def test_without_snapshot(tmp_path: Path) -> None:
    """The archive of today has the versions of today."""
    calls, seen, _ = run_installation(tmp_path, SOURCES, "0")
    assert seen == SOURCES
    assert calls.splitlines()[-1] == "install -y --no-install-recommends gcc less"


def test_base_without_snapshot(tmp_path: Path) -> None:
    """A base image that names no snapshot is an error, not a silent use of today's archive."""
    error, _, _ = run_installation(tmp_path, SOURCES.replace("# http", "# ftp"), "1")
    assert "names no snapshot" in error
