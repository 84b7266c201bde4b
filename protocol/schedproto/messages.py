"""Requests and replies: tagged structs, MessagePack maps, one per ZeroMQ message.

Growth rules (docs/PROTOCOL.md has examples; `tests/protocol` tests both directions):

- A field is only ever added, and always with a default. None is renamed, removed or given another
  type.
- Fields that a peer does not know are ignored; fields that it does not send take their default.
- A new message is a new tag. A daemon answers a tag that it does not know with
  `unsupported_message`, and a client looks into `Welcome.capabilities` before it sends a message
  newer than protocol version 1.
- Strings that name a state, a mode, a stage or an error code are open sets: an unknown one is
  not an error.
- A change that cannot follow these rules raises `PROTOCOL_VERSION`; both sides announce the range
  of versions that they speak.

Every request has an `id`, chosen by the client; its replies have the same `id`.

A request's class names the class of its reply and the capability that announces it (`message`).
`AnyRequest` lists all requests; the replies and the capabilities follow from it.

>>> GetJob(id="1", job_id="job-1").reply_type().__name__
'JobReply'
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, get_args

import msgspec

from .backups import BackupList
from .checks import AdoptOrganization, CheckOrganization, PlanAdoption
from .configurations import OrganizationConfiguration
from .diagnosis import Diagnosis
from .errors import ErrorInfo
from .jobs import Job, JobSpec, OrganizationInfo, VolumeInfo
from .message import Done, Reply, Request
from .reports import Report
from .transfers import (
    CloseTransfer,
    CommitPush,
    GetBlocks,
    GetDigests,
    OfferDigests,
    OpenPull,
    OpenPush,
    PutBlocks,
)

PROTOCOL_VERSION = 1
#: The oldest version this release still speaks.
PROTOCOL_OLDEST = 1

# Replies ------------------------------------------------------------------------------------------


class Welcome(Reply, tag="welcome", frozen=True, kw_only=True):
    """Reply to `Hello`. `boot_id` changes with every start of the daemon."""

    daemon_version: str
    protocol: int
    boot_id: str
    pid: int
    protocol_oldest: int = PROTOCOL_OLDEST
    capabilities: list[str] = msgspec.field(default_factory=list)
    heartbeat_s: float = 2.0
    max_message_bytes: int = 0
    data_dir: str = ""


class Health(Reply, tag="health", frozen=True, kw_only=True):
    """Reply to `GetHealth`.

    idle_exit_in_s: None while a job runs, and if the daemon never exits for idleness.
    log_lines_lost: log lines that could not be written since the daemon started.
    jobs_unwritten: ended jobs that the journal does not have yet, as it cannot be written.
    """

    status: str
    daemon_version: str
    boot_id: str
    started_at: datetime
    uptime_s: float
    jobs: dict[str, int] = msgspec.field(default_factory=dict)
    workers: int = 0
    workers_busy: int = 0
    queue_limit: int = 0
    idle_exit_in_s: float | None = None
    free_bytes: int = 0
    log_lines_lost: int = 0
    jobs_unwritten: int = 0


class JobReply(Reply, tag="job", frozen=True, kw_only=True):
    """Reply to `Submit`, `GetJob` and `Cancel`.

    `duplicate`: the idempotency key was known already.
    """

    job: Job
    duplicate: bool = False


class JobList(Reply, tag="job_list", frozen=True, kw_only=True):
    """Reply to `ListJobs`; `more` says that another page exists."""

    jobs: list[Job]
    more: bool = False


class JobEvent(Reply, tag="job_event", frozen=True, kw_only=True):
    """Pushed to a watcher; the one with a final state is the last of its watch."""

    job: Job


class OrganizationReply(Reply, tag="organization", frozen=True, kw_only=True):
    """Reply to `GetOrganization`."""

    organization: OrganizationInfo


class VolumeReply(Reply, tag="volume", frozen=True, kw_only=True):
    """Reply to `GetVolume`."""

    volume: VolumeInfo


class OrganizationsReply(Reply, tag="organizations", frozen=True, kw_only=True):
    """Reply to `ListOrganizations`: ids, in order."""

    organizations: list[str]


class ConfigurationReply(Reply, tag="configuration", frozen=True, kw_only=True):
    """An organization's configuration."""

    configuration: OrganizationConfiguration


class ReportReply(Reply, tag="report", frozen=True, kw_only=True):
    """Reply to `GetReport`."""

    report: Report


class BackupsReply(Reply, tag="backups", frozen=True, kw_only=True):
    """Reply to `GetBackups` and `RestoreBackup`."""

    backups: BackupList


class DiagnosisReply(Reply, tag="diagnosis", frozen=True, kw_only=True):
    """Reply to `Diagnose`."""

    diagnosis: Diagnosis


class Failure(Reply, tag="failure", frozen=True, kw_only=True):
    """Answers any request that was not done.

    `id` is empty if that of the request could not be read.
    """

    error: ErrorInfo


# Requests -----------------------------------------------------------------------------------------


class Hello(Request[Welcome], tag="hello", frozen=True, kw_only=True):
    """First message of a connection, and again after each reconnect."""

    client: str = ""
    client_version: str = ""
    protocol: int = PROTOCOL_VERSION
    protocol_oldest: int = PROTOCOL_OLDEST


