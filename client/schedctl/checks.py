"""The checks of `schedctl doctor`: settings, keys, app, machine, volume, name, daemon.

If the machine is down, checks that need it are skipped and reported as such. Starts nothing unless
`start` is set.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from schedclient.aio import AsyncClient
from schedclient.errors import FlyApiError, FlyTokenError, MachineMissingError, SchedulerClientError
from schedclient.settings import ClientSettings, load
from schedproto import __version__
from schedproto.diagnosis import FAILED, OK, SKIPPED, WARNING, Check

if TYPE_CHECKING:
    from schedclient.fly.api import Machine
    from schedclient.launch.fly import FlyLauncher

#: How long a daemon that should be up may take to answer.
ANSWER_S = 10.0
#: Clocks further apart than this make dates wrong around midnight.
SKEW_S = 30.0
#: A machine whose state has been changing this long is stuck (superfly/docs,
#: machines/machine-states).
WEDGED_S = 300.0
_TRANSIENT = frozenset(
    {"creating", "starting", "stopping", "restarting", "suspending", "updating", "replacing"}
)


def _ok(name: str, text: str) -> Check:
    return Check(name=name, state=OK, text=text)


def _failed(name: str, error: SchedulerClientError) -> Check:
    return Check(name=name, state=FAILED, text=error.message, remedy=error.hint)


async def examine(
    arguments: dict[str, Any], organization: str | None, *, start: bool
) -> AsyncIterator[Check]:
    """Yield the checks as they are done. arguments: of a client.

    start: start the machine if it is down.
    """
    try:
        settings = load(arguments)
    except SchedulerClientError as error:
        yield _failed("settings", error)
        return
    target = settings.endpoint or (
        f"the app {settings.fly.app}" if settings.fly else f"the data folder {settings.data}"
    )
    yield _ok("settings", f"target: {target}")
    yield _keys(settings)
    up = True
    if settings.fly is not None:
        up = False
        async for check, is_up in _fly(settings, start=start):
            up = is_up
            yield check
    if up:
        async for check in _daemon(arguments, organization):
            yield check
    else:
        for name in ("daemon", "versions", "clock", "databases"):
            text = "the machine is stopped; `schedctl doctor --start` starts it"
            yield Check(name=name, state=SKIPPED, text=text)


def _keys(settings: ClientSettings) -> Check:
    if settings.secret_key is not None:
        return _ok("keys", "this client's key and the daemon's public key are set")
    if settings.fly is not None:
        return Check(
            name="keys",
            state=FAILED,
            text="no keys are set; a daemon on Fly requires them",
            remedy="Set SCHEDCTL_KEY_FILE and SCHEDCTL_SERVER_KEY; `schedctl keys new` creates "
            "keys.",
        )
    return Check(
        name="keys", state=SKIPPED, text="no keys are set; a local daemon does not need them"
    )


async def _fly(settings: ClientSettings, *, start: bool) -> AsyncIterator[tuple[Check, bool]]:
    """Yield checks of token, app, machine, volume and name, each with whether the machine is up."""
    from schedclient.launch.fly import FlyLauncher  # noqa: PLC0415 - loads HTTP

    assert settings.fly is not None
    try:
        launcher = FlyLauncher(settings.fly)
        machine = await launcher.control.look()
    except FlyApiError as error:
        names = {FlyTokenError: "token", MachineMissingError: "app and machine"}
        yield _failed(names.get(type(error), "Machines API"), error), False
        return
    except SchedulerClientError as error:
        yield _failed("token", error), False
        return
    yield _ok("token", f"accepted by the Machines API at {settings.fly.api}"), False
    if start and machine.state != "started":
        try:
            await launcher.ensure()
            machine = await launcher.control.look()
        except SchedulerClientError as error:
            yield _failed("start", error), False
    up = machine.state == "started"
    yield _machine(machine), up
    yield await _volume(launcher, machine), up
    yield await _name(launcher, machine), up


def _machine(machine: Machine) -> Check:
    from schedclient.launch.fly import last_exit  # noqa: PLC0415

    text = f"{machine.id} in {machine.region} is {machine.state}"
    since = max((event.timestamp for event in machine.events or []), default=0) / 1000
    changing_s = dt.datetime.now(dt.UTC).timestamp() - since if since else 0.0
    if machine.host_status not in {"ok", ""}:
        remedy = (
            "The machine's host has problems: https://status.flyio.net; docs/OPERATIONS.md, "
            "'The host is gone'."
        )
        return Check(
            name="machine",
            state=FAILED,
            text=f"{text}, its host {machine.host_status}",
            remedy=remedy,
        )
    if machine.state in _TRANSIENT and changing_s > WEDGED_S:
        remedy = f"Try `fly machine stop {machine.id} -s SIGKILL`, then `schedctl machine start`."
        return Check(
            name="machine",
            state=FAILED,
            text=f"{text}, for {changing_s / 60:.0f} minutes",
            remedy=remedy,
        )
    code = last_exit(machine).get("exit_code", 0)
    if code:
        remedy = "docs/SETTINGS.md lists the daemon's exit codes; `fly logs` shows its output."
        return Check(
            name="machine",
            state=WARNING,
            text=f"{text}; it last ended with exit code {code}",
            remedy=remedy,
        )
    return _ok("machine", text)


async def _volume(launcher: FlyLauncher, machine: Machine) -> Check:
    mounts = machine.known_config.get("mounts") or []
    if not mounts:
        return Check(
            name="volume of the machine",
            state=FAILED,
            text=f"{machine.id} has no volume: its data is lost when it stops",
            remedy="Check [mounts] in fly.toml, then run `schedctl deploy`.",
        )
    mount = mounts[0]
    try:
        volumes = {volume.id: volume for volume in await asyncio.to_thread(launcher.api.volumes)}
    except SchedulerClientError as error:
        return _failed("volume of the machine", error)
    volume = volumes.get(str(mount.get("volume")))
    where = f"{mount.get('volume')} at {mount.get('path')}"
    if volume is None:
        return Check(
            name="volume of the machine",
            state=FAILED,
            text=f"the volume {where} does not exist",
            remedy="Run `fly volumes list`; restore a snapshot or push the files again "
            "(docs/OPERATIONS.md).",
        )
    return _ok(
        "volume of the machine", f"{where}, {volume.size_gb} GB, {volume.state or 'created'}"
    )


async def _name(launcher: FlyLauncher, machine: Machine) -> Check:
    from schedclient.fly.names import lookup, machine_name  # noqa: PLC0415

    name = machine_name(machine.id, launcher.settings.app)
    if machine.state != "started":
        return Check(
            name="DNS", state=SKIPPED, text=f"{name} resolves only while the machine is running"
        )
    addresses, why = await lookup(name, launcher.settings.resolver)
    if not addresses:
        return Check(
            name="DNS",
            state=WARNING if machine.private_ip else FAILED,
            text=f"cannot resolve {name}: {why}",
            remedy="From outside Fly, connect with WireGuard and set SCHEDCTL_RESOLVER to its name "
            "server.",
        )
    return _ok("DNS", f"{name} is {addresses[0]}")


async def _daemon(arguments: dict[str, Any], organization: str | None) -> AsyncIterator[Check]:
    """Yield checks of the daemon, and those that it makes of itself."""
    try:
        async with AsyncClient(**arguments, timeout_s=ANSWER_S) as client:
            welcome, health = await client.welcome(), await client.health()
            queued = health.jobs.get("queued", 0)
            text = f"{health.status}, {health.workers} workers, {queued} jobs queued"
            yield _ok("daemon", text)
            yield _versions(welcome.daemon_version)
            diagnosis = (
                await client.diagnose(organization) if "diagnosis" in welcome.capabilities else None
            )
    except SchedulerClientError as error:
        yield _failed("daemon", error)
        return
    if diagnosis is None:
        yield Check(
            name="volume",
            state=SKIPPED,
            text="this daemon is too old to run its own checks",
            remedy="Upgrade the daemon.",
        )
        return
    skew_s = abs((dt.datetime.now(dt.UTC) - diagnosis.now).total_seconds())
    if skew_s > SKEW_S:
        remedy = "Set this machine's clock. Otherwise jobs around midnight can get the wrong date."
        yield Check(
            name="clock",
            state=WARNING,
            text=f"the clocks differ by {skew_s:.0f} seconds",
            remedy=remedy,
        )
    else:
        yield _ok("clock", f"the clocks differ by {skew_s:.1f} seconds")
    for check in diagnosis.checks:
        yield check


def _versions(daemon: str) -> Check:
    if daemon == __version__:
        return _ok("versions", f"client and daemon have version {daemon}")
    remedy = (
        "Run `schedctl deploy`, or install the daemon's version here. Features that both support "
        "keep working."
    )
    return Check(
        name="versions",
        state=WARNING,
        text=f"client version {__version__}, daemon version {daemon}",
        remedy=remedy,
    )
