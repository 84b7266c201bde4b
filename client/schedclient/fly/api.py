"""The Machines API, as far as a machine is found, started and stopped with it.

One method a call, one call a request.

Blocking; knows no policy: what is repeated, and for how long, `starting` decides. Shapes and status
codes: docs/FLY.md, sections 1 to 3, which name their sources.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import certifi
import msgspec
import urllib3

from schedclient.errors import FlyApiError, FlyTokenError, MachineMissingError
from schedproto.version import __version__

_T = TypeVar("_T")

#: Maximum time of a wait (superfly/fly-go, flaps/flaps_machines_wait.go).
MAX_WAIT_S = 60.0
#: The first part of tokens that go with the scheme FlyV1 (superfly/fly-go, auth.go).
_MACAROONS = ("fm1r_", "fm2_")


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of a machine's history; `timestamp` in milliseconds since 1970."""

    type: str = ""
    status: str = ""
    source: str = ""
    timestamp: int = 0
    request: dict[str, Any] | None = None


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """A machine as the API describes it; fields that are not used here are left out."""

    id: str
    state: str = ""
    name: str = ""
    region: str = ""
    instance_id: str = ""
    private_ip: str = ""
    host_status: str = "ok"
    updated_at: str = ""
    config: dict[str, Any] | None = None
    incomplete_config: dict[str, Any] | None = None
    image_ref: dict[str, Any] | None = None
    events: list[Event] | None = None

    @property
    def known_config(self) -> dict[str, Any]:
        """Return the configuration; the host's state decides which of the two fields has it."""
        return self.config or self.incomplete_config or {}

    @property
    def metadata(self) -> dict[str, str]:
        """Return the machine's metadata."""
        return dict(self.known_config.get("metadata") or {})

    @property
    def has_volume(self) -> bool:
        """Return whether a volume is mounted in it."""
        return bool(self.known_config.get("mounts"))


class Volume(msgspec.Struct, frozen=True, kw_only=True):
    """A volume as the API describes it."""

    id: str
    name: str = ""
    state: str = ""
    region: str = ""
    size_gb: int = 0
    attached_machine_id: str | None = None
    host_status: str = "ok"


def authorization(token: str) -> str:
    """Return the header's value for a token as flyctl prints or stores it."""
    bare = token.strip()
    scheme = bare.partition(" ")[0]
    if scheme in {"FlyV1", "Bearer"}:
        return bare
    if any(part.strip().startswith(_MACAROONS) for part in bare.split(",")):
        return f"FlyV1 {bare}"
    return f"Bearer {bare}"


