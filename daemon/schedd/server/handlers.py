"""Handlers of the requests about the daemon itself and its jobs.

All methods return at once, in the event loop. Each is named for the tag of its request.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime

from schedd.jobs.service import JobService
from schedproto import ErrorCode, SchedulerError, __version__
from schedproto.codec import MAX_REQUEST_BYTES
from schedproto.messages import (
    CAPABILITIES,
    PROTOCOL_OLDEST,
    PROTOCOL_VERSION,
    Cancel,
    GetHealth,
    GetJob,
    Health,
    Hello,
    JobList,
    JobReply,
    ListJobs,
    Submit,
    Welcome,
)

from .idle import IdleTimer
from .watches import HEARTBEAT_S


class DaemonRequestHandler:
    """Handles requests about the daemon: versions, capabilities, health.

    lost_log_lines: returns how many log lines could not be written.
    """

    def __init__(
        self,
        service: JobService,
        idle: IdleTimer,
        queue_limit: int,
        lost_log_lines: Callable[[], int],
    ) -> None:
        self.boot_id = secrets.token_hex(8)
        self._service = service
        self._idle = idle
        self._queue_limit = queue_limit
        self._lost_log_lines = lost_log_lines
        self._started_at = datetime.now(UTC)
        self._started = time.monotonic()

    def hello(self, request: Hello) -> Welcome:
        """Agree on a protocol version and announce the capabilities."""
        if request.protocol < PROTOCOL_OLDEST or request.protocol_oldest > PROTOCOL_VERSION:
            raise SchedulerError(
                ErrorCode.UNSUPPORTED_PROTOCOL,
                f"the client speaks protocol {request.protocol_oldest} to {request.protocol}, "
                f"this daemon {PROTOCOL_OLDEST} to {PROTOCOL_VERSION}",
                hint="Upgrade the older of the two.",
            )
        return Welcome(
            id=request.id,
            daemon_version=__version__,
            protocol=min(request.protocol, PROTOCOL_VERSION),
            boot_id=self.boot_id,
            pid=os.getpid(),
            capabilities=list(CAPABILITIES),
            heartbeat_s=HEARTBEAT_S,
            max_message_bytes=MAX_REQUEST_BYTES,
            data_dir=str(self._service.data_dir),
        )

    def get_health(self, request: GetHealth) -> Health:
        """Return the daemon's state."""
        pool = self._service.pool
        stats = os.statvfs(self._service.data_dir)
        return Health(
            id=request.id,
            status="serving" if self._service.accepting else "draining",
            daemon_version=__version__,
            boot_id=self.boot_id,
            started_at=self._started_at,
            uptime_s=round(time.monotonic() - self._started, 3),
            jobs=self._service.journal.counts(),
            workers=len(pool.workers) if pool else 0,
            workers_busy=pool.busy if pool else 0,
            queue_limit=self._queue_limit,
            idle_exit_in_s=self._idle.exit_in_s,
            free_bytes=stats.f_bavail * stats.f_frsize,
            jobs_unwritten=self._service.unwritten,
            log_lines_lost=self._lost_log_lines(),
        )


class JobRequestHandler:
    """Handles requests about jobs by calls of the `JobService`."""

    def __init__(self, service: JobService) -> None:
        self._service = service

    def submit(self, request: Submit) -> JobReply:
        """Accept a job; the reply is sent after the job is on disk."""
        job, duplicate = self._service.submit(request.spec, request.idempotency_key)
        return JobReply(id=request.id, job=job, duplicate=duplicate)

    def get_job(self, request: GetJob) -> JobReply:
        """Return a job."""
        return JobReply(id=request.id, job=self._service.job(request.job_id))

    def list_jobs(self, request: ListJobs) -> JobList:
        """Return a page of jobs, newest first."""
        jobs, more = self._service.page(
            request.organization, request.states, request.limit, request.before
        )
        return JobList(id=request.id, jobs=jobs, more=more)

    def cancel(self, request: Cancel) -> JobReply:
        """Cancel a job; returns it as it is then."""
        return JobReply(id=request.id, job=self._service.cancel(request.job_id))
