"""The client's exceptions.

    SchedulerClientError
    ├── ConnectionFailedError         the daemon was not reached
    │   ├── UnreachableError          nothing answers at the address
    │   ├── AuthenticationError       the daemon does not admit this key (or the server's key is
    another) │   ├── LaunchError               a daemon could not be started │   │   └── FlyApiError
    the Machines API failed or refused; has status and answer │   │       ├── FlyTokenError
    it refuses the token │   │       ├── MachineMissingError       there is no such app or machine │
    │       └── HostFullError             the machine's host has no room for it now │   └──
    IncompatibleError         protocol versions do not meet (unsupported_protocol,
    unsupported_message) ├── WaitTimeoutError              the job goes on, only the wait ended ├──
    SettingsError                 a setting of the client is wrong ├── LocalFileError
    a file on this side cannot be read or written └── DaemonError                   the daemon
    answered with an error; has code, hint, retryable, details
        ├── RequestError              the request can never succeed as it is
        │   ├── InvalidMessageError       bad_message, message_too_large
        │   ├── InvalidArgumentError      invalid_argument
        │   ├── InvalidOrganizationError  invalid_organization
        │   ├── ConfigurationError        invalid_configuration
        │   ├── UnknownJobError           unknown_job
        │   └── IdempotencyError          idempotency_conflict
        ├── BusyError                 try again later: queue_full, shutting_down, organization_busy
        ├── DatabaseError             the organization's file
        │   ├── DatabaseMissingError      database_missing
        │   ├── DatabaseUnusableError     database_not_sqlite, _damaged, _unreadable, _read_only,
        duplicate_keys │   ├── DatabaseLockedError       database_locked │   ├── DiskFullError
        disk_full │   ├── BackupError               backup_failed, backup_damaged │   ├──
        TransferError             transfer_unknown, transfer_damaged │   ├── ContactsError
        contacts_missing, contacts_empty, column_missing │   └── ForeignSchemaError
        foreign_schema: a table of another program cannot take the plan ├── PlanRefusedError
        the plan was computed, but not written │   ├── PlanAbnormalError         plan_abnormal: it
        would change more than the guards allow │   └── PlanDiffersError          plan_differs: it
        is not the plan that was reviewed ├── BucketError               bucket_unreachable,
        bucket_denied, bucket_damaged, bucket_busy, bucket_conflict │   └── LeaseError
        lease_held, lease_lost ├── JobCancelledError         cancelled └── ExecutionError
        worker_died, out_of_memory, internal, and codes this release does not know

`retryable` says whether the same call may succeed later without anybody changing anything.
"""

from __future__ import annotations

from schedproto import ErrorCode, ErrorInfo, Job


class SchedulerClientError(Exception):
    """The base of all exceptions of this package. `hint` says what to do next."""

    def __init__(self, message: str, hint: str = "", *, retryable: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.retryable = retryable
        self.code = _name(type(self).__name__)
        self.details: dict[str, str] = {}


def _name(class_name: str) -> str:
    words = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in class_name)
    return words.strip("_").removesuffix("_error")


class ConnectionFailedError(SchedulerClientError):
    """The daemon was not reached."""


class UnreachableError(ConnectionFailedError):
    """Nothing answers at the address."""


class AuthenticationError(ConnectionFailedError):
    """The encrypted connection was refused."""


class LaunchError(ConnectionFailedError):
    """A daemon could not be started."""


class FlyApiError(LaunchError):
    """The Machines API failed or refused.

    status: of HTTP, 0 where there was no answer.   answer: what the API said.   word: its `status`
    field.
    """

    status = 0
    answer = ""
    word = ""


class FlyTokenError(FlyApiError):
    """The Machines API refuses the token."""


class MachineMissingError(FlyApiError):
    """There is no such app or machine."""


class HostFullError(FlyApiError):
    """The machine's host has no room for it now."""


class IncompatibleError(ConnectionFailedError):
    """Client and daemon speak different protocol versions."""


class WaitTimeoutError(SchedulerClientError, TimeoutError):
    """The wait ended, the job goes on."""


class SettingsError(SchedulerClientError):
    """A setting of the client is wrong."""


class LocalFileError(SchedulerClientError):
    """A file on this side cannot be read or written, or is in use."""


class DaemonError(SchedulerClientError):
    """The daemon answered with an error. `job` is the job that ended with it, if there is one."""

    def __init__(self, info: ErrorInfo, job: Job | None = None) -> None:
        super().__init__(info.message, info.hint, retryable=info.retryable)
        self.info = info
        self.code = info.code
        self.details = dict(info.details)
        self.job = job


class RequestError(DaemonError):
    """The request can never succeed as it is."""


class InvalidMessageError(RequestError):
    """The daemon could not read the message."""


class InvalidArgumentError(RequestError):
    """An argument is out of its range."""


class InvalidOrganizationError(RequestError):
    """That is not an organization id."""


class ConfigurationError(RequestError):
    """The configuration was not fully understood."""


class UnknownJobError(RequestError):
    """The daemon does not know the job."""


class IdempotencyError(RequestError):
    """The idempotency key belongs to another job."""


class BusyError(DaemonError):
    """The daemon takes no more jobs now."""


