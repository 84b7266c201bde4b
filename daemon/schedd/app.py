"""The one place that wires.

Settings, folders, journal, pool, service and sockets, from start to exit code.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import signal
import tempfile
import time
from multiprocessing.util import Finalize
from pathlib import Path

import structlog
import zmq.asyncio
from zmq.auth.asyncio import AsyncioAuthenticator

from schedproto import SchedulerError, __version__
from schedproto.layout import prepare_socket_folder, socket_endpoint, state_folder
from schedproto.private import private_folder

from .engine.configuration import ConfigurationError, build, parse_toml
from .exitcodes import ExitCode, FatalError
from .files.requests import Files
from .fly import Identity, identity, price_per_s
from .jobs.journal import Journal
from .jobs.service import JobService
from .privileges import drop_privileges
from .replica.location import BucketLocation, holder_name
from .scratch import scratch_folder
from .server.endpoints import check_endpoint, open_router, remove_unix_sockets
from .server.keys import admitted_clients, server_secret
from .server.metrics import Metrics, MetricsServer
from .server.server import Server
from .settings import Settings
from .workers.pool import Pool

RUNNER, TASKS = "schedd.replica.job", "schedd.run.tasks"
ZAP_DOMAIN = "schedd"
#: How long to wait for workers of a daemon that was killed to notice it.
ORPHANS_TIMEOUT_S = 20.0
#: How long workers get to end by themselves once no job runs.
POOL_CLOSE_S = 3.0
_LOCK_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


class Daemon:
    """One daemon over one data folder."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.state = state_folder(settings.data)
        self._log = structlog.get_logger()
        self._stop = asyncio.Event()
        self._signals = 0
        self._why = ""

    async def run(self) -> ExitCode:
        """Serve until a signal or idleness ends it."""
        settings = self.settings
        secret = server_secret(settings.server_key_file, settings.server_key)
        clients = admitted_clients(settings.client_keys, settings.allow_clients)
        # The folder's own socket is always there, for the commands on the machine itself.
        endpoints = tuple(dict.fromkeys((*settings.listen, socket_endpoint(settings.data))))
        for endpoint in endpoints:
            check_endpoint(endpoint, has_keys=secret is not None)
        defaults = self._defaults()
        if settings.data.is_dir():
            drop_privileges(settings.user, settings.data)
        lock = self._take_folder()
        try:
            return await self._serve(endpoints, secret, clients, defaults)
        finally:
            os.close(lock)

    def _defaults(self) -> str:
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

    def _take_folder(self) -> int:
        """Make the state folder and lock it; one daemon has one data folder."""
        data = self.settings.data
        try:
            if not data.is_dir():
                raise FatalError(
                    ExitCode.DATA,
                    f"the data folder {data} does not exist",
                    "Mount the volume there, create the folder, or set another one with --data.",
                )
            private_folder(self.state, owners=_owners(data))
            prepare_socket_folder(data)
            lock = os.open(self.state / "lock", _LOCK_FLAGS, 0o600)
        except OSError as error:
            raise FatalError(
                ExitCode.DATA,
                f"the data folder {data} cannot be used: {error.strerror}",
                "Check ownership and permissions.",
            ) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner = os.pread(lock, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(lock)
            raise FatalError(
                ExitCode.LOCKED,
                f"the data folder {data} is locked by another daemon (pid {owner})",
                "Use that daemon, or stop it first.",
            ) from None
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        return lock

    def _await_orphans(self) -> Path:
        """Wait until the workers of a killed daemon have ended.

        They hold this file with a shared lock.
        """
        path = self.state / "workers.lock"
        descriptor = os.open(path, _LOCK_FLAGS, 0o600)
        deadline = time.monotonic() + ORPHANS_TIMEOUT_S
        try:
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    if time.monotonic() > deadline:
                        raise FatalError(
                            ExitCode.DATA,
                            "workers of a previous daemon still use the data folder",
                            "Find processes named schedd and stop them.",
                        ) from None
                    time.sleep(0.02)
                else:
                    return path
        finally:
            os.close(descriptor)

    def _scratch(self) -> Path:
        try:
            return scratch_folder(self.settings.data, self.state)
        except OSError as error:
            raise FatalError(
                ExitCode.DATA,
                f"cannot create a folder for running jobs: {error.strerror}",
                "Check ownership and permissions.",
            ) from None

    def _replica(self, here: Identity | None) -> BucketLocation | None:
        """Return where the organizations live if not on the volume alone."""
        settings = self.settings
        if settings.bucket_folder is None and not os.environ.get("BUCKET_NAME"):
            return None
        place = BucketLocation(
            data=str(settings.data.resolve()),
            holder=holder_name(settings.data, here.machine_id if here is not None else None),
            folder="" if settings.bucket_folder is None else str(settings.bucket_folder.resolve()),
            layout=settings.bucket_layout,
            cache_bytes=int(settings.cache_gb * 1e9),
            lease_s=settings.lease_s,
            timeout_s=settings.bucket_timeout_s,
        )
        try:
            place.settings()
        except SchedulerError as error:
            raise FatalError(ExitCode.USAGE, error.message, error.hint) from None
        return place

    def _journal(self) -> Journal:
        try:
            return Journal(self.state / "journal.db", time.time)
        except SchedulerError as error:
            raise FatalError(
                ExitCode.DATA, f"the journal cannot be opened: {error.message}", error.hint
            ) from None

    async def _serve(
        self,
        endpoints: tuple[str, ...],
        secret: bytes | None,
        clients: frozenset[bytes],
        defaults: str,
    ) -> ExitCode:
        settings, data = self.settings, self.settings.data.resolve()
        alive_file = self._await_orphans()
        # What a killed daemon left: whole copies of organizations' files.
        shutil.rmtree(self.state / "temporary", ignore_errors=True)
        scratch, journal = self._scratch(), self._journal()
        # multiprocessing keeps the fork server's socket in a temporary folder, which a kill -9
        # would leave behind; the scratch folder is emptied by the next start.
        tempfile.tempdir = str(scratch)
        # Removed by a finalizer of lower priority than the one by which multiprocessing removes
        # that folder.
        Finalize(None, shutil.rmtree, (scratch,), {"ignore_errors": True}, exitpriority=-200)
        here = identity(os.environ, len(os.sched_getaffinity(0)))
        replica = self._replica(here)
        service = JobService(
            data,
            scratch,
            journal,
            settings.workers,
            queue_limit=settings.queue_limit,
            organization_limit=settings.organization_queue_limit,
            worker_retries=settings.worker_retries,
            keep_jobs=settings.keep_jobs,
            backup_days=settings.backup_days,
            price_per_s=price_per_s(here, settings.price_per_hour),
            replica=replica,
            defaults_toml=defaults,
        )
        server = Server(
            service,
            Files(data, defaults, settings.backup_days, replica, on_fly=here is not None).answer,
            queue_limit=settings.queue_limit,
            idle_timeout_s=settings.idle_timeout_s,
        )
        metrics = MetricsServer(
            Metrics(service, server, settings.queue_limit), settings.metrics_listen
        )
        context = zmq.asyncio.Context()
        authenticator = _authenticator(context, clients) if secret is not None else None
        try:
            for endpoint in endpoints:
                server.listen(open_router(context, endpoint, secret, ZAP_DOMAIN))
            await metrics.start()
            self._watch_signals()
            service.resume()
            service.pool = pool = Pool(
                settings.workers, RUNNER, TASKS, alive_file, service.start_next
            )
            self._log.info(
                "listening",
                endpoints=list(endpoints),
                pid=os.getpid(),
                version=__version__,
                data=str(data),
                encrypted=secret is not None,
                clients=len(clients),
                idle_timeout_s=settings.idle_timeout_s or None,
                **({"bucket": replica.name()} if replica is not None else {}),
                **(here.fields() if here is not None else {}),
            )
            server.start()
            pool.start()
            await self._until_stopped(server)
            return await self._end(service, pool)
        finally:
            metrics.close()
            server.close()
            if authenticator is not None:
                authenticator.stop()
            journal.close()
            context.destroy(linger=500)
            remove_unix_sockets(endpoints)

    def _watch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number.name)

    def _on_signal(self, name: str) -> None:
        self._signals += 1
        self._why = self._why or name
        self._log.info("signal", signal=name, count=self._signals)
        self._stop.set()

    async def _until_stopped(self, server: Server) -> None:
        while not self._stop.is_set():
            left = server.idle_exit_in_s
            if left is not None and left <= 0:
                if await server.has_pending():
                    await asyncio.sleep(0)
                    continue
                server.service.accepting = False
                self._why = "idle"
                self._log.info("idle, exiting", idle_timeout_s=self.settings.idle_timeout_s)
                return
            try:
                await asyncio.wait_for(
                    self._stop.wait(), min(1.0, left) + 0.01 if left is not None else 1.0
                )
            except TimeoutError:
                continue

    async def _end(self, service: JobService, pool: Pool) -> ExitCode:
        """Let running jobs end within the drain time; a second signal ends the wait."""
        service.accepting = False
        if service.running:
            self._log.info("draining", running=service.running, drain_s=self.settings.drain_s)
        self._stop.clear()
        drained = asyncio.create_task(service.drain(self.settings.drain_s))
        again = asyncio.create_task(self._stop.wait())
        await asyncio.wait({drained, again}, return_when=asyncio.FIRST_COMPLETED)
        again.cancel()
        complete = await drained if drained.done() else False
        if not complete:
            drained.cancel()
            service.abandon()
        await pool.close(POOL_CLOSE_S if complete else 0.0)
        code = ExitCode.OK if complete else ExitCode.FORCED
        self._log.info("exit", code=int(code), name=code.name, why=self._why)
        return code


def _owners(data: Path) -> tuple[int, ...]:
    """Return whose state folder this process may use besides its own user's.

    Root may serve the folder of an ordinary user; a state folder of anybody else was put there.
    """
    return (data.stat().st_uid,) if os.geteuid() == 0 else ()


def _authenticator(context: zmq.asyncio.Context, clients: frozenset[bytes]) -> AsyncioAuthenticator:
    """Return the ZAP handler that admits these clients' keys and no others."""

    class Provider:
        def callback(self, domain: str, key: bytes) -> bool:
            admitted = domain == ZAP_DOMAIN and key in clients
            if not admitted:
                structlog.get_logger().warning("client refused", key=key.decode("ascii", "replace"))
            return admitted

    authenticator = AsyncioAuthenticator(context)
    authenticator.start()
    authenticator.configure_curve_callback(ZAP_DOMAIN, Provider())
    return authenticator


def serve(settings: Settings) -> ExitCode:
    """Run a daemon; raises `FatalError` where it cannot start."""

    async def main() -> ExitCode:
        return await Daemon(settings).run()

    return asyncio.run(main())
