"""Where the client finds its daemon: one table of settings, from arguments, environment and a file.

Arguments win over `SCHEDCTL_*` variables, which win over the file (`~/.config/schedctl/config.toml`, or what
`SCHEDCTL_CONFIG` names).
"""

from __future__ import annotations

import difflib
import math
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schedproto.keys import KeyFormatError, parse_public_keys, parse_secret_key

from .errors import SettingsError

#: name -> (environment variable, what it means)
TABLE: dict[str, tuple[str, str]] = {
    "endpoint": ("SCHEDCTL_ENDPOINT", "ZeroMQ endpoint of a daemon that is already up, for example tcp://[::1]:7300"),
    "data": ("SCHEDCTL_DATA", "data folder over which a local daemon is started when there is no endpoint"),
    "key_file": ("SCHEDCTL_KEY_FILE", "this client's key file, as made by `schedctl keys new`"),
    "key": ("SCHEDCTL_KEY", "this client's secret key itself"),
    "server_key": ("SCHEDCTL_SERVER_KEY", "the server's public key, or a file with it"),
    "idle_timeout": ("SCHEDCTL_IDLE_TIMEOUT", "seconds after which a daemon started locally exits when idle"),
}
DEFAULT_IDLE_TIMEOUT_S = 30.0
MAX_IDLE_TIMEOUT_S = 86_400.0 * 365


@dataclass(frozen=True)
class ClientSettings:
    """Settings of one client; see `TABLE`. Keys are Z85 as ZeroMQ takes them."""

    endpoint: str | None
    data: Path
    secret_key: bytes | None
    server_key: bytes | None
    idle_timeout_s: float = DEFAULT_IDLE_TIMEOUT_S


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
            raise SettingsError(f"the settings file {path} does not exist", "SCHEDCTL_CONFIG names it.") from None
        return path, {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"the settings file {path} cannot be read: {error}") from None
    for name in values:
        if name not in TABLE:
            near = difflib.get_close_matches(name, TABLE, 1)
            hint = f"Did you mean {near[0]}?" if near else f"Known settings: {', '.join(TABLE)}."
            raise SettingsError(f"{path}: unknown setting {name!r}", hint)
        if name != "idle_timeout" and not isinstance(values[name], str):
            raise SettingsError(f"{path}: {name} = {values[name]!r} is not a text", "Put it in quotation marks.")
    return path, values


def _only(keys: list[bytes]) -> bytes:
    if len(keys) != 1:
        raise KeyFormatError(f"server_key has {len(keys)} public keys instead of one")
    return keys[0]


def _keys(values: Mapping[str, Any]) -> tuple[bytes | None, bytes | None]:
    secret, server = None, None
    try:
        if values.get("key_file"):
            secret = parse_secret_key(Path(values["key_file"]).expanduser().read_text(encoding="ascii"))
        elif values.get("key"):
            secret = parse_secret_key(str(values["key"]))
        if values.get("server_key"):
            text = str(values["server_key"])
            if len(text) != 40 and Path(text).expanduser().is_file():
                text = Path(text).expanduser().read_text(encoding="ascii")
            server = _only(parse_public_keys(text))
    except OSError as error:
        raise SettingsError(f"the key file {error.filename} cannot be read: {error.strerror}") from None
    except (KeyFormatError, UnicodeDecodeError) as error:
        raise SettingsError(f"a key cannot be used: {error}", "`schedctl keys new` makes keys.") from None
    if (secret is None) != (server is None):
        missing = "server_key" if server is None else "key_file"
        raise SettingsError(
            f"an encrypted connection needs both keys; {missing} is missing",
            f"Set {TABLE[missing][0]} too, or neither for an unencrypted one on this machine.",
        )
    return secret, server


def load(arguments: Mapping[str, Any] | None = None, environment: Mapping[str, str] | None = None) -> ClientSettings:
    """Return the settings; raises `SettingsError`. `arguments`: name in `TABLE` -> value, None where not given."""
    environment = os.environ if environment is None else environment
    _, in_file = _file(environment)
    values: dict[str, Any] = {}
    for name, (variable, _) in TABLE.items():
        given = (arguments or {}).get(name)
        values[name] = given if given is not None else environment.get(variable) or in_file.get(name)
    # A data folder named in the call means that folder's own daemon, whatever endpoint is configured elsewhere.
    if (arguments or {}).get("data") is not None and (arguments or {}).get("endpoint") is None:
        values["endpoint"] = None
    try:
        idle = DEFAULT_IDLE_TIMEOUT_S if values["idle_timeout"] is None else float(values["idle_timeout"])
    except (TypeError, ValueError):
        idle = math.nan
    if not 0 <= idle <= MAX_IDLE_TIMEOUT_S:
        raise SettingsError(
            f"idle_timeout = {values['idle_timeout']!r} is not a number of seconds from 0 to {MAX_IDLE_TIMEOUT_S:g}",
            "0 means that the daemon never exits by itself.",
        )
    endpoint = values["endpoint"]
    if endpoint is not None and not str(endpoint).startswith(("tcp://", "ipc://")):
        raise SettingsError(
            f"{endpoint!r} is not an endpoint", "Write tcp://ADDRESS:PORT (IPv6 in brackets) or ipc:///path/to/socket."
        )
    secret, server = _keys(values)
    data = Path(values["data"]).expanduser() if values["data"] is not None else default_data_dir(environment)
    return ClientSettings(None if endpoint is None else str(endpoint), data, secret, server, idle)
