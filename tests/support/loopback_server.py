"""A threaded HTTP server on loopback: the base of the servers that stand in for real ones."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar


class LoopbackServer:
    """Passes each request to `handle`, on a thread of its own, from the end of `__init__` on.

    A subclass sets its own attributes before it calls `super().__init__()`.

    methods: those that are passed on; others are refused with 501.
    """

    methods: ClassVar[tuple[str, ...]] = ("GET", "HEAD", "PUT", "POST", "DELETE")

    def __init__(self) -> None:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # The head and the body are two writes: 40 ms each answer otherwise.
            disable_nagle_algorithm = True

            def log_message(self, *_: Any) -> None:
                return

            def pass_on(self) -> None:
                outer.handle(self)

        for method in self.methods:
            setattr(Handler, f"do_{method}", Handler.pass_on)
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        ).start()

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        """Answer a request."""
        raise NotImplementedError

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
