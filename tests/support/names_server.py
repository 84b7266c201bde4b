"""A name server on loopback for the names of started machines."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import dns.flags
import dns.message
import dns.rcode
import dns.rrset

from .machines_api import MachinesApiServer


class NamesServer:
    """Answers over UDP. `silent` questions in a row get no answer at all."""

    def __init__(self, api: MachinesApiServer) -> None:
        self._api = api
        self.silent = 0
        self.broken = False
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.settimeout(0.1)
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self._closing = False
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closing = True
        self._thread.join(120)
        self._socket.close()

    def _serve(self) -> None:
        while not self._closing:
            try:
                data, peer = self._socket.recvfrom(4096)
            except TimeoutError:
                continue
            if self.silent:
                self.silent -= 1
                continue
            self._socket.sendto(self._answer(dns.message.from_wire(data)).to_wire(), peer)

    def _answer(self, question: dns.message.Message) -> dns.message.Message:
        answer = dns.message.make_response(question)
        answer.flags |= dns.flags.RA
        if self.broken:
            answer.set_rcode(dns.rcode.SERVFAIL)
            return answer
        name = question.question[0].name
        machine_id, _, rest = name.to_text(omit_final_dot=True).partition(".")
        machine = self._api.machines.get(machine_id)
        known = (
            machine is not None
            and rest == f"vm.{self._api.app}.internal"
            and machine.state == "started"
            and time.monotonic() - machine.started_at >= machine.dns_s
        )
        if not known:
            answer.set_rcode(dns.rcode.NXDOMAIN)
            return answer
        assert machine is not None
        address = machine.address if ":" in machine.address else f"::ffff:{machine.address}"
        answer.answer.append(dns.rrset.from_text(name, 5, "IN", "AAAA", address))
        return answer


@contextlib.contextmanager
def naming(api: MachinesApiServer) -> Iterator[NamesServer]:
    server = NamesServer(api)
    try:
        yield server
    finally:
        server.close()
