"""The calls of `AsyncClient` that ask about files rather than jobs.

Information, configuration, report, backups.
"""

from __future__ import annotations

import getpass
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from schedclient.toml import render
from schedproto import BackupList, OrganizationConfiguration, OrganizationInfo, Report, VolumeInfo
from schedproto.checks import (
    Adoption,
    AdoptionReply,
    AdoptOrganization,
    CheckOrganization,
    CheckReply,
    CheckReport,
    PlanAdoption,
)
from schedproto.diagnosis import Diagnosis
from schedproto.message import Message
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

from .connection import new_request_id

if TYPE_CHECKING:
    from .bucket import OrganizationLease

_T = TypeVar("_T", bound=Message)

#: How long an answer may take that needs a look at a file (or a wait for its lock), and a restore
#: of a large one.
FILE_ANSWER_S, RESTORE_S = 20.0, 3600.0


def who_asks() -> str:
    """Return the name under which changes of a configuration are noted, unless another is given."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""


class AsyncQuestions:
    """What a client may ask about files; `AsyncClient` has it from here."""

    async def _ask(self, message: Message, expected: type[_T], answer_s: float = 0.0) -> _T:
        raise NotImplementedError

    async def _needs(self, capability: str) -> None:
        raise NotImplementedError

    async def info(self, organization: str) -> OrganizationInfo:
        """Return what is known of an organization's file."""
        message = GetOrganization(id=new_request_id(), organization=organization)
        return (await self._ask(message, OrganizationReply, FILE_ANSWER_S)).organization

    async def volume(self) -> VolumeInfo:
        """Return the data folder's organizations and free space."""
        return (await self._ask(GetVolume(id=new_request_id()), VolumeReply, FILE_ANSWER_S)).volume

    @staticmethod
    def lease(
        organization: str,
        *,
        wait_s: float | None = None,
        duration_s: float = 30.0,
        holder: str | None = None,
    ) -> OrganizationLease:
        """Return the lease of an organization in the bucket, for a `with` block.

        See `schedclient.bucket`.

        Its calls block: an asyncio program calls them in a thread. It is between this program and
        the bucket (set by the variables that docs/BUCKET.md names); no daemon is asked.   wait_s:
        how long to wait for another holder, by default until a dead one's would have run out.
        """
        from .bucket import OrganizationLease  # noqa: PLC0415 - an extra, and only where it is used

        return OrganizationLease(organization, wait_s=wait_s, duration_s=duration_s, holder=holder)

    async def organizations(self) -> list[str]:
        """Return the organizations in the bucket, or on the volume where there is no bucket."""
        message = ListOrganizations(id=new_request_id())
        return (await self._ask(message, OrganizationsReply, FILE_ANSWER_S)).organizations

    async def configuration(
        self, organization: str, version: int | None = None
    ) -> OrganizationConfiguration:
        """Return the configuration that a run would start from, and its stored versions.

        version: one whose text is wanted, also where texts of older versions are left out
        (`toml_left_out`).
        """
        message = GetConfiguration(id=new_request_id(), organization=organization, version=version)
        return (await self._ask(message, ConfigurationReply, FILE_ANSWER_S)).configuration

    async def check_configuration(self, organization: str, toml: str) -> OrganizationConfiguration:
        """Return what a TOML text would make of the configuration, or raise what is wrong with it."""
        message = CheckConfiguration(id=new_request_id(), organization=organization, toml=toml)
        return (await self._ask(message, ConfigurationReply, FILE_ANSWER_S)).configuration

    async def set_configuration(
        self, organization: str, toml: str, created_by: str | None = None
    ) -> OrganizationConfiguration:
        """Store a TOML text as the organization's new version.

        Created_by: by default, the user's name.
        """
        message = SetConfiguration(
            id=new_request_id(),
            organization=organization,
            toml=toml,
            created_by=who_asks() if created_by is None else created_by,
        )
        return (await self._ask(message, ConfigurationReply, FILE_ANSWER_S)).configuration

    async def withdraw_configuration(
        self, organization: str, version: int, withdrawn_by: str | None = None
    ) -> OrganizationConfiguration:
        """Withdraw a version; the newest one that is not withdrawn applies."""
        message = WithdrawConfiguration(
            id=new_request_id(),
            organization=organization,
            version=version,
            withdrawn_by=who_asks() if withdrawn_by is None else withdrawn_by,
        )
        return (await self._ask(message, ConfigurationReply, FILE_ANSWER_S)).configuration

    async def report(self, organization: str) -> Report:
        """Return the newest two completed runs as they were recorded, and contacts with issues."""
        return (
            await self._ask(
                GetReport(id=new_request_id(), organization=organization),
                ReportReply,
                FILE_ANSWER_S,
            )
        ).report

    async def diagnose(self, organization: str | None = None) -> Diagnosis:
        """Return what the daemon finds when it looks at its volume and at an organization's file, or at all."""
        message = Diagnose(id=new_request_id(), organization=organization)
        return (await self._ask(message, DiagnosisReply, RESTORE_S)).diagnosis

    async def check(
        self,
        organization: str,
        *,
        as_of: str | None = None,
        config: dict[str, Any] | None = None,
        accept_statuses: Sequence[str] = (),
        first_run_only: bool = False,
    ) -> CheckReport:
        """Return what a run of the organization could not read, would refuse or lose.

        Changes nothing.

        as_of, config: as of `schedule`.   accept_statuses: contact statuses that the suggested
        configuration shall make active.   first_run_only: look only if no run of the organization
        has been completed yet.
        """
        await self._needs("check")
        message = CheckOrganization(
            id=new_request_id(),
            organization=organization,
            as_of=as_of,
            config=config or {},
            accept_statuses=list(accept_statuses),
            first_run_only=first_run_only,
        )
        return (await self._ask(message, CheckReply, RESTORE_S)).report

    async def plan_adoption(
        self, organization: str, accept_statuses: Sequence[str] = ()
    ) -> Adoption:
        """Return what would make the organization's file ready for its first run.

        Changes nothing.
        """
        await self._needs("check")
        message = PlanAdoption(
            id=new_request_id(), organization=organization, accept_statuses=list(accept_statuses)
        )
        return (await self._ask(message, AdoptionReply, RESTORE_S)).adoption

    async def adopt(
        self,
        organization: str,
        adoption: Adoption,
        accept_statuses: Sequence[str] = (),
        created_by: str | None = None,
    ) -> Adoption:
        """Do what `plan_adoption`, with the same statuses, has returned, in one transaction after a backup.

        Refused while a job of the organization waits or runs, and where something else would be
        done by now.
        """
        message = AdoptOrganization(
            id=new_request_id(),
            organization=organization,
            digest=adoption.digest,
            toml=render(adoption.settings),
            accept_statuses=list(accept_statuses),
            created_by=who_asks() if created_by is None else created_by,
        )
        return (await self._ask(message, AdoptionReply, RESTORE_S)).adoption

    async def backups(self, organization: str) -> BackupList:
        """Return the backups of an organization's file, newest first."""
        return (
            await self._ask(
                GetBackups(id=new_request_id(), organization=organization),
                BackupsReply,
                FILE_ANSWER_S,
            )
        ).backups

    async def restore(self, organization: str, backup_id: str) -> BackupList:
        """Put a backup in the place of the organization's file.

        Refused while a job of it waits or runs.
        """
        message = RestoreBackup(id=new_request_id(), organization=organization, backup_id=backup_id)
        return (await self._ask(message, BackupsReply, RESTORE_S)).backups
