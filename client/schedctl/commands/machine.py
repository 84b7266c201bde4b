"""The commands about the machine on Fly: start, stop, status, list."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import click
from rich.table import Table

from schedclient.aio import AsyncClient
from schedclient.errors import SchedulerClientError, SettingsError
from schedclient.fly.api import Machine
from schedclient.launch.fly import FlyLauncher, last_exit
from schedclient.settings import TABLE, load
from schedctl.common import (
    TypoGroup,
    handles_errors,
    json_option,
    print_json,
    setting_option,
)
from schedctl.terminal import console

#: How long `status` waits for the daemon of a machine that is started.
HEALTH_S = 5.0


@click.group("machine", cls=TypoGroup)
def machine_command() -> None:
    """Start, stop and inspect the machine on Fly.

    Optional: other commands start the machine if needed, and it stops automatically when idle.
    """


def fly_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --app, --machine and --json."""
    for option in (json_option, setting_option("machine", metavar="ID"), setting_option("app")):
        command = option(command)
    return command


def launcher_of(
    app: str | None, machine: str | None, on_state: Callable[[str], None] | None = None
) -> FlyLauncher:
    """Return the launcher for the settings; raises `SettingsError` if no app is set."""
    settings = load({"app": app, "machine": machine})
    if settings.fly is None:
        raise SettingsError(
            "no app is set" + ("; an endpoint is" if settings.endpoint else ""),
            f"Set the Fly app with --app or {TABLE['app'].variable}.",
        )
    return FlyLauncher(settings.fly, on_state)


def _size(guest: dict[str, Any]) -> str:
    kind, cpus = guest.get("cpu_kind", "?"), guest.get("cpus", "?")
    return f"{kind} {cpus}x, {guest.get('memory_mb', '?')} MB"


def _document(machine: Machine) -> dict[str, Any]:
    """Return the JSON document of a machine."""
    guest = machine.known_config.get("guest") or {}
    mounts = machine.known_config.get("mounts") or []
    ended = last_exit(machine)
    return {
        "id": machine.id,
        "name": machine.name,
        "state": machine.state,
        "region": machine.region,
        "address": machine.private_ip,
        "size": _size(guest) if guest else "",
        "volumes": [f"{mount.get('volume', '?')} at {mount.get('path', '?')}" for mount in mounts],
        "image": ":".join(
            str((machine.image_ref or {}).get(part) or "") for part in ("repository", "tag")
        ).strip(":"),
        "host_status": machine.host_status,
        "last_exit": {
            name: ended.get(name) for name in ("exit_code", "oom_killed", "requested_stop")
        }
        if ended
        else None,
    }


def _print(machine: Machine) -> None:
    out, document = console(), _document(machine)
    ended = document.pop("last_exit")
    document["volumes"] = ", ".join(document["volumes"]) or "none"
    if ended is not None:
        memory = ", out of memory" if ended["oom_killed"] else ""
        asked = ", as requested" if ended["requested_stop"] else ""
        document["last exit"] = f"code {ended['exit_code']}{memory}{asked}"
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in document.items():
        if value not in {"", None}:
            table.add_row(name.replace("_", " "), str(value))
    out.print(table)


def _notify(text: str) -> None:
    click.echo(text, err=True)


@machine_command.command("start")
@fly_options
@handles_errors
def start_command(*, app: str | None, machine: str | None, as_json: bool) -> None:
    """Start the machine and wait until its daemon answers."""
    began = time.monotonic()
    launcher = launcher_of(
        app, machine, None if as_json else lambda state: _notify(f"The machine is {state}.")
    )

    async def start() -> tuple[Machine, Any]:
        async with AsyncClient(app=app, machine=machine, launcher=launcher) as client:
            health = await client.health()
            return await launcher.control.look(), health

    found, health = asyncio.run(start())
    took = time.monotonic() - began
    if as_json:
        print_json({"machine": _document(found), "health": health, "wall_s": round(took, 3)})
    else:
        click.echo(
            f"{found.id} is up; its daemon ({health.daemon_version}) answered after {took:.1f} s."
        )


@machine_command.command("stop")
@fly_options
@handles_errors
def stop_command(*, app: str | None, machine: str | None, as_json: bool) -> None:
    """Stop the machine.

    Running jobs get time to end; unfinished jobs continue at the next start.
    """
    launcher = launcher_of(app, machine)
    notify = None if as_json else lambda state: _notify(f"The machine is {state}.")
    found = asyncio.run(launcher.control.down(launcher.settings.start_timeout_s, notify))
    if as_json:
        print_json({"machine": _document(found)})
    else:
        click.echo(f"{found.id} is {found.state}.")


@machine_command.command("status")
@fly_options
@handles_errors
def status_command(*, app: str | None, machine: str | None, as_json: bool) -> None:
    """Show the machine, and its daemon if it is running. Starts nothing."""
    launcher = launcher_of(app, machine)

    async def ask() -> tuple[Machine, Any, str]:
        found = await launcher.control.look()
        if found.state != "started":
            return found, None, ""
        try:
            async with AsyncClient(
                app=app, machine=machine, launcher=launcher, timeout_s=HEALTH_S
            ) as client:
                return found, await client.health(), ""
        except SchedulerClientError as error:
            return found, None, error.message

    found, health, trouble = asyncio.run(ask())
    if as_json:
        print_json({"machine": _document(found), "health": health, "trouble": trouble})
        return
    _print(found)
    if health is not None:
        jobs = (
            ", ".join(f"{count} {state}" for state, count in health.jobs.items() if count)
            or "none yet"
        )
        left = health.idle_exit_in_s
        click.echo(
            f"Its daemon ({health.daemon_version}) is {health.status}; jobs: {jobs}; "
            + ("no idle shutdown pending" if left is None else f"idle shutdown in {left:.0f} s")
        )
    elif trouble:
        click.echo(f"Its daemon does not answer: {trouble}", err=True)


@machine_command.command("list")
@fly_options
@handles_errors
def list_command(*, app: str | None, machine: str | None, as_json: bool) -> None:
    """List the app's machines; schedctl uses the first."""
    machines = asyncio.run(launcher_of(app, machine).control.candidates())
    if as_json:
        print_json({"machines": [_document(found) for found in machines]})
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    columns = ("id", "state", "region", "size", "volumes", "address")
    for name in columns:
        table.add_column(name, no_wrap=True)
    for found in machines:
        document = _document(found)
        document["volumes"] = ", ".join(document["volumes"])
        table.add_row(*(str(document[name]) for name in columns))
    console().print(table if machines else "The app has no machine; `schedctl deploy` creates one.")
