"""The daemon's settings: one dataclass, whose fields say what each setting accepts and means.

Flag, environment variable, file key and docs/SETTINGS.md follow from it (`schedproto.settings`).
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schedproto.bucket_settings import folder_field, layout_field, timeout_field
from schedproto.settings import (
    InvalidValueError,
    SettingError,
    SettingsTable,
    choice,
    integer,
    number,
    path,
    setting,
    text,
    texts,
)

from .exitcodes import ExitCode, FatalError
from .hardening import machine_memory_bytes

MAX_WORKERS = 32


def _metrics_address(value: Any) -> str:
    """Parse a port, or an IP address and a port."""
    given = isinstance(value, str | int) and not isinstance(value, bool)
    address = str(value).strip() if given else ""
    host, _, port = address.rpartition(":")
    try:
        if host:
            ipaddress.ip_address(host.strip("[]"))
        valid = port.isdigit() and 0 < int(port) < 65536
    except ValueError:
        valid = False
    if not valid:
        raise InvalidValueError("a port, or ADDRESS:PORT with an IP address (IPv6 in brackets)")
    return address


def _usable_cores() -> int:
    return min(MAX_WORKERS, len(os.sched_getaffinity(0)))


def _worker_memory_mb() -> int:
    return max(256, machine_memory_bytes() * 3 // 4 // 1_000_000)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings of a daemon, parsed. Durations are seconds unless the name says otherwise.

    `load` makes one from flags, environment and file; a program may also make one directly:

        settings = Settings(data=Path("/data"), idle_timeout_s=60.0)
    """

    data: Path = setting(
        Path("/data"),
        path,
        "a folder",
        "Folder that contains the organizations' databases and the journal.",
    )
    listen: tuple[str, ...] = setting(
        (),
        texts,
        "ZeroMQ endpoints",
        "Additional endpoint to listen on, for example tcp://[::]:7300 (repeatable). The Unix "
        "socket in the data folder is always open. Endpoints other than Unix sockets and "
        "loopback addresses require keys.",
        many=True,
    )
    metrics_listen: str | None = setting(
        None,
        _metrics_address,
        "PORT or ADDRESS:PORT",
        "Port or address for Prometheus metrics (GET /metrics), for example 9091. Disabled if "
        "unset.",
    )
    user: str | None = setting(
        None,
        text,
        "a user's name",
        "When started as root, change the owner of the data folder to this user and drop "
        "privileges.",
    )
    server_key_file: Path | None = setting(
        None,
        path,
        "a file",
        "File with the server's secret key, created by `schedctl keys new`. Enables "
        "encryption on TCP endpoints.",
    )
    server_key: str | None = setting(
        None,
        text,
        "40 characters",
        "The server's secret key, as a value (for secrets in the environment). Not accepted on "
        "the command line, which other users can read.",
        secret=True,
    )
    client_keys: Path | None = setting(
        None,
        path,
        "a file or folder",
        "Public keys of allowed clients: a file with one key per line, or a folder of such files.",
    )
    allow_clients: tuple[str, ...] = setting(
        (),
        texts,
        "public keys",
        "Public keys of allowed clients, as values (for secrets in the environment).",
        many=True,
    )
    idle_timeout_s: float = setting(
        0.0,
        number(0, 86400 * 365),
        "seconds, 0 for never",
        "Exit after this long without jobs or client activity.",
    )
    workers: int = setting(
        _usable_cores,
        integer(1, MAX_WORKERS),
        "1 to 32",
        "Worker processes (default: the machine's cores). A job may request more; the pool "
        "grows while it runs.",
        default_text="the machine's cores",
    )
    queue_limit: int = setting(
        1000,
        integer(1, 1000000),
        "1 to 1000000",
        "Maximum queued jobs.",
    )
    organization_queue_limit: int = setting(
        20,
        integer(1, 100000),
        "1 to 100000",
        "Maximum queued jobs of one organization.",
    )
    worker_retries: int = setting(
        2,
        integer(0, 100),
        "0 to 100",
        "Retries after a worker crash.",
    )
    max_run_s: float = setting(
        3600.0,
        number(1, 86400 * 7),
        "seconds",
        "Time limit of a job, from its start. A job that takes longer ends with the error "
        "`too_slow` and changes nothing.",
    )
    max_request_s: float = setting(
        600.0,
        number(1, 86400),
        "seconds",
        "Time limit of a request that reads or writes a complete file (check, doctor, adopt, push, "
        "pull, restore). Other requests have at most 60 s.",
    )
    worker_memory_mb: int = setting(
        _worker_memory_mb,
        integer(128, 100_000_000),
        "megabytes",
        "Memory limit of a worker process. A job that needs more ends with the error "
        "`out_of_memory`.",
        default_text="three quarters of the machine's memory",
    )
    drain_s: float = setting(
        30.0,
        number(0, 3600),
        "seconds, 0 to 3600",
        "Time for running jobs to end after SIGTERM or SIGINT. Then they are stopped, and "
        "continue at the next start.",
    )
    defaults: Path | None = setting(
        None,
        path,
        "a TOML file",
        "Default configuration for all organizations (docs/RULES.md, section 13).",
    )
    backup_days: float = setting(
        7.0,
        number(0, 3650, "days"),
        "days, 0 for none",
        "How long to keep the backups that reliable runs make.",
    )
    price_per_hour: float | None = setting(
        None,
        number(0, 10000, "US dollars"),
        "US dollars",
        "Hourly price of this machine, used for the cost in results. Default on Fly: by "
        "machine size and region.",
    )
    bucket_folder: Path | None = folder_field()
    bucket_layout: str = layout_field()
    bucket_timeout_s: float = timeout_field()
    cache_gb: float = setting(
        0.0,
        number(0, 1000000, "gigabytes"),
        "gigabytes, 0 for no limit",
        "Maximum size of the local copies of the bucket's files. The least recently used are "
        "removed first.",
    )
    lease_s: float = setting(
        30.0,
        number(1, 3600),
        "seconds, 1 to 3600",
        "Lease duration: how long an organization stays reserved after its daemon crashed.",
    )
    keep_jobs: int = setting(
        10000,
        integer(1, 10000000),
        "1 to 10000000",
        "Maximum ended jobs kept in the journal.",
    )
    log_format: str = setting(
        "auto",
        choice("auto", "pretty", "json"),
        "auto, pretty or json",
        "Log format. auto: pretty on a terminal, otherwise JSON.",
    )
    log_level: str = setting(
        "info",
        choice("debug", "info", "warning", "error"),
        "debug to error",
        "Minimum level to log.",
    )


TABLE = SettingsTable(Settings, prefix="SCHEDD_")
#: The settings, in the order of the help and of docs/SETTINGS.md.
SETTINGS = tuple(TABLE)


def load(
    flags: Mapping[str, Any], environment: Mapping[str, str] | None = None, file: Path | None = None
) -> Settings:
    """Return the settings of these sources, or raise `FatalError` (USAGE).

    flags: setting name -> value as given, None if it was not.
    """
    environment = os.environ if environment is None else environment
    try:
        in_file = {} if file is None else TABLE.read_file(file)
        return TABLE.load(flags, environment, in_file, str(file))
    except FileNotFoundError as error:
        raise FatalError(
            ExitCode.USAGE, f"the settings file {file} cannot be read: {error.strerror}"
        ) from None
    except SettingError as error:
        raise FatalError(ExitCode.USAGE, error.message, error.hint) from None


def markdown() -> str:
    """Return the table for docs/SETTINGS.md."""
    return TABLE.markdown()
