"""Translation of `apsw` exceptions into `SchedulerError`.

A schema that cannot take the plan is `foreign_schema`. `foreign` looks for one before the first
write; this module translates what it did not find, with SQLite's text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

from schedproto import ErrorCode, SchedulerError
from schedproto.sqlite_files import free_space, is_disk_full

from .file_identity import replaced
from .limits import MAX_VALUE_BYTES, deadline_error

_TABLE: list[tuple[type[Exception] | tuple[type[Exception], ...], ErrorCode, str, str]] = [
    (
        apsw.NotADBError,
        ErrorCode.DATABASE_NOT_SQLITE,
        "is not an SQLite database",
        "Check that the right file was uploaded; encrypted files cannot be read.",
    ),
    (
        apsw.CorruptError,
        ErrorCode.DATABASE_DAMAGED,
        "is damaged",
        "Restore it from a backup. `PRAGMA integrity_check` in the sqlite3 shell shows the damage.",
    ),
    (
        apsw.SchemaChangeError,
        ErrorCode.DATABASE_LOCKED,
        "was changed by another program during the run",
        "Submit again after the other program has finished its migration.",
    ),
    (
        (apsw.ProtocolError, apsw.BusyError, apsw.LockedError),
        ErrorCode.DATABASE_LOCKED,
        "is locked by another program",
        "Wait until the other program ends its transaction, then submit again.",
    ),
    (
        apsw.ReadOnlyError,
        ErrorCode.DATABASE_READ_ONLY,
        "cannot be written",
        "Give the daemon's user write permission for the file and its folder.",
    ),
    (
        apsw.FullError,
        ErrorCode.DISK_FULL,
        "could not be written: the disk is full",
        "Free space on the volume or extend it, then submit again. The file is unchanged.",
    ),
    (
        apsw.CantOpenError,
        ErrorCode.DATABASE_UNREADABLE,
        "cannot be opened",
        "Check the permissions of the file and its folder.",
    ),
    (
        apsw.PermissionsError,
        ErrorCode.DATABASE_UNREADABLE,
        "cannot be read",
        "Give the daemon's user read and write permission for the file.",
    ),
    (
        apsw.NoMemError,
        ErrorCode.OUT_OF_MEMORY,
        "needs more memory than available",
        "Use a machine with more memory or fewer workers, or raise SCHEDD_WORKER_MEMORY_MB.",
    ),
    (
        apsw.InterruptError,
        ErrorCode.CANCELLED,
        "was not processed further because the job was cancelled",
        "",
    ),
    (
        apsw.IOError,
        ErrorCode.DATABASE_UNREADABLE,
        "could not be read or written",
        "Check the volume: the operating system reported an I/O error.",
    ),
]


#: Hint for an index that is inconsistent with its table; the rows of the table are intact.
REINDEX_HINT = (
    "An index is inconsistent with its table; the rows are readable. Run `REINDEX` in the "
    "sqlite3 shell. If `PRAGMA integrity_check` still reports errors, restore the file from a "
    "backup."
)
# SQLite's messages. For a schema that it cannot parse, they name the object, then the reason.
_MALFORMED = re.compile(
    r"malformed database schema \((?P<name>.*?)\)(?: - (?P<reason>.*))?", re.DOTALL
)
_DAMAGE = ("", "invalid rootpage", "orphan index")
_CHECK = re.compile(r"CHECK constraint failed: (?P<constraint>.*)", re.DOTALL)
_NOT_NULL = re.compile(r"NOT NULL constraint failed: (?P<table>[^.]*)\.(?P<column>.*)", re.DOTALL)
_UNIQUE_INDEX = re.compile(r"UNIQUE constraint failed: index '(?P<constraint>.*)'", re.DOTALL)
_UNIQUE = re.compile(r"UNIQUE constraint failed: (?P<columns>.*)", re.DOTALL)
_TYPE = re.compile(
    r"cannot store (?P<given>\w+) value in (?P<type>\w+) column (?P<table>[^.]*)\.(?P<column>.*)",
    re.DOTALL,
)

MIGRATE_HINT = (
    "The file's schema prevents the run: repair or drop the named object in the program that "
    "made it. docs/DATABASE.md describes the tables. Nothing was changed."
)


def foreign_schema(message: str, hint: str, **details: str) -> SchedulerError:
    """Return the error for a schema that cannot take the plan.

    details: `table`, and `column`, `constraint`, `trigger` or `object`, if known.
    """
    return SchedulerError(
        ErrorCode.FOREIGN_SCHEMA, message, hint=f"{hint} Nothing was changed.", details=details
    )


def add_to_message(refusal: SchedulerError, more: str) -> None:
    """Add text to the end of an error's message, in place."""
    refusal.message += more
    refusal.args = (refusal.message,)


def extended_result(error: apsw.Error) -> int:
    """Return SQLite's extended result code of an error, 0 if it has none."""
    return int(getattr(error, "extendedresult", 0))


