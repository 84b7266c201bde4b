"""A server on loopback that speaks the Machines API as docs/FLY.md describes it.

States, delays, errors, rate limits.

Its machines are whatever `Body` starts: real `schedd` processes, or nothing at all where only
states are tested. Faults are put in by the test: answers that come instead of the real one, or
after it.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any, Protocol
from urllib.parse import parse_qs, unquote, urlsplit

from tests.support.loopback_server import LoopbackServer

APP, TOKEN = "email-scheduler", "FlyV1 fm2_test"
STARTABLE = {"created", "stopped", "suspended", "failed"}


class Process(Protocol):
    """A process that runs in a machine while it is started."""

    def poll(self) -> int | None: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...
    def wait(self, timeout: float | None = None) -> int: ...


Body = Callable[["Machine"], Process | None]


@dataclass
class Fault:
    """A fault of the next request of an action, instead of or (`after`) after it.

    status 0 hangs up without an answer.
    """

    action: str
    status: int = 0
    answer: str = ""
    after: bool = False
    delay_s: float = 0.0
    word: str = ""


@dataclass
class Limits:
    """The documented rate limits.

    Requests a second, and burst, of `get` and of every other action of a machine.
    """

    get: tuple[float, int] = (5.0, 10)
    other: tuple[float, int] = (1.0, 3)


def _version() -> str:
    return uuid.uuid4().hex[:26].upper()


@dataclass
class Machine:
    id: str
    address: str
    body: Body
    state: str = "stopped"
    instance_id: str = field(default_factory=_version)
    config: dict[str, Any] = field(default_factory=dict)
    start_s: float = 0.02
    stop_s: float = 0.02
    #: how long after it has started its name is unknown
    dns_s: float = 0.0
    kill_timeout_s: float = 40.0
    retries: int = 3
    lease_until: float = 0.0
    events: list[dict[str, Any]] = field(default_factory=list)
    starts: int = 0
    started_at: float = 0.0
    process: Process | None = None
    stop_requested: bool = False
    restarts: int = 0
    changed: threading.Condition = field(default_factory=threading.Condition)

    def to(self, state: str, kind: str = "", **request: Any) -> None:
        with self.changed:
            self.state = state
            if kind:
                self.events.insert(
                    0,
                    {
                        "type": kind,
                        "status": state,
                        "source": "flyd",
                        "timestamp": int(time.time() * 1000),
                    }
                    | ({"request": request} if request else {}),
                )
            self.changed.notify_all()

    def wait_until(self, state: str, timeout_s: float) -> bool:
        with self.changed:
            return self.changed.wait_for(lambda: self.state == state, timeout_s)

    def json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "name": f"name-{self.id}",
            "state": self.state,
            "region": "iad",
            "instance_id": self.instance_id,
            "private_ip": self.address,
            "host_status": "ok",
            "config": self.config,
            "events": self.events[:20],
            "image_ref": {"repository": APP, "tag": "deployment-1"},
            "updated_at": "2026-11-01T00:00:00Z",
        }

    # Life -----------------------------------------------------------------------------------------

    def start(self) -> None:
        self.stop_requested = False
        self.restarts = 0
        self.to("starting", "start")
        threading.Thread(target=self._live, daemon=True).start()

    def _live(self) -> None:
        while True:
            time.sleep(self.start_s)
            self.starts += 1
            self.process = self.body(self)
            self.started_at = time.monotonic()
            self.to("started", "start")
            code = self._until_exit()
            requested = self.stop_requested
            self.to(
                "stopping",
                "exit",
                exit_event={
                    "exit_code": code,
                    "requested_stop": requested,
                    "oom_killed": False,
                    "signal": 0,
                },
            )
            time.sleep(self.stop_s)
            if code != 0 and not requested and self.restarts < self.retries:
                self.restarts += 1
                self.to("starting")
                continue
            self.to("stopped", "stop")
            return

    def _until_exit(self) -> int:
        asked = 0.0
        while True:
            if self.process is None:
                if self.stop_requested:
                    return 0
            elif (code := self.process.poll()) is not None:
                return code
            if self.stop_requested and self.process is not None:
                if not asked:
                    self.process.terminate()
                    asked = time.monotonic()
                elif time.monotonic() - asked > self.kill_timeout_s:
                    self.process.kill()
            with self.changed:
                self.changed.wait(0.005 if self.process is not None else 0.5)

    def stop(self) -> None:
        with self.changed:
            self.stop_requested = True
            if self.state == "started":
                self.state = "stopping"
            self.changed.notify_all()


class MachinesApiServer(LoopbackServer):
    """One app's machines behind HTTP on loopback."""

    methods = ("GET", "POST")

    def __init__(self, app: str = APP, token: str = TOKEN, limits: Limits | None = None) -> None:
        self.app, self.token, self.limits = app, token, limits
        self.machines: dict[str, Machine] = {}
        self.volumes: list[dict[str, Any]] = []
        self.faults: deque[Fault] = deque()
        self.calls: list[tuple[float, str, str]] = []
        #: answers that a request caused (without faults): (action, status)
        self.refusals: list[tuple[str, int, str]] = []
        self._buckets: dict[tuple[str, str], tuple[float, float]] = {}
        self._lock = threading.Lock()
        super().__init__()

    def close(self) -> None:
        super().close()
        for machine in self.machines.values():
            machine.stop()
            machine.retries = 0
            if machine.process is not None:
                with contextlib.suppress(Exception):
                    machine.process.wait(5)
                if machine.process.poll() is None:
                    machine.process.kill()
                    machine.process.wait(5)

    def add(self, machine: Machine) -> Machine:
        self.machines[machine.id] = machine
        return machine

    def count(self, action: str) -> int:
        return sum(1 for _, done, _ in self.calls if done == action)

    # Requests -------------------------------------------------------------------------------------

    def handle(self, http: BaseHTTPRequestHandler) -> None:
        length = int(http.headers.get("Content-Length") or 0)
        http.rfile.read(length)
        parts = urlsplit(http.path)
        words = [unquote(word) for word in parts.path.strip("/").split("/")]
        query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        action, target = self._name(http.command, words)
        with self._lock:
            self.calls.append((time.monotonic(), action, target))
            fault = next((f for f in self.faults if f.action in {action, "*"}), None)
            if fault is not None:
                self.faults.remove(fault)
        status = 0
        body: Any = {}
        if fault is None or fault.after:
            status, body = self._answer(http, words, query, action, target)
            if status >= 400:
                self.refusals.append((action, status, str(body.get("error"))))
        if fault is not None:
            time.sleep(fault.delay_s)
            if not fault.status:
                http.close_connection = True
                with contextlib.suppress(OSError):
                    http.connection.shutdown(2)
                return
            status, body = (
                fault.status,
                {"error": fault.answer} | ({"status": fault.word} if fault.word else {}),
            )
        data = json.dumps(body).encode()
        with contextlib.suppress(OSError):
            http.send_response(status)
            http.send_header("Content-Type", "application/json")
            http.send_header("Content-Length", str(len(data)))
            http.send_header("fly-request-id", "01TEST")
            http.end_headers()
            http.wfile.write(data)

    @staticmethod
    def _name(method: str, words: list[str]) -> tuple[str, str]:
        rest = words[3:]
        if rest[:1] == ["volumes"]:
            return "volumes", ""
        if len(rest) == 1:
            return "list", ""
        target = rest[1] if len(rest) > 1 else ""
        return (rest[2] if len(rest) > 2 else "get" if method == "GET" else "other"), target

    def _answer(
        self,
        http: BaseHTTPRequestHandler,
        words: list[str],
        query: dict[str, str],
        action: str,
        target: str,
    ) -> tuple[int, Any]:
        if http.headers.get("Authorization") != self.token:
            return 401, {"error": "unauthorized"}
        if words[:2] != ["v1", "apps"] or len(words) < 4 or words[2] != self.app:
            return 404, {"error": "app not found"}
        if not self._within_limits(action, target):
            return 429, {"error": "rate limit exceeded"}
        if action == "volumes":
            return 200, self.volumes
        if action == "list":
            return 200, self._list(query)
        machine = self.machines.get(target)
        if machine is None:
            return 404, {"error": "machine not found"}
        answers = {"get": self._get, "start": self._start, "stop": self._stop, "wait": self._wait}
        if action not in answers:
            return 404, {"error": "not found"}
        return answers[action](machine, query)

    def _within_limits(self, action: str, target: str) -> bool:
        if self.limits is None:
            return True
        rate, burst = self.limits.get if action == "get" else self.limits.other
        now = time.monotonic()
        with self._lock:
            tokens, at = self._buckets.get((action, target), (float(burst), now))
            tokens = min(burst, tokens + (now - at) * rate)
            self._buckets[action, target] = (tokens - 1 if tokens >= 1 else tokens, now)
        return tokens >= 1

    def _list(self, query: dict[str, str]) -> list[Any]:
        wanted = {
            key.removeprefix("metadata."): value
            for key, value in query.items()
            if key.startswith("metadata.")
        }
        return [
            machine.json()
            for machine in self.machines.values()
            if machine.state != "destroyed"
            and all(
                (machine.config.get("metadata") or {}).get(key) == value
                for key, value in wanted.items()
            )
        ]

    def _get(self, machine: Machine, _: dict[str, str]) -> tuple[int, Any]:
        return 200, machine.json()

    def _start(self, machine: Machine, _: dict[str, str]) -> tuple[int, Any]:
        with machine.changed:
            state = machine.state
            if time.monotonic() < machine.lease_until:
                return 409, {
                    "error": f"machine ID {machine.id} lease currently held by deploy@example.org"
                }
            if state == "started":
                return 200, {"previous_state": "started", "migrated": False, "new_host": ""}
            if state == "stopping":
                return 412, {
                    "error": "failed_precondition: machine still active, refusing to start"
                }
            if state not in STARTABLE:
                return 412, {
                    "error": "failed_precondition: unable to start machine from current state: "
                    f"'{state}'"
                }
            machine.start()
        return 200, {"previous_state": state, "migrated": False, "new_host": ""}

    def _stop(self, machine: Machine, _: dict[str, str]) -> tuple[int, Any]:
        if time.monotonic() < machine.lease_until:
            return 409, {
                "error": f"machine ID {machine.id} lease currently held by deploy@example.org"
            }
        if machine.state in {"creating", "replacing", "updating"}:
            return 412, {
                "error": "failed_precondition: unable to stop machine from current state: "
                f"'{machine.state}'"
            }
        machine.stop()
        return 200, {"ok": True}

    def _wait(self, machine: Machine, query: dict[str, str]) -> tuple[int, Any]:
        state = query.get("state", "started")
        if state == "stopped" and not query.get("instance_id"):
            return 400, {
                "error": "invalid_argument: instance_id is required to wait for the state stopped"
            }
        if not machine.wait_until(state, min(60.0, float(query.get("timeout", 60)))):
            return 408, {
                "error": f"deadline_exceeded: machine failed to reach desired state, {state}, "
                f"currently {machine.state}"
            }
        return 200, {"ok": True}


@contextlib.contextmanager
def serving(limits: Limits | None = None) -> Iterator[MachinesApiServer]:
    server = MachinesApiServer(limits=limits)
    try:
        yield server
    finally:
        server.close()
