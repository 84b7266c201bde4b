"""The interface between a run and the process that runs it; neither pool nor socket."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from schedd.backups.backups import Backups


class RunContext(Protocol):
    """The process that coordinates a job, as its runner sees it.

    Example:

        context.progress("plan", 0.25, done=25_000, total=100_000)
        for result in context.shards("plan", payloads, workers=4):
            context.check()
    """

    @property
    def run_id(self) -> str:
        """Return the id of this attempt, written to `scheduler_runs` and to every log line."""

    @property
    def default_workers(self) -> int:
        """Return the size of the pool.

        A large organization is divided into this many shards if the job names no number.
        """

    @property
    def backups(self) -> Backups | None:
        """Return the backups that reliable runs make before they change the file; None for none."""

    @property
    def scratch(self) -> Path:
        """Return an existing folder for the files that the processes of the job exchange.

        The pool removes it after the job.
        """

    def progress(self, stage: str, fraction: float, done: int = 0, total: int = 0) -> None:
        """Report the progress of the job: `fraction` is from 0 to 1.

        Cheap, because most calls report nothing; never blocks.
        """

    def check(self) -> None:
        """Raise `SchedulerError` (`cancelled`) if the job is to end.

        Called often between pieces of work.
        """

    def on_cancel(self, callback: Callable[[], None] | None) -> None:
        """Set the callback that another thread calls when the job is to end; None removes it."""

    def shards(self, task: str, payloads: Sequence[bytes], workers: int) -> Iterator[bytes]:
        """Run `tasks.run_task(task, payload)` for each payload, in at most `workers` processes.

        Yields the results in the order of the payloads, each as soon as it is available, so that
        the caller can work on one while idle workers produce the next. This process is one of
        `workers`: when the next result is not available, it runs a payload that no worker has
        started, so it needs no idle worker to make progress. With `workers` 1 it runs all of them.

        If a helper crashes, its payload runs again elsewhere; if that happens again and again,
        raises `SchedulerError` (`worker_died`). An error of a task is raised here.
        """