class GetHealth(Request[Health], tag="get_health", frozen=True, kw_only=True):
    """Ask for the daemon's state."""


class Submit(Request[JobReply], tag="submit", frozen=True, kw_only=True):
    """Submit a job. A known idempotency key returns the first job with that key."""

    capability = "submit"
    spec: JobSpec
    idempotency_key: str | None = None


class GetJob(Request[JobReply], tag="get_job", frozen=True, kw_only=True):
    """Ask for one job's state."""

    capability = "submit"
    job_id: str


class ListJobs(Request[JobList], tag="list_jobs", frozen=True, kw_only=True):
    """Ask for jobs, newest first; `before` is the job id at which the previous page ended."""

    capability = "submit"
    organization: str | None = None
    states: list[str] = msgspec.field(default_factory=list)
    limit: int = 50
    before: str | None = None


class Watch(Request[JobEvent], tag="watch", frozen=True, kw_only=True):
    """Ask for a `JobEvent` now, at each change and at least every `Welcome.heartbeat_s`."""

    capability = "watch"
    job_id: str


class Unwatch(Request[Done], tag="unwatch", frozen=True, kw_only=True):
    """End the watch that request `watch_id` started."""

    capability = "watch"
    watch_id: str


class Cancel(Request[JobReply], tag="cancel", frozen=True, kw_only=True):
    """Cancel a job; the reply has the job as it is then."""

    capability = "cancel"
    job_id: str


class GetOrganization(
    Request[OrganizationReply], tag="get_organization", frozen=True, kw_only=True
):
    """Ask for the tables, the plan and the last run of an organization's file."""

    capability = "info"
    organization: str


class GetVolume(Request[VolumeReply], tag="get_volume", frozen=True, kw_only=True):
    """Ask for the data folder's organizations and free space."""

    capability = "info"


class ListOrganizations(
    Request[OrganizationsReply], tag="list_organizations", frozen=True, kw_only=True
):
    """Ask for the organizations in the bucket, or on the volume if there is no bucket."""

    capability = "organizations"


class GetConfiguration(
    Request[ConfigurationReply], tag="get_configuration", frozen=True, kw_only=True
):
    """Ask for an organization's configuration and its versions.

    version: one whose text the reply must have.
    """

    capability = "configuration"
    organization: str
    version: int | None = None


class CheckConfiguration(
    Request[ConfigurationReply], tag="check_configuration", frozen=True, kw_only=True
):
    """Ask what a TOML text would make of an organization's configuration; changes nothing."""

    capability = "configuration"
    organization: str
    toml: str


class SetConfiguration(
    Request[ConfigurationReply], tag="set_configuration", frozen=True, kw_only=True
):
    """Store a new version. The text of the applicable version makes no new one."""

    capability = "configuration"
    organization: str
    toml: str
    created_by: str = ""


class WithdrawConfiguration(
    Request[ConfigurationReply], tag="withdraw_configuration", frozen=True, kw_only=True
):
    """Withdraw a version, so that the newest other one applies."""

    capability = "configuration"
    organization: str
    version: int
    withdrawn_by: str = ""


class GetReport(Request[ReportReply], tag="get_report", frozen=True, kw_only=True):
    """Ask for the newest runs as they were recorded."""

    capability = "report"
    organization: str


class GetBackups(Request[BackupsReply], tag="get_backups", frozen=True, kw_only=True):
    """Ask for the backups of an organization's file."""

    capability = "backups"
    organization: str


class RestoreBackup(Request[BackupsReply], tag="restore_backup", frozen=True, kw_only=True):
    """Replace an organization's file by one of its backups."""

    capability = "backups"
    organization: str
    backup_id: str


class Diagnose(Request[DiagnosisReply], tag="diagnose", frozen=True, kw_only=True):
    """Ask the daemon to check its volume, and an organization's file or all."""

    capability = "diagnosis"
    organization: str | None = None


#: All requests. A new one is a class above and a line here.
AnyRequest = (
    Hello
    | GetHealth
    | Submit
    | GetJob
    | ListJobs
    | Watch
    | Unwatch
    | Cancel
    | GetOrganization
    | GetVolume
    | ListOrganizations
    | GetConfiguration
    | CheckConfiguration
    | SetConfiguration
    | WithdrawConfiguration
    | GetReport
    | GetBackups
    | RestoreBackup
    | Diagnose
    | CheckOrganization
    | PlanAdoption
    | AdoptOrganization
    | OpenPull
    | OpenPush
    | GetDigests
    | GetBlocks
    | OfferDigests
    | PutBlocks
    | CommitPush
    | CloseTransfer
)
REQUESTS: tuple[type[Request[Any]], ...] = get_args(AnyRequest)
#: All replies: those that the requests name, and the failure of any request.
REPLIES: tuple[type[Reply], ...] = (
    *dict.fromkeys(request.reply_type() for request in REQUESTS),
    Failure,
)

#: Capabilities of fields: a client does not send `Submit` with them to a daemon without these.
FIELD_CAPABILITIES = ("explain", "expect")
#: All capabilities that this release's daemon announces.
CAPABILITIES: tuple[str, ...] = (
    *dict.fromkeys(request.capability for request in REQUESTS if request.capability),
    *FIELD_CAPABILITIES,
)
