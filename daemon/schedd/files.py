"""Questions about files, answered in a thread of the daemon: which function of the store answers which message.

Jobs, which take the processes of the pool, go through `jobs.service` instead.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from schedproto import ErrorCode, OrganizationConfiguration, SchedulerError
from schedproto.messages import (
    CheckConfiguration,
    ConfigurationReply,
    FileReply,
    FileRequest,
    GetConfiguration,
    GetOrganization,
    GetVolume,
    OrganizationReply,
    SetConfiguration,
    VolumeReply,
    WithdrawConfiguration,
)

from .engine.configuration import Layer, parse_toml
from .jobs.service import resolve_database
from .store import configurations, info

ConfigurationRequest = GetConfiguration | CheckConfiguration | SetConfiguration | WithdrawConfiguration


class Files:
    """Answers for the files of one data folder. defaults_toml: the daemon's configuration file."""

    def __init__(self, data: Path, defaults_toml: str) -> None:
        self._data = data
        self._defaults: Layer = parse_toml(defaults_toml, "the daemon's configuration file")

    def answer(self, request: FileRequest) -> FileReply:
        """Return the answer; may read the disk for seconds. Raises `SchedulerError`."""
        if isinstance(request, GetVolume):
            return VolumeReply(id=request.id, volume=info.volume(self._data))
        path = resolve_database(self._data, request.organization)
        match request:
            case GetOrganization():
                return OrganizationReply(id=request.id, organization=info.describe(path, request.organization))
            case GetConfiguration() | CheckConfiguration() | SetConfiguration() | WithdrawConfiguration():
                return ConfigurationReply(id=request.id, configuration=self._configuration(path, request))
            case _:
                raise SchedulerError(
                    ErrorCode.UNSUPPORTED_MESSAGE, f"{type(request).__name__} is not answered by this daemon"
                )

    def _configuration(self, path: Path, request: ConfigurationRequest) -> OrganizationConfiguration:
        now = dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M:%S")
        name, defaults = request.organization, self._defaults
        match request:
            case CheckConfiguration():
                return configurations.check(path, name, defaults, request.toml)
            case SetConfiguration():
                return configurations.set_version(path, name, defaults, request.toml, request.created_by, now)
            case WithdrawConfiguration():
                return configurations.withdraw(path, name, defaults, request.version, request.withdrawn_by, now)
            case _:
                return configurations.show(path, name, defaults)
