"""The client's settings: one dataclass, whose fields say what each setting accepts and means.

Arguments win over the environment, which wins over the file (`~/.config/schedctl/config.toml`, or
what `SCHEDCTL_CONFIG` names). Variables and docs/SETTINGS.md follow from the fields
(`schedproto.settings`).
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

from schedproto.keys import KeyFormatError, parse_public_keys, parse_secret_key
from schedproto.settings import (
    Found,
    InvalidValueError,
    SettingError,
    SettingsTable,
    integer,
    number,
    path,
    setting,
    text,
    text_or_path,
)

from .errors import SettingsError

DEFAULT_IDLE_TIMEOUT_S = 30.0
MAX_IDLE_TIMEOUT_S = 86_400.0 * 365
DEFAULT_PORT = 7300
DEFAULT_START_TIMEOUT_S, MAX_START_TIMEOUT_S = 90.0, 3600.0
#: The Machines API inside the private network and outside (docs/FLY.md, section 1).
API_INSIDE, API_OUTSIDE = "http://_api.internal:4280", "https://api.machines.dev"


def _endpoint(value: Any) -> str:
    """Parse the address of a daemon."""
    if not isinstance(value, str) or not value.startswith(("tcp://", "ipc://")):
        raise InvalidValueError(
            "a ZeroMQ endpoint",
            "Use tcp://ADDRESS:PORT (IPv6 in brackets) or ipc:///path/to/socket.",
        )
    return value


def _app(value: Any) -> str:
    """Parse the name of an app on Fly."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", text(value)):
        raise InvalidValueError("an app name", "Use lower-case letters, digits and hyphens.")
    return text(value)


def _metadata(value: Any) -> dict[str, str]:
    """Parse one pair of a machine's metadata."""
    key, separator, found = text(value).partition("=")
    if not (key and separator):
        raise InvalidValueError("KEY=VALUE", "For example role=scheduler.")
    return {key: found}


def _api(value: Any) -> str:
    """Parse the URL of the Machines API."""
    if not text(value).startswith(("http://", "https://")):
        raise InvalidValueError("a URL", f"For example {API_OUTSIDE}.")
    return text(value)


def _resolver(value: Any) -> str:
    """Parse the address of a name server; returns it as [ADDRESS]:PORT."""
    address, port = text(value), "53"
    if address.startswith("["):
        address, _, rest = address[1:].partition("]")
        port = rest.removeprefix(":") or port
    elif address.count(":") == 1:
        address, _, port = address.partition(":")

    try:
        ipaddress.ip_address(address)
        valid = port.isdigit() and 0 < int(port) < 65536
    except ValueError:
        valid = False
    if not valid:
        raise InvalidValueError("an IP address", "For example fdaa::3, or [fdaa::3]:53.")
    return f"[{address}]:{port}"


@dataclass(frozen=True, kw_only=True)
class ClientOptions:
    """The settings of a client, each as it was given; `ClientSettings` is what follows."""

    endpoint: str | None = setting(
        None,
        _endpoint,
        "a ZeroMQ endpoint",
        "Address of a running daemon, for example tcp://[::1]:7300.",
    )
    app: str | None = setting(
        None,
        _app,
        "an app name",
        "Fly app; its machine is started if needed.",
    )
    data: Path | None = setting(
        None,
        path,
        "a folder",
        "Data folder of a local daemon, which is started if needed.",
        default_text="~/.local/share/email-scheduler",
    )
    key_file: Path | None = setting(
        None,
        path,
        "a file, created by `schedctl keys new`",
        "This client's secret key file.",
    )
    key: str | None = setting(
        None,
        text,
        "40 characters",
        "This client's secret key, as a value.",
        secret=True,
    )
    server_key: str | None = setting(
        None,
        text_or_path,
        "40 characters, or a file",
        "The daemon's public key, or a file that contains it.",
    )
    idle_timeout: float = setting(
        DEFAULT_IDLE_TIMEOUT_S,
        number(0, MAX_IDLE_TIMEOUT_S, hint="0 means that the daemon never exits automatically."),
        "seconds, 0 for never",
        "Time after which an idle local daemon exits.",
    )
    token: str = setting(
        "",
        text,
        "a token",
        "API token for the app, created by `fly tokens create deploy`.",
        variable="FLY_API_TOKEN",
        secret=True,
    )
    machine: str | None = setting(
        None,
        text,
        "a machine's id",
        "Machine to use, if the app has several.",
        default_text="the one with a volume",
    )
    metadata: dict[str, str] | None = setting(
        None,
        _metadata,
        "KEY=VALUE",
        "Metadata that the machine must have.",
        variable="SCHEDCTL_MACHINE_METADATA",
    )
    port: int = setting(
        DEFAULT_PORT,
        integer(1, 65535),
        "1 to 65535",
        "Port of the daemon on the machine.",
    )
    start_timeout: float = setting(
        DEFAULT_START_TIMEOUT_S,
        number(1, MAX_START_TIMEOUT_S),
        "seconds, 1 to 3600",
        "Timeout for starting the machine.",
    )
    api: str | None = setting(
        None,
        _api,
        "a URL",
        "URL of the Machines API.",
        variable="SCHEDCTL_FLY_API",
        default_text="the private one on Fly, otherwise the public one",
    )
    resolver: str | None = setting(
        None,
        _resolver,
        "an IP address",
        "Name server for .internal names, for example fdaa::3.",
        default_text="the system's",
    )


