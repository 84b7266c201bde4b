"""Check the components of the program against advisories in a file, without a network.

    python tools/check_vulnerabilities.py all.zip       # what the lock file names
    python tools/check_vulnerabilities.py --sbom build/binary/sbom.cdx.json advisories.json crates/

Advisories are in the OSV format: a JSON file with one of them, a list, or an object with "vulns"; a
folder of such files; or a ZIP file of them, as OSV publishes for each ecosystem (PyPI, crates.io).

Exit codes: 0 nothing found, 1 something found, 2 the advisories cannot be read.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from components import components, normalized, notes
from packageurl import PackageURL
from packaging.version import InvalidVersion, Version

#: The type of a package URL -> OSV's ecosystem
ECOSYSTEMS = {"pypi": "PyPI", "cargo": "crates.io"}


class AdvisoryError(Exception):
    """A file of advisories cannot be read."""


class Finding(NamedTuple):
    """An advisory that concerns a component."""

    name: str
    version: str
    advisory: str
    aliases: tuple[str, ...]
    summary: str
    fixed: tuple[str, ...]


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Return the advisories of a file or folder. Raises `AdvisoryError`."""
    try:
        if path.is_dir():
            for file in sorted(path.rglob("*.json")):
                yield from _parse(file.read_bytes(), str(file))
        elif zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                for name in archive.namelist():
                    if name.endswith(".json"):
                        yield from _parse(archive.read(name), f"{path}: {name}")
        else:
            yield from _parse(path.read_bytes(), str(path))
    except (OSError, zipfile.BadZipFile) as error:
        raise AdvisoryError(f"{path} cannot be read: {error}") from None


def _parse(raw: bytes, name: str) -> Iterator[dict[str, Any]]:
    try:
        document = json.loads(raw)
    except ValueError as error:
        raise AdvisoryError(f"{name} is not JSON: {error}") from None
    entries = document.get("vulns", [document]) if isinstance(document, dict) else document
    for entry in entries if isinstance(entries, list) else [None]:
        if not isinstance(entry, dict) or "id" not in entry or "affected" not in entry:
            raise AdvisoryError(f"{name} is not in the OSV format (id and affected are missing)")
        yield entry


def _order(ecosystem: str, version: str) -> Any:
    """Return what versions of an ecosystem are compared by."""
    if ecosystem == "PyPI":
        return Version(version)
    # Semantic versions: a pre-release comes before its release, numbers before words.
    release, _, pre = version.partition("+")[0].partition("-")
    numbers = [int(part) for part in release.split(".")]
    words = [(0, int(w), "") if w.isdigit() else (1, 0, w) for w in pre.split(".")] if pre else []
    return (numbers + [0] * (3 - len(numbers)), not pre, words)


def is_affected(ecosystem: str, version: str, affected: dict[str, Any]) -> bool:
    """Return whether a version is one of an advisory's: listed, or in one of its ranges."""
    if version in affected.get("versions", []):
        return True
    try:
        own = _order(ecosystem, version)
        for versions in affected.get("ranges", []):
            if versions.get("type") not in {"ECOSYSTEM", "SEMVER"}:
                continue
            inside = False
            for event, at in sorted(
                ((kind, text) for item in versions["events"] for kind, text in item.items()),
                key=lambda pair: (pair[1] != "0", _order(ecosystem, pair[1]), pair[0] != "fixed"),
            ):
                reached = at == "0" or own >= _order(ecosystem, at)
                if event == "introduced" and reached:
                    inside = True
                elif (event == "fixed" and reached) or (
                    event == "last_affected" and own > _order(ecosystem, at)
                ):
                    inside = False
            if inside:
                return True
    except (InvalidVersion, ValueError, KeyError):
        return True  # what cannot be compared is for a person to judge
    return False


def findings(
    parts: Iterable[tuple[str, str, str]], advisories: Iterable[dict[str, Any]]
) -> list[Finding]:
    """Return what concerns the components. parts: ecosystem (OSV's), name, version."""
    versions: dict[tuple[str, str], set[str]] = {}
    for ecosystem, name, version in parts:
        versions.setdefault((ecosystem, normalized(name)), set()).add(version)
    found = set()
    for advisory in advisories:
        if advisory.get("withdrawn"):
            continue
        for affected in advisory["affected"]:
            package = affected.get("package", {})
            ecosystem, name = package.get("ecosystem", ""), normalized(package.get("name", ""))
            for version in versions.get((ecosystem, name), ()):
                if is_affected(ecosystem, version, affected):
                    fixed = re.findall(
                        r'"fixed": "([^"]+)"', json.dumps(affected.get("ranges", []))
                    )
                    found.add(
                        Finding(
                            name,
                            version,
                            advisory["id"],
                            tuple(advisory.get("aliases", [])),
                            advisory.get("summary", ""),
                            tuple(fixed),
                        )
                    )
    return sorted(found)


def parts_of(sbom: Path | None) -> list[tuple[str, str, str]]:
    """Return the packages and crates of a bill of materials, by default of the lock file."""
    if sbom is None:
        purls = [part.purl for part in components()]
    else:
        document = json.loads(sbom.read_text(encoding="utf-8"))
        purls = [entry["purl"] for entry in document["components"] if "purl" in entry]
    parsed = [PackageURL.from_string(purl) for purl in purls]
    return [
        (ECOSYSTEMS[purl.type], purl.name, purl.version or "")
        for purl in parsed
        if purl.type in ECOSYSTEMS
    ]


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sbom", type=Path, help="a bill of materials (CycloneDX, JSON)")
    parser.add_argument("advisories", type=Path, nargs="+", help="files or folders in OSV's format")
    options = parser.parse_args()
    ignored = notes()["ignored"]
    parts = parts_of(options.sbom)
    try:
        advisories = [entry for path in options.advisories for entry in read(path)]
    except AdvisoryError as error:
        print(f"check_vulnerabilities: {error}", file=sys.stderr)
        sys.exit(2)
    found = findings(parts, advisories)
    open_findings = [entry for entry in found if entry.advisory not in ignored]
    for entry in found:
        names = ", ".join((entry.advisory, *entry.aliases))
        fixed = f"; fixed in {', '.join(entry.fixed)}" if entry.fixed else ""
        reason = ignored.get(entry.advisory)
        state = f" (ignored: {reason})" if reason else ""
        print(f"{entry.name} {entry.version}: {names}: {entry.summary}{fixed}{state}")
    print(
        f"{len(parts)} components, {len(advisories)} advisories: {len(open_findings)} findings"
        + (
            f", {len(found) - len(open_findings)} ignored"
            if len(found) > len(open_findings)
            else ""
        ),
        file=sys.stderr,
    )
    sys.exit(bool(open_findings))


if __name__ == "__main__":
    main()
