"""The terminal: console, progress bar of a job, and formats of figures."""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from schedproto import Job

STATE_STYLE = {
    "succeeded": "green",
    "failed": "red",
    "cancelled": "yellow",
    "running": "cyan",
    "queued": "dim",
}
#: Width of output that does not go to a terminal, and of the picture in it.
PIPE_WIDTH, PIPE_PICTURE_WIDTH = 500, 80


def console(*, err: bool = False) -> Console:
    """Return a console, with colours only on a terminal (rich honours NO_COLOR).

    In a pipe or a file, tables are as wide as needed, so that nothing is cut off for scripts.
    """
    out = Console(stderr=err, highlight=False, markup=False, emoji=False)
    if not out.is_terminal and "COLUMNS" not in os.environ:
        out.width = PIPE_WIDTH
    return out


class JobProgress:
    """A progress bar on standard error while a job runs.

    Shows nothing without a terminal.

        with JobProgress() as progress:
            result = handle.wait(on_progress=progress.update)
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._console = console(err=True)
        self._enabled = self._console.is_terminal and not quiet
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        if self._enabled:
            self._progress = Progress(
                TextColumn("{task.description:<10}"),
                BarColumn(bar_width=40),
                TextColumn("{task.percentage:>3.0f} %"),
                TextColumn("{task.fields[detail]}"),
                TimeElapsedColumn(),
                console=self._console,
                transient=True,
            )
            self._progress.start()
            self._task = self._progress.add_task("queued", total=1.0, detail="")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def update(self, job: Job) -> None:
        """Show a job's state."""
        if self._progress is None or self._task is None:
            return
        if job.progress is not None and job.state == "running":
            total = job.progress.contacts_total
            detail = f"{job.progress.contacts_done:,} of {total:,} contacts" if total else ""
            self._progress.update(
                self._task,
                description=job.progress.stage,
                completed=job.progress.fraction,
                detail=detail,
            )
        else:
            waiting = f"jobs ahead: {job.position}" if job.position else ""
            self._progress.update(self._task, description=job.state, detail=waiting)


def seconds(value: float) -> str:
    """Return a duration for people."""
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s"


def print_pairs(out: Console, pairs: Mapping[str, Any]) -> None:
    """Print names and values below each other; empty values are left out."""
    width = max(map(len, pairs))
    for name, value in pairs.items():
        if value is not None and str(value):
            out.print(
                Text.assemble(
                    f"{name:<{width}}  ", value if isinstance(value, Text) else str(value)
                ),
                soft_wrap=True,
            )


def size(size_bytes: int) -> str:
    """Return a size for people."""
    value = float(size_bytes)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            break
        value /= 1024
    return f"{value:,.0f} {unit}" if unit == "bytes" else f"{value:,.1f} {unit}"
