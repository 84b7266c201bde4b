"""Write the bill of materials of the compiled program (CycloneDX 1.6, JSON) and check its schema.

    python tools/sbom.py --out build/sbom.cdx.json
    python tools/sbom.py --report build/binary/report.xml --installed build/binary/installed.json \
        --out build/binary/sbom.cdx.json

The same components give the same bytes: it has no time and no random number.
"""

from __future__ import annotations

import argparse
import sys
import uuid
from pathlib import Path

from components import Component, SupplyChainError, components
from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component as Entry
from cyclonedx.model.component import ComponentType
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

from schedproto import __version__

NAME = "email-scheduler"


def bill_of_materials(parts: list[Component], version: str = __version__) -> str:
    """Return the document. Raises `SupplyChainError` if it does not fit the schema."""
    licences = LicenseFactory()
    program = Entry(
        name=NAME,
        version=version,
        type=ComponentType.APPLICATION,
        bom_ref=NAME,
        licenses=[licences.make_from_string("LicenseRef-Proprietary")],
    )
    bom = Bom(serial_number=uuid.uuid5(uuid.NAMESPACE_URL, repr((version, parts))))
    bom.metadata.component = program
    # Left out of the document, which the library permits though its annotation does not.
    bom.metadata.timestamp = None  # type: ignore[assignment]
    entries: dict[str, Entry] = {}
    for part in parts:
        entry = Entry(
            name=part.name,
            version=part.version,
            type=ComponentType.LIBRARY,
            bom_ref=part.purl,
            purl=PackageURL.from_string(part.purl),
            licenses=[licences.make_from_string(part.licence)],
            hashes=[HashType(alg=HashAlgorithm.SHA_256, content=part.sha256)]
            if part.sha256
            else [],
            properties=[Property(name="part-of", value=part.part_of)] if part.part_of else [],
        )
        bom.components.add(entry)
        entries[part.purl] = entry
    packages = {part.name: entries[part.purl] for part in parts if part.ecosystem == "pypi"}
    contents: dict[str, list[Entry]] = {}
    for part in parts:
        contents.setdefault(part.part_of, []).append(entries[part.purl])
    for owner, inner in contents.items():
        bom.register_dependency(packages[owner] if owner else program, inner)
    text = JsonV1Dot6(bom).output_as_string(indent=1)
    if error := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        raise SupplyChainError(f"the document does not fit CycloneDX 1.6: {error}")
    return text + "\n"


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--report", type=Path, help="Nuitka's report of the compiled program")
    parser.add_argument("--installed", type=Path, help="pip's report of the installed packages")
    parser.add_argument("--out", type=Path, required=True, help="the file to write")
    options = parser.parse_args()
    try:
        parts = components(options.report, options.installed)
        text = bill_of_materials(parts)
    except SupplyChainError as error:
        sys.exit(f"sbom: {error}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(text, encoding="utf-8")
    print(f"{options.out}: {len(parts)} components", file=sys.stderr)


if __name__ == "__main__":
    main()
