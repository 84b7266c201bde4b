"""Job queue: accepts, orders, starts, cancels and finishes jobs.

At most one job of an organization runs; its others wait in the order of their submission. Jobs of
different organizations run concurrently, as workers are free. Each change of state is written to
the journal before it is reported, and takes effect before it is logged.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import structlog

from schedd.replica.location import BucketLocation
from schedd.run.specification import check_spec
from schedd.settings import Settings
from schedd.store.connection import resolve_database
from schedd.workers import messages
from schedd.workers.pool import Pool, WorkerDiedError
from schedproto import (
    ErrorCode,
    ErrorInfo,
    Job,
    JobSpec,
    JobState,
    Progress,
    RunResult,
    SchedulerError,
)
from schedproto.ids import new_job_id
from schedproto.layout import backup_folder, database_path

from .ends import JOURNAL_RETRY_S, JobEnds
from .journal import Journal
from .subscriptions import Subscriptions

#: Time for a cancelled job to end before its worker is killed.
CANCEL_GRACE_S = 5.0
#: Time that jobs wait for a journal that cannot be written, for example on a full disk. After that,
#: they end with the error.
JOURNAL_WAIT_S = 10.0
#: Longest idempotency key.
MAX_KEY_LENGTH = 200


class JobService:
    """The jobs of one daemon. All methods run in its event loop and return at once.

    scratch: a folder for the working files of running jobs.   price_per_s: US dollars a second of
    this machine, if known.   replica: the bucket that contains the organizations, if there is one.
    defaults_toml: the text of the daemon's configuration file.

    The service starts jobs once `pool` is set. Subscribe to `on_job_changed` (the id of a job whose
    state or progress has changed) and `on_job_finished` (a job that has just ended).

        service = JobService(settings, scratch, journal)
        unsubscribe = service.on_job_finished.subscribe(lambda job: print(job.state))
        job, duplicate = service.submit(JobSpec(organization="org-123"), key=None)
    """

    def __init__(
        self,
        settings: Settings,
        scratch: Path,
        journal: Journal,
        *,
        price_per_s: float | None = None,
        replica: BucketLocation | None = None,
        defaults_toml: str = "",
    ) -> None:
        self.data_dir = settings.data.resolve()
        self.journal = journal
        self.pool: Pool | None = None
        self.on_job_changed: Subscriptions[str] = Subscriptions()
        self.on_job_finished: Subscriptions[Job] = Subscriptions()
        self.accepting = True

        self._settings = settings
        self._scratch = scratch
        self._price_per_s = price_per_s
        self._replica = replica
        self._defaults = defaults_toml

        self._queue: list[Job] = []
        self._running: dict[str, Job] = {}
        self._progress: dict[str, Progress] = {}
        #: organizations none of whose jobs may start
        self._reserved: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._followers: set[asyncio.Task[None]] = set()
        self._ends = JobEnds(journal, settings.keep_jobs)
        #: since when no job could be started, as the journal cannot be written
        self._unwritable_since: float | None = None
        self._starts_later = False
        #: running jobs -> the timers of their time limits; the jobs that have exceeded theirs
        self._limits: dict[str, asyncio.TimerHandle] = {}
        self._too_slow: set[str] = set()
        self._stopping = False
        self._log = structlog.get_logger()

    def resume(self) -> None:
        """Queue the unfinished jobs of an earlier daemon; those that were running start again."""
        self._queue = self.journal.unfinished()
        for job in self._queue:
            if job.state == JobState.RUNNING:
                self.journal.requeued(job.job_id)
            self._log.info(
                "job taken up",
                job_id=job.job_id,
                organization=job.spec.organization,
                state=job.state,
            )

    @property
    def active(self) -> bool:
        """Return whether a job waits or runs."""
        return bool(self._queue or self._running)

    @property
    def running(self) -> int:
        """Return how many jobs run."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Return how many jobs wait."""
        return len(self._queue)

    @property
    def unwritten(self) -> int:
        """Return how many jobs have ended without the journal, as it cannot be written."""
        return len(self._ends)

    # Requests -------------------------------------------------------------------------------------

    def submit(self, spec: JobSpec, key: str | None) -> tuple[Job, bool]:
        """Accept a job, or return the one that was accepted under this key.

        Raises `SchedulerError`.
        """
        if key is not None and not 0 < len(key) <= MAX_KEY_LENGTH:
            raise SchedulerError(
                ErrorCode.INVALID_ARGUMENT,
                f"an idempotency key must have 1 to {MAX_KEY_LENGTH} characters",
            )
        check_spec(spec)
        resolve_database(self.data_dir, spec.organization)
        if not self.accepting:
            raise SchedulerError(
                ErrorCode.SHUTTING_DOWN,
                "the daemon is shutting down",
                hint="Submit again after the restart.",
            )
        job_id = new_job_id()
        self._check_limits(spec.organization, key)
        job, duplicate = self.journal.add(job_id, spec, key)
        if not duplicate:
            self._queue.append(job)
            self._log.info("job accepted", job_id=job_id, organization=spec.organization)
            self.start_next()
        return self.job(job.job_id), duplicate

    def _check_limits(self, organization: str, key: str | None) -> None:
        if key is not None and self.journal.knows(key):
            return
        waiting = sum(1 for job in self._queue if job.spec.organization == organization)
        if len(self._queue) >= self._settings.queue_limit:
            what, limit = "the queue", self._settings.queue_limit
        elif waiting >= self._settings.organization_queue_limit:
            what, limit = f"the queue of {organization}", self._settings.organization_queue_limit
        else:
            return
        raise SchedulerError(
            ErrorCode.QUEUE_FULL,
            f"{what} is full ({limit} jobs)",
            hint="Wait until some jobs end, or cancel some (`schedctl list --state queued`).",
            details={"limit": str(limit)},
        )

    def job(self, job_id: str) -> Job:
        """Return a job with its progress and its position in the queue."""
        if (ended := self._ends.get(job_id)) is not None:
            return ended
        job = self.journal.get(job_id)
        position = None
        if job.state == JobState.QUEUED:
            position = next(
                (i for i, waiting in enumerate(self._queue) if waiting.job_id == job_id), None
            )
        return msgspec.structs.replace(job, progress=self._progress.get(job_id), position=position)

    def page(
        self, organization: str | None, states: list[str], limit: int, before: str | None
    ) -> tuple[list[Job], bool]:
        """Return jobs, newest first, and whether there are more."""
        if not 1 <= limit <= 1000:
            raise SchedulerError(
                ErrorCode.INVALID_ARGUMENT,
                f"limit = {limit} is out of range",
                hint="Use 1 to 1000.",
            )
        unknown = [state for state in states if state not in set(JobState)]
        if unknown:
            raise SchedulerError(
                ErrorCode.INVALID_ARGUMENT,
                f"unknown state {unknown[0]!r:.40}",
                hint=f"States: {', '.join(JobState)}.",
            )
        jobs, more = self.journal.page(organization, states, limit, before)
        return [
            msgspec.structs.replace(job, progress=self._progress.get(job.job_id)) for job in jobs
        ], more

    def cancel(self, job_id: str) -> Job:
        """Cancel a job: at once while it waits, within `CANCEL_GRACE_S` while it runs.

        A job that has ended stays as it is.
        """
        job = self.job(job_id)
        if job.final:
            return job
        self.journal.cancel_requested(job_id)
        if job_id in self._running:
            if self.pool is not None:
                self.pool.cancel(job_id)
            self._spawn(self._kill_after_grace(job_id))
            self._log.info("job to be cancelled", job_id=job_id)
        else:
            self._queue = [waiting for waiting in self._queue if waiting.job_id != job_id]
            self._finish(job, JobState.CANCELLED, error=_cancelled())
        return self.job(job_id)

    @contextmanager
    def reserve(self, organization: str) -> Iterator[None]:
        """Reserve an organization's file: no job of it starts.

        Raises `SchedulerError` (`organization_busy`) while one is queued or running.
        """
        busy = {
            job.spec.organization for job in (*self._queue, *self._running.values())
        } | self._reserved
        if organization in busy:
            raise SchedulerError(
                ErrorCode.ORGANIZATION_BUSY,
                f"a job of {organization} is queued or running, or its file is being replaced",
                hint="Wait until it ends, or cancel it (`schedctl list`).",
            )
        self._reserved.add(organization)
        try:
            yield
        finally:
            self._reserved.discard(organization)
            self.start_next()

    async def _kill_after_grace(self, job_id: str) -> None:
        await asyncio.sleep(CANCEL_GRACE_S)
        # Other workers may still run a part of a job that has ended.
        if self.pool is not None and self.pool.kill_job(job_id):
            self._log.warning("job does not end; its workers are killed", job_id=job_id)

    def _exceed(self, job_id: str) -> None:
        """End a job that has reached its time limit."""
        if job_id in self._running and self.pool is not None:
            self._too_slow.add(job_id)
            self.pool.cancel(job_id)
            self._spawn(self._kill_after_grace(job_id))
            self._log.warning(
                "job exceeds its time limit", job_id=job_id, max_run_s=self._settings.max_run_s
            )

    # Running --------------------------------------------------------------------------------------

    def start_next(self) -> None:
        """Start queued jobs while workers are idle; the pool calls it when one becomes idle."""
        while self.pool is not None and self.pool.can_start and not self._stopping:
            active = {job.spec.organization for job in self._running.values()} | self._reserved
            job = next((job for job in self._queue if job.spec.organization not in active), None)
            if job is None:
                return
            try:
                attempt = self.journal.started(job.job_id)
            except SchedulerError as error:
                if self._waits_for_journal(error):
                    return
                self._queue.remove(job)
                self._finish(job, JobState.FAILED, error=error.info())
                continue
            self._unwritable_since = None
            self._queue.remove(job)
            self._running[job.job_id] = job
            self._start(job, attempt, self.pool)

    def _waits_for_journal(self, error: SchedulerError) -> bool:
        """Return whether jobs still wait for the journal, and then try again later."""
        now = time.monotonic()
        if self._unwritable_since is None:
            self._unwritable_since = now
            self._log.error(
                "the journal cannot be written; waiting", code=str(error.code), error=error.message
            )
        waits = now - self._unwritable_since < JOURNAL_WAIT_S
        if waits and not self._starts_later:
            self._starts_later = True
            self._spawn(self._start_later())
        return waits

    async def _start_later(self) -> None:
        await asyncio.sleep(JOURNAL_RETRY_S)
        self._starts_later = False
        self.start_next()

    def _start(self, job: Job, attempt: int, pool: Pool) -> None:
        run_id = f"{job.job_id}.{attempt}"
        folder = self._scratch / run_id
        with suppress(OSError):
            # If it cannot be made, the job itself fails and says so.
            folder.mkdir(parents=True, exist_ok=True)
        message = self._message(job, run_id, folder)
        done = pool.run_job(message, job.spec.workers, self._on_progress)
        self._limits[job.job_id] = asyncio.get_running_loop().call_later(
            self._settings.max_run_s, self._exceed, job.job_id
        )
        follower = self._spawn(self._follow(job, run_id, folder, done))
        self._followers.add(follower)
        follower.add_done_callback(self._followers.discard)
        self.on_job_changed.notify(job.job_id)
        self._log.info(
            "job begins", job_id=job.job_id, run_id=run_id, organization=job.spec.organization
        )

    def _message(self, job: Job, run_id: str, folder: Path) -> messages.RunJob:
        organization = job.spec.organization
        return messages.RunJob(
            job_id=job.job_id,
            run_id=run_id,
            spec=job.spec,
            database=str(database_path(self.data_dir, organization)),
            defaults_toml=self._defaults,
            scratch=str(folder),
            default_workers=self._settings.workers,
            backup_folder=str(backup_folder(self.data_dir, organization)),
            backup_days=self._settings.backup_days,
            replica=self._replica,
        )

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _on_progress(self, message: messages.Progressed) -> None:
        self._progress[message.job_id] = Progress(
            stage=message.stage,
            fraction=message.fraction,
            contacts_done=message.done,
            contacts_total=message.total,
        )
        self.on_job_changed.notify(message.job_id)

    async def _follow(
        self, job: Job, run_id: str, folder: Path, done: asyncio.Future[RunResult]
    ) -> None:
        log = self._log.bind(job_id=job.job_id, run_id=run_id, organization=job.spec.organization)
        try:
            result = await done
        except SchedulerError as error:
            if error.code == ErrorCode.CANCELLED and job.job_id in self._too_slow:
                error = self._time_limit_error()
            state = JobState.CANCELLED if error.code == ErrorCode.CANCELLED else JobState.FAILED
            self._remove_running(job)
            self._finish(job, state, error=error.info())
            log.warning("job ended", state=state.value, code=str(error.code), error=error.message)
        except WorkerDiedError as error:
            late = job.job_id in self._too_slow
            self._remove_running(job)
            if late:
                self._finish(job, JobState.FAILED, error=self._time_limit_error().info())
            else:
                self._worker_died(job, error, log)
        else:
            self._remove_running(job)
            self._succeeded(job, result, log)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            self.start_next()

    def _succeeded(self, job: Job, result: RunResult, log: structlog.stdlib.BoundLogger) -> None:
        if self._price_per_s is not None:
            result = msgspec.structs.replace(result, cost_usd=result.wall_s * self._price_per_s)
        self._finish(job, JobState.SUCCEEDED, result=result)
        log.info(
            "job ended",
            state="succeeded",
            contacts=result.contacts,
            inserted=result.rows_inserted,
            updated=result.rows_updated,
            deleted=result.rows_deleted,
            unchanged=result.rows_unchanged,
            wall_s=result.wall_s,
        )

    def _remove_running(self, job: Job) -> None:
        self._running.pop(job.job_id, None)
        self._progress.pop(job.job_id, None)
        self._too_slow.discard(job.job_id)
        timer = self._limits.pop(job.job_id, None)
        if timer is not None:
            timer.cancel()

    def _time_limit_error(self) -> SchedulerError:
        limit = f"{self._settings.max_run_s:g}"
        return SchedulerError(
            ErrorCode.TOO_SLOW,
            f"the job took longer than {limit} s and was ended",
            hint="Nothing was changed. Look for a trigger, generated column, index or CHECK "
            "constraint in the file that is slow or never ends. If the file is only large or the "
            "machine slow, raise SCHEDD_MAX_RUN.",
            details={"limit_s": limit},
        )

    def _worker_died(
        self, job: Job, error: WorkerDiedError, log: structlog.stdlib.BoundLogger
    ) -> None:
        try:
            if self._stopping:
                self.journal.requeued(job.job_id)
                return
            if self.journal.get(job.job_id).cancel_requested:
                self._finish(job, JobState.CANCELLED, error=_cancelled())
                return
            deaths = self.journal.worker_died(job.job_id)
        except SchedulerError as journal_error:
            self._finish(job, JobState.FAILED, error=journal_error.info())
            return
        if deaths <= self._settings.worker_retries:
            self._queue.insert(0, self.journal.get(job.job_id))
            self.on_job_changed.notify(job.job_id)
            log.warning("worker of job died", exit_code=error.exit_code, deaths=deaths)
            return
        cause = SchedulerError(
            ErrorCode.WORKER_DIED,
            f"the worker crashed {deaths} times on this job (exit code {error.exit_code})",
            hint="Nothing was changed. The machine may be out of memory; use fewer workers or a "
            "larger machine.",
        )
        self._finish(job, JobState.FAILED, error=cause.info())
        log.warning("worker of job died", exit_code=error.exit_code, deaths=deaths)

    def _finish(
        self,
        job: Job,
        state: JobState,
        result: RunResult | None = None,
        error: ErrorInfo | None = None,
    ) -> None:
        """Report the end of a job, whether or not the journal can be written."""
        self.on_job_finished.notify(self._ends.finish(job, state, result, error))
        self.on_job_changed.notify(job.job_id)

    # The end --------------------------------------------------------------------------------------

    async def drain(self, timeout_s: float) -> bool:
        """Start no more jobs and wait for the running ones; returns whether all have ended."""
        self.accepting = False
        self._stopping = True
        if self._followers:
            await asyncio.wait(self._followers, timeout=timeout_s)
        return not self._running

    def abandon(self) -> None:
        """Leave the running jobs to the next daemon; their workers are about to be killed."""
        for job_id in list(self._running):
            # Without the entry, the job counts as running, which the next daemon starts as well.
            with suppress(SchedulerError):
                self.journal.requeued(job_id)


def _cancelled() -> ErrorInfo:
    return SchedulerError(
        ErrorCode.CANCELLED, "the job was cancelled", hint="It changed nothing."
    ).info()