class DatabaseError(DaemonError):
    """The organization's file cannot be scheduled; it is as it was before."""


class DatabaseMissingError(DatabaseError):
    """There is no such file."""


class DatabaseUnusableError(DatabaseError):
    """The file is no SQLite database, damaged, unreadable, read-only, or has duplicate keys."""


class DatabaseLockedError(DatabaseError):
    """Another program holds the file's lock."""


class DiskFullError(DatabaseError):
    """The volume is full."""


class BackupError(DatabaseError):
    """No backup could be made, or one is not what it was when it was made."""


class TransferError(DatabaseError):
    """A file did not arrive as it was sent, or the daemon does not know the transfer any more."""


class ContactsError(DatabaseError):
    """The table of contacts is missing, empty, or lacks columns."""


class ForeignSchemaError(DatabaseError):
    """A table of another program cannot take the plan.

    The message names table, column or constraint.
    """


class PlanRefusedError(DaemonError):
    """The plan was computed but not written; the file is as it was before."""


class PlanAbnormalError(PlanRefusedError):
    """The plan would change more than the guards allow.

    Submit with `accept_changes=True` to write it.
    """


class PlanDiffersError(PlanRefusedError):
    """The plan is not the one that was reviewed."""


class BucketError(DaemonError):
    """The bucket does not answer, refuses, has something damaged, or others changed it at the same time."""


class LeaseError(BucketError):
    """Somebody else may write the organization's file, or has taken over from us."""


class JobCancelledError(DaemonError):
    """The job was cancelled."""


class ExecutionError(DaemonError):
    """The job failed for a reason that is neither the request's nor the file's."""


#: What is raised for each code; a test holds that none is missing.
BY_CODE: dict[ErrorCode, type[DaemonError | IncompatibleError]] = {
    ErrorCode.BAD_MESSAGE: InvalidMessageError,
    ErrorCode.MESSAGE_TOO_LARGE: InvalidMessageError,
    ErrorCode.UNSUPPORTED_MESSAGE: IncompatibleError,
    ErrorCode.UNSUPPORTED_PROTOCOL: IncompatibleError,
    ErrorCode.INVALID_ARGUMENT: InvalidArgumentError,
    ErrorCode.INVALID_ORGANIZATION: InvalidOrganizationError,
    ErrorCode.INVALID_CONFIGURATION: ConfigurationError,
    ErrorCode.UNKNOWN_JOB: UnknownJobError,
    ErrorCode.IDEMPOTENCY_CONFLICT: IdempotencyError,
    ErrorCode.QUEUE_FULL: BusyError,
    ErrorCode.SHUTTING_DOWN: BusyError,
    ErrorCode.ORGANIZATION_BUSY: BusyError,
    ErrorCode.DATABASE_MISSING: DatabaseMissingError,
    ErrorCode.DATABASE_NOT_SQLITE: DatabaseUnusableError,
    ErrorCode.DATABASE_DAMAGED: DatabaseUnusableError,
    ErrorCode.DATABASE_LOCKED: DatabaseLockedError,
    ErrorCode.DATABASE_READ_ONLY: DatabaseUnusableError,
    ErrorCode.DATABASE_UNREADABLE: DatabaseUnusableError,
    ErrorCode.DISK_FULL: DiskFullError,
    ErrorCode.BACKUP_FAILED: BackupError,
    ErrorCode.BACKUP_DAMAGED: BackupError,
    ErrorCode.TRANSFER_UNKNOWN: TransferError,
    ErrorCode.TRANSFER_DAMAGED: TransferError,
    ErrorCode.CONTACTS_MISSING: ContactsError,
    ErrorCode.CONTACTS_EMPTY: ContactsError,
    ErrorCode.COLUMN_MISSING: ContactsError,
    ErrorCode.DUPLICATE_KEYS: DatabaseUnusableError,
    ErrorCode.FOREIGN_SCHEMA: ForeignSchemaError,
    ErrorCode.PLAN_ABNORMAL: PlanAbnormalError,
    ErrorCode.PLAN_DIFFERS: PlanDiffersError,
    ErrorCode.BUCKET_UNREACHABLE: BucketError,
    ErrorCode.BUCKET_DENIED: BucketError,
    ErrorCode.BUCKET_DAMAGED: BucketError,
    ErrorCode.BUCKET_BUSY: BucketError,
    ErrorCode.BUCKET_CONFLICT: BucketError,
    ErrorCode.LEASE_HELD: LeaseError,
    ErrorCode.LEASE_LOST: LeaseError,
    ErrorCode.CANCELLED: JobCancelledError,
    ErrorCode.WORKER_DIED: ExecutionError,
    ErrorCode.OUT_OF_MEMORY: ExecutionError,
    ErrorCode.INTERNAL: ExecutionError,
}


def from_info(info: ErrorInfo, job: Job | None = None) -> SchedulerClientError:
    """Return the exception for an error that the daemon reported."""
    try:
        kind = BY_CODE[ErrorCode(info.code)]
    except (ValueError, KeyError):
        return ExecutionError(info, job)
    if issubclass(kind, DaemonError):
        return kind(info, job)
    error = kind(info.message, info.hint, retryable=info.retryable)
    error.code = info.code
    return error
