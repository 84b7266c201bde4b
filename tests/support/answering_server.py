"""An HTTP server with prepared answers to S3 requests, as real servers send them."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from schedbucket.settings import S3Settings
from tests.support.loopback_server import LoopbackServer

ERROR = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    "<Error><Code>{code}</Code><Message>{message}</Message><Resource>/b/k</Resource>"
    "<RequestId>4442587FB7D0A2F9</RequestId><HostId>x/y=</HostId></Error>"
)
LISTING = (
    '<?xml version="1.0" encoding="UTF-8"?>'
    "<ListBucketResult><Name>b</Name><IsTruncated>false</IsTruncated></ListBucketResult>"
)
DELETED = (
    '<?xml version="1.0" encoding="UTF-8"?>'
    "<DeleteResult><Deleted><Key>k</Key></Deleted></DeleteResult>"
)


@dataclass
class Failure:
    """An answer other than success. An empty code: without a body."""

    status: int
    code: str = ""
    headers: dict[str, str] = field(default_factory=dict)


class AnsweringServer(LoopbackServer):
    """Answers each request with the next of `failures`, or with success if there is none left.

    always: a failure for every request.   requests: method, path and headers of each.
    """

    def __init__(self) -> None:
        self.failures: deque[Failure] = deque()
        self.always: Failure | None = None
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        super().__init__()

    def settings(self, **options: Any) -> S3Settings:
        values: dict[str, Any] = {"timeout_s": 5.0, "retry_timeout_s": 5.0, "retries": 0}
        return S3Settings(
            bucket="b",
            endpoint=self.url,
            access_key_id="key",
            secret_access_key="secret",
            **(values | options),
        )

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        request.rfile.read(int(request.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.requests.append((request.command, request.path, headers))
        failure = self.always or (self.failures.popleft() if self.failures else None)
        if failure is None:
            status, body, extra = 200, self._success(request), {"ETag": '"e1"'}
        else:
            status, extra = failure.status, failure.headers
            text = ERROR.format(code=failure.code, message="As real servers say it.")
            body = text.encode() if failure.code else b""
        request.send_response(status)
        request.send_header("Last-Modified", "Wed, 21 Oct 2026 07:28:00 GMT")
        request.send_header("Content-Length", str(len(body)))
        for name, value in extra.items():
            request.send_header(name, value)
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(body)

    @staticmethod
    def _success(request: BaseHTTPRequestHandler) -> bytes:
        if request.command == "POST":
            return DELETED.encode()
        if request.command in ("GET", "HEAD"):
            return LISTING.encode() if "list-type" in request.path else b"content"
        return b""
