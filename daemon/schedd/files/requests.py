"""Questions about files, answered in a thread of the daemon.

Which function of the store answers which message.

Jobs, which take the processes of the pool, go through `jobs.service` instead.
"""

from __future__ import annotations

import datetime as dt
import threading
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from schedd.engine.configuration import Layer, parse_toml
from schedd.replica.location import BucketLocation
from schedd.run.specification import parse_as_of
from schedd.store import configurations, info
from schedd.store.connection import resolve_database
from schedd.store.reports import read_report
from schedproto import BackupList, OrganizationConfiguration
from schedproto.checks import (
    Adoption,
    AdoptionReply,
    AdoptOrganization,
    CheckOrganization,
    CheckReply,
    CheckReport,
    PlanAdoption,
)
from schedproto.layout import backup_folder
from schedproto.messages import (
    BackupsReply,
    CheckConfiguration,
    ConfigurationReply,
    Diagnose,
    DiagnosisReply,
    FileReply,
    FileRequest,
    GetBackups,
    GetConfiguration,
    GetOrganization,
    GetReport,
    GetVolume,
    ListOrganizations,
    OrganizationReply,
    OrganizationsReply,
    ReportReply,
    RestoreBackup,
    SetConfiguration,
    VolumeReply,
    WithdrawConfiguration,
)
from schedproto.transfers import (
    CloseTransfer,
    CommitPush,
    GetBlocks,
    GetDigests,
    OfferDigests,
    OpenPull,
    OpenPush,
    PutBlocks,
)

from .diagnosis import diagnose
from .transfers import Transfers

if TYPE_CHECKING:
    from schedd.backups.backups import Backups

OrganizationRequest = (
    GetOrganization
    | GetConfiguration
    | CheckConfiguration
    | SetConfiguration
    | WithdrawConfiguration
    | GetReport
    | GetBackups
    | RestoreBackup
    | CheckOrganization
    | PlanAdoption
    | AdoptOrganization
)
FileTransferRequest = (
    OpenPull
    | OpenPush
    | GetDigests
    | GetBlocks
    | OfferDigests
    | PutBlocks
    | CommitPush
    | CloseTransfer
)
ConfigurationRequest = (
    GetConfiguration | CheckConfiguration | SetConfiguration | WithdrawConfiguration
)


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


