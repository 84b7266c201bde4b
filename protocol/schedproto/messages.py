"""Requests and replies: tagged structs, MessagePack maps, one per ZeroMQ message.

Growth rules (docs/PROTOCOL.md has them with examples; `tests/protocol` tests them both ways):

- A field is only ever added, and always with a default. None is renamed, removed or given another
  type.
- Fields that a peer does not know are ignored; fields that it does not send take their default.
- A new message is a new tag. A daemon answers a tag that it does not know with
  `unsupported_message`, and a client looks into `Welcome.capabilities` before it sends a message
  newer than protocol version 1.
- Strings that name a state, a mode, a stage or an error code are open sets: an unknown one is no
  error.
- What cannot follow these rules raises `PROTOCOL_VERSION`; both sides announce the range they
  speak.

Every request has an `id`, chosen by the client; every message that answers it carries the same
`id`.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from .backups import BackupList
from .checks import AdoptionReply, AdoptOrganization, CheckOrganization, CheckReply, PlanAdoption
from .configurations import OrganizationConfiguration
from .diagnosis import Diagnosis
from .errors import ErrorInfo
from .jobs import Job, JobSpec, OrganizationInfo, VolumeInfo
from .message import Message
from .reports import Report
from .transfers import (
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

PROTOCOL_VERSION = 1
#: The oldest version this release still speaks.
PROTOCOL_OLDEST = 1

#: Optional abilities a daemon announces; version 1 has them all, later ones add to them.
CAPABILITIES = (
    "submit",
    "watch",
    "cancel",
    "info",
    "explain",
    "configuration",
    "report",
    "backups",
    "files",
    "diagnosis",
    "organizations",
    "expect",
    "check",
)


# Requests -----------------------------------------------------------------------------------------


class Hello(Message, tag="hello", frozen=True, kw_only=True):
    """First message of a connection, and again after each reconnect."""

    client: str = ""
    client_version: str = ""
    protocol: int = PROTOCOL_VERSION
    protocol_oldest: int = PROTOCOL_OLDEST


class GetHealth(Message, tag="get_health", frozen=True, kw_only=True):
    """Ask how the daemon is."""


class Submit(Message, tag="submit", frozen=True, kw_only=True):
    """Ask for a job. A key that was seen before returns the first job with that key."""

    spec: JobSpec
    idempotency_key: str | None = None


class GetJob(Message, tag="get_job", frozen=True, kw_only=True):
    """Ask for one job's state."""

    job_id: str


class ListJobs(Message, tag="list_jobs", frozen=True, kw_only=True):
    """Ask for jobs, newest first; `before` is the job id at which the previous page ended."""

    organization: str | None = None
    states: list[str] = msgspec.field(default_factory=list)
    limit: int = 50
    before: str | None = None


class Watch(Message, tag="watch", frozen=True, kw_only=True):
    """Ask for a `JobEvent` now, at every change, and at least every `Welcome.heartbeat_s`, until the end."""

    job_id: str


class Unwatch(Message, tag="unwatch", frozen=True, kw_only=True):
    """End the watch that was begun with request `watch_id`."""

    watch_id: str


class Cancel(Message, tag="cancel", frozen=True, kw_only=True):
    """Ask that a job ends; answered at once with the job as it is then."""

    job_id: str


class GetOrganization(Message, tag="get_organization", frozen=True, kw_only=True):
    """Ask what is known of an organization's file."""

    organization: str


class GetVolume(Message, tag="get_volume", frozen=True, kw_only=True):
    """Ask for the data folder's organizations and free space."""


class ListOrganizations(Message, tag="list_organizations", frozen=True, kw_only=True):
    """Ask for the organizations in the bucket, or on the volume where there is no bucket."""


class GetConfiguration(Message, tag="get_configuration", frozen=True, kw_only=True):
    """Ask for an organization's configuration and its versions.

    version: one whose text is wanted in any case.
    """

    organization: str
    version: int | None = None


class CheckConfiguration(Message, tag="check_configuration", frozen=True, kw_only=True):
    """Ask what a TOML text would make of an organization's configuration; changes nothing."""

    organization: str
    toml: str


class SetConfiguration(Message, tag="set_configuration", frozen=True, kw_only=True):
    """Store a new version. A text that is the applicable version's already makes no new one."""

    organization: str
    toml: str
    created_by: str = ""


