"""A real daemon process over a temporary data folder, and organizations for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import psutil
import zmq

from schedclient import Client, JobHandle
from schedproto.codec import decode_reply, encode_request
from schedproto.layout import socket_endpoint
from schedproto.message import Message
from schedproto.messages import GetHealth
from tests.support.other_programs import locked
from tests.support.waiting import wait_until

AS_OF = "2026-11-23"


class RunningDaemon:
    """One `schedd serve` process with two workers, and its log next to the data folder.

    environment: the process's; by default the test's own.
    own_session: the daemon and its workers are a process group, which `kill` ends at once.
    """

    def __init__(
        self,
        data: Path,
        *options: str,
        environment: dict[str, str] | None = None,
        own_session: bool = False,
    ) -> None:
        self.data, self.options = data, options
        self.environment = environment
        self.own_session = own_session
        self.log_path = data.parent / f"{data.name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return socket_endpoint(self.data)

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "the daemon has not been started"
        return self._process

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        command = [sys.executable, "-m", "schedd", "serve", "--data", str(self.data)]
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--workers", "2", *self.options],
                stdout=log,
                stderr=log,
                env=self.environment,
                start_new_session=self.own_session,
            )
        return self

    def client(self, **options: Any) -> Client:
        return Client(self.endpoint, **options)

    def workers(self) -> list[int]:
        return workers_of(self.process.pid)

    def wait(self, timeout_s: float = 120) -> int:
        return self.process.wait(timeout_s)

    def stop(self) -> int:
        """End the daemon as a service manager does; return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """Kill the daemon.

        In a session of its own all its workers too, as a failing machine does.
        """
        if self.own_session:
            os.killpg(self.process.pid, signal.SIGKILL)
        else:
            self.process.kill()
        self.wait()

    def clean_up(self) -> None:
        """Kill what is left of the daemon after a test."""
        if self.running:
            self.kill()

    @contextmanager
    def stopped_job(self, client: Client, organization: str) -> Iterator[JobHandle]:
        """Submit a job and keep it running: its worker is stopped until the end of the block."""
        path = self.data / f"{organization}.db"
        with locked(path):  # the job gets no further than this lock before its worker is stopped
            handle = client.submit(organization, as_of=AS_OF)
            wait_until(lambda: handle.status().state == "running", "the job's beginning")
            worker = wait_until(lambda: self._worker_over(path), "opening of the file")
            worker.suspend()
            wait_until(lambda: worker.status() == psutil.STATUS_STOPPED, "stop of the worker")
        try:
            yield handle
        finally:
            with suppress(psutil.NoSuchProcess):
                worker.resume()

    def _worker_over(self, path: Path) -> psutil.Process | None:
        for pid in self.workers():
            with suppress(psutil.Error):
                process = psutil.Process(pid)
                if str(path) in {file.path for file in process.open_files()}:
                    return process
        return None

    def log(self) -> str:
        return self.log_path.read_text()


def workers_of(pid: int) -> list[int]:
    """Return the pids of a daemon's worker processes: the children of its fork server."""
    try:
        children = psutil.Process(pid).children(recursive=True)
        return [child.pid for child in children if child.ppid() != pid]
    except psutil.NoSuchProcess:
        return []


class RawClient:
    """A bare socket that sends any frames."""

    def __init__(self, endpoint: str) -> None:
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.connect(endpoint)

    def send(self, frames: list[bytes]) -> None:
        self.socket.send_multipart(frames)

    def receive(self, timeout_s: float = 120) -> Any:
        assert self.socket.poll(int(timeout_s * 1000)), "no answer"
        return decode_reply(self.socket.recv_multipart())

    def ask(self, message: Message) -> Any:
        self.send(encode_request(message))
        while True:
            reply = self.receive()
            if reply.id == message.id:
                return reply

    def healthy(self) -> bool:
        return self.ask(GetHealth(id="health")).status == "serving"

    def close(self) -> None:
        self.context.destroy(0)