class Files:
    """Answers for the files of one data folder.

    defaults_toml: the daemon's configuration file.   backup_days: how long backups are kept.
    replica: the bucket that the organizations live in.
    """

    def __init__(
        self,
        data: Path,
        defaults_toml: str,
        backup_days: float,
        replica: BucketLocation | None = None,
        *,
        on_fly: bool = False,
    ) -> None:
        self._replica = replica
        self._data, self._backup_days, self._on_fly = data, backup_days, on_fly
        # A restore closes a descriptor of its own on the file, and with it drops every lock that
        # SQLite holds on the file in this process; so there is only one question about an
        # organization at a time.
        self._turns: dict[str, threading.Lock] = {}
        self._transfers = Transfers(data, _now)
        self._defaults: Layer = parse_toml(defaults_toml, "the daemon's configuration file")

    def answer(self, request: FileRequest) -> FileReply:
        """Return the answer; may read the disk for seconds. Raises `SchedulerError`."""
        if isinstance(request, GetVolume):
            return VolumeReply(id=request.id, volume=info.volume(self._data))
        if isinstance(request, ListOrganizations):
            return OrganizationsReply(id=request.id, organizations=self._organizations())
        if isinstance(request, Diagnose):
            if request.organization is not None:
                resolve_database(self._data, request.organization)
            found = diagnose(
                self._data,
                request.organization,
                self._contents,
                on_fly=self._on_fly,
                replica=self._replica,
            )
            return DiagnosisReply(id=request.id, diagnosis=found)
        path = resolve_database(self._data, request.organization)
        if isinstance(request, FileTransferRequest):
            return self._about_transfer(path, request)
        with (
            self._turns.setdefault(request.organization, threading.Lock()),
            self._replicated(request),
        ):
            return self._about_organization(path, request)

    def _replicated(
        self, request: OrganizationRequest | FileTransferRequest
    ) -> AbstractContextManager[None]:
        """Fetch what is asked about, and publish what is changed, where the organizations live in a bucket."""
        place, name = self._replica, request.organization
        if place is None or isinstance(request, GetBackups):
            return nullcontext()
        # Loaded here for the reason given below.
        from schedd.replica import access  # noqa: PLC0415

        backups = self._backups_of(name) if self._backup_days else None
        match request:
            case SetConfiguration() | WithdrawConfiguration():
                return access.write_access(place, name, backups, "configuration")
            case RestoreBackup():
                return access.write_access(place, name, backups, f"restore of {request.backup_id}")
            case AdoptOrganization():
                return access.write_access(place, name, backups, "adoption")
            case CommitPush():
                return access.write_access(place, name, backups, "push", new=True)
            case _:
                return access.read_access(place, name, backups)

    def _backups_of(self, organization: str) -> Backups:
        # Pages are compared with numpy, which a daemon that has just been started need not load
        # before it listens.
        from schedd.backups.backups import Backups  # noqa: PLC0415

        return Backups(backup_folder(self._data, organization), self._backup_days or 1.0, _now)

    def _organizations(self) -> list[str]:
        """Return the organizations in the bucket, or on the volume where there is none."""
        if self._replica is None:
            return sorted(info.volume(self._data).organizations)
        from schedbucket.layouts import open_store, organizations  # noqa: PLC0415 - as below

        settings = self._replica.settings()
        return organizations(settings, open_store(settings))

    def _about_transfer(self, path: Path, request: FileTransferRequest) -> FileReply:
        if isinstance(request, GetDigests | GetBlocks | PutBlocks | CloseTransfer):
            return self._transfers.answer(
                request, path
            )  # of these none touches the organization's file
        with self._turns.setdefault(request.organization, threading.Lock()):
            if isinstance(request, CommitPush):
                with self._replicated(request):
                    return self._transfers.commit(
                        request, lambda new: self._put_in_place(new, path)
                    )
            with self._replicated(request) if isinstance(request, OpenPull) else nullcontext():
                return self._transfers.answer(request, path)

    def _put_in_place(self, new: Path, path: Path) -> None:
        from schedd.backups.restore import put_in_place  # noqa: PLC0415 - as above

        put_in_place(self._backups_of(path.stem), new, path, "before a push")

    def _about_organization(self, path: Path, request: OrganizationRequest) -> FileReply:
        match request:
            case GetOrganization():
                return OrganizationReply(
                    id=request.id, organization=info.describe(path, request.organization)
                )
            case (
                GetConfiguration()
                | CheckConfiguration()
                | SetConfiguration()
                | WithdrawConfiguration()
            ):
                return ConfigurationReply(
                    id=request.id, configuration=self._configuration(path, request)
                )
            case GetReport():
                now = _now().strftime("%Y-%m-%d %H:%M:%S")
                return ReportReply(
                    id=request.id, report=read_report(path, request.organization, now)
                )
            case GetBackups() | RestoreBackup():
                return BackupsReply(id=request.id, backups=self._backups(path, request))
            case CheckOrganization():
                return CheckReply(id=request.id, report=self._check(path, request))
            case PlanAdoption() | AdoptOrganization():
                return AdoptionReply(id=request.id, adoption=self._adoption(path, request))

    def _configuration(
        self, path: Path, request: ConfigurationRequest
    ) -> OrganizationConfiguration:
        now = _now().strftime("%Y-%m-%d %H:%M:%S")
        name, defaults = request.organization, self._defaults
        match request:
            case CheckConfiguration():
                return configurations.check(path, name, defaults, request.toml)
            case SetConfiguration():
                return configurations.set_version(
                    path, name, defaults, request.toml, request.created_by, now
                )
            case WithdrawConfiguration():
                return configurations.withdraw(
                    path, name, defaults, request.version, request.withdrawn_by, now
                )
            case GetConfiguration():
                return configurations.show(path, name, defaults, request.version)

    def _backups(self, path: Path, request: GetBackups | RestoreBackup) -> BackupList:
        from schedd.backups.restore import restore  # noqa: PLC0415 - as above

        backups = self._backups_of(request.organization)
        restored = None
        if isinstance(request, RestoreBackup):
            restore(backups, request.backup_id, path)
            restored = request.backup_id
        return BackupList(
            organization=request.organization, backups=backups.list(), restored=restored
        )

    def _check(self, path: Path, request: CheckOrganization) -> CheckReport:
        from schedd.inspection.report import check  # noqa: PLC0415 - as above

        return check(
            path,
            request.organization,
            self._defaults,
            as_of=None if request.as_of is None else parse_as_of(request.as_of),
            overrides=request.config,
            accept_statuses=request.accept_statuses,
            first_run_only=request.first_run_only,
            now=_now,
        )

    def _contents(self, path: Path) -> CheckReport:
        return self._check(path, CheckOrganization(id="", organization=path.stem))

    def _adoption(self, path: Path, request: PlanAdoption | AdoptOrganization) -> Adoption:
        from schedd.inspection.adopt import Adopter  # noqa: PLC0415 - as above

        adopter = Adopter(path, request.organization, self._defaults, request.accept_statuses, _now)
        if isinstance(request, PlanAdoption):
            return adopter.plan()
        backups = self._backups_of(request.organization) if self._backup_days else None
        return adopter.apply(request.digest, request.toml, request.created_by, backups)
