"""A worker process: runs jobs, and shards of other workers' jobs. Knows no socket and no journal.

Only the worker process loads this module, because it loads the run and numpy (`entry`). The main
thread works; a second thread reads the pipe. So a job can be cancelled while SQLite or numpy are
busy, and the process ends at once when the daemon does.
"""

from __future__ import annotations

import datetime as dt
import os
import queue
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from schedd.backups.backups import Backups
from schedd.replica.job import run_job
from schedd.run.tasks import run_task
from schedproto import ErrorCode, SchedulerError, sqlite_files

from . import messages

#: Shortest time between two progress reports of one stage.
PROGRESS_INTERVAL_S = 0.1
#: The exit status of a worker whose daemon has gone.
ORPHANED = 75


class _Pipe:
    """The worker's end of the pipe: its inbox, and the jobs that are cancelled."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._sending = threading.Lock()
        self.inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.cancelled: set[str] = set()
        self.on_cancel: Callable[[], None] | None = None

    def send(self, message: Any) -> None:
        with self._sending:
            self._connection.send_bytes(messages.encode(message))

    def read_forever(self) -> None:
        try:
            while True:
                message = messages.decode_to_worker(self._connection.recv_bytes())
                if isinstance(message, messages.CancelJob):
                    self.cancelled.add(message.job_id)
                    callback = self.on_cancel
                    if callback is not None:
                        # The work that it interrupts may have just ended.
                        with suppress(Exception):
                            callback()
                else:
                    self.inbox.put(message)
        except (EOFError, OSError):
            # The daemon is gone. A running job is one transaction, which SQLite rolls back.
            os._exit(ORPHANED)


class WorkerContext:
    """This process as a job's stages see it; `schedd.run.context` documents the calls."""

    def __init__(self, pipe: _Pipe, job: messages.RunJob) -> None:
        self._pipe = pipe
        self._job = job
        self.run_id = job.run_id
        self.default_workers = job.default_workers
        self.scratch = Path(job.scratch)
        self.replica = job.replica
        self.backups = (
            Backups(Path(job.backup_folder), job.backup_days, lambda: dt.datetime.now(dt.UTC))
            if job.backup_days
            else None
        )
        self._batches = 0
        self._reported = 0.0
        self._stage = ""

    def progress(self, stage: str, fraction: float, done: int = 0, total: int = 0) -> None:
        """Report how far the job is, at most every `PROGRESS_INTERVAL_S` in one stage."""
        now = time.monotonic()
        if stage == self._stage and now - self._reported < PROGRESS_INTERVAL_S:
            return
        self._stage, self._reported = stage, now
        self._pipe.send(messages.Progressed(self._job.job_id, stage, fraction, done, total))

    def check(self) -> None:
        """Raise if the job was cancelled."""
        if self._job.job_id in self._pipe.cancelled:
            raise SchedulerError(
                ErrorCode.CANCELLED,
                "the job was cancelled",
                hint="Nothing was changed. Submit it again if needed.",
            )

    def on_cancel(self, callback: Callable[[], None] | None) -> None:
        """Have a callback called by the pipe's thread when the job is cancelled."""
        self._pipe.on_cancel = callback

    def shards(self, task: str, payloads: Sequence[bytes], workers: int) -> Iterator[bytes]:
        """Run shards of the job here and in idle workers; yield their results in order."""
        if workers <= 1 or len(payloads) <= 1:
            for payload in payloads:
                yield run_task(task, payload, self.check)
            return
        self._batches += 1
        batch = f"{self.run_id}/{self._batches}"
        results: dict[int, bytes] = {}
        self._pipe.send(messages.ShardBatch(batch, task, list(payloads), workers - 1))
        left = True
        for number in range(len(payloads)):
            while number not in results:
                self.check()
                if left:
                    self._pipe.send(messages.ShardRequest(batch))
                    granted = self._await_grant(batch, results)
                    left = granted >= 0
                    if left:
                        results[granted] = run_task(task, payloads[granted], self.check)
                else:
                    self._take(batch, results)
            yield results.pop(number)

    def _await_grant(self, batch: str, results: dict[int, bytes]) -> int:
        while True:
            message = self._take(batch, results)
            if isinstance(message, messages.ShardGrant) and message.batch == batch:
                return message.number

    def _take(self, batch: str, results: dict[int, bytes]) -> Any:
        """Take the next message; a result of this batch is filed, an error of it raised."""
        while True:
            try:
                message = self._pipe.inbox.get(timeout=0.2)
                break
            except queue.Empty:
                self.check()
        if isinstance(message, messages.ShardResult) and message.batch == batch:
            if message.error is not None:
                raise SchedulerError.from_info(message.error)
            results[message.number] = message.payload
        return message


def _as_error(
    error: BaseException, what: str, log: Callable[[messages.LogLine], None]
) -> SchedulerError:
    """Return an exception as an error for the daemon; log a fault of ours with its traceback."""
    if isinstance(error, SchedulerError):
        return error
    if isinstance(error, MemoryError):
        return SchedulerError(
            ErrorCode.OUT_OF_MEMORY,
            f"{what} ran out of memory",
            hint="Nothing was changed. Use a larger machine, or raise SCHEDD_WORKER_MEMORY_MB.",
        )
    if sqlite_files.is_disk_full(error):
        return SchedulerError(
            ErrorCode.DISK_FULL,
            f"no space for the working files of {what}: {error}",
            hint="Free memory (/dev/shm) or space in the data folder; the organization's file is "
            "unchanged.",
        )
    log(
        messages.LogLine(
            "error",
            "internal error",
            {"what": what, "traceback": "".join(traceback.format_exception(error))},
        )
    )
    return SchedulerError(
        ErrorCode.INTERNAL,
        f"{type(error).__name__} in {what}: {error}",
        hint="This is a fault of the scheduler; see the daemon's log. The file is unchanged.",
    )


def run_worker(connection: Connection) -> None:
    """Run jobs and shards until the daemon stops this worker or is gone."""
    pipe = _Pipe(connection)
    threading.Thread(target=pipe.read_forever, name="pipe", daemon=True).start()
    pipe.send(messages.Ready())
    while True:
        message = pipe.inbox.get()
        if isinstance(message, messages.Stop):
            os._exit(0)
        if isinstance(message, messages.RunJob):
            _run_job(pipe, message)
        elif isinstance(message, messages.RunShard):
            _run_shard(pipe, message)


def _run_job(pipe: _Pipe, job: messages.RunJob) -> None:
    context = WorkerContext(pipe, job)
    try:
        result = run_job(job.spec, Path(job.database), job.defaults_toml, context)
        pipe.send(messages.JobDone(job.job_id, result=result))
    except Exception as error:  # noqa: BLE001 - whatever happens ends this job, not the worker
        cause = _as_error(error, f"job {job.job_id}", pipe.send)
        pipe.send(messages.JobDone(job.job_id, error=cause.info()))
    pipe.on_cancel = None
    pipe.cancelled.discard(job.job_id)


def _run_shard(pipe: _Pipe, shard: messages.RunShard) -> None:
    try:
        payload = run_task(shard.task, shard.payload, lambda: None)
        pipe.send(messages.ShardDone(shard.batch, shard.number, payload))
    except Exception as error:  # noqa: BLE001 - whatever happens ends this shard, not the worker
        cause = _as_error(error, f"{shard.task} of {shard.batch}", pipe.send)
        pipe.send(messages.ShardDone(shard.batch, shard.number, error=cause.info()))
