"""Print the measurements of the code that say how readable it is.

Run it with `make measure`, or `python tools/measure_code.py FOLDER ...` for other folders. For each
part: files, lines per file, lines per function, public functions with a docstring, comment lines,
and the length of lines. Functions are counted with nested ones and methods, without their
decorators; line counts include blank lines and docstrings.
"""

from __future__ import annotations

import ast
import io
import statistics
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
PARTS = {
    "daemon": ("daemon/schedd",),
    "client": ("client/schedclient", "client/schedctl"),
    "protocol": ("protocol/schedproto",),
    "bucket": ("bucket/schedbucket",),
    "tests": ("tests",),
    "tools": ("tools",),
}
HEADER = (
    "| part | files | file median / max | function median / p95 / max "
    "| public functions with docstring | comment lines | p90 line | longest line |\n"
    "| --- | ---: | --- | --- | ---: | ---: | ---: | ---: |"
)
#: The table of ZIP codes is data in a Python file.
SKIPPED = ("zipdata.py",)

Function = ast.FunctionDef | ast.AsyncFunctionDef


class Measures(NamedTuple):
    """The measurements of one part; lengths are in lines, `line_lengths` in characters."""

    files: list[int]
    functions: list[int]
    documented: int
    public: int
    comments: int
    line_lengths: list[int]

    def row(self, name: str) -> str:
        """Return the row of the table."""
        functions = sorted(self.functions) or [0]
        lengths = sorted(length for length in self.line_lengths if length) or [0]
        return (
            f"| {name} | {len(self.files)} "
            f"| {statistics.median(self.files):.0f} / {max(self.files):,} "
            f"| {statistics.median(functions):.0f} / {quantile(functions, 0.95)} / {functions[-1]} "
            f"| {self.documented / max(self.public, 1):.0%} "
            f"| {self.comments / max(sum(self.files), 1):.1%} "
            f"| {quantile(lengths, 0.90)} | {lengths[-1]} |"
        )


def quantile(ordered: list[int], share: float) -> int:
    """Return the value of an ordered list below which `share` of the values are."""
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def measure(paths: list[Path]) -> Measures:
    """Measure Python files. Empty files are left out."""
    found = Measures([], [], 0, 0, 0, [])
    documented = public = comments = 0
    for path in paths:
        text = path.read_text(encoding="utf-8")
        if not text.strip():
            continue
        lines = text.splitlines()
        found.files.append(len(lines))
        found.line_lengths.extend(map(len, lines))
        comments += comment_lines(text)
        for function, is_public in functions_of(ast.parse(text)):
            end = function.end_lineno or function.lineno
            found.functions.append(end - function.lineno + 1)
            public += is_public
            documented += is_public and ast.get_docstring(function) is not None
    return found._replace(documented=documented, public=public, comments=comments)


def comment_lines(text: str) -> int:
    """Count the lines that contain only a comment."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return sum(
        token.type == tokenize.COMMENT and not token.line[: token.start[1]].strip()
        for token in tokens
    )


def functions_of(
    node: ast.AST, *, public: bool = True, nested: bool = False
) -> Iterator[tuple[Function, bool]]:
    """Yield all functions, each with whether it is public.

    A public function is not nested, and no name on its path starts with `_`.
    """
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            visible = public and not nested and not child.name.startswith("_")
            yield child, visible
            yield from functions_of(child, public=visible, nested=True)
        elif isinstance(child, ast.ClassDef):
            visible = public and not child.name.startswith("_")
            yield from functions_of(child, public=visible, nested=nested)
        else:
            yield from functions_of(child, public=public, nested=nested)


def main(folders: list[str]) -> None:
    """Print the table of the project's parts, or of the given folders."""
    parts = {folder: (folder,) for folder in folders} or PARTS
    print(HEADER)
    for name, names in parts.items():
        paths = [
            path
            for folder in names
            for path in sorted((ROOT / folder).rglob("*.py"))
            if path.name not in SKIPPED
        ]
        if paths:
            print(measure(paths).row(name))


if __name__ == "__main__":
    main(sys.argv[1:])