def of_constraint(error: apsw.Error, table: str = "") -> SchedulerError | None:
    """Return the error for a violated constraint, None if the message is not SQLite's own.

    A trigger has messages of its own.
    """
    text = str(error).removeprefix("ConstraintError: ")
    at = table or "a table that the scheduler writes"
    if found := _NOT_NULL.fullmatch(text):
        name = f"{found['table']}.{found['column']}"
        return foreign_schema(
            f"the column {name} is NOT NULL, and the scheduler has no value for it",
            f"Drop NOT NULL from {name}, or give it a default.",
            table=found["table"],
            column=found["column"],
            constraint="NOT NULL",
        )
    if found := _TYPE.fullmatch(text):
        name = f"{found['table']}.{found['column']}"
        return foreign_schema(
            f"the column {name} of a STRICT table has the type {found['type']} and does not "
            f"accept {found['given']}",
            f"Declare {name} as docs/DATABASE.md lists it, or as ANY.",
            table=found["table"],
            column=found["column"],
            constraint=f"STRICT {found['type']}",
        )
    if found := _CHECK.fullmatch(text):
        return foreign_schema(
            f"a CHECK constraint of {at} rejects a row of the plan: {found['constraint']}",
            "Extend the constraint to accept the values listed in docs/DATABASE.md, including "
            "the statuses 'pre-scheduled' and 'skipped'.",
            table=table,
            constraint=found["constraint"],
        )
    if found := _UNIQUE_INDEX.fullmatch(text):
        return unique_violation(table, found["constraint"], "")
    if found := _UNIQUE.fullmatch(text):
        names = found["columns"].split(", ")
        return unique_violation(
            table or names[0].split(".")[0], "", ", ".join(n.split(".", 1)[-1] for n in names)
        )
    return None


def unique_violation(table: str, index: str, columns: str) -> SchedulerError:
    """Return the error for a row of the plan that violates another unique index than the key."""
    named = f"the unique index {index}" if index else "a unique constraint"
    on = f" on ({columns})" if columns else ""
    return foreign_schema(
        f"{named}{on} of {table} conflicts with a row of the plan",
        "The plan's key is (contact_id, email_type, scheduled_send_date): drop the other unique "
        "index, make it non-unique, or remove the row that already has these values.",
        table=table,
        constraint=index or f"UNIQUE ({columns})",
        column=columns,
    )


def _of_corruption(error: apsw.Error, path: Path) -> SchedulerError | None:
    """Return the error if only an index is damaged, or the schema cannot be parsed; else None."""
    found = _MALFORMED.search(str(error))
    if found and (found["reason"] or "").strip() not in _DAMAGE:
        return foreign_schema(
            f"{path.name} has a schema that SQLite cannot read: the object {found['name']}: "
            f"{found['reason']}",
            f"Repair or drop {found['name']} with the program that made it (a newer SQLite, or "
            "one with extensions of its own); a backup has the same schema.",
            path=str(path),
            object=found["name"],
            sqlite=str(error),
        )
    if extended_result(error) == apsw.SQLITE_CORRUPT_INDEX:
        return SchedulerError(
            ErrorCode.DATABASE_DAMAGED,
            f"an index of {path.name} is inconsistent with its table ({error})",
            hint=REINDEX_HINT,
            details={"path": str(path), "sqlite": str(error)},
        )
    return None


def _special(error: apsw.Error, path: Path) -> SchedulerError | None:
    """Return the error for what the kind of exception alone does not say; None if it does."""
    if isinstance(error, apsw.InterruptError):
        return deadline_error()
    if isinstance(error, apsw.CorruptError):
        return _of_corruption(error, path)
    if extended_result(error) == apsw.SQLITE_READONLY_DBMOVED:
        return replaced(path, "Nothing was written.")
    if isinstance(error, apsw.TooBigError):
        return SchedulerError(
            ErrorCode.FOREIGN_SCHEMA,
            f"{path.name} has a value, or makes one, that is larger than "
            f"{MAX_VALUE_BYTES >> 20} MiB ({error})",
            hint="Shorten the value, or drop the generated column, index, view or trigger that "
            "makes it. Nothing was changed.",
            details={"path": str(path), "sqlite": str(error)},
        )
    return None


def translate(error: apsw.Error, path: Path) -> SchedulerError:
    """Return the scheduler's error for one of SQLite's."""
    if found := _special(error, path):
        return found
    full = is_disk_full(error)
    for kind, code, says, hint in _TABLE:
        if isinstance(error, kind) or (full and code is ErrorCode.DISK_FULL):
            space = f"; {free_space(path.parent)}" if code is ErrorCode.DISK_FULL else ""
            return SchedulerError(
                code,
                f"{path.name} {says} ({error}{space})",
                hint=hint,
                details={"path": str(path), "sqlite": str(error)},
            )
    details = {"path": str(path), "sqlite": str(error)}
    if isinstance(error, apsw.ConstraintError) and (refusal := of_constraint(error)):
        refusal.details |= details
        return refusal
    if isinstance(error, (apsw.ConstraintError, apsw.SQLError, apsw.MismatchError)):
        return SchedulerError(
            ErrorCode.FOREIGN_SCHEMA,
            f"SQLite cannot process {path.name}: {error}",
            hint=MIGRATE_HINT,
            details=details,
        )
    return SchedulerError(
        ErrorCode.INTERNAL,
        f"SQLite reported an error on {path.name}: {error}",
        hint="The file is unchanged. Submit again; if the error persists, see the daemon's log.",
        details=details,
    )


@contextmanager
def sqlite_errors(path: Path) -> Iterator[None]:
    """Translate the exceptions of SQLite in the block. path: the database that messages name."""
    try:
        yield
    except apsw.Error as error:
        raise translate(error, path) from error
    except UnicodeDecodeError as error:
        # apsw decodes names and messages, which SQLite does not check.
        raise SchedulerError(
            ErrorCode.DATABASE_DAMAGED,
            f"{path.name} is damaged, or has a name that is not valid text: {error}",
            hint="`PRAGMA integrity_check` in the sqlite3 shell shows damage; restore the file "
            "from a backup.",
            details={"path": str(path)},
        ) from error