class WithdrawConfiguration(Message, tag="withdraw_configuration", frozen=True, kw_only=True):
    """Withdraw a version, so that the newest other one applies."""

    organization: str
    version: int
    withdrawn_by: str = ""


class GetReport(Message, tag="get_report", frozen=True, kw_only=True):
    """Ask for the newest runs as they were recorded."""

    organization: str


class GetBackups(Message, tag="get_backups", frozen=True, kw_only=True):
    """Ask for the backups of an organization's file."""

    organization: str


class RestoreBackup(Message, tag="restore_backup", frozen=True, kw_only=True):
    """Put a backup in the place of the organization's file."""

    organization: str
    backup_id: str


class Diagnose(Message, tag="diagnose", frozen=True, kw_only=True):
    """Ask the daemon to look at its volume, and at an organization's file or all."""

    organization: str | None = None


# Replies ------------------------------------------------------------------------------------------


class Welcome(Message, tag="welcome", frozen=True, kw_only=True):
    """Answers `Hello`. `boot_id` changes with every start of the daemon."""

    daemon_version: str
    protocol: int
    boot_id: str
    pid: int
    protocol_oldest: int = PROTOCOL_OLDEST
    capabilities: list[str] = msgspec.field(default_factory=list)
    heartbeat_s: float = 2.0
    max_message_bytes: int = 0
    data_dir: str = ""


class Health(Message, tag="health", frozen=True, kw_only=True):
    """Answers `GetHealth`.

    idle_exit_in_s: None while a job runs, and where the daemon never exits by itself.
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


class JobReply(Message, tag="job", frozen=True, kw_only=True):
    """Answers `Submit`, `GetJob` and `Cancel`.

    `duplicate`: the idempotency key was known already.
    """

    job: Job
    duplicate: bool = False


class JobList(Message, tag="job_list", frozen=True, kw_only=True):
    """Answers `ListJobs`; `more` says that another page exists."""

    jobs: list[Job]
    more: bool = False


class JobEvent(Message, tag="job_event", frozen=True, kw_only=True):
    """Pushed to a watcher; the one with a final state is the last of its watch."""

    job: Job


class Done(Message, tag="done", frozen=True, kw_only=True):
    """Answers `Unwatch`, `PutBlocks`, `CommitPush` and `CloseTransfer`."""


class OrganizationReply(Message, tag="organization", frozen=True, kw_only=True):
    """Answers `GetOrganization`."""

    organization: OrganizationInfo


class VolumeReply(Message, tag="volume", frozen=True, kw_only=True):
    """Answers `GetVolume`."""

    volume: VolumeInfo


class OrganizationsReply(Message, tag="organizations", frozen=True, kw_only=True):
    """Answers `ListOrganizations`: ids, in order."""

    organizations: list[str]


class ConfigurationReply(Message, tag="configuration", frozen=True, kw_only=True):
    """Answers `GetConfiguration`, `CheckConfiguration`, `SetConfiguration` and `WithdrawConfiguration`."""

    configuration: OrganizationConfiguration


class ReportReply(Message, tag="report", frozen=True, kw_only=True):
    """Answers `GetReport`."""

    report: Report


class BackupsReply(Message, tag="backups", frozen=True, kw_only=True):
    """Answers `GetBackups` and `RestoreBackup`."""

    backups: BackupList


class DiagnosisReply(Message, tag="diagnosis", frozen=True, kw_only=True):
    """Answers `Diagnose`."""

    diagnosis: Diagnosis


class Failure(Message, tag="failure", frozen=True, kw_only=True):
    """Answers any request that was not done.

    `id` is empty where the request's could not be read.
    """

    error: ErrorInfo


#: Questions about files: answered from a thread, as they read the disk.
FileRequest = (
    GetOrganization
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
#: Of these, the ones that go on with a transfer that was begun.
TransferRequest = GetDigests | GetBlocks | OfferDigests | PutBlocks | CommitPush | CloseTransfer
Request = Hello | GetHealth | Submit | GetJob | ListJobs | Watch | Unwatch | Cancel | FileRequest
FileReply = (
    OrganizationReply
    | VolumeReply
    | OrganizationsReply
    | ConfigurationReply
    | ReportReply
    | BackupsReply
    | DiagnosisReply
    | CheckReply
    | AdoptionReply
    | TransferReply
    | DigestsReply
    | BlocksReply
    | WantedReply
    | Done
)
Reply = Welcome | Health | JobReply | JobList | JobEvent | FileReply | Failure
