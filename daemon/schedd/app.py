"""The daemon's assembly: settings, folders, journal, pool, service and sockets.

The only module that knows all parts. `Daemon.run` goes from the settings to the exit code.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import structlog
import zmq.asyncio
from zmq.auth.asyncio import AsyncioAuthenticator

from schedproto import SchedulerError, __version__
from schedproto.layout import socket_endpoint, state_folder

from .engine.configuration import ConfigurationError, build, parse_toml
from .exitcodes import ExitCode, FatalError
from .files.requests import FileRequestHandler
from .fly import Identity, identity, price_per_s
from .folder import lock_folder, make_scratch_folder, remove_temporary, wait_for_old_workers
from .jobs.journal import Journal
from .jobs.service import JobService
from .log_output import LogOutput
from .orphans import reap_orphans
from .privileges import drop_privileges
from .replica.location import BucketLocation, holder_name
from .server.connections import ConnectionLimit, connection_limit, raise_descriptor_limit
from .server.endpoints import check_endpoint, open_router, remove_unix_sockets
from .server.keys import admitted_clients, server_secret
from .server.metrics import Metrics, MetricsServer
from .server.server import Server
from .settings import Settings
from .store.file_identity import FileIdentity
from .store.limits import limit_memory
from .workers.pool import Pool

ZAP_DOMAIN = "schedd"
#: Time for idle workers to end before they are killed.
POOL_CLOSE_S = 3.0
#: Time from the end of all else until a thread that is left does not keep the process any longer.
FORCED_EXIT_S = 3.0


@dataclass(frozen=True)
class _Access:
    """The endpoints of a daemon, its secret key, and the keys of admitted clients."""

    endpoints: tuple[str, ...]
    server_secret: bytes | None
    clients: frozenset[bytes]


class Daemon:
    """One daemon over one data folder.

    Example:

        code = asyncio.run(Daemon(settings, log_output.install()).run())
    """

    def __init__(self, settings: Settings, output: LogOutput) -> None:
        self.settings = settings
        self.state = state_folder(settings.data)
        self._output = output
        self._log = structlog.get_logger()
        self._stop = asyncio.Event()
        self._signals = 0
        self._reason = ""
        self._lock: FileIdentity | None = None
        self._lost_state = False

    async def run(self) -> ExitCode:
        """Serve until a signal or idleness ends it. Raises `FatalError` if it cannot start."""
        settings = self.settings
        access = self._access()
        defaults = self._defaults()
        if settings.data.is_dir():
            drop_privileges(settings.user, settings.data)
        lock = lock_folder(settings.data, self.state)
        self._lock = FileIdentity.of(self.state / "lock")
        try:
            return await self._serve(access, defaults)
        finally:
            os.close(lock)

    # Start ----------------------------------------------------------------------------------------

    def _access(self) -> _Access:
        """Return keys and endpoints, checked."""
        settings = self.settings
        secret = server_secret(settings.server_key_file, settings.server_key)
        clients = admitted_clients(settings.client_keys, settings.allow_clients)
        # The folder's own socket is always open, for the commands on the machine itself.
        endpoints = tuple(dict.fromkeys((*settings.listen, socket_endpoint(settings.data))))
        for endpoint in endpoints:
            check_endpoint(endpoint, has_keys=secret is not None)
        return _Access(endpoints, secret, clients)

    def _defaults(self) -> str:
        """Return the text of the daemon's configuration file, checked."""
        path = self.settings.defaults
        if path is None:
            return ""
        try:
            text = path.read_text(encoding="utf-8")
            build(parse_toml(text, str(path)))
        except (OSError, UnicodeDecodeError) as error:
            raise FatalError(
                ExitCode.USAGE, f"the configuration file {path} cannot be read: {error}"
            ) from None
        except ConfigurationError as error:
            raise FatalError(
                ExitCode.USAGE, str(error), "docs/RULES.md, section 13, lists the keys."
            ) from None
        return text

    def _replica(self, here: Identity | None) -> BucketLocation | None:
        """Return the bucket that contains the organizations, if there is one."""
        settings = self.settings
        if settings.bucket_folder is None and not os.environ.get("BUCKET_NAME"):
            return None
        replica = BucketLocation(
            data=str(settings.data.resolve()),
            holder=holder_name(settings.data, here.machine_id if here is not None else None),
            folder="" if settings.bucket_folder is None else str(settings.bucket_folder.resolve()),
            layout=settings.bucket_layout,
            cache_bytes=int(settings.cache_gb * 1e9),
            lease_s=settings.lease_s,
            timeout_s=settings.bucket_timeout_s,
        )
        try:
            replica.settings()
        except SchedulerError as error:
            raise FatalError(ExitCode.USAGE, error.message, error.hint) from None
        return replica

    def _open_journal(self) -> Journal:
        try:
            return Journal(self.state / "journal.db", time.time)
        except SchedulerError as error:
            raise FatalError(
                ExitCode.DATA, f"the journal cannot be opened: {error.message}", error.hint
            ) from None

    # Serve ----------------------------------------------------------------------------------------

    async def _serve(self, access: _Access, defaults: str) -> ExitCode:
        """Assemble all parts and serve; closes them in the reverse order."""
        settings = self.settings
        memory_bytes = settings.worker_memory_mb * 1_000_000
        limit_memory(memory_bytes)
        here = identity(os.environ, len(os.sched_getaffinity(0)))
        alive_file = wait_for_old_workers(self.state)
        remove_temporary(self.state)
        scratch = make_scratch_folder(settings.data, self.state)
        journal = self._open_journal()
        try:
            replica = self._replica(here)
            service = JobService(
                settings,
                scratch,
                journal,
                price_per_s=price_per_s(here, settings.price_per_hour),
                replica=replica,
                defaults_toml=defaults,
            )
            files = FileRequestHandler(
                service.data_dir,
                defaults,
                settings.backup_days,
                replica,
                on_fly=here is not None,
                max_request_s=settings.max_request_s,
            )
            server = Server(service, files, settings, self._lost_log_lines)
            async with self._listening(server, access), self._metrics(service, server):
                self._watch_signals()
                service.resume()
                pool = Pool(
                    settings.workers,
                    alive_file,
                    service.start_next,
                    memory_bytes=memory_bytes,
                )
                service.pool = pool
                self._log_start(access, replica, here)
                server.start()
                pool.start()
                await self._until_stopped(server, journal)
                return await self._end(service, pool, server)
        finally:
            journal.close()

    def _lost_log_lines(self) -> int:
        return self._output.lost_lines

    @asynccontextmanager
    async def _listening(self, server: Server, access: _Access) -> AsyncIterator[None]:
        """Listen on all endpoints."""
        context = zmq.asyncio.Context()
        limit = ConnectionLimit(connection_limit(raise_descriptor_limit()))
        try:
            with _authentication(context, access):
                try:
                    for endpoint in access.endpoints:
                        router = open_router(
                            context, endpoint, access.server_secret, ZAP_DOMAIN, limit
                        )
                        server.listen(router, endpoint)
                    yield
                finally:
                    limit.close()
                    server.close()
        finally:
            context.destroy(linger=500)
            # Without the state folder, the socket may be that of another daemon.
            if not self._lost_state:
                remove_unix_sockets(access.endpoints)

    @asynccontextmanager
    async def _metrics(self, service: JobService, server: Server) -> AsyncIterator[None]:
        """Serve the metrics, if an address is set."""
        counters = Metrics(service, server, self.settings.queue_limit, self._lost_log_lines)
        metrics = MetricsServer(counters, self.settings.metrics_listen)
        await metrics.start()
        try:
            yield
        finally:
            metrics.close()

    def _log_start(
        self, access: _Access, replica: BucketLocation | None, here: Identity | None
    ) -> None:
        self._log.info(
            "listening",
            endpoints=list(access.endpoints),
            pid=os.getpid(),
            version=__version__,
            data=str(self.settings.data.resolve()),
            encrypted=access.server_secret is not None,
            clients=len(access.clients),
            idle_timeout_s=self.settings.idle_timeout_s or None,
            **({"bucket": replica.name()} if replica is not None else {}),
            **(here.fields() if here is not None else {}),
        )

    # End ------------------------------------------------------------------------------------------

    def _watch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number.name)
        reap_orphans()

    def _on_signal(self, name: str) -> None:
        self._signals += 1
        self._reason = self._reason or name
        self._stop.set()
        self._log.info("signal", signal=name, count=self._signals)

    def _state_is_gone(self, journal: Journal) -> bool:
        """Return whether the lock or the journal was removed or replaced.

        Then another daemon may start over the same folder, and nothing here is on the disk.
        """
        return self._lock is None or not (self._lock.is_current and journal.is_present)

    async def _until_stopped(self, server: Server, journal: Journal) -> None:
        """Wait for a signal, for the idle timeout, or for the loss of the state folder."""
        while not self._stop.is_set():
            if self._state_is_gone(journal):
                server.service.accepting = False
                self._reason, self._lost_state = "state folder removed", True
                self._log.error(
                    "the lock or the journal was removed or replaced; exiting",
                    folder=str(self.state),
                )
                return
            server.listen_again()
            left = server.idle_exit_in_s
            if left is not None and left <= 0:
                if await server.has_pending():
                    await asyncio.sleep(0)
                    continue
                server.service.accepting = False
                self._reason = "idle"
                self._log.info("idle, exiting", idle_timeout_s=self.settings.idle_timeout_s)
                return
            try:
                await asyncio.wait_for(
                    self._stop.wait(), min(1.0, left) + 0.01 if left is not None else 1.0
                )
            except TimeoutError:
                continue

    async def _end(self, service: JobService, pool: Pool, server: Server) -> ExitCode:
        """Let jobs and requests end within the drain time; a second signal ends the wait."""
        service.accepting = False
        self._stop.clear()
        drained = asyncio.create_task(service.drain(self.settings.drain_s))
        replied = asyncio.create_task(server.end_requests(self.settings.drain_s))
        second_signal = asyncio.create_task(self._stop.wait())
        if service.running:
            self._log.info("draining", running=service.running, drain_s=self.settings.drain_s)
        ended = asyncio.create_task(_all_ended(drained, replied))
        await asyncio.wait({ended, second_signal}, return_when=asyncio.FIRST_COMPLETED)
        second_signal.cancel()

        complete = await drained if drained.done() else False
        if not complete:
            drained.cancel()
            service.abandon()
        await pool.close(POOL_CLOSE_S if complete else 0.0)
        answered = await replied if replied.done() else False
        if not answered:
            replied.cancel()
            _exit_soon(ExitCode.FORCED)
        code = ExitCode.OK if complete and answered else ExitCode.FORCED
        if self._lost_state:
            code = ExitCode.DATA
        self._log.info("exit", code=int(code), name=code.name, why=self._reason)
        return code


