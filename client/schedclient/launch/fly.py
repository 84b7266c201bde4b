"""The launcher that starts a machine on Fly and finds its daemon on the private network."""

from __future__ import annotations

import time
from typing import Any

from schedclient.errors import LaunchError, SettingsError
from schedclient.fly.api import Machine, MachinesApi
from schedclient.fly.control import MachineControl, OnState, PollPolicy
from schedclient.settings import FlySettings

#: How long to wait for the name of a started machine.
DNS_S = 5.0
#: How long after that has failed once, and the API's address was used instead.
NO_DNS_S = 0.5
#: How long a machine that was seen started counts as started: connections are retried faster than
#: the API accepts requests.
FRESH_S = 1.0
#: A machine that was started this often in this time does not stay up.
MANY_STARTS, MANY_STARTS_S = 6, 120.0


class FlyLauncher:
    """Makes sure that the app's machine runs; returns the daemon's endpoint on it.

    on_state: called with each state of the machine while it starts.

        launcher = FlyLauncher(settings.fly, on_state=print)
        endpoint = await launcher.ensure()
    """

    can_start = True

    def __init__(
        self,
        settings: FlySettings,
        on_state: OnState | None = None,
        policy: PollPolicy | None = None,
    ) -> None:
        if not settings.token:
            raise SettingsError(
                f"a token is needed to start the machine of {settings.app!r}",
                f"Create one with `fly tokens create deploy -a {settings.app}` and set "
                "FLY_API_TOKEN.",
            )
        self.settings = settings
        self.on_state = on_state
        self.starting_s = 0.0
        self.api = MachinesApi(settings.app, settings.token, settings.api)
        self.control = MachineControl(self.api, settings.machine, settings.metadata, policy)
        self._endpoint, self._seen_at = "", float("-inf")
        self._starts: list[float] = []
        self._names_answer = True

    async def ensure(self) -> str:
        """Return the endpoint of the daemon on the machine, which is started if needed."""
        now = time.monotonic()
        if self._endpoint and now - self._seen_at < FRESH_S:
            return self._endpoint
        states: list[str] = []
        try:
            machine = await self.control.up(
                self.settings.start_timeout_s, lambda state: self._on_state(state, states)
            )
            address = await self._address(machine)
        finally:
            if states and states[0] != "started":
                self.starting_s += time.monotonic() - now
        if states and states[0] != "started":
            self._count_start(machine)
        self._endpoint = (
            f"tcp://{f'[{address}]' if ':' in address else address}:{self.settings.port}"
        )
        self._seen_at = time.monotonic()
        return self._endpoint

    async def _address(self, machine: Machine) -> str:
        from schedclient.fly.names import address_of  # noqa: PLC0415 - loads DNS

        began = time.monotonic()
        timeout_s = DNS_S if self._names_answer else NO_DNS_S
        address = await address_of(
            machine.id, self.settings.app, self.settings.resolver, machine.private_ip, timeout_s
        )
        # If no name server knows the name at all (no WireGuard, another resolver), it is not
        # waited for each time.
        self._names_answer = time.monotonic() - began < timeout_s / 2
        return address

    def _on_state(self, state: str, states: list[str]) -> None:
        states.append(state)
        if self.on_state is not None:
            self.on_state(state)

    def _count_start(self, machine: Machine) -> None:
        """Raise `LaunchError` if the machine keeps going down, instead of starting it forever."""
        exit_event = last_exit(machine)
        code = exit_event.get("exit_code", 0)
        if code == 0 or exit_event.get("requested_stop"):
            return  # idle, or stopped by somebody
        now = time.monotonic()
        self._starts = [at for at in self._starts if now - at < MANY_STARTS_S] + [now]
        if len(self._starts) >= MANY_STARTS:
            self._starts.clear()
            raise LaunchError(
                f"the machine {machine.id} went down {MANY_STARTS} times right after its start "
                f"(exit code {code}{', out of memory' if exit_event.get('oom_killed') else ''})",
                f"Check `fly logs -a {self.settings.app}`; docs/SETTINGS.md lists the daemon's "
                "exit codes.",
            )


def last_exit(machine: Machine) -> dict[str, Any]:
    """Return what the machine's history says of its last exit (docs/FLY.md, section 1)."""
    for event in machine.events or []:
        request: Any = event.request or {}
        found = request.get("exit_event") or (request.get("MonitorEvent") or {}).get("exit_event")
        if isinstance(found, dict):
            return found
    return {}
