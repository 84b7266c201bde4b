"""Handlers of the requests about organizations' files: one method for each request.

All methods block, because they read the disk or the bucket: the server calls them on threads
(`schedd.server.table`). Jobs run in worker processes instead (`schedd.jobs.service`).

numpy and zstandard take longer to load than the daemon takes to start. What needs them (backups,
checks, the bucket) is therefore imported inside the functions that use it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from schedd.engine.configuration import Layer, parse_toml
from schedd.replica.location import BucketLocation
from schedd.run.specification import parse_as_of
from schedd.store import configurations, info
from schedd.store.connection import resolve_database
from schedd.store.limits import Deadlines
from schedd.store.reports import read_report
from schedproto import BackupList
from schedproto.checks import (
    AdoptionReply,
    AdoptOrganization,
    CheckOrganization,
    CheckReply,
    CheckReport,
    PlanAdoption,
)
from schedproto.layout import backup_folder
from schedproto.message import Done, Reply
from schedproto.messages import (
    BackupsReply,
    CheckConfiguration,
    ConfigurationReply,
    Diagnose,
    DiagnosisReply,
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
    BlocksReply,
    CloseTransfer,
    CommitPush,
    DigestsReply,
    GetBlocks,
    GetDigests,
    OfferDigests,
    OpenPull,
    OpenPush,
    PutBlocks,
    TransferReply,
    WantedReply,
)

from .diagnosis import diagnose
from .transfers import Transfers

if TYPE_CHECKING:
    from schedd.backups.backups import Backups
    from schedd.inspection.adopt import Adopter


#: Time limit of requests that read only a part of a file.
QUICK_REQUEST_S = 60.0


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def _timestamp() -> str:
    return _now().strftime("%Y-%m-%d %H:%M:%S")


class FileRequestHandler:
    """Handles requests about the organizations' files of one data folder.

    Every method takes a request and returns its reply. It may block for seconds, may be called from
    several threads (for one organization only as the table of requests allows), and raises
    `SchedulerError`.

    defaults_toml: the text of the daemon's configuration file.   backup_days: how long backups are
    kept; 0 for no backups.   replica: the bucket that contains the organizations, if there is one.
    max_request_s: the time limit of requests that read or write a complete file.

        files = FileRequestHandler(Path("/data"), "", 30.0)
        reply = files.get_organization(GetOrganization(id="1", organization="org-123"))
        reply.organization.size_bytes
    """

    def __init__(
        self,
        data: Path,
        defaults_toml: str,
        backup_days: float,
        replica: BucketLocation | None = None,
        *,
        on_fly: bool = False,
        max_request_s: float = 600.0,
    ) -> None:
        self._data = data
        self._backup_days = backup_days
        self._replica = replica
        self._on_fly = on_fly
        self._max_request_s = max_request_s
        self._deadlines = Deadlines()
        self._defaults: Layer = parse_toml(defaults_toml, "the daemon's configuration file")
        self._transfers = Transfers(data, _now)

    # Limits ---------------------------------------------------------------------------------------

    def within_limits(self, call: Callable[[], Reply], *, slow: bool, exclusive: bool) -> Reply:
        """Return the reply of a call of this object, made on a thread; raises `too_slow`.

        slow: it may read a complete file.   exclusive: it may replace a file, so it is given time
        to end when the daemon is stopped.
        """
        limit_s = self._max_request_s if slow else min(QUICK_REQUEST_S, self._max_request_s)
        with self._deadlines.limited(limit_s, may_be_cancelled=not exclusive):
            return call()

    def cancel(self, *, everything: bool) -> None:
        """End the running requests, those that may replace a file only if `everything` is set."""
        self._deadlines.cancel(everything=everything)

    # Access to an organization's file -------------------------------------------------------------

    @contextmanager
    def _reading(self, organization: str) -> Iterator[Path]:
        """Yield an organization's file, brought up to date if there is a bucket."""
        path = resolve_database(self._data, organization)
        with self._replica_read(organization):
            yield path

    @contextmanager
    def _writing(self, organization: str, reason: str, *, new: bool = False) -> Iterator[Path]:
        """Yield an organization's file; publish the change if there is a bucket.

        reason: names the change in the bucket's history.   new: the file need not exist.
        """
        path = resolve_database(self._data, organization)
        with self._replica_write(organization, reason, new=new):
            yield path

    def _replica_read(self, organization: str) -> AbstractContextManager[None]:
        if self._replica is None:
            return nullcontext()
        from schedd.replica import access  # noqa: PLC0415 - see the module's docstring

        return access.read_access(self._replica, organization, self._kept_backups(organization))

    def _replica_write(
        self, organization: str, reason: str, *, new: bool
    ) -> AbstractContextManager[None]:
        if self._replica is None:
            return nullcontext()
        from schedd.replica import access  # noqa: PLC0415 - see the module's docstring

        backups = self._kept_backups(organization)
        return access.write_access(self._replica, organization, backups, reason, new=new)

    def _backups_of(self, organization: str) -> Backups:
        from schedd.backups.backups import Backups  # noqa: PLC0415 - see the module's docstring

        return Backups(backup_folder(self._data, organization), self._backup_days or 1.0, _now)

    def _kept_backups(self, organization: str) -> Backups | None:
        return self._backups_of(organization) if self._backup_days else None

    # The data folder ------------------------------------------------------------------------------

    def get_volume(self, request: GetVolume) -> VolumeReply:
        """Return the organizations' files and the free space."""
        return VolumeReply(id=request.id, volume=info.volume(self._data))

    def list_organizations(self, request: ListOrganizations) -> OrganizationsReply:
        """Return the organizations in the bucket, or on the volume if there is no bucket."""
        if self._replica is None:
            names = sorted(info.volume(self._data).organizations)
        else:
            from schedbucket.layouts import (  # noqa: PLC0415 - see the module's docstring
                open_store,
                organizations,
            )

            settings = self._replica.settings()
            names = organizations(settings, open_store(settings))
        return OrganizationsReply(id=request.id, organizations=names)

    def diagnose(self, request: Diagnose) -> DiagnosisReply:
        """Check the volume, and an organization's file or the newest ones."""
        if request.organization is not None:
            resolve_database(self._data, request.organization)
        found = diagnose(
            self._data,
            request.organization,
            self._check_contents,
            on_fly=self._on_fly,
            replica=self._replica,
        )
        return DiagnosisReply(id=request.id, diagnosis=found)

    # One organization -----------------------------------------------------------------------------

    def get_organization(self, request: GetOrganization) -> OrganizationReply:
        """Return tables, plan and last run of a file."""
        with self._reading(request.organization) as path:
            found = info.describe(path, request.organization)
        return OrganizationReply(id=request.id, organization=found)

    def get_report(self, request: GetReport) -> ReportReply:
        """Return the newest runs as they were recorded."""
        with self._reading(request.organization) as path:
            report = read_report(path, request.organization, _timestamp())
        return ReportReply(id=request.id, report=report)

    def get_configuration(self, request: GetConfiguration) -> ConfigurationReply:
        """Return the effective configuration and its versions."""
        name = request.organization
        with self._reading(name) as path:
            found = configurations.show(path, name, self._defaults, request.version)
        return ConfigurationReply(id=request.id, configuration=found)

    def check_configuration(self, request: CheckConfiguration) -> ConfigurationReply:
        """Return what a TOML text would make of the configuration."""
        name = request.organization
        with self._reading(name) as path:
            found = configurations.check(path, name, self._defaults, request.toml)
        return ConfigurationReply(id=request.id, configuration=found)

    def set_configuration(self, request: SetConfiguration) -> ConfigurationReply:
        """Store a version of the configuration."""
        name = request.organization
        with self._writing(name, "configuration") as path:
            found = configurations.set_version(
                path, name, self._defaults, request.toml, request.created_by, _timestamp()
            )
        return ConfigurationReply(id=request.id, configuration=found)

    def withdraw_configuration(self, request: WithdrawConfiguration) -> ConfigurationReply:
        """Withdraw a version of the configuration."""
        name = request.organization
        with self._writing(name, "configuration") as path:
            found = configurations.withdraw(
                path, name, self._defaults, request.version, request.withdrawn_by, _timestamp()
            )
        return ConfigurationReply(id=request.id, configuration=found)

    def get_backups(self, request: GetBackups) -> BackupsReply:
        """Return the backups of a file; they are on the volume, also with a bucket."""
        name = request.organization
        resolve_database(self._data, name)
        backups = BackupList(organization=name, backups=self._backups_of(name).list())
        return BackupsReply(id=request.id, backups=backups)

    def restore_backup(self, request: RestoreBackup) -> BackupsReply:
        """Replace a file by one of its backups."""
        from schedd.backups.restore import restore  # noqa: PLC0415 - see the module's docstring

        name, backup_id = request.organization, request.backup_id
        with self._writing(name, f"restore of {backup_id}") as path:
            backups = self._backups_of(name)
            restore(backups, backup_id, path)
            found = BackupList(organization=name, backups=backups.list(), restored=backup_id)
        return BackupsReply(id=request.id, backups=found)

    # Check and adoption ---------------------------------------------------------------------------

    def check_organization(self, request: CheckOrganization) -> CheckReply:
        """Return what a run could not read, would refuse or lose."""
        with self._reading(request.organization) as path:
            return CheckReply(id=request.id, report=self._check(path, request))

    def _check(self, path: Path, request: CheckOrganization) -> CheckReport:
        from schedd.inspection.report import CheckRequest, check  # noqa: PLC0415 - see the module's docstring

        return check(
            CheckRequest(
                path=path,
                organization=request.organization,
                defaults=self._defaults,
                as_of=None if request.as_of is None else parse_as_of(request.as_of),
                overrides=request.config,
                accept_statuses=request.accept_statuses,
                first_run_only=request.first_run_only,
                now=_now,
            )
        )

    def _check_contents(self, path: Path) -> CheckReport:
        return self._check(path, CheckOrganization(id="", organization=path.stem))

    def plan_adoption(self, request: PlanAdoption) -> AdoptionReply:
        """Return what an adoption of a file would change."""
        with self._reading(request.organization) as path:
            adoption = self._adopter(path, request).plan()
        return AdoptionReply(id=request.id, adoption=adoption)

    def adopt_organization(self, request: AdoptOrganization) -> AdoptionReply:
        """Carry out an adoption that was shown before."""
        with self._writing(request.organization, "adoption") as path:
            backups = self._kept_backups(request.organization)
            adoption = self._adopter(path, request).apply(
                request.digest, request.toml, request.created_by, backups
            )
        return AdoptionReply(id=request.id, adoption=adoption)

    def _adopter(self, path: Path, request: PlanAdoption | AdoptOrganization) -> Adopter:
        from schedd.inspection.adopt import Adopter  # noqa: PLC0415 - see the module's docstring

        return Adopter(path, request.organization, self._defaults, request.accept_statuses, _now)

    # Transfers ------------------------------------------------------------------------------------

    def open_pull(self, request: OpenPull) -> TransferReply:
        """Copy a file for a client to download."""
        with self._reading(request.organization) as path:
            transfer = self._transfers.open_pull(request.organization, path)
        return TransferReply(id=request.id, transfer=transfer)

    def open_push(self, request: OpenPush) -> TransferReply:
        """Prepare the upload of a file."""
        resolve_database(self._data, request.organization)
        transfer = self._transfers.open_push(request)
        return TransferReply(id=request.id, transfer=transfer)

    def offer_digests(self, request: OfferDigests) -> WantedReply:
        """Return which of the offered blocks are missing; the others are copied from the file."""
        path = resolve_database(self._data, request.organization)
        return WantedReply(id=request.id, blocks=self._transfers.offer(request, path))

    def commit_push(self, request: CommitPush) -> Done:
        """Replace the organization's file by the uploaded one."""
        with self._writing(request.organization, "push", new=True) as path:
            self._transfers.commit(request, lambda new: self._replace(path, new))
        return Done(id=request.id)

    def _replace(self, path: Path, new: Path) -> None:
        from schedd.backups.restore import put_in_place  # noqa: PLC0415 - see above

        put_in_place(self._backups_of(path.stem), new, path, "before a push")

    # The following requests do not touch the organization's file, only that of the transfer.

    def get_digests(self, request: GetDigests) -> DigestsReply:
        """Return digests of blocks of a pull."""
        resolve_database(self._data, request.organization)
        return DigestsReply(id=request.id, digests=self._transfers.digests(request))

    def get_blocks(self, request: GetBlocks) -> BlocksReply:
        """Return blocks of a pull."""
        resolve_database(self._data, request.organization)
        return BlocksReply(id=request.id, data=self._transfers.blocks(request))

    def put_blocks(self, request: PutBlocks) -> Done:
        """Store blocks of a push."""
        resolve_database(self._data, request.organization)
        self._transfers.put(request)
        return Done(id=request.id)

    def close_transfer(self, request: CloseTransfer) -> Done:
        """Remove a pull's copy."""
        resolve_database(self._data, request.organization)
        self._transfers.forget(request.transfer_id)
        return Done(id=request.id)
