"""Where the client finds its daemon: one table of settings, from arguments, environment and a file.

Arguments win over variables of the environment, which win over the file
(`~/.config/schedctl/config.toml`, or what `SCHEDCTL_CONFIG` names).
"""

from __future__ import annotations

import difflib
import ipaddress
import math
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

from schedproto.keys import KeyFormatError, parse_public_keys, parse_secret_key

from .errors import SettingsError

#: name -> (environment variable, what it means)
TABLE: dict[str, tuple[str, str]] = {
    "endpoint": (
        "SCHEDCTL_ENDPOINT",
        "ZeroMQ endpoint of a running daemon, for example tcp://[::1]:7300",
    ),
    "app": ("SCHEDCTL_APP", "Fly app to use; its machine is started if needed"),
    "data": (
        "SCHEDCTL_DATA",
        "data folder of a local daemon, which is started if needed; used if neither endpoint nor app is set",
    ),
    "key_file": (
        "SCHEDCTL_KEY_FILE",
        "this client's secret key file, created by `schedctl keys new`",
    ),
    "key": ("SCHEDCTL_KEY", "this client's secret key, as a value"),
    "server_key": ("SCHEDCTL_SERVER_KEY", "the server's public key, or a file that contains it"),
    "idle_timeout": (
        "SCHEDCTL_IDLE_TIMEOUT",
        "seconds after which an idle local daemon exits; 0 for never",
    ),
    "token": ("FLY_API_TOKEN", "API token for the app, created by `fly tokens create deploy`"),
    "machine": (
        "SCHEDCTL_MACHINE",
        "machine id, if the app has several machines (default: the one with a volume)",
    ),
    "metadata": ("SCHEDCTL_MACHINE_METADATA", "KEY=VALUE that the machine's metadata must have"),
    "port": ("SCHEDCTL_PORT", "port of the daemon on the machine (default: 7300)"),
    "start_timeout": (
        "SCHEDCTL_START_TIMEOUT",
        "timeout in seconds for starting the machine (default: 90)",
    ),
    "api": (
        "SCHEDCTL_FLY_API",
        "URL of the Machines API (default: the private one on Fly, otherwise the public one)",
    ),
    "resolver": (
        "SCHEDCTL_RESOLVER",
        "name server for .internal names, for example fdaa::3 (default: the system's)",
    ),
}
#: The settings that say where the daemon is; the first one given in a call counts, whatever is set
#: elsewhere.
PLACES = ("endpoint", "app", "data")


class SettingArguments(TypedDict, total=False):
    """The settings of `TABLE` (without `endpoint`) as arguments of a client.

    None is as good as not given.
    """

    app: str | None
    data: str | Path | None
    key_file: str | Path | None
    key: str | None
    server_key: str | None
    idle_timeout: float | None
    token: str | None
    machine: str | None
    metadata: str | None
    port: int | None
    start_timeout: float | None
    api: str | None
    resolver: str | None


DEFAULT_IDLE_TIMEOUT_S = 30.0
MAX_IDLE_TIMEOUT_S = 86_400.0 * 365
DEFAULT_PORT = 7300
DEFAULT_START_TIMEOUT_S, MAX_START_TIMEOUT_S = 90.0, 3600.0
#: The Machines API inside the private network and outside (docs/FLY.md, section 1).
API_INSIDE, API_OUTSIDE = "http://_api.internal:4280", "https://api.machines.dev"


@dataclass(frozen=True)
class FlySettings:
    """What is needed to start a machine on Fly and to find its daemon; see `TABLE`."""

    app: str
    token: str = ""
    machine: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    port: int = DEFAULT_PORT
    start_timeout_s: float = DEFAULT_START_TIMEOUT_S
    api: str = API_OUTSIDE
    resolver: str | None = None


@dataclass(frozen=True)
class ClientSettings:
    """Settings of one client; see `TABLE`. Keys are Z85 as ZeroMQ takes them."""

    endpoint: str | None
    data: Path
    secret_key: bytes | None
    server_key: bytes | None
    idle_timeout_s: float = DEFAULT_IDLE_TIMEOUT_S
    fly: FlySettings | None = None


#: Settings that the file may give as numbers.
_NUMBERS = frozenset({"idle_timeout", "port", "start_timeout"})


def default_data_dir(environment: Mapping[str, str]) -> Path:
    """Return the data folder that is used when nothing is configured."""
    base = environment.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(base).expanduser() / "email-scheduler"


def _file(environment: Mapping[str, str]) -> tuple[Path, dict[str, Any]]:
    named = environment.get("SCHEDCTL_CONFIG")
    base = environment.get("XDG_CONFIG_HOME") or "~/.config"
    path = Path(named or f"{base}/schedctl/config.toml").expanduser()
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if named:
            raise SettingsError(
                f"the settings file {path} does not exist", "Check SCHEDCTL_CONFIG."
            ) from None
        return path, {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"the settings file {path} cannot be read: {error}") from None
    for name in values:
        if name not in TABLE:
            near = difflib.get_close_matches(name, TABLE, 1)
            hint = f"Did you mean {near[0]}?" if near else f"Known settings: {', '.join(TABLE)}."
            raise SettingsError(f"{path}: unknown setting {name!r}", hint)
        if name not in _NUMBERS and not isinstance(values[name], str):
            raise SettingsError(
                f"{path}: {name} = {values[name]!r} is not a string", "Put it in quotation marks."
            )
    return path, values


def _only(keys: list[bytes]) -> bytes:
    if len(keys) != 1:
        raise KeyFormatError(f"server_key has {len(keys)} public keys; expected one")
    return keys[0]


