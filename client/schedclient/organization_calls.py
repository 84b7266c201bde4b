"""The calls of `AsyncClient` about organizations and their files.

Information, configuration, report, check, backups. `aio` has the calls about jobs.
"""

from __future__ import annotations

import getpass
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from schedclient.toml import render
from schedproto import BackupList, OrganizationConfiguration, OrganizationInfo, Report, VolumeInfo
from schedproto.checks import (
    Adoption,
    AdoptOrganization,
    CheckOrganization,
    CheckReport,
    PlanAdoption,
)
from schedproto.diagnosis import Diagnosis
from schedproto.messages import (
    CheckConfiguration,
    Diagnose,
    GetBackups,
    GetConfiguration,
    GetOrganization,
    GetReport,
    GetVolume,
    ListOrganizations,
    RestoreBackup,
    SetConfiguration,
    WithdrawConfiguration,
)

from .connection import new_request_id
from .session import Session

if TYPE_CHECKING:
    from .bucket import OrganizationLease

#: How long a reply may take that reads a file (or waits for its lock), and one that reads or writes
#: all of a large file.
FILE_REPLY_S, RESTORE_S = 20.0, 3600.0


def current_user() -> str:
    """Return the name under which changes of a configuration are recorded by default."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""


class _OrganizationCalls:
    """The calls about organizations; the base class of `AsyncClient`, which sets `_session`."""

    _session: Session

    async def info(self, organization: str) -> OrganizationInfo:
        """Return the size, tables, contacts and last run of an organization's file."""
        message = GetOrganization(id=new_request_id(), organization=organization)
        return (await self._session.request(message, FILE_REPLY_S)).organization

    async def volume(self) -> VolumeInfo:
        """Return the data folder's organizations and free space."""
        return (await self._session.request(GetVolume(id=new_request_id()), FILE_REPLY_S)).volume

    @staticmethod
    def lease(
        organization: str,
        *,
        wait_s: float | None = None,
        duration_s: float = 30.0,
        holder: str | None = None,
    ) -> OrganizationLease:
        """Return the lease of an organization in the bucket, for a `with` block.

        It involves this program and the bucket (set by the variables in docs/BUCKET.md), not the
        daemon. Its calls block: an asyncio program calls them in a thread.

            with client.lease("org-123") as lease:
                lease.fetch("org-123.db")
                ...  # change the file
                lease.publish("org-123.db")

        wait_s: how long to wait for another holder (default: until the lease of a crashed one would
        have expired).   duration_s: how long the lease outlives a crash of this program.
        """
        from .bucket import OrganizationLease  # noqa: PLC0415 - an extra, loaded only if it is used

        return OrganizationLease(organization, wait_s=wait_s, duration_s=duration_s, holder=holder)

    async def organizations(self) -> list[str]:
        """Return the organizations in the bucket, or on the volume if there is no bucket."""
        message = ListOrganizations(id=new_request_id())
        return (await self._session.request(message, FILE_REPLY_S)).organizations

    async def configuration(
        self, organization: str, version: int | None = None
    ) -> OrganizationConfiguration:
        """Return the configuration that a run would start from, and its stored versions.

        version: include the text of this version, even if texts of older versions are left out
        (`toml_left_out`).
        """
        message = GetConfiguration(id=new_request_id(), organization=organization, version=version)
        return (await self._session.request(message, FILE_REPLY_S)).configuration

    async def check_configuration(self, organization: str, toml: str) -> OrganizationConfiguration:
        """Return the configuration that a TOML text would result in, without storing it.

        Raises `ConfigurationError` if it is not valid.
        """
        message = CheckConfiguration(id=new_request_id(), organization=organization, toml=toml)
        return (await self._session.request(message, FILE_REPLY_S)).configuration

    async def set_configuration(
        self, organization: str, toml: str, created_by: str | None = None
    ) -> OrganizationConfiguration:
        """Store a TOML text as the organization's new version.

        created_by: recorded with it (default: the user's name).
        """
        message = SetConfiguration(
            id=new_request_id(),
            organization=organization,
            toml=toml,
            created_by=current_user() if created_by is None else created_by,
        )
        return (await self._session.request(message, FILE_REPLY_S)).configuration

    async def withdraw_configuration(
        self, organization: str, version: int, withdrawn_by: str | None = None
    ) -> OrganizationConfiguration:
        """Withdraw a version; the newest one that is not withdrawn applies."""
        message = WithdrawConfiguration(
            id=new_request_id(),
            organization=organization,
            version=version,
            withdrawn_by=current_user() if withdrawn_by is None else withdrawn_by,
        )
        return (await self._session.request(message, FILE_REPLY_S)).configuration

    async def report(self, organization: str) -> Report:
        """Return the newest two completed runs as they were recorded, and contacts with issues."""
        message = GetReport(id=new_request_id(), organization=organization)
        return (await self._session.request(message, FILE_REPLY_S)).report

    async def diagnose(self, organization: str | None = None) -> Diagnosis:
        """Return the daemon's checks of its volume, and of one organization's file or of all."""
        message = Diagnose(id=new_request_id(), organization=organization)
        return (await self._session.request(message, RESTORE_S)).diagnosis

    async def check(
        self,
        organization: str,
        *,
        as_of: str | None = None,
        config: dict[str, Any] | None = None,
        accept_statuses: Sequence[str] = (),
        first_run_only: bool = False,
    ) -> CheckReport:
        """Return what a run of the organization could not read, would refuse or would lose.

        Changes nothing.

        as_of, config: as in `schedule`.   accept_statuses: contact statuses that the suggested
        configuration makes active.   first_run_only: check only if no run of the organization has
        been completed yet.
        """
        await self._session.require("check")
        message = CheckOrganization(
            id=new_request_id(),
            organization=organization,
            as_of=as_of,
            config=config or {},
            accept_statuses=list(accept_statuses),
            first_run_only=first_run_only,
        )
        return (await self._session.request(message, RESTORE_S)).report

    async def plan_adoption(
        self, organization: str, accept_statuses: Sequence[str] = ()
    ) -> Adoption:
        """Return what would make the organization's file ready for its first run.

        Changes nothing.
        """
        await self._session.require("check")
        message = PlanAdoption(
            id=new_request_id(), organization=organization, accept_statuses=list(accept_statuses)
        )
        return (await self._session.request(message, RESTORE_S)).adoption

    async def adopt(
        self,
        organization: str,
        adoption: Adoption,
        accept_statuses: Sequence[str] = (),
        created_by: str | None = None,
    ) -> Adoption:
        """Apply the result of `plan_adoption` in one transaction, after a backup.

        Refused while a job of the organization waits or runs, and if the adoption would now be
        another one.

            adoption = await client.plan_adoption("org-123")
            await client.adopt("org-123", adoption)

        accept_statuses: as given to `plan_adoption`.   created_by: recorded with the configuration
        (default: the user's name).
        """
        message = AdoptOrganization(
            id=new_request_id(),
            organization=organization,
            digest=adoption.digest,
            toml=render(adoption.settings),
            accept_statuses=list(accept_statuses),
            created_by=current_user() if created_by is None else created_by,
        )
        return (await self._session.request(message, RESTORE_S)).adoption

    async def backups(self, organization: str) -> BackupList:
        """Return the backups of an organization's file, newest first."""
        message = GetBackups(id=new_request_id(), organization=organization)
        return (await self._session.request(message, FILE_REPLY_S)).backups

    async def restore(self, organization: str, backup_id: str) -> BackupList:
        """Replace the organization's file with a backup, after backing up the current state.

        Refused while a job of the organization waits or runs.
        """
        message = RestoreBackup(id=new_request_id(), organization=organization, backup_id=backup_id)
        return (await self._session.request(message, RESTORE_S)).backups
