"""The client's exceptions.

    SchedulerClientError
    ├── ConnectionFailedError         the daemon was not reached
    │   ├── UnreachableError          nothing answers at the address
    │   ├── AuthenticationError       the daemon does not admit this key, or has another key
    │   ├── LaunchError               a daemon could not be started
    │   │   └── FlyApiError               the Machines API failed or refused
    │   │       ├── FlyTokenError             it refuses the token
    │   │       ├── MachineMissingError       there is no such app or machine
    │   │       └── HostFullError             the machine's host has no room for it now
    │   └── IncompatibleError         unsupported_protocol, unsupported_message
    ├── WaitTimeoutError              the wait ended; the job continues
    ├── SettingsError                 a setting of the client is wrong
    ├── LocalFileError                a local file cannot be read or written
    └── DaemonError                   the daemon answered with an error
        ├── RequestError              the request can never succeed as it is
        │   ├── InvalidMessageError       bad_message, message_too_large
        │   ├── InvalidArgumentError      invalid_argument
        │   ├── InvalidOrganizationError  invalid_organization
        │   ├── ConfigurationError        invalid_configuration
        │   ├── UnknownJobError           unknown_job
        │   └── IdempotencyError          idempotency_conflict
        ├── BusyError                 queue_full, shutting_down, organization_busy
        ├── DatabaseError             the organization's file
        │   ├── DatabaseMissingError      database_missing
        │   ├── DatabaseUnusableError     database_not_sqlite, _damaged, _unreadable, _read_only,
        │   │                             duplicate_keys
        │   ├── DatabaseLockedError       database_locked, database_replaced
        │   ├── DiskFullError             disk_full
        │   ├── BackupError               backup_failed, backup_damaged
        │   ├── TransferError             transfer_unknown, transfer_damaged
        │   ├── ContactsError             contacts_missing, contacts_empty, column_missing
        │   └── ForeignSchemaError        foreign_schema
        ├── PlanRefusedError          the plan was computed, but not written
        │   ├── PlanAbnormalError         plan_abnormal
        │   └── PlanDiffersError          plan_differs
        ├── BucketError               bucket_unreachable, bucket_denied, bucket_damaged,
        │   │                         bucket_busy, bucket_conflict
        │   └── LeaseError                lease_held, lease_lost
        ├── JobCancelledError         cancelled
        └── ExecutionError            worker_died, out_of_memory, too_slow, internal,
                                      and unknown codes

Catch the class that you can do something about, and let the others pass:

    try:
        result = client.schedule("org-123")
    except BusyError:
        ...  # try again later
    except DatabaseError as error:
        log.error("%s: %s %s", error.code, error.message, error.hint)

All exceptions can be pickled, so they cross a process pool.
"""

from __future__ import annotations

from typing import Any

from schedproto import ErrorCode, ErrorInfo, Job
from schedproto.errors import rebuild


class SchedulerClientError(Exception):
    """The base of all exceptions of this package.

    message: what happened.   hint: what to do next.   retryable: whether the same call may succeed
    later without any change.   code: stable, for programs.   details: short named facts.

        except SchedulerClientError as error:
            if error.retryable:
                retry_later()
            else:
                log.error("%s (%s)", error.message, error.hint)
    """

    def __init__(self, message: str, hint: str = "", *, retryable: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.retryable = retryable
        self.code = _name(type(self).__name__)
        self.details: dict[str, str] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return rebuild, (type(self), self.args, self.__dict__)


def _name(class_name: str) -> str:
    words = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in class_name)
    return words.strip("_").removesuffix("_error")


class ConnectionFailedError(SchedulerClientError):
    """The daemon was not reached. An accepted job is on disk and runs on."""


class UnreachableError(ConnectionFailedError):
    """Nothing answers at the address. Repeat the call, or check the daemon and the address.

    Repeating a submit is safe with an idempotency key: it returns the first job.

        for _ in range(3):
            with suppress(UnreachableError):
                return client.schedule("org-123", idempotency_key="2026-11-25/org-123")
    """


class AuthenticationError(ConnectionFailedError):
    """The encrypted connection was refused: one side does not know the key of the other.

    The daemon's `--client-keys` must include this client's public key, and the setting `server_key`
    must be the daemon's public key.

        client = Client("tcp://[::1]:7300", key_file="me.secret", server_key="server.public")
    """


class LaunchError(ConnectionFailedError):
    """A daemon could not be started. The message has the reason, the hint the path of its log."""


class FlyApiError(LaunchError):
    """The Machines API failed or refused.

    status: of HTTP, 0 if there was no answer.   answer: what the API said.   word: its `status`
    field.

        except FlyApiError as error:
            log.error("HTTP %d: %s", error.status, error.answer)
    """

    status = 0
    answer = ""
    word = ""


class FlyTokenError(FlyApiError):
    """The Machines API refuses the token. Create one with `fly tokens create deploy`."""


class MachineMissingError(FlyApiError):
    """There is no such app or machine. Check the settings `app` and `machine`."""


class HostFullError(FlyApiError):
    """The machine's host has no room for it now. Try again later, or move the volume."""


class IncompatibleError(ConnectionFailedError):
    """Client and daemon speak different protocol versions. Upgrade the older one."""


