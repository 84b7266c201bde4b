"""Generate docs/pictures/layers.svg: the layers of the project and the imports between them.

The source is the table ALLOWED of tests/test_layers.py. A layer stands above all layers that it may
import. Run it with `make docs`. A test fails if the picture is not current.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from html import escape
from pathlib import Path

ROOT = Path(__file__).parent.parent
PICTURE = ROOT / "docs" / "pictures" / "layers.svg"

#: The job of each layer, in a few words. A layer of ALLOWED without an entry is an error.
JOBS = {
    "schedd": "app, cli, settings",
    "schedd.server": "ZeroMQ loop, keys, metrics",
    "schedd.files": "requests about files",
    "schedd.jobs": "queue and journal",
    "schedd.workers": "pool of processes",
    "schedd.replica": "runs over a bucket",
    "schedd.run": "one run: file to plan",
    "schedd.inspection": "check and adoption",
    "schedd.backups": "backup and restore",
    "schedd.store": "SQLite: columns, differences",
    "schedd.engine": "the rules, on arrays",
    "schedbucket": "objects, lease, patches",
    "schedproto": "messages, errors, ids",
    "schedclient": "Client, AsyncClient",
    "schedclient.fly": "machines on Fly",
    "schedclient.bucket": "leases for applications",
    "schedctl": "the command line",
}

_WIDTH, _HEIGHT, _GAP_X, _GAP_Y, _MARGIN = 210, 52, 22, 46, 24
_DAEMON, _SHARED, _CLIENT = "#dbe9f6", "#e9e9e9", "#e3f1dc"


def layer_of(name: str, layers: Mapping[str, set[str]]) -> str | None:
    """Return the layer that a module or package belongs to, or None for another library."""
    found = [layer for layer in layers if name == layer or name.startswith(f"{layer}.")]
    return max(found, key=len, default=None)


def dependencies(allowed: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """Return for each layer the other layers that it may import."""
    result = {}
    for layer, names in allowed.items():
        found = {layer_of(name, allowed) for name in names}
        if (
            layer in names
        ):  # a package may import its own sub-layers: the application imports all of the daemon
            found |= {other for other in allowed if other.startswith(f"{layer}.")}
        result[layer] = {other for other in found if other is not None and other != layer}
    # A sub-layer may name its complete package for the sake of one module; only the package depends
    # on the sub-layer.
    for layer, below in result.items():
        below -= {other for other in below if layer.startswith(f"{other}.")}
    return result


def ranks(below: Mapping[str, set[str]]) -> dict[str, int]:
    """Return the row of each layer, counted from the bottom. Raises ValueError for a cycle."""
    result: dict[str, int] = {}
    while len(result) < len(below):
        ready = [name for name in below if name not in result and below[name] <= set(result)]
        if not ready:
            raise ValueError(f"layers import each other: {sorted(set(below) - set(result))}")
        for name in ready:
            result[name] = max((result[other] + 1 for other in below[name]), default=0)
    return result


def direct(below: Mapping[str, set[str]]) -> list[tuple[str, str]]:
    """Return the imports that no path over other layers implies (the transitive reduction)."""
    reach: dict[str, set[str]] = {}
    rank = ranks(below)
    for name in sorted(below, key=rank.__getitem__):
        reach[name] = set(below[name]).union(*(reach[other] for other in below[name]))
    return [
        (name, other)
        for name in below
        for other in sorted(below[name])
        if not any(other in reach[between] for between in below[name] - {other})
    ]


def picture(allowed: Mapping[str, set[str]]) -> str:
    """Return the picture as SVG."""
    below = dependencies(allowed)
    rank = ranks(below)
    rows = [[name for name in JOBS if rank[name] == row] for row in range(max(rank.values()) + 1)]
    if missing := set(allowed) - set(JOBS):
        raise ValueError(f"no job for the layers {sorted(missing)}")

    columns = max(map(len, rows))
    width = 2 * _MARGIN + columns * _WIDTH + (columns - 1) * _GAP_X
    height = 2 * _MARGIN + len(rows) * _HEIGHT + (len(rows) - 1) * _GAP_Y
    corners = {}
    for row, names in enumerate(rows):
        indent = (width - len(names) * _WIDTH - (len(names) - 1) * _GAP_X) / 2
        top = height - _MARGIN - _HEIGHT - row * (_HEIGHT + _GAP_Y)
        for column, name in enumerate(names):
            corners[name] = (indent + column * (_WIDTH + _GAP_X), top)

    lines = [_line(corners[name], corners[other]) for name, other in direct(below)]
    boxes = [_box(name, *corner) for name, corner in corners.items()]
    return "\n".join(
        [
            (
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
                f'width="{width}" height="{height}" font-family="sans-serif">'
            ),
            "<title>The layers: each imports only layers below it</title>",
            f'<rect width="{width}" height="{height}" fill="white"/>',
            *lines,
            *boxes,
            "</svg>",
            "",
        ]
    )


def _line(upper: tuple[float, float], lower: tuple[float, float]) -> str:
    x1, y1 = upper[0] + _WIDTH / 2, upper[1] + _HEIGHT
    x2, y2 = lower[0] + _WIDTH / 2, lower[1]
    bend = (y1 + y2) / 2
    return (
        f'<path d="M {x1:g} {y1:g} C {x1:g} {bend:g}, {x2:g} {bend:g}, {x2:g} {y2:g}" '
        'fill="none" stroke="#888888"/>'
    )


def _box(name: str, x: float, y: float) -> str:
    if name.startswith("schedd"):
        colour = _DAEMON
    else:
        colour = _CLIENT if name.startswith(("schedclient", "schedctl")) else _SHARED
    centre = x + _WIDTH / 2
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{_WIDTH}" height="{_HEIGHT}" rx="6" fill="{colour}" '
        'stroke="#555555"/>'
        f'<text x="{centre:g}" y="{y + 22:g}" text-anchor="middle" font-weight="bold" '
        f'font-size="14">{escape(name)}</text>'
        f'<text x="{centre:g}" y="{y + 40:g}" text-anchor="middle" font-size="12">'
        f"{escape(JOBS[name])}</text>"
    )


def allowed_imports() -> dict[str, set[str]]:
    """Read the table ALLOWED of tests/test_layers.py."""
    spec = importlib.util.spec_from_file_location("test_layers", ROOT / "tests" / "test_layers.py")
    if spec is None or spec.loader is None:
        raise RuntimeError("tests/test_layers.py cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return dict(module.ALLOWED)


def main() -> None:
    """Write the picture."""
    PICTURE.write_text(picture(allowed_imports()), encoding="utf-8")
    print(PICTURE.relative_to(ROOT))


if __name__ == "__main__":
    main()