def _keys(values: Mapping[str, Any]) -> tuple[bytes | None, bytes | None]:
    secret, server = None, None
    try:
        if values.get("key_file"):
            secret = parse_secret_key(
                Path(values["key_file"]).expanduser().read_text(encoding="ascii")
            )
        elif values.get("key"):
            secret = parse_secret_key(str(values["key"]))
        if values.get("server_key"):
            text = str(values["server_key"])
            if len(text) != 40 and Path(text).expanduser().is_file():
                text = Path(text).expanduser().read_text(encoding="ascii")
            server = _only(parse_public_keys(text))
    except OSError as error:
        raise SettingsError(
            f"the key file {error.filename} cannot be read: {error.strerror}"
        ) from None
    except (KeyFormatError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"invalid key: {error}", "Create keys with `schedctl keys new`."
        ) from None
    if (secret is None) != (server is None):
        missing = "server_key" if server is None else "key_file"
        raise SettingsError(
            f"an encrypted connection needs both keys; {missing} is missing",
            f"Set {TABLE[missing][0]} too, or set neither for an unencrypted local connection.",
        )
    return secret, server


def _number(
    values: Mapping[str, Any], name: str, default: float, most: float, hint: str, least: float = 0.0
) -> float:
    try:
        number = default if values[name] is None else float(values[name])
    except (TypeError, ValueError):
        number = math.nan
    if not least <= number <= most:
        raise SettingsError(
            f"{name} = {values[name]!r} is not a number of seconds from {least:g} to {most:g}", hint
        )
    return number


def _fly(values: Mapping[str, Any], environment: Mapping[str, str]) -> FlySettings | None:
    """Return the settings of a machine on Fly where an app is set."""
    if not values["app"]:
        return None
    app, api = str(values["app"]), values["api"]
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", app):
        raise SettingsError(
            f"app = {app!r} is not a valid app name", "Use lower-case letters, digits and hyphens."
        )
    try:
        port = DEFAULT_PORT if values["port"] is None else int(values["port"])
    except (TypeError, ValueError):
        port = 0
    if not 0 < port < 65536:
        raise SettingsError(
            f"port = {values['port']!r} is not a port", "Use a port from 1 to 65535."
        )
    metadata = {}
    if values["metadata"]:
        key, separator, value = str(values["metadata"]).partition("=")
        if not (key and separator):
            raise SettingsError(
                f"metadata = {values['metadata']!r} is not KEY=VALUE", "For example role=scheduler."
            )
        metadata = {key: value}
    if api is not None and not str(api).startswith(("http://", "https://")):
        raise SettingsError(f"api = {api!r} is not a valid address", f"For example {API_OUTSIDE}.")
    on_fly = bool(environment.get("FLY_APP_NAME") and environment.get("FLY_PRIVATE_IP"))
    return FlySettings(
        app=app,
        token=str(values["token"] or ""),
        machine=values["machine"] or None,
        metadata=metadata,
        port=port,
        start_timeout_s=_number(
            values,
            "start_timeout",
            DEFAULT_START_TIMEOUT_S,
            MAX_START_TIMEOUT_S,
            "Timeout for starting the machine.",
            1.0,
        ),
        api=str(api or (API_INSIDE if on_fly else API_OUTSIDE)),
        resolver=_resolver(values["resolver"]),
    )


def _resolver(value: Any) -> str | None:
    if not value:
        return None
    address, port = str(value), "53"
    if address.startswith("["):
        address, _, rest = address[1:].partition("]")
        port = rest.removeprefix(":") or port
    elif address.count(":") == 1:
        address, _, port = address.partition(":")
    try:
        ipaddress.ip_address(address)
    except ValueError:
        address = ""
    if not address or not port.isdigit() or not 0 < int(port) < 65536:
        raise SettingsError(
            f"resolver = {value!r} is not a valid address", "For example fdaa::3, or [fdaa::3]:53."
        )
    return f"[{address}]:{port}"


def load(
    arguments: Mapping[str, Any] | None = None, environment: Mapping[str, str] | None = None
) -> ClientSettings:
    """Return the settings; raises `SettingsError`.

    `arguments`: name in `TABLE` -> value, None where not given.
    """
    environment = os.environ if environment is None else environment
    _, in_file = _file(environment)
    values: dict[str, Any] = {}
    for name, (variable, _) in TABLE.items():
        given = (arguments or {}).get(name)
        values[name] = (
            given if given is not None else environment.get(variable) or in_file.get(name)
        )
    # A place named in the call is meant, whatever is configured elsewhere: a data folder's own
    # daemon, for example.
    places = [name for name in PLACES if (arguments or {}).get(name) is not None]
    for name in PLACES if places else ():
        if name != places[0] and name != "data":
            values[name] = None
    if values["endpoint"]:
        values["app"] = None
    idle = _number(
        values,
        "idle_timeout",
        DEFAULT_IDLE_TIMEOUT_S,
        MAX_IDLE_TIMEOUT_S,
        "0 means that the daemon never exits automatically.",
    )
    endpoint = values["endpoint"]
    if endpoint is not None and not str(endpoint).startswith(("tcp://", "ipc://")):
        raise SettingsError(
            f"{endpoint!r} is not a valid endpoint",
            "Use tcp://ADDRESS:PORT (IPv6 in brackets) or ipc:///path/to/socket.",
        )
    secret, server = _keys(values)
    data = (
        Path(values["data"]).expanduser()
        if values["data"] is not None
        else default_data_dir(environment)
    )
    fly = _fly(values, environment)
    return ClientSettings(
        None if endpoint is None else str(endpoint), data, secret, server, idle, fly
    )
