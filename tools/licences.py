"""Check the licences of what is in the program, and write docs/LICENCES.md.

    python tools/licences.py                # write the page; exit code 1 if one is not accepted
    python tools/licences.py --check        # write nothing; also fail if the page is not current
    python tools/licences.py --sbom FILE    # check a bill of materials, as of a compiled program

A licence is accepted if tools/supply_chain.toml allows it for all components or for that one.
Unknown licences are not accepted.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from components import ROOT, UNKNOWN, Component, components, notes
from license_expression import ExpressionError, get_spdx_licensing
from packageurl import PackageURL

PAGE = ROOT / "docs" / "LICENCES.md"
_SPDX = get_spdx_licensing()


def is_allowed(expression: str, allowed: Iterable[str]) -> bool:
    """Return whether an SPDX expression can be met: of `OR` one choice, of `AND` all parts."""
    try:
        parsed = _SPDX.parse(expression, validate=True)
    except ExpressionError:
        return False
    return parsed is not None and _holds(parsed, frozenset(allowed))


def _holds(node: Any, allowed: frozenset[str]) -> bool:
    if isinstance(node, _SPDX.AND):
        return all(_holds(part, allowed) for part in node.args)
    if isinstance(node, _SPDX.OR):
        return any(_holds(part, allowed) for part in node.args)
    return node.render() in allowed


def refused(parts: Iterable[Component], rules: dict[str, Any] | None = None) -> list[str]:
    """Return a sentence for each component whose licence is not accepted."""
    rules = notes() if rules is None else rules
    found = []
    for part in parts:
        exception = rules["accepted"].get(part.name)
        if exception is not None and exception["licence"] == part.licence:
            continue
        if not is_allowed(part.licence, rules["allowed"]):
            said = "has no known licence" if part.licence == UNKNOWN else f"is under {part.licence}"
            found.append(f"{part.name} {part.version} {said}: not accepted")
    return found


def from_sbom(sbom: Path) -> list[Component]:
    """Return the components of a bill of materials."""
    found = []
    for entry in json.loads(sbom.read_text(encoding="utf-8"))["components"]:
        texts = [
            item.get("expression") or item["license"].get("id") or item["license"]["name"]
            for item in entry.get("licenses", [])
        ]
        ecosystem = PackageURL.from_string(entry["purl"]).type
        licence = texts[0] if len(texts) == 1 else UNKNOWN
        found.append(Component(ecosystem, entry["name"], entry["version"], licence))
    return found


def page(parts: list[Component]) -> str:
    """Return docs/LICENCES.md. Versions are in the lock file and in the bill of materials."""
    accepted = notes()["accepted"]
    lines = [
        "# Licences",
        "",
        "The components of the compiled program and their licences (SPDX). `make licences`",
        "generates this page from the packages' metadata and refuses licences that",
        "`tools/supply_chain.toml` does not accept. Libraries of the system that compiles the",
        "program are listed by file.",
        "",
        "| component | part of | licence | accepted because |",
        "| --- | --- | --- | --- |",
    ]
    for part in parts:
        if part.ecosystem != "cargo":
            reason = accepted.get(part.name, {}).get("reason", "permissive")
            owner = part.part_of or "the program"
            lines.append(f"| {part.name} | {owner} | {part.licence} | {reason} |")
    for name, licence in notes()["system"].items():
        lines.append(f"| {name} | the system, if compiled in | {licence} | permissive |")
    lines += ["", "## Rust crates", "", "| licence | part of | crates |", "| --- | --- | ---: |"]
    crates = Counter((p.licence, p.part_of) for p in parts if p.ecosystem == "cargo")
    lines += [f"| {licence} | {owner} | {n} |" for (licence, owner), n in sorted(crates.items())]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument("--sbom", type=Path, help="a bill of materials (CycloneDX, JSON)")
    options = parser.parse_args()
    if options.sbom is not None:
        problems = refused(from_sbom(options.sbom))
        print("\n".join(problems), file=sys.stderr)
        sys.exit(bool(problems))
    parts = components()
    problems = refused(parts)
    text = page(parts)
    if not options.check:
        PAGE.write_text(text, encoding="utf-8")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != text:
        problems.append(f"{PAGE.relative_to(ROOT)} is not current: run `make licences`")
    for problem in problems:
        print(f"licences: {problem}", file=sys.stderr)
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
