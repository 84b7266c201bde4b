"""The pool of worker processes.

Starts them, gives them jobs and shards of jobs, and replaces workers that crash.

Workers are started by multiprocessing's fork server, a process of its own without threads or
sockets, so nothing of the daemon is inherited. All methods run in the daemon's event loop.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import structlog

from schedproto import ErrorCode, ErrorInfo, RunResult, SchedulerError

from . import messages
from .child_output import ChildOutput
from .entry import PRELOAD, worker_main

#: Tries of a shard whose worker crashes.
SHARD_TRIES = 3
#: Give up after this many startup crashes.
START_TRIES = 5
MAX_WORKERS = 32


class WorkerDiedError(Exception):
    """The worker of a job crashed; `exit_code` is negative for a signal."""

    def __init__(self, exit_code: int | None) -> None:
        super().__init__(f"exit code {exit_code}")
        self.exit_code = exit_code


@dataclass
class Batch:
    """Shards of one job that are to be run."""

    name: str
    coordinator: Worker
    task: str
    payloads: list[bytes]
    helpers: int
    waiting: deque[int] = field(default_factory=deque)
    running: dict[int, Worker] = field(default_factory=dict)
    tries: dict[int, int] = field(default_factory=dict)


@dataclass(eq=False)
class Worker:
    """One process and what it does: idle, running a job, or running a shard of one."""

    process: ForkServerProcess
    connection: Connection
    ready: bool = False
    job: _RunningJob | None = None
    shard: tuple[Batch, int] | None = None
    stopping: bool = False

    @property
    def idle(self) -> bool:
        """Return whether it can be given work."""
        return self.ready and self.job is None and self.shard is None and not self.stopping

    @property
    def job_id(self) -> str | None:
        """Return the job that it runs, or runs a part of."""
        if self.job is not None:
            return self.job.job_id
        # The name of a batch begins with that of the run, `JOB.ATTEMPT`.
        return None if self.shard is None else self.shard[0].name.partition(".")[0]

    def send(self, message: Any) -> None:
        """Send; a dead worker is noticed by its sentinel."""
        try:
            self.connection.send_bytes(messages.encode(message))
        except OSError:
            return


@dataclass
class _RunningJob:
    job_id: str
    done: asyncio.Future[RunResult]
    on_progress: Callable[[messages.Progressed], None]
    workers: int


class Pool:
    """`size` workers, more while a job asks for more.

    `on_idle` is called whenever a job could start.   memory_bytes: the limit of a worker's memory.

        pool = Pool(4, alive_file, on_idle=service.start_next)
        pool.start()
        if pool.can_start:
            result = await pool.run_job(job, workers=2, on_progress=print)
        await pool.close(timeout_s=5)
    """

    def __init__(
        self,
        size: int,
        alive_file: Path,
        on_idle: Callable[[], None],
        log: Any = None,
        memory_bytes: int | None = None,
    ) -> None:
        self.size = size
        self.workers: list[Worker] = []
        self._batches: list[Batch] = []
        self._alive_file = alive_file
        self._memory_bytes = memory_bytes
        self._on_idle = on_idle
        self._log = log or structlog.get_logger()
        self._closing = False
        self._failed_starts = 0
        #: worker crashes
        self.deaths = 0
        self._empty = asyncio.Event()
        self._context = multiprocessing.get_context("forkserver")
        self._child_output = ChildOutput(self._log)

    # Life -----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the fork server and the workers.

        Returns at once; they become ready later.
        """
        self._context.set_forkserver_preload(list(PRELOAD))
        for _ in range(self.size):
            self._add()

    def _add(self) -> None:
        ours, theirs = self._context.Pipe(duplex=True)
        process = self._context.Process(
            target=worker_main,
            args=(theirs, str(self._alive_file), self._memory_bytes),
            name="schedd-worker",
            daemon=True,
        )
        with self._child_output.as_standard_error():
            process.start()
        theirs.close()
        worker = Worker(process, ours)
        self.workers.append(worker)
        self._empty.clear()
        loop = asyncio.get_running_loop()
        loop.add_reader(ours.fileno(), self._readable, worker)
        loop.add_reader(process.sentinel, self._process_ended, worker)

    async def close(self, timeout_s: float = 5.0) -> None:
        """Stop all workers; those that do not end in time are killed."""
        self._closing = True
        for worker in self.workers:
            worker.stopping = True
            worker.send(messages.Stop())
        with suppress(TimeoutError):
            await asyncio.wait_for(self._empty.wait(), timeout_s if self.workers else 0.0)
        for worker in list(self.workers):
            self.kill(worker)
        if self.workers:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), 5.0)
        self._child_output.close()

    def kill(self, worker: Worker) -> None:
        """Kill a worker; the next program that opens the file rolls its transaction back."""
        if worker.process.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(worker.process.pid, signal.SIGKILL)

    @property
    def busy(self) -> int:
        """Return how many workers are busy."""
        return sum(1 for worker in self.workers if worker.job or worker.shard)

    @property
    def can_start(self) -> bool:
        """Return whether a job could start now."""
        return any(worker.idle for worker in self.workers)

    # Jobs -----------------------------------------------------------------------------------------

    def run_job(
        self,
        job: messages.RunJob,
        workers: int | None,
        on_progress: Callable[[messages.Progressed], None],
    ) -> asyncio.Future[RunResult]:
        """Give a job to an idle worker.

        The future has the result, `SchedulerError` or `WorkerDiedError`.
        """
        worker = next(worker for worker in self.workers if worker.idle)
        done: asyncio.Future[RunResult] = asyncio.get_running_loop().create_future()
        worker.job = _RunningJob(job.job_id, done, on_progress, workers or 1)
        worker.send(job)
        self._resize()
        return done

    def cancel(self, job_id: str) -> None:
        """Ask the coordinator of a job to end it."""
        worker = self._coordinator_of(job_id)
        if worker is not None:
            worker.send(messages.CancelJob(job_id))

    def kill_job(self, job_id: str) -> bool:
        """Kill all workers that run a job or a part of it; returns whether there were any.

        Another worker's part of a job only reads the file, and its results are not wanted any more.
        """
        found = [worker for worker in self.workers if worker.job_id == job_id]
        for worker in found:
            self.kill(worker)
        return bool(found)

    def _coordinator_of(self, job_id: str) -> Worker | None:
        return next((w for w in self.workers if w.job is not None and w.job.job_id == job_id), None)

    def _resize(self) -> None:
        """Have as many workers as the pool's size or the most demanding job asks for."""
        if self._closing:
            return
        wanted = max([self.size, *(w.job.workers for w in self.workers if w.job)])
        alive = [worker for worker in self.workers if not worker.stopping]
        for _ in range(min(wanted, MAX_WORKERS) - len(alive)):
            self._add()
        surplus = len(alive) - wanted
        for worker in reversed(alive):
            if surplus <= 0:
                break
            if worker.idle:
                worker.stopping = True
                worker.send(messages.Stop())
                surplus -= 1

    # Messages -------------------------------------------------------------------------------------

    def _readable(self, worker: Worker) -> None:
        try:
            while worker.connection.poll():
                self._handle(worker, messages.decode_from_worker(worker.connection.recv_bytes()))
        except (EOFError, OSError):
            asyncio.get_running_loop().remove_reader(worker.connection.fileno())

    def _handle(self, worker: Worker, message: messages.FromWorker) -> None:
        if isinstance(message, messages.Ready):
            worker.ready = True
            self._failed_starts = 0
            self._dispatch()
        elif isinstance(message, messages.Progressed):
            if worker.job is not None and worker.job.job_id == message.job_id:
                worker.job.on_progress(message)
        elif isinstance(message, messages.ShardBatch):
            batch = Batch(message.batch, worker, message.task, message.payloads, message.helpers)
            batch.waiting.extend(range(len(message.payloads)))
            self._batches.append(batch)
            self._dispatch()
        elif isinstance(message, messages.ShardRequest):
            self._grant_shard(worker, message.batch)
        elif isinstance(message, messages.ShardDone):
            self._shard_done(worker, message)
        elif isinstance(message, messages.JobDone):
            self._job_done(worker, message)
        else:
            log = self._log.bind(**message.fields)
            getattr(log, message.level)(message.event)

    def _grant_shard(self, worker: Worker, name: str) -> None:
        batch = next((b for b in self._batches if b.name == name), None)
        number = batch.waiting.popleft() if batch is not None and batch.waiting else -1
        worker.send(messages.ShardGrant(name, number))

    def _shard_done(self, worker: Worker, message: messages.ShardDone) -> None:
        shard, worker.shard = worker.shard, None
        if shard is not None:
            batch, number = shard
            batch.running.pop(number, None)
            self._replace_if_exhausted(worker, message.error)
            if batch in self._batches:
                batch.coordinator.send(
                    messages.ShardResult(batch.name, number, message.payload, message.error)
                )
        self._dispatch()

    def _job_done(self, worker: Worker, message: messages.JobDone) -> None:
        job, worker.job = worker.job, None
        self._forget_batches(worker)
        self._replace_if_exhausted(worker, message.error)
        if job is not None and not job.done.done():
            if message.result is not None:
                job.done.set_result(message.result)
            else:
                error = message.error or ErrorInfo(
                    code=ErrorCode.INTERNAL, message="no result and no error"
                )
                job.done.set_exception(SchedulerError.from_info(error))
        self._resize()
        self._dispatch()

    def _replace_if_exhausted(self, worker: Worker, error: ErrorInfo | None) -> None:
        """Replace a worker that ran out of memory: its memory may be fragmented or not be freed."""
        if error is not None and error.code == ErrorCode.OUT_OF_MEMORY and not worker.stopping:
            worker.stopping = True
            worker.send(messages.Stop())
            self._resize()

    def _forget_batches(self, coordinator: Worker) -> None:
        self._batches = [batch for batch in self._batches if batch.coordinator is not coordinator]

    def _dispatch(self) -> None:
        """Give shards to idle workers, those of the oldest batch first; then let a job start."""
        for batch in self._batches:
            for worker in self.workers:
                if not batch.waiting or len(batch.running) >= batch.helpers:
                    break
                if worker.idle:
                    number = batch.waiting.popleft()
                    batch.running[number] = worker
                    worker.shard = (batch, number)
                    worker.send(
                        messages.RunShard(batch.name, number, batch.task, batch.payloads[number])
                    )
        if self.can_start and not self._closing:
            self._on_idle()

    # Deaths ---------------------------------------------------------------------------------------

    def _process_ended(self, worker: Worker) -> None:
        """Clean up after a worker that has ended, expected or not."""
        self._readable(worker)  # its last messages
        loop = asyncio.get_running_loop()
        loop.remove_reader(worker.process.sentinel)
        loop.remove_reader(worker.connection.fileno())
        worker.connection.close()
        worker.process.join(1)
        exit_code = worker.process.exitcode
        self.workers.remove(worker)
        if not self.workers:
            self._empty.set()
        if worker.stopping and worker.job is None and worker.shard is None:
            return
        self.deaths += 1
        self._forget_batches(worker)
        if worker.shard is not None:
            self._retry(*worker.shard, exit_code)
        if worker.job is not None and not worker.job.done.done():
            worker.job.done.set_exception(WorkerDiedError(exit_code))
        self._replace_crashed(worker)
        self._log.warning("worker died", pid=worker.process.pid, exit_code=exit_code)

    def _replace_crashed(self, worker: Worker) -> None:
        """Start another worker, unless none can be started."""
        if not worker.ready:
            self._failed_starts += 1
        if self._failed_starts < START_TRIES:
            self._resize()
        elif not self._closing:
            self._closing = True
            self._log.error("workers cannot be started", tries=self._failed_starts)
        self._dispatch()

    def _retry(self, batch: Batch, number: int, exit_code: int | None) -> None:
        batch.running.pop(number, None)
        batch.tries[number] = batch.tries.get(number, 1) + 1
        if batch.tries[number] <= SHARD_TRIES:
            batch.waiting.appendleft(number)
            # The coordinator may know already that nothing is left; if no other worker is idle, a
            # new one runs it.
            return
        error = SchedulerError(
            ErrorCode.WORKER_DIED,
            f"a worker crashed {SHARD_TRIES} times on one part of the job (exit code {exit_code})",
            hint="The machine may be out of memory; use fewer workers or a larger machine.",
        )
        batch.coordinator.send(messages.ShardResult(batch.name, number, error=error.info()))
