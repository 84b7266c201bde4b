"""A worker process: leads jobs and runs pieces of others' jobs. Knows no socket and no journal.

The main thread works; a second thread reads the pipe, so that a job can be cancelled while SQLite
or numpy are busy, and so that the process ends at once when the daemon does.
"""

from __future__ import annotations

import datetime as dt
import fcntl
import importlib
import os
import queue
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from schedd.hardening import protect_memory
from schedproto import ErrorCode, SchedulerError, sqlite_files

from . import messages

#: Progress is reported at most so often.
PROGRESS_INTERVAL_S = 0.1
#: The exit status of a worker whose daemon has gone.
ORPHANED = 75


class _Link:
    """The worker's end of the pipe.

    What arrives for the main thread, and which jobs are cancelled.
    """

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
                        # What it interrupts may have ended a moment ago.
                        with suppress(Exception):
                            callback()
                else:
                    self.inbox.put(message)
        except (EOFError, OSError):
            # The daemon is gone. Whatever is under way is one transaction, which SQLite rolls back.
            os._exit(ORPHANED)


class WorkerContext:
    """What a job's stages may ask of this process.

    `contract.RunContext` says what each call does.
    """

    def __init__(self, link: _Link, job: messages.LeadJob, run_task: Callable[..., bytes]) -> None:
        self._link, self._job, self._run_task = link, job, run_task
        self.run_id = job.run_id
        self.default_workers = job.default_workers
        self.scratch = Path(job.scratch)
        self.replica = job.replica
        # Loaded here and not above, as the daemon itself imports this module and does without
        # numpy.
        from schedd.backups.backups import Backups  # noqa: PLC0415

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
        self._link.send(messages.Progressed(self._job.job_id, stage, fraction, done, total))

    def check(self) -> None:
        """Raise if the job was cancelled."""
        if self._job.job_id in self._link.cancelled:
            raise SchedulerError(
                ErrorCode.CANCELLED,
                "the job was cancelled",
                hint="Nothing was changed. Submit it again if needed.",
            )

    def on_cancel(self, callback: Callable[[], None] | None) -> None:
        """Have a callback called by the pipe's thread when the job is cancelled."""
        self._link.on_cancel = callback

    def shards(self, task: str, payloads: Sequence[bytes], workers: int) -> Iterator[bytes]:
        """Run pieces of the job here and in idle workers, in order."""
        if workers <= 1 or len(payloads) <= 1:
            for payload in payloads:
                yield self._run_task(task, payload, self.check)
            return
        self._batches += 1
        batch = f"{self.run_id}/{self._batches}"
        results: dict[int, bytes] = {}
        self._link.send(messages.Offer(batch, task, list(payloads), workers - 1))
        left = True
        for number in range(len(payloads)):
            while number not in results:
                self.check()
                if left:
                    self._link.send(messages.Claim(batch))
                    granted = self._await_grant(batch, results)
                    left = granted >= 0
                    if left:
                        results[granted] = self._run_task(task, payloads[granted], self.check)
                else:
                    self._take(batch, results)
            yield results.pop(number)

    def _await_grant(self, batch: str, results: dict[int, bytes]) -> int:
        while True:
            message = self._take(batch, results)
            if isinstance(message, messages.Granted) and message.batch == batch:
                return message.number

    def _take(self, batch: str, results: dict[int, bytes]) -> Any:
        """Take the next message; a result of this batch is filed, an error of it raised."""
        while True:
            try:
                message = self._link.inbox.get(timeout=0.2)
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
    """Return an exception as an error that can travel.

    A fault of ours is logged with its traceback.
    """
    if isinstance(error, SchedulerError):
        return error
    if isinstance(error, MemoryError):
        return SchedulerError(
            ErrorCode.OUT_OF_MEMORY, f"{what} ran out of memory", hint="Use a larger machine."
        )
    if sqlite_files.is_disk_full(error):
        return SchedulerError(
            ErrorCode.DISK_FULL,
            f"no space for the working files of {what}: {error}",
            hint="Free memory (/dev/shm) or space in the data folder; the organization's file is unchanged.",
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


def worker_main(connection: Connection, runner: str, tasks: str, alive_file: str) -> None:
    """Run one worker until it is stopped or the daemon is gone.

    runner, tasks: the modules with `run_job` and `run_task`.   alive_file: held with a shared lock,
    by which the next daemon of the folder can tell that all workers of a killed one have ended.
    """
    # The terminal's Ctrl-C goes to the whole group; the daemon decides what becomes of its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    protect_memory()
    alive = os.open(alive_file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    fcntl.flock(alive, fcntl.LOCK_SH)
    link = _Link(connection)
    threading.Thread(target=link.read_forever, name="pipe", daemon=True).start()
    run_job = importlib.import_module(runner).run_job
    run_task = importlib.import_module(tasks).run_task
    link.send(messages.Ready())
    while True:
        message = link.inbox.get()
        if isinstance(message, messages.Stop):
            os._exit(0)
        if isinstance(message, messages.LeadJob):
            _lead(link, message, run_job, run_task)
        elif isinstance(message, messages.RunShard):
            _shard(link, message, run_task)


def _lead(
    link: _Link, job: messages.LeadJob, run_job: Callable[..., Any], run_task: Callable[..., bytes]
) -> None:
    context = WorkerContext(link, job, run_task)
    try:
        result = run_job(job.spec, Path(job.database), job.defaults_toml, context)
        link.send(messages.JobDone(job.job_id, result=result))
    except Exception as error:  # noqa: BLE001 - whatever happens ends this job, not the worker
        cause = _as_error(error, f"job {job.job_id}", link.send)
        link.send(messages.JobDone(job.job_id, error=cause.info()))
    link.on_cancel = None
    link.cancelled.discard(job.job_id)


def _shard(link: _Link, shard: messages.RunShard, run_task: Callable[..., bytes]) -> None:
    try:
        payload = run_task(shard.task, shard.payload, lambda: None)
        link.send(messages.ShardDone(shard.batch, shard.number, payload))
    except Exception as error:  # noqa: BLE001 - whatever happens ends this piece, not the worker
        cause = _as_error(error, f"{shard.task} of {shard.batch}", link.send)
        link.send(messages.ShardDone(shard.batch, shard.number, error=cause.info()))
