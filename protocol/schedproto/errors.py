"""Errors in messages: a code, a sentence, a hint, and whether a retry can help.

The codes are part of the protocol: one is never renamed or given another meaning. A client that
meets a code it does not know treats it by its `retryable` flag. The client's exception tree is
built from this table (`schedclient.errors`), and a test holds that no code is left out there.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, TypeVar

import msgspec

_E = TypeVar("_E", bound=BaseException)


class ErrorCode(StrEnum):
    """Every code a daemon may answer with."""

    # The message itself.
    BAD_MESSAGE = "bad_message"
    MESSAGE_TOO_LARGE = "message_too_large"
    UNSUPPORTED_MESSAGE = "unsupported_message"
    UNSUPPORTED_PROTOCOL = "unsupported_protocol"
    # The request.
    INVALID_ARGUMENT = "invalid_argument"
    INVALID_ORGANIZATION = "invalid_organization"
    INVALID_CONFIGURATION = "invalid_configuration"
    UNKNOWN_JOB = "unknown_job"
    IDEMPOTENCY_CONFLICT = "idempotency_conflict"
    # The daemon's state.
    QUEUE_FULL = "queue_full"
    SHUTTING_DOWN = "shutting_down"
    ORGANIZATION_BUSY = "organization_busy"
    # The organization's file.
    DATABASE_MISSING = "database_missing"
    DATABASE_NOT_SQLITE = "database_not_sqlite"
    DATABASE_DAMAGED = "database_damaged"
    DATABASE_LOCKED = "database_locked"
    DATABASE_READ_ONLY = "database_read_only"
    DATABASE_UNREADABLE = "database_unreadable"
    DATABASE_REPLACED = "database_replaced"
    DISK_FULL = "disk_full"
    BACKUP_FAILED = "backup_failed"
    BACKUP_DAMAGED = "backup_damaged"
    TRANSFER_UNKNOWN = "transfer_unknown"
    TRANSFER_DAMAGED = "transfer_damaged"
    CONTACTS_MISSING = "contacts_missing"
    CONTACTS_EMPTY = "contacts_empty"
    COLUMN_MISSING = "column_missing"
    DUPLICATE_KEYS = "duplicate_keys"
    FOREIGN_SCHEMA = "foreign_schema"
    # The plan.
    PLAN_ABNORMAL = "plan_abnormal"
    PLAN_DIFFERS = "plan_differs"
    # The bucket.
    BUCKET_UNREACHABLE = "bucket_unreachable"
    BUCKET_DENIED = "bucket_denied"
    BUCKET_DAMAGED = "bucket_damaged"
    BUCKET_BUSY = "bucket_busy"
    BUCKET_CONFLICT = "bucket_conflict"
    LEASE_HELD = "lease_held"
    LEASE_LOST = "lease_lost"
    # The work.
    CANCELLED = "cancelled"
    WORKER_DIED = "worker_died"
    OUT_OF_MEMORY = "out_of_memory"
    TOO_SLOW = "too_slow"
    INTERNAL = "internal"


#: Codes for which the same request may succeed later without anybody changing anything.
RETRYABLE = frozenset(
    {
        ErrorCode.QUEUE_FULL,
        ErrorCode.SHUTTING_DOWN,
        ErrorCode.ORGANIZATION_BUSY,
        ErrorCode.DATABASE_LOCKED,
        ErrorCode.DATABASE_REPLACED,
        ErrorCode.TRANSFER_UNKNOWN,
        ErrorCode.TRANSFER_DAMAGED,
        ErrorCode.BUCKET_UNREACHABLE,
        ErrorCode.BUCKET_BUSY,
        ErrorCode.BUCKET_CONFLICT,
        ErrorCode.LEASE_HELD,
        ErrorCode.LEASE_LOST,
        ErrorCode.WORKER_DIED,
        ErrorCode.OUT_OF_MEMORY,
    }
)


class ErrorInfo(msgspec.Struct, frozen=True, kw_only=True):
    """An error in a message. `details` holds short named facts (a path, a column, a limit)."""

    code: str
    message: str
    hint: str = ""
    retryable: bool = False
    details: dict[str, str] = {}


def rebuild(kind: type[_E], args: tuple[object, ...], attributes: dict[str, object]) -> _E:
    """Return a pickled exception as it was, whatever its `__init__` requires."""
    error = kind.__new__(kind, *args)
    error.args = args  # `OSError.__new__` leaves that to `__init__`
    error.__dict__.update(attributes)
    return error


class SchedulerError(Exception):
    """An error with a code, raised anywhere below the socket and translated into `ErrorInfo` at it.

    `retryable` follows the table `RETRYABLE` unless given.

    >>> SchedulerError(ErrorCode.UNKNOWN_JOB, "unknown job 'x'").info().code
    'unknown_job'
    """

    def __init__(
        self,
        code: ErrorCode,
        message: str,
        *,
        hint: str = "",
        retryable: bool | None = None,
        details: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.retryable = code in RETRYABLE if retryable is None else retryable
        self.details = details or {}

    def __reduce__(self) -> tuple[Any, ...]:
        return rebuild, (type(self), self.args, self.__dict__)

    def info(self) -> ErrorInfo:
        """Return the error in the form that a message carries."""
        return ErrorInfo(
            code=str(self.code),
            message=self.message,
            hint=self.hint,
            retryable=self.retryable,
            details=self.details,
        )

    @classmethod
    def from_info(cls, info: ErrorInfo) -> SchedulerError:
        """Rebuild the exception on the other side of a pipe; an unknown code becomes `internal`."""
        try:
            code = ErrorCode(info.code)
        except ValueError:
            code = ErrorCode.INTERNAL
        return cls(
            code, info.message, hint=info.hint, retryable=info.retryable, details=dict(info.details)
        )
