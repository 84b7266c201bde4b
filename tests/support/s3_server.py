"""A SeaweedFS server on loopback, and a proxy before it that injects faults."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import deque
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from schedbucket import open_store
from schedbucket.settings import BucketSettings, S3Settings
from schedproto import SchedulerError
from tests.support.loopback_server import LoopbackServer

BUCKET, KEY, SECRET = "organizations", "test", "testtest"
WEED = Path(sys.executable).with_name("weed")
MOTO = Path(sys.executable).with_name("moto_server")
READY_S = 30.0


def free_ports(count: int) -> list[int]:
    """Return ports whose number plus 10000 is free too: SeaweedFS uses both."""
    found: list[int] = []
    while len(found) < count:
        with socket.socket() as one, socket.socket() as two:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
            if port > 55_000 or port in found:
                port = 20_000 + (port * 7919) % 30_000
            try:
                two.bind(("127.0.0.1", port + 10_000))
            except OSError:
                continue
            found.append(port)
    return found


class S3Server:
    """One server over one folder; may be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "weed.log"
        self.s3, self.master, self.volume, self.filer, self.admin = free_ports(5)
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.s3}"

    def settings(self, endpoint: str | None = None, **options: Any) -> BucketSettings:
        values: dict[str, Any] = {"timeout_s": 5.0, "retry_timeout_s": 10.0, "retries": 3} | options
        layout = values.pop("layout", "versions")
        return BucketSettings(
            s3=S3Settings(
                bucket=values.pop("bucket", BUCKET),
                endpoint=endpoint or self.endpoint,
                access_key_id=values.pop("key", KEY),
                secret_access_key=values.pop("secret", SECRET),
                **values,
            ),
            layout=layout,
        )

    def environment(self, endpoint: str | None = None) -> dict[str, str]:
        """The variables that `fly storage create` sets."""
        return {
            "BUCKET_NAME": BUCKET,
            "AWS_ENDPOINT_URL_S3": endpoint or self.endpoint,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "auto",
        }

    def start(self) -> S3Server:
        data = self.folder / "data"
        data.mkdir(parents=True, exist_ok=True)
        flags = {
            "dir": data,
            "ip": "127.0.0.1",
            "ip.bind": "127.0.0.1",
            "master.telemetry": "false",
            "admin.ui": "false",
            "webdav": "false",
            "s3.port": self.s3,
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
            "master.port": self.master,
            "volume.port": self.volume,
            "filer.port": self.filer,
            "admin.port": self.admin,
            "bucket": BUCKET,
        }
        command = [
            str(WEED),
            "-logtostderr=true",
            "mini",
            *(f"-{name}={value}" for name, value in flags.items()),
        ]
        environment = dict(os.environ, AWS_ACCESS_KEY_ID=KEY, AWS_SECRET_ACCESS_KEY=SECRET)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                env=environment,
                cwd=self.folder,
                start_new_session=True,
            )
        store = open_store(self.settings(retries=0, retry_timeout_s=2.0))
        deadline = time.monotonic() + READY_S
        while True:
            try:
                store.put_file("ready", Path(__file__))
                return self
            except SchedulerError as error:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise RuntimeError(
                        "SeaweedFS does not answer: "
                        f"{error.message}\n{self.log.read_text()[-3000:]}"
                    ) from error
                time.sleep(0.1)

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(120)

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self.folder / "data", ignore_errors=True)


class MotoServer(S3Server):
    """A second implementation of S3, in Python and in memory: it shares no code with SeaweedFS."""

    def start(self) -> MotoServer:
        command = [str(MOTO), "-H", "127.0.0.1", "-p", str(self.s3)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=self.folder, start_new_session=True
            )
        request = urllib.request.Request(f"{self.endpoint}/{BUCKET}", method="PUT")
        deadline = time.monotonic() + READY_S
        while True:
            try:
                with urllib.request.urlopen(request, timeout=READY_S):
                    return self
            except OSError as error:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    log_text = self.log.read_text()[-3000:]
                    raise RuntimeError(f"moto does not answer: {error}\n{log_text}") from error
                time.sleep(0.1)


