"""Starts and stops a machine: the order of calls, retries, and time limits.

States and answers: docs/FLY.md, sections 2 and 3. The caller's timeout bounds everything. Only a
state that was just read counts, so any number of clients may do this at once.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from schedclient.errors import FlyApiError, HostFullError, LaunchError, MachineMissingError

from .api import Machine, MachinesApi

UP = "started"
COMING_UP = frozenset({"starting", "restarting"})
DOWN = frozenset({"created", "stopped", "suspended", "failed"})
GONE = frozenset({"destroying", "destroyed", "launch_failed", "migrated", "replaced"})
#: Process groups of machines that Fly's tools make for a moment (superfly/fly-go,
#: machine_types.go).
_PASSING_GROUPS = frozenset(
    {"fly_app_release_command", "fly_app_test_machine_command", "fly_app_console"}
)
#: Answers to `start` that mean "not now, as it is just changing", of 409 and 412.
_CHANGING = (
    "refusing to start",
    "current state",
    "still active",
    "lease",
    "replac",
    "already start",
    "stopping",
)
#: Answers that mean that the host has no room, of 409, 412 and 422.
_FULL = (
    "insufficient",
    "capacity",
    "no room",
    "not enough",
    "resources available",
    "could not reserve",
)

OnState = Callable[[str], None]


@dataclass(frozen=True)
class PollPolicy:
    """Intervals at which a machine's state is read and requests are repeated, in seconds.

    The API accepts one request a second for each action of a machine, and five that read it
    (docs/FLY.md, section 3).

        patient = PollPolicy(max_poll_s=5.0, full_s=120.0)
        control = MachineControl(api, policy=patient)
    """

    #: between two reads: at first, and at most
    poll_s: float = 0.25
    max_poll_s: float = 2.0
    #: minimum pause after an answer that says "not now", and between two requests to start
    busy_s: float = 1.0
    #: how long the server waits for a state; short, as such a request cannot be interrupted
    wait_s: float = 3.0
    #: how long to retry if the host has no room
    full_s: float = 20.0


class MachineControl:
    """Finds, starts and stops the machine of an app.

        control = MachineControl(MachinesApi("my-scheduler", token, API_OUTSIDE))
        machine = await control.up(timeout_s=90)

    machine_id: which machine, or None for the app's machine with a volume and this metadata.
    """

    def __init__(
        self,
        api: MachinesApi,
        machine_id: str | None = None,
        metadata: Mapping[str, str] | None = None,
        policy: PollPolicy | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._api, self._wanted_id, self._metadata = api, machine_id, dict(metadata or {})
        self._policy, self._jitter = policy or PollPolicy(), jitter
        self._known_id = machine_id
        #: when a start was asked for last, by the monotonic clock
        self._asked_at = float("-inf")

    async def candidates(self) -> list[Machine]:
        """Return the app's permanent machines; the first is the one in use."""
        machines = await asyncio.to_thread(self._api.machines, self._metadata)
        lasting = [
            machine
            for machine in machines
            if machine.state not in GONE
            and machine.metadata.get("fly_process_group") not in _PASSING_GROUPS
        ]
        return sorted(
            lasting, key=lambda m: (not m.has_volume, m.state != UP, m.state in DOWN, m.id)
        )

    async def look(self) -> Machine:
        """Return the machine's current state; finds the machine if it is unknown or gone."""
        if self._known_id is not None:
            try:
                machine: Machine = await asyncio.to_thread(self._api.get, self._known_id)
            except MachineMissingError:
                if self._wanted_id is not None:
                    raise
            else:
                if machine.state not in GONE or self._wanted_id is not None:
                    return machine
            self._known_id = None
        found = await self.candidates()
        if not found:
            which = (
                " with " + ", ".join(f"{k}={v}" for k, v in self._metadata.items())
                if self._metadata
                else ""
            )
            raise MachineMissingError(
                f"the app {self._api.app!r} has no machine{which}",
                "`schedctl deploy` creates one; see docs/OPERATIONS.md.",
            )
        self._known_id = found[0].id
        return found[0]

    def forget(self) -> bool:
        """Forget which machine was found; returns whether the next one may be another."""
        self._known_id = self._wanted_id
        return self._wanted_id is None

    async def up(self, timeout_s: float, on_state: OnState | None = None) -> Machine:
        """Start the machine if needed, and return it once it is started.

        Raises `LaunchError` after `timeout_s` seconds.
        """
        return await _Work(self, timeout_s, on_state, "start").run(self._step_up)

    async def down(self, timeout_s: float, on_state: OnState | None = None) -> Machine:
        """Stop the machine if needed, and return it once it is stopped.

        Raises `LaunchError` after `timeout_s` seconds.
        """
        return await _Work(self, timeout_s, on_state, "stop").run(self._step_down)

    async def _step_up(self, machine: Machine, work: _Work) -> Machine | None:
        """Take the next step towards a started machine; returns it once it is started."""
        if machine.state == UP:
            return machine
        if machine.state in GONE:
            raise MachineMissingError(
                f"the machine {machine.id} is {machine.state}", "`schedctl deploy` creates another."
            )
        if machine.state in DOWN:
            pause = self._asked_at + self._policy.busy_s - time.monotonic()
            if pause > 0:
                # Another task has just requested the start; the state read may be older.
                await work.sleep(pause)
                return None
            self._asked_at = time.monotonic()
            await asyncio.to_thread(self._api.start, machine.id)
        elif machine.state not in COMING_UP:
            await work.pause()  # it may end in a state from which nobody would start it
            return None
        return await work.wait_for(machine, UP)

    async def _step_down(self, machine: Machine, work: _Work) -> Machine | None:
        """Take the next step towards a stopped machine; returns it once it is stopped."""
        if machine.state in DOWN or machine.state in GONE:
            return machine
        if machine.state == UP:
            await asyncio.to_thread(self._api.stop, machine.id)
        elif machine.state != "stopping":
            await work.pause()
            return None
        return await work.wait_for(machine, "stopped")


