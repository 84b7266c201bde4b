"""Metrics for Prometheus: the text format 0.0.4 over a small HTTP server.

The port is on the private network. Fly's scraper reads it on the machine every 15 seconds
(docs/FLY.md, section 9). A scrape does not count as activity: it never keeps the machine up. A
client of this port holds one of a few connections for a few seconds at most.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from schedd.exitcodes import ExitCode, FatalError
from schedd.jobs.service import JobService
from schedproto import Job, __version__

if TYPE_CHECKING:
    from .server import Server

#: Upper ends of the buckets of durations, in seconds: from a small file to the largest.
BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
#: Limits of a request: seconds until its reply is sent, bytes of its head, connections at a time.
REQUEST_S, MAX_HEAD_BYTES, MAX_CONNECTIONS = 5.0, 8192, 16
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

#: name -> (type, meaning); docs/OPERATIONS.md has this table.
METRICS: dict[str, tuple[str, str]] = {
    "schedd_build_info": ("gauge", "Always 1, labelled with the daemon's version."),
    "schedd_uptime_seconds": ("gauge", "Seconds since the daemon started."),
    "schedd_jobs": ("gauge", "Current jobs, by state: queued or running."),
    "schedd_jobs_total": (
        "counter",
        "Jobs that ended since the daemon started, by state and mode.",
    ),
    "schedd_job_duration_seconds": (
        "histogram",
        "Seconds from the first start of a job to its end, by mode.",
    ),
    "schedd_job_wait_seconds": ("histogram", "Seconds that a job waited before it started."),
    "schedd_rows_total": ("counter", "Plan rows by change."),
    "schedd_contacts_total": ("counter", "Contacts processed."),
    "schedd_cost_dollars_total": (
        "counter",
        "Machine cost of ended runs in US dollars, if the price is known.",
    ),
    "schedd_queue_limit": ("gauge", "Maximum queued jobs."),
    "schedd_workers": ("gauge", "Worker processes."),
    "schedd_workers_busy": ("gauge", "Busy worker processes."),
    "schedd_worker_deaths_total": ("counter", "Worker crashes."),
    "schedd_idle_exit_seconds": (
        "gauge",
        "Seconds until the daemon exits because it is idle; absent if no exit is pending.",
    ),
    "schedd_log_lines_lost_total": ("counter", "Log lines that could not be written."),
    "schedd_free_bytes": ("gauge", "Free bytes in the data folder."),
}


def split_address(text: str) -> tuple[str, int]:
    """Return host and port of `9091`, `:9091`, `0.0.0.0:9091` or `[::]:9091`.

    The settings have checked the text.
    """
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


class _Histogram:
    """Counts of durations by bucket, for each value of a label."""

    def __init__(self) -> None:
        self._counts: dict[str, list[int]] = {}
        self._sums: Counter[str] = Counter()

    def add(self, label: str, seconds: float) -> None:
        counts = self._counts.setdefault(label, [0] * (len(BUCKETS) + 1))
        counts[next((i for i, end in enumerate(BUCKETS) if seconds <= end), len(BUCKETS))] += 1
        self._sums[label] += seconds  # type: ignore[assignment] # a Counter adds any numbers

    def lines(self, name: str, label_name: str) -> list[str]:
        lines = []
        for label, counts in sorted(self._counts.items()):
            own = f'{label_name}="{_escaped(label)}",' if label_name else ""
            total = 0
            for end, count in zip((*map(str, BUCKETS), "+Inf"), counts, strict=True):
                total += count
                lines.append(f'{name}_bucket{{{own}le="{end}"}} {total}')
            plain = f"{{{own[:-1]}}}" if own else ""
            lines += [f"{name}_sum{plain} {self._sums[label]:.6f}", f"{name}_count{plain} {total}"]
        return lines


class Metrics:
    """Counters since the start of the daemon."""

    def __init__(
        self,
        service: JobService,
        server: Server,
        queue_limit: int,
        lost_log_lines: Callable[[], int],
    ) -> None:
        self._service = service
        self._server = server
        self._queue_limit = queue_limit
        self._lost_log_lines = lost_log_lines
        self._ended: Counter[tuple[str, str]] = Counter()
        self._rows: Counter[str] = Counter()
        self._contacts = 0
        self._cost_usd = 0.0
        self._durations, self._waits = _Histogram(), _Histogram()
        self._started = time.monotonic()
        service.on_job_finished.subscribe(self.count)

    def count(self, job: Job) -> None:
        """Count a job that has just ended."""
        self._ended[str(job.state), job.spec.mode] += 1
        if job.started_at is not None and job.finished_at is not None:
            self._durations.add(job.spec.mode, (job.finished_at - job.started_at).total_seconds())
            self._waits.add("", (job.started_at - job.submitted_at).total_seconds())
        if job.result is not None:
            self._contacts += job.result.contacts
            self._cost_usd += job.result.cost_usd or 0.0
            for change in ("inserted", "updated", "deleted", "unchanged"):
                self._rows[change] += getattr(job.result, f"rows_{change}")

    def text(self) -> str:
        """Return all metrics in the text format."""
        lines: list[str] = []
        for name, values in self._values().items():
            kind, meaning = METRICS[name]
            if values:
                lines += [f"# HELP {name} {meaning}", f"# TYPE {name} {kind}", *values]
        return "\n".join(lines) + "\n"

    def _values(self) -> dict[str, list[str]]:
        service, pool = self._service, self._service.pool
        stats = os.statvfs(service.data_dir)
        idle = self._server.idle_exit_in_s
        states = {"queued": service.waiting, "running": service.running}
        return {
            "schedd_build_info": [f'schedd_build_info{{version="{_escaped(__version__)}"}} 1'],
            "schedd_uptime_seconds": [
                f"schedd_uptime_seconds {time.monotonic() - self._started:.3f}"
            ],
            "schedd_jobs": [
                f'schedd_jobs{{state="{state}"}} {count}' for state, count in states.items()
            ],
            "schedd_jobs_total": [
                f'schedd_jobs_total{{state="{_escaped(state)}",mode="{_escaped(mode)}"}} {count}'
                for (state, mode), count in sorted(self._ended.items())
            ],
            "schedd_job_duration_seconds": self._durations.lines(
                "schedd_job_duration_seconds", "mode"
            ),
            "schedd_job_wait_seconds": self._waits.lines("schedd_job_wait_seconds", ""),
            "schedd_rows_total": [
                f'schedd_rows_total{{change="{change}"}} {self._rows[change]}'
                for change in ("inserted", "updated", "deleted", "unchanged")
            ],
            "schedd_contacts_total": [f"schedd_contacts_total {self._contacts}"],
            "schedd_cost_dollars_total": [f"schedd_cost_dollars_total {self._cost_usd:.8f}"],
            "schedd_queue_limit": [f"schedd_queue_limit {self._queue_limit}"],
            "schedd_workers": [f"schedd_workers {len(pool.workers) if pool else 0}"],
            "schedd_workers_busy": [f"schedd_workers_busy {pool.busy if pool else 0}"],
            "schedd_worker_deaths_total": [
                f"schedd_worker_deaths_total {pool.deaths if pool else 0}"
            ],
            "schedd_idle_exit_seconds": []
            if idle is None
            else [f"schedd_idle_exit_seconds {idle:.3f}"],
            "schedd_log_lines_lost_total": [
                f"schedd_log_lines_lost_total {self._lost_log_lines()}"
            ],
            "schedd_free_bytes": [f"schedd_free_bytes {stats.f_bavail * stats.f_frsize}"],
        }


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


class MetricsServer:
    """GET /metrics and GET /health; everything else is refused.

    Example:

        server = MetricsServer(metrics, "127.0.0.1:9091")
        await server.start()  # then GET http://127.0.0.1:9091/metrics
        server.close()
    """

    def __init__(self, metrics: Metrics, address: str | None) -> None:
        self._metrics, self._address = metrics, address
        self._server: asyncio.Server | None = None
        #: whose request is being read, the oldest first
        self._reading: dict[asyncio.StreamWriter, None] = {}

    async def start(self) -> None:
        """Listen if an address is set; raises `FatalError` if that is not possible."""
        if self._address is None:
            return
        host, port = split_address(self._address)
        try:
            # Both families if no address is named: Fly's scraper comes over IPv4, people over
            # the private network.
            both = (not host or host == "::") and socket.has_dualstack_ipv6()
            listening = (
                socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
                if both
                else socket.create_server(
                    (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET
                )
            )
            self._server = await asyncio.start_server(
                self._serve, sock=listening, limit=MAX_HEAD_BYTES
            )
        except OSError as error:
            raise FatalError(
                ExitCode.BIND,
                f"cannot serve metrics at {self._address}: {error.strerror or error}",
                "The port may be in use by another program. Set SCHEDD_METRICS_LISTEN to another "
                "port, or unset it.",
            ) from None

    def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reading[writer] = None
        # Of too many, the one that has not sent its request for longest gives way. A scraper sends
        # its request at once, so that others cannot keep it out.
        if len(self._reading) > MAX_CONNECTIONS:
            oldest = next(iter(self._reading))
            self._reading.pop(oldest)
            oldest.transport.abort()
        try:
            async with asyncio.timeout(REQUEST_S):
                reply = await self._reply(reader)
                writer.write(reply)
                await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # an invalid request gets no reply
        finally:
            self._reading.pop(writer, None)
            writer.close()
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(1.0):
                    await writer.wait_closed()

    async def _reply(self, reader: asyncio.StreamReader) -> bytes:
        head = await reader.readuntil(b"\r\n\r\n")
        words = head.split(b"\r\n", 1)[0].decode("latin-1").split()
        method, path = (words[0], words[1].partition("?")[0]) if len(words) == 3 else ("", "")
        if not method or not words[2].startswith("HTTP/"):
            status, body = "400 Bad Request", "bad request\n"
        elif method not in {"GET", "HEAD"}:
            status, body = "405 Method Not Allowed", "GET and HEAD only\n"
        elif path not in {"/metrics", "/health"}:
            status, body = "404 Not Found", "/metrics or /health\n"
        else:
            status, body = "200 OK", self._metrics.text() if path == "/metrics" else "ok\n"
        data = body.encode()
        lines = [
            f"HTTP/1.1 {status}",
            f"Content-Type: {CONTENT_TYPE}",
            f"Content-Length: {len(data)}",
            "Connection: close",
            *(["Allow: GET, HEAD"] if status.startswith("405") else []),
        ]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + (b"" if method == "HEAD" else data)
