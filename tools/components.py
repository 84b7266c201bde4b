"""The components of the compiled program: packages, crates, libraries, runtimes.

Sources: the lock file (versions), the metadata of the installed packages (licences, bills of
materials), Nuitka's report (what was compiled in), and tools/supply_chain.toml (the rest).
"""

from __future__ import annotations

import ctypes
import json
import platform
import re
import subprocess
import tomllib
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
LOCK = ROOT / "requirements" / "runtime.txt"
BUILD_LOCK = ROOT / "requirements" / "build.txt"
#: Licence texts of classifiers and of the field License, as SPDX.
SPDX = {
    "MIT License": "MIT",
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD-3-Clause",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
}
UNKNOWN = "NOASSERTION"


@dataclass(frozen=True, order=True)
class Component:
    """A part of the program. licence: an SPDX expression. sha256: of the wheel, if it is known."""

    ecosystem: str
    name: str
    version: str
    licence: str
    part_of: str = ""
    sha256: str = ""

    @property
    def purl(self) -> str:
        """Return the package URL."""
        namespace = "debian/" if self.ecosystem == "deb" else ""
        return f"pkg:{self.ecosystem}/{namespace}{self.name}@{self.version}"


class SupplyChainError(Exception):
    """The sources of the components contradict each other."""


@cache
def notes() -> dict[str, Any]:
    """Return tools/supply_chain.toml."""
    return tomllib.loads((ROOT / "tools" / "supply_chain.toml").read_text(encoding="utf-8"))


def normalized(name: str) -> str:
    """Return a package's name as indexes write it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(lock: Path = LOCK) -> dict[str, tuple[str, frozenset[str]]]:
    """Return each package of a lock file: its version and the SHA-256 of its files."""
    found: dict[str, tuple[str, frozenset[str]]] = {}
    for block in re.split(r"\n(?=[A-Za-z0-9])", lock.read_text(encoding="utf-8")):
        if match := re.match(r"([A-Za-z0-9._-]+)==([^\s\\]+)", block):
            hashes = frozenset(re.findall(r"--hash=sha256:([0-9a-f]{64})", block))
            found[normalized(match[1])] = (match[2], hashes)
    return found


def licence_of(package: metadata.Distribution) -> str:
    """Return the licence of an installed package as an SPDX expression, `UNKNOWN` without one."""
    name = normalized(package.name)
    if name in notes()["licences"]:
        return str(notes()["licences"][name])
    fields = package.metadata
    if expression := fields.get_all("License-Expression"):
        return str(expression[0])
    classifiers = [
        text.rpartition(" :: ")[2]
        for text in fields.get_all("Classifier") or []
        if text.startswith("License :: OSI Approved :: ")
    ]
    if classifiers and all(text in SPDX for text in classifiers):
        return " AND ".join(sorted({SPDX[text] for text in classifiers}))
    text = str((fields.get_all("License") or [""])[0])
    return text if text in SPDX.values() else UNKNOWN


def components(report: Path | None = None, installed: Path | None = None) -> list[Component]:
    """Return all components, sorted. Raises `SupplyChainError`.

    report: Nuitka's report; without it, all locked packages count, and no library of the system.
    installed: pip's report of the installation, for the hashes of the wheels.
    """
    root = ET.parse(report).getroot() if report is not None else None
    included = None
    if root is not None:
        entries = root.findall("distributions/distribution")
        included = {normalized(entry.get("name", "")): entry.get("version") for entry in entries}
        included.pop("email-scheduler", None)
    found = set(_packages(included, _wheels(installed)))
    present = {component.name for component in found}
    for name in sorted(present):
        found.update(_crates(name))
    found.update(component for component in _native() if component.part_of in present)
    found.update(_toolchain(root))
    if root is not None:
        found.update(_system_libraries(root))
    return sorted(found)


def _wheels(installed: Path | None) -> dict[str, str]:
    """Return the SHA-256 of each installed wheel by its package, from pip's report."""
    if installed is None:
        return {}
    entries = json.loads(installed.read_text(encoding="utf-8"))["install"]
    return {
        normalized(entry["metadata"]["name"]): entry["download_info"]["archive_info"]["hashes"][
            "sha256"
        ]
        for entry in entries
    }


def _packages(
    included: dict[str, str | None] | None, wheels: dict[str, str]
) -> Iterator[Component]:
    lock = locked()
    for name in sorted(lock if included is None else included):
        if name not in lock:
            raise SupplyChainError(f"{name} is in the program, but not in {LOCK.name}")
        version, hashes = lock[name]
        package = metadata.distribution(name)
        versions = {version, package.version, (included or {}).get(name) or version}
        if len(versions) > 1:
            raise SupplyChainError(f"{name} has several versions: {', '.join(sorted(versions))}")
        wheel = wheels.get(name, "")
        if wheel and wheel not in hashes:
            raise SupplyChainError(f"the installed wheel of {name} is not one of {LOCK.name}")
        yield Component("pypi", name, version, licence_of(package), sha256=wheel)


