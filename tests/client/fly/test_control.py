"""Start and stop of a machine, over real HTTP.

Covers every state, every answer, and many clients at once.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schedclient.errors import (
    FlyApiError,
    FlyTokenError,
    HostFullError,
    LaunchError,
    MachineMissingError,
)
from schedclient.fly.api import MachinesApi, authorization
from schedclient.fly.control import MachineControl, PollPolicy
from tests.support.machines import QUICK, control_of, machine_of, nothing
from tests.support.machines_api import (
    APP,
    TOKEN,
    Fault,
    Limits,
    Machine,
    MachinesApiServer,
    serving,
)


def later(seconds: float, action: Callable[[], Any]) -> threading.Timer:
    timer = threading.Timer(seconds, action)
    timer.daemon = True
    timer.start()
    return timer


def up(control: MachineControl, timeout_s: float = 10.0) -> str:
    return asyncio.run(control.up(timeout_s)).state


def down(control: MachineControl, timeout_s: float = 10.0) -> str:
    return asyncio.run(control.down(timeout_s)).state


@pytest.mark.parametrize(
    ("token", "header"),
    [
        ("FlyV1 fm2_abc", "FlyV1 fm2_abc"),
        ("fm2_abc", "FlyV1 fm2_abc"),
        ("fm1r_abc,fm2_def", "FlyV1 fm1r_abc,fm2_def"),
        ("  fo1_abc\n", "Bearer fo1_abc"),
        ("Bearer fo1_abc", "Bearer fo1_abc"),
    ],
)
def test_authorization(token: str, header: str) -> None:
    """A token goes with the scheme that belongs to it, whether or not it was stored with one."""
    assert authorization(token) == header


@pytest.mark.parametrize("state", ["stopped", "created", "suspended", "failed"])
def test_up_from_rest(server: MachinesApiServer, state: str) -> None:
    """A machine at rest is started with one request, whatever kind of rest it is."""
    machine = machine_of(server, state=state)
    assert up(control_of(server)) == "started"
    assert machine.starts == 1
    assert server.count("start") == 1


def test_up_when_it_is_up(server: MachinesApiServer) -> None:
    """A started machine is left alone; the second call asks only for its state."""
    machine = machine_of(server)
    control = control_of(server)
    up(control)
    before = len(server.calls)
    assert up(control) == "started"
    assert [action for _, action, _ in server.calls[before:]] == ["get"]
    assert machine.starts == 1


@pytest.mark.parametrize(
    "state", ["creating", "replacing", "updating", "restarting", "suspending", "stopping"]
)
def test_up_while_it_changes(server: MachinesApiServer, state: str) -> None:
    """A machine that is just changing is waited for, and then started."""
    machine = machine_of(server, state=state)
    later(0.1, lambda: machine.to("stopped"))
    assert up(control_of(server)) == "started"
    assert machine.starts == 1


def test_up_while_somebody_starts_it(server: MachinesApiServer) -> None:
    """A machine that somebody else starts is waited for, not started again."""
    machine = machine_of(server)
    machine.start_s = 0.2
    machine.start()
    assert up(control_of(server)) == "started"
    assert server.count("start") == 0


def test_many_clients(server: MachinesApiServer) -> None:
    """Twenty clients that want the machine at once all get it, and it starts once."""
    machine = machine_of(server)
    machine.start_s = 0.05

    async def all_of_them() -> set[str]:
        found = await asyncio.gather(*(control_of(server).up(10.0) for _ in range(20)))
        return {machine.state for machine in found}

    assert asyncio.run(all_of_them()) == {"started"}
    assert machine.starts == 1


def test_down_and_up(server: MachinesApiServer) -> None:
    """A machine is stopped; stopping a stopped one asks for nothing."""
    machine_of(server)
    control = control_of(server)
    up(control)
    assert down(control) == "stopped"
    stops = server.count("stop")
    assert down(control) == "stopped"
    assert server.count("stop") == stops


def test_up_right_after_stop(server: MachinesApiServer) -> None:
    """A start right after a stop is refused for a while; it is asked again until it is done."""
    machine = machine_of(server)
    machine.stop_s = 0.2
    control = control_of(server)
    up(control)
    machine.stop()
    server.machines[machine.id].state = "stopped"  # as the API may say a moment too early
    server.faults.extend(
        Fault("start", 412, "machine still active, refusing to start") for _ in range(3)
    )
    machine.to("stopping")
    assert up(control) == "started"
    assert machine.starts == 2


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (
            409,
            (
                "machine ID 148e1 lease currently held by deploy@example.org, expires at "
                "2026-11-01T00:00:00Z"
            ),
        ),
        (412, "failed_precondition: unable to start machine from current state: 'replacing'"),
        (412, "failed_precondition: machine still active, refusing to start"),
        (429, "rate limit exceeded"),
        (408, "deadline_exceeded"),
        (500, "internal"),
        (502, "<html>bad gateway</html>"),
        (503, ""),
        (0, ""),
    ],
)
@pytest.mark.parametrize("action", ["get", "start", "wait", "list"])
def test_transient_errors_are_retried(
    server: MachinesApiServer, action: str, status: int, answer: str
) -> None:
    """Every transient error of every call is retried, also if the request was done."""
    for after in (False, True):
        machine = server.add(Machine("148e1", "127.0.0.2", nothing, start_s=0.005, stop_s=0.005))
        server.faults.extend(Fault(action, status, answer, after=after) for _ in range(3))
        assert up(control_of(server, None if action == "list" else machine.id)) == "started"
        machine.stop()


@pytest.mark.parametrize("status", [401, 403])
def test_token_refused(server: MachinesApiServer, status: int) -> None:
    """A token that is refused is said at once, with how to make another."""
    machine_of(server)
    server.faults.append(Fault("list", status, "unauthorized"))
    with pytest.raises(FlyTokenError, match="rejected the token") as caught:
        up(control_of(server))
    assert "fly tokens create deploy" in caught.value.hint
    assert len(server.calls) == 1


def test_no_app_no_machine(server: MachinesApiServer) -> None:
    """An app that does not exist, one without machines, and a machine that does not exist.

    Each is reported at once.
    """
    with pytest.raises(MachineMissingError, match="has no machine"):
        up(control_of(server))
    with pytest.raises(MachineMissingError, match="machine not found"):
        up(control_of(server, "nosuch"))
    wrong = MachineControl(MachinesApi("other-app", TOKEN, server.url), policy=QUICK)
    with pytest.raises(MachineMissingError, match="other-app"):
        up(wrong)


@pytest.mark.parametrize(
    ("status", "word", "answer"),
    [
        (412, "", "insufficient memory available on host"),
        (
            409,
            "",
            (
                "could not reserve resource for machine: insufficient CPUs available to fulfill "
                "request"
            ),
        ),
        (422, "insufficient_capacity", "no capacity in region"),
    ],
)
def test_host_full(server: MachinesApiServer, status: int, word: str, answer: str) -> None:
    """A host without room is asked again for a while.

    Then the error says so and what can be done.
    """
    machine_of(server)
    patient = PollPolicy(poll_s=0.003, max_poll_s=0.02, busy_s=0.01, full_s=10.0)
    server.faults.extend(Fault("start", status, answer, word=word) for _ in range(3))
    assert up(control_of(server, policy=patient)) == "started"
    server.machines.clear()
    machine_of(server)
    server.faults.extend(Fault("start", status, answer, word=word) for _ in range(500))
    with pytest.raises(HostFullError, match="has no capacity to start it now") as caught:
        up(control_of(server))
    assert caught.value.retryable
    assert caught.value.status == status


@pytest.mark.parametrize("answer", ["volume not found", "invalid config.guest"])
def test_bad_request(server: MachinesApiServer, answer: str) -> None:
    """A permanent error is not retried."""
    machine_of(server)
    server.faults.append(Fault("start", 400, answer))
    with pytest.raises(FlyApiError, match=answer):
        up(control_of(server))
    assert server.count("start") == 1


def test_machine_stuck_in_a_state(server: MachinesApiServer) -> None:
    """A machine that stays in a state is an error that names the state, in time."""
    machine_of(server, state="replacing")
    began = time.monotonic()
    with pytest.raises(LaunchError, match=r"did not start within 0\.5 seconds: it is 'replacing'"):
        up(control_of(server), 0.5)
    assert time.monotonic() - began < 60


def test_api_is_down() -> None:
    """If nothing answers, the error names the address and the reason after the timeout."""
    control = MachineControl(MachinesApi(APP, TOKEN, "http://127.0.0.1:9", 1.0), policy=QUICK)
    with pytest.raises(LaunchError, match=r"127\.0\.0\.1:9 does not answer: .*refused"):
        up(control, 0.5)


def test_not_the_api(server: MachinesApiServer) -> None:
    """An address at which something else answers is said at once."""
    server.faults.append(Fault("list", 200, "hello"))
    with pytest.raises(FlyApiError, match="sent an invalid answer"):
        up(control_of(server))


def test_replaced_machine_is_found_again(server: MachinesApiServer) -> None:
    """If the machine is destroyed and replaced, the next call finds the new one."""
    first = machine_of(server)
    control = control_of(server)
    up(control)
    first.to("destroyed")
    second = server.add(Machine("148e9", "127.0.0.9", nothing, start_s=0.005))
    assert asyncio.run(control.up(10.0)).id == second.id
    del server.machines[second.id]
    server.add(Machine("148ea", "127.0.0.10", nothing, start_s=0.005))
    assert asyncio.run(control.up(10.0)).id == "148ea"


def test_destroyed_between_two_calls(server: MachinesApiServer) -> None:
    """A machine that is gone when it is to be started is looked for again, once.

    Then the error says so.
    """
    machine_of(server)
    server.faults.append(Fault("start", 404, "machine not found"))
    assert up(control_of(server)) == "started"
    server.machines.clear()
    machine_of(server)
    server.faults.extend(Fault("start", 404, "machine not found") for _ in range(2))
    with pytest.raises(MachineMissingError):
        up(control_of(server))


def test_which_machine(server: MachinesApiServer) -> None:
    """Of several machines the one with a volume is used; release machines never.

    Metadata narrows the choice.
    """
    plain = server.add(Machine("1", "127.0.0.2", nothing, state="started"))
    release = server.add(Machine("0", "127.0.0.3", nothing, config={"mounts": [{}]}))
    release.config["metadata"] = {"fly_process_group": "fly_app_release_command"}
    server.add(
        Machine("3", "127.0.0.4", nothing, config={"mounts": [{}], "metadata": {"role": "b"}})
    )
    server.add(
        Machine("2", "127.0.0.5", nothing, config={"mounts": [{}], "metadata": {"role": "a"}})
    )
    found = asyncio.run(control_of(server).candidates())
    assert [machine.id for machine in found] == ["2", "3", "1"]
    assert asyncio.run(control_of(server, metadata={"role": "b"}).look()).id == "3"
    assert asyncio.run(control_of(server, plain.id).look()).id == "1"


def test_states_are_told(server: MachinesApiServer) -> None:
    """The callback gets every state once, in order."""
    machine = machine_of(server)
    machine.start_s = 0.1
    seen: list[str] = []
    asyncio.run(control_of(server).up(10.0, seen.append))
    assert seen[0] == "stopped"
    assert seen[-1] == "started"
    assert len(seen) == len(set(seen))


@pytest.mark.slow
def test_within_the_rate_limits() -> None:
    """With the real policy, three clients work within the documented rate limits."""
    with serving(limits=Limits()) as server:
        machine = server.add(Machine("148e1", "127.0.0.2", nothing, start_s=0.4, stop_s=0.3))

        async def rounds() -> None:
            controls = [control_of(server, policy=PollPolicy()) for _ in range(3)]
            for _ in range(3):
                await asyncio.gather(*(control.up(60.0) for control in controls))
                await controls[0].down(60.0)

        asyncio.run(rounds())
        assert machine.starts == 3
        refused = [status for _, status, _ in server.refusals].count(429)
        assert refused < len(server.calls) / 4, server.refusals


# Rounds at random ---------------------------------------------------------------------------------

FAULTS = st.builds(
    Fault,
    action=st.sampled_from(["get", "start", "stop", "wait", "list"]),
    status=st.sampled_from([0, 408, 409, 412, 429, 500, 503]),
    answer=st.sampled_from(["", "lease currently held", "machine still active, refusing to start"]),
    after=st.booleans(),
)
ROUNDS = st.lists(
    st.tuples(
        st.sampled_from(["up", "down", "both", "idle", "replace", "lease"]),
        st.lists(FAULTS, max_size=3),
    ),
    min_size=1,
    max_size=20,
)
done_rounds = 0


def replace(machine: Machine, source: random.Random) -> None:
    """Replace a machine as a deployment does: stop it, give it a new version, leave it stopped."""
    machine.lease_until = time.monotonic() + 0.05
    machine.stop()
    if machine.wait_until("stopped", 1.0):
        machine.to("replacing")
        time.sleep(source.random() * 0.03)
        machine.instance_id = f"{source.getrandbits(64):x}"
        machine.to("stopped")


async def play(
    server: MachinesApiServer, machine: Machine, kind: str, source: random.Random
) -> None:
    """Do one round and check what it promises."""
    global done_rounds
    done_rounds += 1
    one, two = control_of(server), control_of(server)
    starts = machine.starts
    if kind in {"idle", "replace", "lease"}:
        if kind == "lease":
            machine.lease_until = time.monotonic() + source.random() * 0.05
        disturb = machine.stop if kind == "idle" else lambda: replace(machine, source)
        disturbing = later(source.random() * 0.03, disturb) if kind != "lease" else None
        states = [(await control.up(20.0)).state for control in (one, two)]
        assert states == ["started", "started"]
        if disturbing is not None:
            disturbing.join()
        return
    if kind == "both":
        # One wants it up while the other wants it down: each is served at some moment, and both
        # come to an end.
        await asyncio.gather(one.up(20.0), two.down(20.0))
    elif kind == "up":
        was_up = machine.state == "started"
        found = await asyncio.gather(one.up(20.0), two.up(20.0))
        assert [entry.state for entry in found] == ["started", "started"]
        assert machine.starts - starts <= (0 if was_up else 1)
    else:
        assert (await one.down(20.0)).state in {"stopped", "created"}
        assert machine.state == "stopped"


def check_rounds(rounds: list[tuple[str, list[Fault]]], seed: int) -> None:
    source = random.Random(seed)
    with serving() as server:
        machine = machine_of(server)
        for kind, faults in rounds:
            machine.wait_until("stopped" if machine.state == "stopping" else machine.state, 1.0)
            server.faults.extend(faults)
            asyncio.run(play(server, machine, kind, source))
            server.faults.clear()
            machine.lease_until = 0.0


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(ROUNDS, st.integers(0, 2**32))
def test_random_rounds(rounds: list[tuple[str, list[Fault]]], seed: int) -> None:
    """Start, stop, idle exits, deployments, leases and faults in any order.

    Each client that needs the machine gets it.
    """
    check_rounds(rounds, seed)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_thousands_of_random_rounds() -> None:
    """The same for two thousand rounds and more."""
    before = done_rounds

    @settings(
        max_examples=100, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )
    @given(ROUNDS, st.integers(0, 2**32))
    def check(rounds: list[tuple[str, list[Fault]]], seed: int) -> None:
        check_rounds(rounds, seed)

    while done_rounds - before < 2000:
        check()