class MachinesApi:
    """Calls for the machines of one app.

    Every call raises `FlyApiError` or a subclass: with the HTTP status, or with 0 if there was
    no answer.
    timeout_s: of one request, its connection included.

        api = MachinesApi("my-scheduler", token, API_OUTSIDE)
        for machine in await api.machines():
            print(machine.id, machine.state)
    """

    def __init__(self, app: str, token: str, base_url: str, timeout_s: float = 10.0) -> None:
        self.app, self.base_url = app, base_url.rstrip("/")
        self._timeout_s = timeout_s
        self._headers = {
            "Authorization": authorization(token),
            "Accept": "application/json",
            "User-Agent": f"email-scheduler/{__version__}",
        }
        # Retries are the caller's; certificates come with the package, so that no system package is
        # needed.
        self._http = urllib3.PoolManager(retries=False, ca_certs=certifi.where(), maxsize=4)

    def close(self) -> None:
        """Close idle connections."""
        self._http.clear()

    def machines(self, metadata: Mapping[str, str] | None = None) -> list[Machine]:
        """Return the app's machines that are not destroyed, optionally only those with metadata."""
        query = {f"metadata.{key}": value for key, value in (metadata or {}).items()}
        return self._decode(self._request("GET", "/machines", query), list[Machine])

    def get(self, machine_id: str) -> Machine:
        """Return a machine's current state."""
        return self._decode(
            self._request("GET", f"/machines/{quote(machine_id, safe='')}"), Machine
        )

    def start(self, machine_id: str) -> None:
        """Request that a machine starts; its state changes soon after."""
        self._request("POST", f"/machines/{quote(machine_id, safe='')}/start")

    def stop(self, machine_id: str) -> None:
        """Request that a machine stops, by its configured signal and timeout."""
        self._request("POST", f"/machines/{quote(machine_id, safe='')}/stop", body={})

    def wait(self, machine_id: str, state: str, timeout_s: float, instance_id: str = "") -> bool:
        """Wait on the server's side until a machine is in a state; returns whether it is.

        timeout_s: 1 to `MAX_WAIT_S`, integer seconds.   instance_id: the version; the documentation
        requires it if the state is `stopped`.
        """
        seconds = int(max(1.0, min(timeout_s, MAX_WAIT_S)))
        query = {"state": state, "timeout": str(seconds)}
        if instance_id:
            query["instance_id"] = instance_id
        path = f"/machines/{quote(machine_id, safe='')}/wait"
        try:
            self._request("GET", path, query, timeout_s=seconds + self._timeout_s)
        except FlyApiError as error:
            if error.status == 408:
                return False
            raise
        return True

    def volumes(self) -> list[Volume]:
        """Return the app's volumes."""
        return self._decode(self._request("GET", "/volumes"), list[Volume])

    # Requests -------------------------------------------------------------------------------------

    def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        timeout_s: float | None = None,
    ) -> bytes:
        url = f"{self.base_url}/v1/apps/{quote(self.app, safe='')}{path}"
        if query:
            url += f"?{urlencode(query)}"
        headers, data = dict(self._headers), None
        if body is not None:
            headers["Content-Type"], data = "application/json", json.dumps(body).encode()
        timeout = urllib3.Timeout(connect=self._timeout_s, read=timeout_s or self._timeout_s)
        try:
            answer = self._http.request(
                method, url, headers=headers, body=data, timeout=timeout, redirect=False
            )
        except urllib3.exceptions.HTTPError as error:
            raise FlyApiError(
                f"the Machines API at {self.base_url} does not answer: {_reason(error)}",
                "Check the network; from outside the private network the API is at https://api.machines.dev.",
                retryable=True,
            ) from None
        if 200 <= answer.status < 300:
            return answer.data
        raise self._error(answer.status, answer.data, answer.headers.get("fly-request-id", ""))

    def _error(self, status: int, body: bytes, request_id: str) -> FlyApiError:
        text, word = _said(body)
        details = {"status": str(status), "answer": text} | (
            {"request_id": request_id} if request_id else {}
        )
        if status in {401, 403}:
            error: FlyApiError = FlyTokenError(
                f"the Machines API rejected the token (HTTP {status}: {text})",
                f"Create one with `fly tokens create deploy -a {self.app}` and set FLY_API_TOKEN.",
            )
        elif status == 404:
            error = MachineMissingError(
                f"the app {self.app!r} or its machine does not exist (HTTP 404: {text})",
                "Check SCHEDCTL_APP; `schedctl deploy` creates the app and its machine.",
            )
        else:
            error = FlyApiError(
                f"the Machines API answered with HTTP {status}: {text}",
                "If it persists, check https://status.flyio.net." if status >= 500 else "",
                retryable=status in {408, 409, 412, 429} or status >= 500,
            )
        error.status, error.answer, error.word = status, text, word
        error.details = details
        return error

    def _decode(self, data: bytes, kind: type[_T]) -> _T:
        try:
            return msgspec.json.decode(data, type=kind)
        except msgspec.MsgspecError as error:
            raise FlyApiError(
                f"the Machines API at {self.base_url} sent an invalid answer: {error}",
                "Check that this is the address of the Machines API.",
            ) from None


def _reason(error: Exception) -> str:
    """Return the cause of an error, without the address and pool that urllib3 adds."""
    cause = getattr(error, "reason", None) or error
    text = str(cause)
    return (
        text.rpartition("object at 0x")[2].partition(": ")[2] or text
        if "object at 0x" in text
        else text
    )


def _said(body: bytes) -> tuple[str, str]:
    """Return the sentence and the status word of an error's body, which may be JSON or not."""
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    if isinstance(document, dict):
        text = str(
            document.get("error")
            or document.get("message")
            or document.get("details")
            or "no reason given"
        )
        return text[:500], str(document.get("status") or "")
    return body.decode("utf-8", "replace").strip()[:500] or "no reason given", ""
