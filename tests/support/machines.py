"""Helpers for the tests of machines.

The API's server, a name server, and machines that run real daemons or nothing.
"""

from __future__ import annotations

import itertools
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zmq

from schedclient.fly.api import MachinesApi
from schedclient.fly.control import MachineControl, PollPolicy
from tests.support.daemons import workers_of
from tests.support.machines_api import TOKEN, Machine, MachinesApiServer, Process
from tests.support.names_server import NamesServer

#: Runs `schedctl` for a site (the fixture `call`).
Call = Callable[..., subprocess.CompletedProcess[str]]
SCHEDD = [sys.executable, "-m", "schedd"]
#: As the real policy, a hundred times faster.
QUICK = PollPolicy(poll_s=0.003, max_poll_s=0.02, busy_s=0.01, wait_s=0.1, full_s=0.2)

_addresses = itertools.count(2 + (os.getpid() % 200) * 100)


def new_address() -> str:
    """Return a loopback address that no other machine of this test run has."""
    number = next(_addresses)
    return f"127.{7 + number // 62_500}.{number // 250 % 250}.{number % 250 + 2}"


def free_port(address: str) -> int:
    with socket.socket() as found:
        found.bind((address, 0))
        return int(found.getsockname()[1])


def nothing(_: Machine) -> Process | None:
    """The body of a machine in which no process runs: it is started until it is stopped."""
    return None


def machine_of(server: MachinesApiServer, **options: Any) -> Machine:
    """A machine with nothing in it."""
    return server.add(
        Machine("148e1", new_address(), nothing, start_s=0.005, stop_s=0.005, **options)
    )


def control_of(
    server: MachinesApiServer, machine_id: str | None = None, **options: Any
) -> MachineControl:
    api = MachinesApi(server.app, TOKEN, server.url, timeout_s=5)
    return MachineControl(api, machine_id, policy=options.pop("policy", QUICK), **options)


@dataclass
class Keys:
    """Key pairs of a daemon and of a client."""

    server_public: str
    server_secret: str
    client_public: str
    client_secret: str

    @classmethod
    def new(cls) -> Keys:
        public, secret = zmq.curve_keypair()
        client_public, client_secret = zmq.curve_keypair()
        return cls(public.decode(), secret.decode(), client_public.decode(), client_secret.decode())


@dataclass
class DaemonBody:
    """Runs a real daemon over a volume as a machine's main process."""

    volume: Path
    port: int
    keys: Keys
    idle_timeout_s: float = 0.0
    command: list[str] = field(default_factory=lambda: list(SCHEDD))
    log: Path | None = None

    def __call__(self, machine: Machine) -> Process:
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("SCHEDD_", "SCHEDCTL_", "FLY_"))
        }
        environment |= {
            "SCHEDD_DATA": str(self.volume),
            "SCHEDD_LISTEN": f"tcp://{machine.address}:{self.port}",
            "SCHEDD_SERVER_KEY": self.keys.server_secret,
            "SCHEDD_ALLOW_CLIENTS": self.keys.client_public,
            "SCHEDD_IDLE_TIMEOUT": f"{self.idle_timeout_s:g}",
            "SCHEDD_WORKERS": "2",
            "FLY_APP_NAME": "email-scheduler",
            "FLY_MACHINE_ID": machine.id,
            "FLY_REGION": "iad",
            "FLY_VM_MEMORY_MB": "16384",
        }
        self.log = self.log or self.volume.parent / f"{machine.id}.log"
        with self.log.open("ab") as output:
            return subprocess.Popen(
                [*self.command, "serve"],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )


@dataclass
class Site:
    """An app with one machine that runs a real daemon, and the client's settings for it."""

    server: MachinesApiServer
    names: NamesServer
    machine: Machine
    body: DaemonBody

    def settings(self, **more: Any) -> dict[str, Any]:
        return {
            "app": self.server.app,
            "token": TOKEN,
            "api": self.server.url,
            "resolver": self.names.address,
            "port": self.body.port,
            "key": self.body.keys.client_secret,
            "server_key": self.body.keys.server_public,
            **more,
        }

    def environment(self) -> dict[str, str]:
        """The same for another process."""
        kept = {
            n: v
            for n, v in os.environ.items()
            if not n.startswith(("SCHEDD_", "SCHEDCTL_", "FLY_"))
        }
        return kept | {
            "SCHEDCTL_APP": self.server.app,
            "FLY_API_TOKEN": TOKEN,
            "SCHEDCTL_FLY_API": self.server.url,
            "SCHEDCTL_RESOLVER": self.names.address,
            "SCHEDCTL_PORT": str(self.body.port),
            "SCHEDCTL_KEY": self.body.keys.client_secret,
            "SCHEDCTL_SERVER_KEY": self.body.keys.server_public,
        }

    def workers(self) -> list[int]:
        """Return the pids of the daemon's worker processes."""
        process = self.machine.process
        assert isinstance(process, subprocess.Popen)
        return workers_of(process.pid)

    def log(self) -> str:
        return self.body.log.read_text() if self.body.log and self.body.log.exists() else ""


def make_site(server: MachinesApiServer, names: NamesServer, folder: Path, **options: Any) -> Site:
    volume = folder / "volume"
    volume.mkdir()
    address = new_address()
    body = DaemonBody(volume, free_port(address), Keys.new(), **options)
    machine = server.add(
        Machine(
            "148e2",
            address,
            body,
            config={"mounts": [{"path": "/data", "volume": "vol_1"}], "metadata": {}},
        )
    )
    return Site(server, names, machine, body)
