"""Questions about files, answered in a thread of the daemon: which function of the store answers which message.

Jobs, which take the processes of the pool, go through `jobs.service` instead.
"""

from __future__ import annotations

from pathlib import Path

from schedproto import ErrorCode, SchedulerError
from schedproto.messages import (
    FileReply,
    FileRequest,
    GetOrganization,
    GetVolume,
    OrganizationReply,
    VolumeReply,
)

from .jobs.service import resolve_database
from .store import info


class Files:
    """Answers for the files of one data folder. defaults_toml: the daemon's configuration file."""

    def __init__(self, data: Path, defaults_toml: str) -> None:
        self._data, self._defaults = data, defaults_toml

    def answer(self, request: FileRequest) -> FileReply:
        """Return the answer; may read the disk for seconds. Raises `SchedulerError`."""
        if isinstance(request, GetVolume):
            return VolumeReply(id=request.id, volume=info.volume(self._data))
        path = resolve_database(self._data, request.organization)
        match request:
            case GetOrganization():
                return OrganizationReply(id=request.id, organization=info.describe(path, request.organization))
            case _:
                raise SchedulerError(
                    ErrorCode.UNSUPPORTED_MESSAGE, f"{type(request).__name__} is not answered by this daemon"
                )