class _Work:
    """One attempt to change a machine's state, within a time: read, step, handle errors."""

    def __init__(
        self, control: MachineControl, timeout_s: float, on_state: OnState | None, verb: str
    ) -> None:
        self._control = control
        self._timeout_s = timeout_s
        self._on_state = on_state
        self._verb = verb
        self._deadline = time.monotonic() + timeout_s
        self._api, self._policy = control._api, control._policy  # noqa: SLF001 - two halves of one thing
        self._jitter = control._jitter  # noqa: SLF001
        self._pause_s = self._policy.poll_s
        self._full_since: float | None = None
        self._vanished = False
        self._state, self._instance, self._error = "", "", ""

    async def run(self, step: Callable[[Machine, _Work], Any]) -> Machine:
        while True:
            try:
                machine = await self._control.look()
                self._note(machine)
                done = await step(machine, self)
                if done is not None:
                    return done  # type: ignore[no-any-return]
            except FlyApiError as error:
                await self._handle_error(error)
            if time.monotonic() >= self._deadline:
                raise self._timeout_error()

    def _note(self, machine: Machine) -> None:
        if (machine.state, machine.instance_id) == (self._state, self._instance):
            return
        self._state, self._instance = machine.state, machine.instance_id
        self._pause_s = self._policy.poll_s
        if self._on_state is not None:
            self._on_state(machine.state)

    async def wait_for(self, machine: Machine, state: str) -> Machine | None:
        """Let the server wait for a state and return the machine, or pause if it cannot.

        The state counts as reached even if the next read finds another one: a client that starts
        the machine and one that stops it, each between the other's wait and read, would otherwise
        never finish.
        """
        began, left = time.monotonic(), self._deadline - time.monotonic()
        if left <= 0:
            return None
        reached = await asyncio.to_thread(
            self._api.wait, machine.id, state, min(self._policy.wait_s, left), machine.instance_id
        )
        if reached:
            after = msgspec.structs.replace(await self._control.look(), state=state)
            self._note(after)
            return after
        if time.monotonic() - began < self._pause_s:
            await self.pause()
        return None

    async def sleep(self, seconds: float) -> None:
        """Sleep up to a quarter longer, so that clients do not stay in step; never past the end."""
        left = self._deadline - time.monotonic()
        await asyncio.sleep(max(0.0, min(seconds * (1 + self._jitter() / 4), left)))

    async def pause(self) -> None:
        """Sleep until the next read; longer each time that nothing has changed."""
        await self.sleep(self._pause_s)
        self._pause_s = min(self._pause_s * 2, self._policy.max_poll_s)

    async def _handle_error(self, error: FlyApiError) -> None:
        """Pause if a retry can help, otherwise raise the error."""
        if (
            isinstance(error, MachineMissingError)
            and self._state
            and not self._vanished
            and self._control.forget()
        ):
            # It existed a moment ago and was destroyed between two calls. Another may replace it.
            self._vanished = True
            return
        text = error.answer.lower()
        self._error = error.message
        if error.word == "insufficient_capacity" or (
            error.status in {409, 412, 422} and any(word in text for word in _FULL)
        ):
            now = time.monotonic()
            self._full_since = self._full_since or now
            if now - self._full_since >= min(self._policy.full_s, self._timeout_s):
                raise _host_full(error)
            await self.sleep(self._policy.busy_s)
        elif error.status in {409, 412, 429} or (
            error.status == 400 and any(word in text for word in _CHANGING)
        ):
            await self.sleep(self._policy.busy_s)
        elif error.retryable:
            await self.pause()
        else:
            raise error

    def _timeout_error(self) -> LaunchError:
        last = f"; last, {self._error}" if self._error else ""
        state = f"is {self._state!r}" if self._state else "was not seen"
        return LaunchError(
            f"the machine did not {self._verb} within {self._timeout_s:g} seconds: it "
            f"{state}{last}",
            f"Check `fly status -a {self._api.app}` and `fly logs -a {self._api.app}`, or run "
            "`schedctl doctor`.",
            retryable=True,
        )


def _host_full(error: FlyApiError) -> HostFullError:
    full = HostFullError(
        f"the machine's host has no capacity to start it now: {error.answer}",
        "Retry later, or move the volume to another host: docs/OPERATIONS.md, 'The host is full'.",
        retryable=True,
    )
    full.status, full.answer, full.word = error.status, error.answer, error.word
    full.details = error.details
    return full