class SettingArguments(TypedDict, total=False):
    """The settings of `ClientOptions` (without `endpoint`) as arguments of a client.

    None means not given.
    """

    app: str | None
    data: str | Path | None
    key_file: str | Path | None
    key: str | None
    server_key: str | Path | None
    idle_timeout: float | None
    token: str | None
    machine: str | None
    metadata: str | None
    port: int | None
    start_timeout: float | None
    api: str | None
    resolver: str | None


#: The client's settings, in the order of docs/SETTINGS.md.
TABLE = SettingsTable(ClientOptions, prefix="SCHEDCTL_", arguments=True)
#: The settings that say where the daemon is. The first one given in a call counts, whatever is set
#: elsewhere.
_LOCATIONS = ("endpoint", "app", "data")
#: The settings that matter only if an app is set.
_FLY = ("token", "machine", "metadata", "port", "start_timeout", "api", "resolver")


@dataclass(frozen=True)
class FlySettings:
    """The settings to start a machine on Fly and to find its daemon; see `ClientOptions`."""

    app: str
    token: str = field(default="", repr=False)
    machine: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    port: int = DEFAULT_PORT
    start_timeout_s: float = DEFAULT_START_TIMEOUT_S
    api: str = API_OUTSIDE
    resolver: str | None = None


@dataclass(frozen=True)
class ClientSettings:
    """The resolved settings of a client. Keys are Z85 bytes; `fly` is None without an app.

    Example:

        settings = load({"app": "my-scheduler"}, os.environ)
        settings.fly.app  # "my-scheduler"
    """

    endpoint: str | None
    data: Path
    secret_key: bytes | None = field(repr=False)
    server_key: bytes | None
    idle_timeout_s: float = DEFAULT_IDLE_TIMEOUT_S
    fly: FlySettings | None = None


def load(
    arguments: Mapping[str, Any] | None = None, environment: Mapping[str, str] | None = None
) -> ClientSettings:
    """Return the settings. Raises `SettingsError`.

    arguments: name of a field of `ClientOptions` -> value, None if not given.
    """
    environment = os.environ if environment is None else environment
    try:
        in_file, file = _read_file(environment)
        found = TABLE.find(arguments or {}, environment, in_file, file)
        options = TABLE.parse(_relevant(found, arguments or {}))
    except SettingError as error:
        raise SettingsError(error.message, error.hint) from None

    secret, server = _keys(options)
    return ClientSettings(
        endpoint=options.endpoint,
        data=options.data or default_data_dir(environment),
        secret_key=secret,
        server_key=server,
        idle_timeout_s=options.idle_timeout,
        fly=_fly(options, environment),
    )


def default_data_dir(environment: Mapping[str, str]) -> Path:
    """Return the data folder that is used when nothing is configured."""
    base = environment.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(base).expanduser() / "email-scheduler"


def _read_file(environment: Mapping[str, str]) -> tuple[dict[str, Any], str]:
    """Return the values of the settings file, and its path. Only a named file has to exist."""
    named = environment.get("SCHEDCTL_CONFIG")
    base = environment.get("XDG_CONFIG_HOME") or "~/.config"
    file = Path(named or f"{base}/schedctl/config.toml").expanduser()
    try:
        return TABLE.read_file(file), str(file)
    except FileNotFoundError:
        if named:
            raise SettingsError(
                f"the settings file {file} does not exist", "Check SCHEDCTL_CONFIG."
            ) from None
        return {}, str(file)


def _relevant(found: Mapping[str, Found], arguments: Mapping[str, Any]) -> dict[str, Found]:
    """Return what was found without the settings that do not matter.

    A location named in the call is meant, whatever is configured elsewhere: a data folder's own
    daemon, for example. An endpoint needs no app, and without an app Fly's settings are not read.
    """
    relevant = {
        name: each
        for name, each in found.items()
        if each.value != "" or name in ("endpoint", "data")
    }
    named = [name for name in _LOCATIONS if arguments.get(name) is not None]
    for name in ("endpoint", "app"):
        if named and name != named[0]:
            relevant.pop(name, None)

    if "endpoint" in relevant:
        relevant.pop("app", None)
    if "app" not in relevant:
        for name in _FLY:
            relevant.pop(name, None)
    return relevant


def _keys(options: ClientOptions) -> tuple[bytes | None, bytes | None]:
    """Return the client's secret key and the daemon's public key: both or neither."""
    try:
        secret, server = _secret_key(options), _server_key(options)
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
            f"Set {TABLE[missing].variable} too, or set neither for an unencrypted local "
            "connection.",
        )
    return secret, server


def _secret_key(options: ClientOptions) -> bytes | None:
    if options.key_file is not None:
        return parse_secret_key(options.key_file.read_text(encoding="ascii"))
    return None if options.key is None else parse_secret_key(options.key)


def _server_key(options: ClientOptions) -> bytes | None:
    given = options.server_key
    if given is None:
        return None
    if len(given) != 40 and Path(given).expanduser().is_file():
        given = Path(given).expanduser().read_text(encoding="ascii")

    keys = parse_public_keys(given)
    if len(keys) != 1:
        raise KeyFormatError(f"server_key has {len(keys)} public keys; expected one")
    return keys[0]


def _fly(options: ClientOptions, environment: Mapping[str, str]) -> FlySettings | None:
    """Return the settings of a machine on Fly if an app is set."""
    if options.app is None:
        return None
    on_fly = bool(environment.get("FLY_APP_NAME") and environment.get("FLY_PRIVATE_IP"))
    return FlySettings(
        app=options.app,
        token=options.token,
        machine=options.machine,
        metadata=options.metadata or {},
        port=options.port,
        start_timeout_s=options.start_timeout,
        api=options.api or (API_INSIDE if on_fly else API_OUTSIDE),
        resolver=options.resolver,
    )
