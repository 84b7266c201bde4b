"""Deploying with flyctl: app, volume, secrets, image, in this order, each only if it is missing.

flyctl builds the image and knows the account; what is done with it here is what docs/FLY.md,
section 11, lists.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schedclient.errors import LaunchError, SettingsError
from schedproto.keys import parse_public_keys, parse_secret_key

Notify = Callable[[str], None]

#: The secrets that the daemon needs on its machine (docs/SETTINGS.md).
SERVER_KEY, ALLOWED = "SCHEDD_SERVER_KEY", "SCHEDD_ALLOW_CLIENTS"
#: How long one call of flyctl may take; a deployment builds an image.
CALL_S, DEPLOY_S = 120.0, 3600.0


@dataclass(frozen=True)
class Plan:
    """A requested deployment. keys: folder as made by `schedctl keys new`."""

    app: str
    config: Path
    keys: Path
    region: str
    size: str
    volume: str
    volume_gb: int
    organization: str | None = None
    rotate_keys: bool = False


def flyctl() -> str:
    """Return the path of flyctl."""
    for name in ("flyctl", "fly"):
        if found := shutil.which(name):
            return found
    raise LaunchError(
        "flyctl is not installed",
        "Install it (https://fly.io/docs/flyctl/install/), then run `fly auth login` or set "
        "FLY_API_TOKEN.",
    )


class Flyctl:
    """Calls flyctl and translates its errors.

    Example:

        volumes = Flyctl(flyctl()).ask("volumes", "list", "-a", "my-scheduler")
    """

    def __init__(self, program: str) -> None:
        self._program = program

    def call(self, *words: str, given: str | None = None) -> str:
        """Run a command and return what it printed. given: its standard input.

        Raises `LaunchError`.
        """
        try:
            done = subprocess.run(
                [self._program, *words],
                input=given,
                stdin=subprocess.DEVNULL if given is None else None,
                capture_output=True,
                text=True,
                timeout=CALL_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise LaunchError(
                f"`fly {words[0]} {words[1]}` did not end within {CALL_S:g} seconds"
            ) from None
        if done.returncode:
            output = (done.stderr.strip() or done.stdout.strip()).splitlines()
            text = " | ".join(output[-4:]) or f"exit code {done.returncode}"
            signed = any(
                word in text.lower()
                for word in ("login", "log in", "token", "unauthorized", "authenticat")
            )
            raise LaunchError(
                f"`fly {' '.join(words[:2])}` failed: {text}",
                "Sign in with `fly auth login`, or set FLY_API_TOKEN." if signed else "",
            )
        return done.stdout

    def ask(self, *words: str) -> list[dict[str, Any]]:
        """Run a command that lists something, and return the list."""
        text = self.call(*words, "--json")
        try:
            found = json.loads(text or "[]")
        except ValueError:
            raise LaunchError(
                f"`fly {' '.join(words[:2])}` printed no JSON: {text[:200]!r}"
            ) from None
        return list(found or [])

    def run(self, *words: str) -> None:
        """Run a command that shows its own progress."""
        code = subprocess.run([self._program, *words], timeout=DEPLOY_S, check=False).returncode
        if code:
            raise LaunchError(
                f"`fly {' '.join(words[:2])}` failed with exit code {code}", "Its output is above."
            )


def _quoted(secrets: dict[str, str]) -> str:
    """Return secrets as flyctl reads them.

    It takes what follows a # outside of quotation marks for a comment.
    """
    return "".join(f'{name}="{value}"\n' for name, value in secrets.items())


def _name_of(entry: dict[str, Any]) -> str:
    return str(entry.get("Name") or entry.get("name") or "")


def read_keys(folder: Path) -> tuple[str, str]:
    """Return the daemon's secret key and the clients' public keys, as secrets of the app."""
    try:
        secret = parse_secret_key((folder / "server.secret").read_text(encoding="ascii")).decode()
        publics = [
            key.decode()
            for path in sorted((folder / "clients").glob("*.public"))
            for key in parse_public_keys(path.read_text(encoding="ascii"))
        ]
    except OSError as error:
        raise SettingsError(
            f"no keys in {folder}: {error.strerror}",
            f"Create them with `schedctl keys new --out {folder}`.",
        ) from None
    except ValueError as error:
        raise SettingsError(f"invalid keys in {folder}: {error}") from None
    if not publics:
        raise SettingsError(
            f"{folder / 'clients'} has no client public key",
            "Without one, no client is allowed to connect.",
        )
    return secret, " ".join(publics)


def deploy(plan: Plan, notify: Notify) -> None:
    """Bring the app to what the plan says. Doing it again changes only what is different.

    Raises `LaunchError`.
    """
    if not plan.config.is_file():
        raise SettingsError(
            f"no such file: {plan.config}", "Run this in the project's folder, or set --config."
        )
    fly = Flyctl(flyctl())
    if any(_name_of(entry) == plan.app for entry in fly.ask("apps", "list")):
        notify(f"The app {plan.app} exists.")
    else:
        owner = ("--org", plan.organization) if plan.organization else ()
        fly.call("apps", "create", plan.app, *owner, "--yes")
        notify(f"Created the app {plan.app}.")
    region = _volume(fly, plan, notify)
    _secrets(fly, plan, notify)
    notify("Building the image and deploying it ...")
    fly.run(
        *("deploy", "--app", plan.app, "--config", str(plan.config), "--primary-region", region),
        *("--vm-size", plan.size, "--ha=false", "--yes"),
    )


def _volume(fly: Flyctl, plan: Plan, notify: Notify) -> str:
    """Create the volume if there is none; returns its region, which is the machine's too."""
    volumes = [
        entry
        for entry in fly.ask("volumes", "list", "--app", plan.app)
        if _name_of(entry) == plan.volume
    ]
    if volumes:
        notify(
            f"The volume {plan.volume} exists: {volumes[0].get('id')}, {volumes[0].get('size_gb')} "
            "GB."
        )
        return str(volumes[0].get("region") or plan.region)
    fly.call(
        *("volumes", "create", plan.volume, "--app", plan.app, "--region", plan.region),
        *("--size", str(plan.volume_gb), "--vm-size", plan.size, "--yes"),
    )
    notify(f"Created the volume {plan.volume}: {plan.volume_gb} GB in {plan.region}.")
    return plan.region


def _secrets(fly: Flyctl, plan: Plan, notify: Notify) -> None:
    present = {_name_of(entry) for entry in fly.ask("secrets", "list", "--app", plan.app)}
    if {SERVER_KEY, ALLOWED} <= present and not plan.rotate_keys:
        notify("The keys are already set.")
        return
    secret, publics = read_keys(plan.keys)
    # Over standard input: arguments can be seen by every user of this machine.
    fly.call(
        "secrets",
        "import",
        "--app",
        plan.app,
        "--stage",
        given=_quoted({SERVER_KEY: secret, ALLOWED: publics}),
    )
    notify(f"Set the keys of {plan.keys} as secrets.")
