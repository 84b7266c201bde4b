"""Questions about files, answered in a thread of the daemon: which function of the store answers which message.

Jobs, which take the processes of the pool, go through `jobs.service` instead.
"""

from __future__ import annotations

import datetime as dt
import threading
from pathlib import Path

from schedproto import BackupList, OrganizationConfiguration
from schedproto.layout import backup_folder
from schedproto.messages import (
    BackupsReply,
    CheckConfiguration,
    CloseTransfer,
    CommitPush,
    ConfigurationReply,
    Diagnose,
    DiagnosisReply,
    FileReply,
    FileRequest,
    GetBackups,
    GetBlocks,
    GetConfiguration,
    GetDigests,
    GetOrganization,
    GetReport,
    GetVolume,
    OfferDigests,
    OpenPull,
    OpenPush,
    OrganizationReply,
    PutBlocks,
    ReportReply,
    RestoreBackup,
    SetConfiguration,
    VolumeReply,
    WithdrawConfiguration,
)

from .diagnosis import diagnose
from .engine.configuration import Layer, parse_toml
from .jobs.service import resolve_database
from .store import configurations, info
from .store.reports import read_report
from .transfers import Transfers

OrganizationRequest = (
    GetOrganization
    | GetConfiguration
    | CheckConfiguration
    | SetConfiguration
    | WithdrawConfiguration
    | GetReport
    | GetBackups
    | RestoreBackup
)
FileTransferRequest = (
    OpenPull | OpenPush | GetDigests | GetBlocks | OfferDigests | PutBlocks | CommitPush | CloseTransfer
)
ConfigurationRequest = GetConfiguration | CheckConfiguration | SetConfiguration | WithdrawConfiguration


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


class Files:
    """Answers for the files of one data folder.

    defaults_toml: the daemon's configuration file.   backup_days: how long backups are kept.
    """

    def __init__(self, data: Path, defaults_toml: str, backup_days: float, *, on_fly: bool = False) -> None:
        self._data, self._backup_days, self._on_fly = data, backup_days, on_fly
        # A restore closes a descriptor of its own on the file, and with it drops every lock that SQLite holds on
        # the file in this process; so there is only one question about an organization at a time.
        self._turns: dict[str, threading.Lock] = {}
        self._transfers = Transfers(data, _now)
        self._defaults: Layer = parse_toml(defaults_toml, "the daemon's configuration file")

    def answer(self, request: FileRequest) -> FileReply:
        """Return the answer; may read the disk for seconds. Raises `SchedulerError`."""
        if isinstance(request, GetVolume):
            return VolumeReply(id=request.id, volume=info.volume(self._data))
        if isinstance(request, Diagnose):
            if request.organization is not None:
                resolve_database(self._data, request.organization)
            on_fly = self._on_fly
            return DiagnosisReply(id=request.id, diagnosis=diagnose(self._data, request.organization, on_fly=on_fly))
        path = resolve_database(self._data, request.organization)
        if isinstance(request, FileTransferRequest):
            return self._about_transfer(path, request)
        with self._turns.setdefault(request.organization, threading.Lock()):
            return self._about_organization(path, request)

    def _about_transfer(self, path: Path, request: FileTransferRequest) -> FileReply:
        if isinstance(request, GetDigests | GetBlocks | PutBlocks | CloseTransfer):
            return self._transfers.answer(request, path)  # of these none touches the organization's file
        with self._turns.setdefault(request.organization, threading.Lock()):
            if not isinstance(request, CommitPush):
                return self._transfers.answer(request, path)
            return self._transfers.commit(request, lambda new: self._put_in_place(new, path))

    def _put_in_place(self, new: Path, path: Path) -> None:
        # Loaded here for the reason given below.
        from .store.backups import Backups  # noqa: PLC0415
        from .store.restore import put_in_place  # noqa: PLC0415

        folder = backup_folder(self._data, path.stem)
        put_in_place(Backups(folder, self._backup_days or 1.0, _now), new, path, "before a push")

    def _about_organization(self, path: Path, request: OrganizationRequest) -> FileReply:
        match request:
            case GetOrganization():
                return OrganizationReply(id=request.id, organization=info.describe(path, request.organization))
            case GetConfiguration() | CheckConfiguration() | SetConfiguration() | WithdrawConfiguration():
                return ConfigurationReply(id=request.id, configuration=self._configuration(path, request))
            case GetReport():
                now = _now().strftime("%Y-%m-%d %H:%M:%S")
                return ReportReply(id=request.id, report=read_report(path, request.organization, now))
            case GetBackups() | RestoreBackup():
                return BackupsReply(id=request.id, backups=self._backups(path, request))

    def _configuration(self, path: Path, request: ConfigurationRequest) -> OrganizationConfiguration:
        now = _now().strftime("%Y-%m-%d %H:%M:%S")
        name, defaults = request.organization, self._defaults
        match request:
            case CheckConfiguration():
                return configurations.check(path, name, defaults, request.toml)
            case SetConfiguration():
                return configurations.set_version(path, name, defaults, request.toml, request.created_by, now)
            case WithdrawConfiguration():
                return configurations.withdraw(path, name, defaults, request.version, request.withdrawn_by, now)
            case GetConfiguration():
                return configurations.show(path, name, defaults, request.version)

    def _backups(self, path: Path, request: GetBackups | RestoreBackup) -> BackupList:
        # Pages are compared with numpy, which a daemon that has just been started need not load before it listens.
        from .store.backups import Backups  # noqa: PLC0415
        from .store.restore import restore  # noqa: PLC0415

        folder = backup_folder(self._data, request.organization)
        backups = Backups(folder, self._backup_days or 1.0, _now)
        restored = None
        if isinstance(request, RestoreBackup):
            restore(backups, request.backup_id, path)
            restored = request.backup_id
        return BackupList(organization=request.organization, backups=backups.list(), restored=restored)