class WaitTimeoutError(SchedulerClientError, TimeoutError):
    """The wait ended; the job continues. `job_id` names it (None if unknown), to wait again:

    Example:

        try:
            result = client.schedule("org-123", timeout_s=60)
        except WaitTimeoutError as error:
            result = client.job(error.job_id).wait()
    """

    def __init__(
        self,
        message: str,
        hint: str = "",
        *,
        retryable: bool = False,
        job_id: str | None = None,
    ) -> None:
        super().__init__(message, hint, retryable=retryable)
        self.job_id = job_id


class SettingsError(SchedulerClientError):
    """A setting of the client is wrong. docs/SETTINGS.md lists all.

    Example:

        Client(idle_timeout=-1)  # SettingsError: invalid idle_timeout -1: expected a number ...
    """


class LocalFileError(SchedulerClientError):
    """A local file cannot be read or written, or is in use."""


class DaemonError(SchedulerClientError):
    """The daemon answered with an error. `job` is the job that ended with it, if there is one.

    Example:

        try:
            client.schedule("org-123")
        except DaemonError as error:
            log.error("%s: %s", error.code, error.message)
            if error.job is not None:
                log.error("job %s", error.job.job_id)
    """

    def __init__(self, info: ErrorInfo, job: Job | None = None) -> None:
        super().__init__(info.message, info.hint, retryable=info.retryable)
        self.info = info
        self.code = info.code
        self.details = dict(info.details)
        self.job = job


class RequestError(DaemonError):
    """The request can never succeed as it is. Correct it before you repeat it."""


class InvalidMessageError(RequestError):
    """The daemon could not read the message."""


class InvalidArgumentError(RequestError):
    """An argument is out of its range, for example a date that does not exist."""


class InvalidOrganizationError(RequestError):
    """The id of the organization is not valid: it names a file, so its characters are limited."""


class ConfigurationError(RequestError):
    """The configuration has an unknown or wrong setting; the message names it.

    Example:

        client.schedule("org-123", config={"anniversary": {"birthday_days_befor": 7}})
    """


class UnknownJobError(RequestError):
    """The daemon does not know the job: it never had it, or has removed it from its journal."""


class IdempotencyError(RequestError):
    """The idempotency key belongs to another job. Use a new key for each different job."""


class BusyError(DaemonError):
    """The daemon takes no more jobs now, or a job of the organization is in the way. Retry later.

    Example:

        except BusyError:
            time.sleep(1.0)
    """


class DatabaseError(DaemonError):
    """The organization's file cannot be scheduled. The file is unchanged."""


class DatabaseMissingError(DatabaseError):
    """There is no file of this organization. `client.push(path, organization)` uploads one."""


class DatabaseUnusableError(DatabaseError):
    """The file is not an SQLite database, damaged, unreadable, read-only, or has duplicate keys."""


class DatabaseLockedError(DatabaseError):
    """Another program holds the file's lock. Retry when it has finished writing."""


class DiskFullError(DatabaseError):
    """The volume is full. Free space, or extend it."""


class BackupError(DatabaseError):
    """A backup could not be made, or is damaged. `client.backups(organization)` lists them."""


class TransferError(DatabaseError):
    """A file arrived damaged, or the daemon does not know the transfer. Repeat the push or pull."""


class ContactsError(DatabaseError):
    """The table of contacts is missing, empty, or lacks columns."""


class ForeignSchemaError(DatabaseError):
    """A table of another program cannot take the plan.

    The message names table, column or constraint; `client.check(organization)` lists all problems.
    """


class PlanRefusedError(DaemonError):
    """The plan was computed but not written. The file is unchanged."""


class PlanAbnormalError(PlanRefusedError):
    """The plan would change more than the guards allow. Review it, then accept it once.

    Example:

        try:
            client.schedule("org-123")
        except PlanAbnormalError as error:
            if approved(error.message):
                client.schedule("org-123", accept_changes=True)
    """


class PlanDiffersError(PlanRefusedError):
    """The plan is not the one that was reviewed: the organization's data changed since.

    Example:

        plan = client.schedule("org-123", dry_run=True).plan
        ...  # a review
        client.schedule("org-123", expect=plan)  # PlanDiffersError if it differs by now
    """


class BucketError(DaemonError):
    """The bucket does not answer, refuses access, has damaged objects, or was changed meanwhile."""


class LeaseError(BucketError):
    """Another writer holds the lease of the organization's file, or took it over.

    Example:

        with client.lease("org-123", wait_s=10) as lease:  # LeaseError (lease_held) after 10 s
            lease.fetch("org-123.db")
            lease.publish("org-123.db")  # LeaseError (lease_lost) if another has it
    """


class JobCancelledError(DaemonError):
    """The job was cancelled. A cancelled run changes nothing.

    Example:

        handle.cancel()
        with suppress(JobCancelledError):
            handle.wait()
    """


class ExecutionError(DaemonError):
    """The job failed for a reason that is neither in the request nor in the file.

    A worker crashed, memory ran out, or the daemon has a bug. The daemon's log has the details.
    """


#: The exception for each code; a test checks that none is missing.
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
    ErrorCode.DATABASE_REPLACED: DatabaseLockedError,
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
    ErrorCode.TOO_SLOW: ExecutionError,
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
