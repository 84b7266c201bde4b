"""The daemon's settings.

One table, three sources (flag over environment over file), and their checks.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .exitcodes import ExitCode, FatalError

ENVIRONMENT_PREFIX = "SCHEDD_"


class SettingError(ValueError):
    """A value that a setting does not take; the text says what it takes."""


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise SettingError("a string")
    return value.strip()


def _path(value: Any) -> Path:
    return Path(_text(value)).expanduser()


def _number(low: float, high: float, unit: str = "seconds") -> Callable[[Any], float]:
    def convert(value: Any) -> float:
        accepted = f"a number of {unit} from {low:g} to {high:g}"
        try:
            number = float(value) if not isinstance(value, bool) else float("nan")
        except (TypeError, ValueError):
            raise SettingError(accepted) from None
        if not low <= number <= high:
            raise SettingError(accepted)
        return number

    return convert


def _integer(low: int, high: int) -> Callable[[Any], int]:
    def convert(value: Any) -> int:
        accepted = f"a whole number from {low} to {high}"
        try:
            number = int(value) if not isinstance(value, bool | float) else low - 1
        except (TypeError, ValueError):
            raise SettingError(accepted) from None
        if not low <= number <= high:
            raise SettingError(accepted)
        return number

    return convert


def _choice(*options: str) -> Callable[[Any], str]:
    def convert(value: Any) -> str:
        if value not in options:
            raise SettingError("one of " + ", ".join(options))
        return str(value)

    return convert


def _metrics_address(value: Any) -> str:
    text = (
        str(value).strip() if isinstance(value, str | int) and not isinstance(value, bool) else ""
    )
    host, _, port = text.rpartition(":")
    try:
        if host:
            ipaddress.ip_address(host.strip("[]"))
        good = port.isdigit() and 0 < int(port) < 65536
    except ValueError:
        good = False
    if not good:
        raise SettingError("a port, or ADDRESS:PORT with an IP address (IPv6 in brackets)")
    return text


def _list(value: Any) -> tuple[str, ...]:
    """Accept an array of texts (file), or one text with commas or white space between (environment)."""
    if isinstance(value, str):
        return tuple(value.replace(",", " ").split())
    if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        return tuple(value)
    raise SettingError("strings, separated by commas")


@dataclass(frozen=True)
class Setting:
    """One setting. `name` is the key in the file; flag and variable are made from it.

    many: may be repeated.
    """

    name: str
    convert: Callable[[Any], Any]
    default: Any
    accepts: str
    help: str
    many: bool = False

    @property
    def flag(self) -> str:
        """Return the command line flag."""
        return "--" + self.name.removesuffix("_s").replace("_", "-")

    @property
    def variable(self) -> str:
        """Return the environment variable."""
        return ENVIRONMENT_PREFIX + self.name.removesuffix("_s").upper()


SETTINGS: tuple[Setting, ...] = (
    Setting(
        "data",
        _path,
        Path("/data"),
        "a folder",
        "Folder that contains the organizations' databases and the journal.",
    ),
    Setting(
        "listen",
        _list,
        (),
        "ZeroMQ endpoints",
        "Additional endpoint to listen on, for example tcp://[::]:7300 (repeatable). The Unix socket in the data "
        "folder is always open. Endpoints other than Unix sockets and loopback addresses require keys.",
        many=True,
    ),
    Setting(
        "metrics_listen",
        _metrics_address,
        None,
        "PORT or ADDRESS:PORT",
        "Port or address for Prometheus metrics (GET /metrics), for example 9091. Disabled if unset.",
    ),
    Setting(
        "user",
        _text,
        None,
        "a user's name",
        "When started as root, change the owner of the data folder to this user and drop privileges.",
    ),
    Setting(
        "server_key_file",
        _path,
        None,
        "a file",
        "File with the server's secret key, created by `schedctl keys new`. Enables encryption on TCP endpoints.",
    ),
    Setting(
        "server_key",
        _text,
        None,
        "40 characters",
        "The server's secret key, as a value (for secrets in the environment).",
    ),
    Setting(
        "client_keys",
        _path,
        None,
        "a file or folder",
        "Public keys of allowed clients: a file with one key per line, or a folder of such files.",
    ),
    Setting(
        "allow_clients",
        _list,
        (),
        "public keys",
        "Public keys of allowed clients, as values (for secrets in the environment).",
        many=True,
    ),
    Setting(
        "idle_timeout_s",
        _number(0, 86_400 * 365),
        0.0,
        "seconds, 0 for never",
        "Exit after this long without jobs or client activity.",
    ),
    Setting(
        "workers",
        _integer(1, 32),
        None,
        "1 to 32",
        "Worker processes (default: the machine's cores). A job may request more; the pool grows while it runs.",
    ),
    Setting("queue_limit", _integer(1, 1_000_000), 1000, "1 to 1000000", "Maximum queued jobs."),
    Setting(
        "organization_queue_limit",
        _integer(1, 100_000),
        20,
        "1 to 100000",
        "Maximum queued jobs of one organization.",
    ),
    Setting(
        "worker_retries",
        _integer(0, 100),
        2,
        "0 to 100",
        "Retries after a worker crash.",
    ),
    Setting(
        "drain_s",
        _number(0, 3600),
        30.0,
        "seconds, 0 to 3600",
        "Time for running jobs to end after SIGTERM or SIGINT. Then they are stopped, and continue at the next start.",
    ),
    Setting(
        "defaults",
        _path,
        None,
        "a TOML file",
        "Default configuration for all organizations (docs/RULES.md, section 13).",
    ),
    Setting(
        "backup_days",
        _number(0, 3650, "days"),
        7.0,
        "days, 0 for none",
        "How long to keep the backups that reliable runs make.",
    ),
    Setting(
        "price_per_hour",
        _number(0, 10_000, "US dollars"),
        None,
        "US dollars",
        "Hourly price of this machine, used for the cost in results. Default on Fly: by machine size and region.",
    ),
    Setting(
        "bucket_folder",
        _path,
        None,
        "a folder",
        "Folder to use instead of a bucket. To use a bucket, set BUCKET_NAME, AWS_ENDPOINT_URL_S3, "
        "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION, as `fly storage create` does (docs/BUCKET.md).",
    ),
    Setting(
        "bucket_layout",
        _choice("versions", "plain"),
        "versions",
        "versions or plain",
        "Storage layout in the bucket. versions: snapshots and patches; plain: one SQLite file.",
    ),
    Setting(
        "bucket_timeout_s",
        _number(1, 3600),
        120.0,
        "seconds, 1 to 3600",
        "Timeout of one request to the bucket, including its data.",
    ),
    Setting(
        "cache_gb",
        _number(0, 1_000_000, "gigabytes"),
        0.0,
        "gigabytes, 0 for no limit",
        "Maximum size of the local copies of the bucket's files. The least recently used are removed first.",
    ),
    Setting(
        "lease_s",
        _number(1, 3600),
        30.0,
        "seconds, 1 to 3600",
        "Lease duration: how long an organization stays reserved after its daemon crashed.",
    ),
    Setting(
        "keep_jobs",
        _integer(1, 10_000_000),
        10_000,
        "1 to 10000000",
        "Maximum ended jobs kept in the journal.",
    ),
    Setting(
        "log_format",
        _choice("auto", "pretty", "json"),
        "auto",
        "auto, pretty or json",
        "Log format. auto: pretty on a terminal, otherwise JSON.",
    ),
    Setting(
        "log_level",
        _choice("debug", "info", "warning", "error"),
        "info",
        "debug to error",
        "Minimum level to log.",
    ),
)
BY_NAME = {setting.name: setting for setting in SETTINGS}


@dataclass(frozen=True)
class Settings:
    """All settings, checked. See `SETTINGS` for what each means."""

    data: Path
    listen: tuple[str, ...]
    metrics_listen: str | None
    user: str | None
    server_key_file: Path | None
    server_key: str | None
    client_keys: Path | None
    allow_clients: tuple[str, ...]
    idle_timeout_s: float
    workers: int
    queue_limit: int
    organization_queue_limit: int
    worker_retries: int
    drain_s: float
    defaults: Path | None
    keep_jobs: int
    backup_days: float
    price_per_hour: float | None
    bucket_folder: Path | None
    bucket_layout: str
    bucket_timeout_s: float
    cache_gb: float
    lease_s: float
    log_format: str
    log_level: str


def _convert(setting: Setting, value: Any, source: str) -> Any:
    try:
        return setting.convert(value)
    except SettingError as error:
        shown = "***" if setting.name == "server_key" else f"{value!r:.80}"
        raise FatalError(
            ExitCode.USAGE, f"{source}: invalid {setting.name} {shown}: expected {error}"
        ) from None


def _from_file(path: Path) -> dict[str, Any]:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FatalError(
            ExitCode.USAGE, f"the settings file {path} cannot be read: {error.strerror}"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FatalError(
            ExitCode.USAGE, f"the settings file {path} is not valid TOML: {error}"
        ) from None
    for name in values:
        if name not in BY_NAME:
            near = difflib.get_close_matches(name, BY_NAME, 1)
            hint = f"Did you mean {near[0]}?" if near else f"Known settings: {', '.join(BY_NAME)}."
            raise FatalError(ExitCode.USAGE, f"{path}: unknown setting {name!r}", hint)
    return values


def load(
    flags: Mapping[str, Any], environment: Mapping[str, str] | None = None, file: Path | None = None
) -> Settings:
    """Return the settings of these sources, or raise `FatalError` (USAGE).

    flags: setting name -> value as given, None where it was not.
    """
    environment = os.environ if environment is None else environment
    in_file = _from_file(file) if file is not None else {}
    values: dict[str, Any] = {}
    for setting in SETTINGS:
        if flags.get(setting.name) not in {None, ()}:
            values[setting.name] = _convert(setting, flags[setting.name], setting.flag)
        elif environment.get(setting.variable):
            values[setting.name] = _convert(
                setting, environment[setting.variable], setting.variable
            )
        elif setting.name in in_file:
            values[setting.name] = _convert(setting, in_file[setting.name], f"{file}")
        else:
            values[setting.name] = setting.default
    if values["workers"] is None:
        values["workers"] = min(32, len(os.sched_getaffinity(0)))
    return Settings(**values)


def markdown() -> str:
    """Return the table for docs/SETTINGS.md."""
    lines = [
        "| setting (file) | flag | environment | accepts | default | meaning |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for setting in SETTINGS:
        if setting.name == "workers":
            default = "the machine's cores"
        elif setting.default in {None, ()}:
            default = "none"
        else:
            default = (
                f"{setting.default:g}"
                if isinstance(setting.default, float)
                else str(setting.default)
            )
        lines.append(
            f"| `{setting.name}` | `{setting.flag}` | `{setting.variable}` | {setting.accepts} | {default} "
            f"| {setting.help} |"
        )
    return "\n".join(lines) + "\n"