async def _all_ended(*tasks: asyncio.Task[bool]) -> bool:
    await asyncio.wait(tasks)
    return True


def _exit_soon(code: ExitCode) -> None:
    """End the process in `FORCED_EXIT_S` even if a thread of a request does not end."""
    structlog.get_logger().warning("a request does not end; exiting without it")
    timer = threading.Timer(FORCED_EXIT_S, os._exit, (int(code),))
    timer.daemon = True
    timer.start()


@contextmanager
def _authentication(context: zmq.asyncio.Context, access: _Access) -> Iterator[None]:
    """Admit the listed clients' keys and no others (ZAP), if the daemon has a key."""
    if access.server_secret is None:
        yield
        return

    class Provider:
        def callback(self, domain: str, key: bytes) -> bool:
            admitted = domain == ZAP_DOMAIN and key in access.clients
            if not admitted:
                structlog.get_logger().warning("client refused", key=key.decode("ascii", "replace"))
            return admitted

    authenticator = AsyncioAuthenticator(context)
    authenticator.start()
    authenticator.configure_curve_callback(ZAP_DOMAIN, Provider())
    try:
        yield
    finally:
        authenticator.stop()


def serve(settings: Settings, output: LogOutput) -> ExitCode:
    """Run a daemon; raises `FatalError` if it cannot start."""

    async def main() -> ExitCode:
        return await Daemon(settings, output).run()

    return asyncio.run(main())
