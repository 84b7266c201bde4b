"""Bringing one machine up and down: which call comes when, what is repeated, and for how long.

States and answers: docs/FLY.md, sections 2 and 3. Time is bounded by the caller's timeout in every
case; nothing is assumed of a state that was not read a moment ago, so any number of clients may do
this at once.
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
    """How fast a machine's state is looked at and asked for; seconds.

    The API takes one request a second and action of a machine, five of those that get it
    (docs/FLY.md, section 3).
    """

    #: between two looks at first, and at most
    poll_s: float = 0.25
    max_poll_s: float = 2.0
    #: at least after an answer that says "not now", and between two requests to start
    busy_s: float = 1.0
    #: how long the server is asked to wait for a state; short, as such a request cannot be
    #: interrupted
    wait_s: float = 3.0
    #: how long a host without room is asked again
    full_s: float = 20.0


class MachineControl:
    """Finds, starts and stops the machine of an app.

    machine_id: which one, or None for the app's machine with a volume and this metadata.
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
        """Return the app's lasting machines, the one that is used first."""
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
        """Return the machine as it is now; finds it where it is not known yet or is no more."""
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
        """Forget which machine was found, so that it is looked for again.

        Returns whether it may be another.
        """
        self._known_id = self._wanted_id
        return self._wanted_id is None

    async def up(self, timeout_s: float, on_state: OnState | None = None) -> Machine:
        """Return the machine once it is started, starting it if need be.

        Raises `LaunchError` at the latest then.
        """
        return await _Work(self, timeout_s, on_state, "start").run(self._step_up)

    async def down(self, timeout_s: float, on_state: OnState | None = None) -> Machine:
        """Return the machine once it is stopped, stopping it if need be.

        Raises `LaunchError` at the latest then.
        """
        return await _Work(self, timeout_s, on_state, "stop").run(self._step_down)

    async def _step_up(self, machine: Machine, work: _Work) -> Machine | None:
        """Do what brings a machine nearer to being up; returns it once it is."""
        if machine.state == UP:
            return machine
        if machine.state in GONE:
            raise MachineMissingError(
                f"the machine {machine.id} is {machine.state}", "`schedctl deploy` creates another."
            )
        if machine.state in DOWN:
            pause = self._asked_at + self._policy.busy_s - time.monotonic()
            if (
                pause > 0
            ):  # somebody here has just asked for it; the state read may be older than that
                await work.sleep(pause)
                return None
            self._asked_at = time.monotonic()
            await asyncio.to_thread(self._api.start, machine.id)
        elif machine.state not in COMING_UP:
            await work.pause()  # it may come to rest in a state in which nobody would wake it
            return None
        return await work.wait_for(machine, UP)

    async def _step_down(self, machine: Machine, work: _Work) -> Machine | None:
        """Do what brings a machine nearer to being down; returns it once it is."""
        if machine.state in DOWN or machine.state in GONE:
            return machine
        if machine.state == UP:
            await asyncio.to_thread(self._api.stop, machine.id)
        elif machine.state != "stopping":
            await work.pause()
            return None
        return await work.wait_for(machine, "stopped")


class _Work:
    """One attempt to change a machine's state, within a time.

    Looks, steps, and what errors mean for going on.
    """

    def __init__(
        self, control: MachineControl, timeout_s: float, on_state: OnState | None, verb: str
    ) -> None:
        self._control, self._timeout_s, self._on_state, self._verb = (
            control,
            timeout_s,
            on_state,
            verb,
        )
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
        """Let the server wait for a state and return the machine.

        Where it cannot, pause before the next look.

        The state was reached even if the next look finds another: who wants it up may meet somebody
        who wants it down, and two that undo each other's work between a wait and a look would never
        come to an end.
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
        """Sleep, with up to a quarter more so that clients that met once do not meet again, not beyond the end."""
        left = self._deadline - time.monotonic()
        await asyncio.sleep(max(0.0, min(seconds * (1 + self._jitter() / 4), left)))

    async def pause(self) -> None:
        """Sleep until the next look; longer each time that nothing has changed."""
        await self.sleep(self._pause_s)
        self._pause_s = min(self._pause_s * 2, self._policy.max_poll_s)

    async def _handle_error(self, error: FlyApiError) -> None:
        """Pause if a repeat can help, else raise."""
        if (
            isinstance(error, MachineMissingError)
            and self._state
            and not self._vanished
            and self._control.forget()
        ):
            # It was there a moment ago: destroyed between two calls, and another one may take its
            # place.
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
            f"the machine did not {self._verb} within {self._timeout_s:g} seconds: it {state}{last}",
            f"Check `fly status -a {self._api.app}` and `fly logs -a {self._api.app}`, or run `schedctl doctor`.",
            retryable=True,
        )


def _host_full(error: FlyApiError) -> HostFullError:
    full = HostFullError(
        f"the machine's host has no capacity to start it now: {error.answer}",
        "Retry later, or move the volume to another host: docs/OPERATIONS.md, 'The host is full'.",
        retryable=True,
    )
    full.status, full.answer, full.word, full.details = (
        error.status,
        error.answer,
        error.word,
        error.details,
    )
    return full