def _crates(package: str) -> Iterator[Component]:
    """Return the Rust crates in a wheel, from the bill of materials in it (PEP 770)."""
    for file in metadata.distribution(package).files or []:
        if file.parent.name == "sboms" and file.name.endswith(".json"):
            for entry in json.loads(file.read_text(encoding="utf-8"))["components"]:
                if not entry.get("purl", "").startswith("pkg:cargo/"):
                    continue
                licences = [
                    item.get("expression") or item.get("license", {}).get("id") or UNKNOWN
                    for item in entry.get("licenses", [])
                ]
                licence = " AND ".join(f"({text})" for text in licences) or UNKNOWN
                if len(licences) == 1:
                    [licence] = licences
                yield Component("cargo", entry["name"], entry["version"], licence, package)


def _native() -> Iterator[Component]:
    versions = _native_versions()
    for name, entry in notes()["native"].items():
        yield Component("generic", name, versions[name], entry["licence"], entry["package"])


@cache
def _native_versions() -> dict[str, str]:
    import apsw  # noqa: PLC0415 - only what is installed can be asked
    import numpy as np  # noqa: PLC0415
    import zmq  # noqa: PLC0415
    import zstandard  # noqa: PLC0415

    sodium = ctypes.CDLL(str(_library("pyzmq", "libsodium")))
    sodium.sodium_version_string.restype = ctypes.c_char_p
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return {
        "libzmq": zmq.zmq_version(),
        "libsodium": sodium.sodium_version_string().decode(),
        "sqlite": apsw.sqlite_lib_version(),
        "openblas": blas["version"],
        "zstd": ".".join(map(str, zstandard.ZSTD_VERSION)),
        **{name: _file_version("numpy", name) for name in ("libgfortran", "libquadmath")},
    }


def _library(package: str, name: str) -> Path:
    """Return a shared library in an installed wheel."""
    for file in metadata.distribution(package).files or []:
        if file.name.startswith(f"{name}-"):
            return Path(str(file.locate()))
    raise SupplyChainError(f"{package} has no library {name}; see tools/supply_chain.toml")


def _file_version(package: str, name: str) -> str:
    """Return the version in the name of a library, which does not report it otherwise."""
    return _library(package, name).name.rpartition(".so.")[2]


def _toolchain(root: ET.Element | None) -> Iterator[Component]:
    python = root.find("python") if root is not None else None
    version = python.get("python_version") if python is not None else None
    yield Component("generic", "cpython", version or platform.python_version(), "PSF-2.0")
    nuitka = locked(BUILD_LOCK)["nuitka"][0]
    if root is not None and root.get("nuitka_version") != nuitka:
        raise SupplyChainError(f"compiled with Nuitka {root.get('nuitka_version')}, not {nuitka}")
    runtime = notes()["accepted"]["nuitka-runtime"]["licence"]
    yield Component("generic", "nuitka-runtime", nuitka, runtime)


def _system_libraries(root: ET.Element) -> Iterator[Component]:
    bundled = (*(f"{name}-" for name in notes()["native"]), "libscipy_openblas")
    for entry in root.findall("included_dll"):
        name, path = entry.get("name", ""), entry.get("source_path", "")
        if not path.startswith("/"):  # in a wheel, which `native` lists
            if not name.startswith(bundled):
                yield Component("generic", name, "unknown", UNKNOWN)
            continue
        licences = notes()["system"]
        licence = next((licences[key] for key in licences if name.startswith(key)), UNKNOWN)
        package, version = _debian_package(path)
        if package:
            yield Component("deb", package, version, licence)
        else:
            yield Component("generic", name, "unknown", licence)


def _debian_package(path: str) -> tuple[str, str]:
    """Return Debian's package of a file and its version; empty texts if there is none."""
    for known in (path, path.removeprefix("/usr"), str(Path(path).resolve())):
        try:
            done = subprocess.run(
                ["dpkg-query", "-S", known], capture_output=True, text=True, check=False
            )
        except FileNotFoundError:
            return "", ""
        if done.returncode == 0:
            package = done.stdout.split(":")[0]
            version = subprocess.run(
                ["dpkg-query", "-W", "-f", "${Version}\n", package],
                capture_output=True,
                text=True,
                check=True,
            ).stdout.split()[0]
            return package, version
    return "", ""