@dataclass
class Fault:
    """A fault of the next request of a method whose path contains a text.

    kind: `status` (answered so, not passed on), `lost` (passed on, then hung up), `hang` (never
    answered), `refused` (hung up, not passed on), `cut` (half of the answer's body), `corrupt` (a
    byte of the answer's body changed), `corrupt_sent` (a byte of the request's body changed,
    passed on),
    `pause` (passed on after `delay_s`), `call` (`action` is called, then passed on), `killed`
    (passed on, then `action` is called), `none` (nothing).
    """

    method: str
    path: str
    kind: str
    status: int = 503
    delay_s: float = 0.0
    action: Any = None
    times: int = 1


def corrupted(content: bytes) -> bytes:
    """Content with one bit of its middle changed."""
    middle = len(content) // 2
    return (
        content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        if content
        else content
    )


class Proxy(LoopbackServer):
    """Passes requests on to a server and does to them what the test has put in."""

    def __init__(self, server: S3Server) -> None:
        self.server = server
        self.faults: deque[Fault] = deque()
        #: method, path and the range that was asked for
        self.seen: list[tuple[str, str, str]] = []
        self.met: list[Fault] = []
        self._lock = threading.Lock()
        super().__init__()

    def _fault(self, method: str, path: str, span: str) -> Fault | None:
        with self._lock:
            self.seen.append((method, path, span))
            for fault in self.faults:
                if fault.method == method and fault.path in path:
                    fault.times -= 1
                    if not fault.times:
                        self.faults.remove(fault)
                    self.met.append(fault)
                    return fault
        return None

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        fault = self._fault(request.command, request.path, request.headers.get("Range") or "")
        fault = fault or Fault(request.command, "", "none")
        kind = fault.kind
        if kind == "hang":
            time.sleep(fault.delay_s or 30.0)
        if kind in {"hang", "refused"}:
            self._hang_up(request)
            return
        if kind == "pause":
            time.sleep(fault.delay_s)
        if kind == "call":
            fault.action()
        if kind == "status":
            self._answer(request, fault.status, {}, b"<Error><Code>SlowDown</Code></Error>")
            return
        if kind == "corrupt_sent":
            body = corrupted(body)
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self.server.s3, timeout=120)
            connection.request(request.command, request.path, body, dict(request.headers.items()))
            answer = connection.getresponse()
            content = answer.read()
            connection.close()
        except OSError:
            self._hang_up(request)
            return
        if kind == "killed":
            fault.action()
        if kind in {"lost", "killed"}:
            self._hang_up(request)
            return
        if kind == "corrupt":
            content = corrupted(content)
        headers = {
            name: value
            for name, value in answer.getheaders()
            if name.lower() not in {"transfer-encoding", "connection", "date", "server"}
        }
        self._answer(request, answer.status, headers, content, cut=kind == "cut")

    @staticmethod
    def _answer(
        request: BaseHTTPRequestHandler,
        status: int,
        headers: dict[str, str],
        body: bytes,
        *,
        cut: bool = False,
    ) -> None:
        try:
            request.send_response(status)
            for name, value in headers.items():
                if name.lower() != "content-length":
                    request.send_header(name, value)
            length = (
                headers.get("Content-Length", str(len(body)))
                if request.command == "HEAD"
                else str(len(body))
            )
            request.send_header("Content-Length", length)
            request.end_headers()
            if request.command != "HEAD":
                request.wfile.write(body[: len(body) // 2] if cut else body)
            if cut:
                Proxy._hang_up(request)
        except OSError:
            request.close_connection = True

    @staticmethod
    def _hang_up(request: BaseHTTPRequestHandler) -> None:
        request.close_connection = True
        try:
            request.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            return
