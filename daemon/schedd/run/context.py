"""What a job's stages may ask of the process they run in, so that they know neither pool nor socket."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from schedd.backups.backups import Backups


class RunContext(Protocol):
    """The process that leads a job, as its runner sees it."""

    @property
    def run_id(self) -> str:
        """Return the id of this attempt, written to `scheduler_runs` and to every log line."""

    @property
    def default_workers(self) -> int:
        """Return the size of the pool.

        How many shards a large organization gets when the job names none.
        """

    @property
    def backups(self) -> Backups | None:
        """Return where reliable runs keep the file's present state before they change it.

        None for nowhere.
        """

    @property
    def scratch(self) -> Path:
        """Return an existing folder for arrays handed between processes.

        The pool removes it after the job.
        """

    def progress(self, stage: str, fraction: float, done: int = 0, total: int = 0) -> None:
        """Report how far the job is (`fraction` of the whole job).

        Cheap, thinned out, never blocks.
        """

    def check(self) -> None:
        """Raise `SchedulerError` (`cancelled`) if the job is to end.

        Called often between pieces of work.
        """

    def on_cancel(self, callback: Callable[[], None] | None) -> None:
        """Have `callback` called from another thread when the job is to end; None takes it back."""

    def shards(self, task: str, payloads: Sequence[bytes], workers: int) -> Iterator[bytes]:
        """Run `tasks.run_task(task, payload)` for each payload in at most `workers` processes, this one counted.

        Yields the results in the order of the payloads, each as soon as it is there, so that the
        caller can work on one while idle workers produce the next. When the next result is not
        there, this process runs a payload itself that nobody has begun (so it needs no idle worker
        to make progress). With `workers` 1 all run here. A helper that dies has its payload run
        again elsewhere; one that dies again and again raises `SchedulerError` (`worker_died`). An
        error of a task is raised here.
        """
