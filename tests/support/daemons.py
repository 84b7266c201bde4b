"""A real daemon process over a temporary data folder, and organizations for it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import zmq

from schedclient import Client
from schedproto.codec import decode_reply, encode_request
from schedproto.layout import socket_endpoint
from schedproto.messages import GetHealth
from schedproto.transfers import Message

AS_OF = "2026-11-23"


class RunningDaemon:
    """One `schedd serve` process."""

    def __init__(self, data: Path, *options: str) -> None:
        self.data, self.options = data, options
        self.log_path = data.parent / f"{data.name}.log"
        self.process: subprocess.Popen[bytes]

    @property
    def endpoint(self) -> str:
        return socket_endpoint(self.data)

    def start(self) -> RunningDaemon:
        with self.log_path.open("ab") as log:
            command = [
                sys.executable,
                "-m",
                "schedd",
                "serve",
                "--data",
                str(self.data),
                "--workers",
                "2",
            ]
            self.process = subprocess.Popen([*command, *self.options], stdout=log, stderr=log)
        return self

    def client(self, **options: Any) -> Client:
        return Client(self.endpoint, **options)

    def workers(self) -> list[int]:
        children = psutil.Process(self.process.pid).children(recursive=True)
        return [child.pid for child in children if child.ppid() != self.process.pid]

    def wait(self, timeout_s: float = 30) -> int:
        return self.process.wait(timeout_s)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def log(self) -> str:
        return self.log_path.read_text()


class RawClient:
    """A bare socket that sends whatever it is told to."""

    def __init__(self, endpoint: str) -> None:
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.connect(endpoint)

    def send(self, frames: list[bytes]) -> None:
        self.socket.send_multipart(frames)

    def receive(self, timeout_s: float = 10) -> Any:
        assert self.socket.poll(timeout_s * 1000), "no answer"
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


def wait_until(condition: Callable[[], Any], timeout_s: float = 20) -> Any:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError("waited in vain")
