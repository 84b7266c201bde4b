"""Limits on what a file may cost the process that reads it: time, memory, sizes.

An organization's file comes from other programs, and its schema is a program itself: views,
triggers, CHECK constraints, generated columns and indexes on expressions run when the file is read
or written. So every connection is opened by `connect`, which limits what that program can do. A
`Deadline` ends the statements of a request that takes too long.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar

import apsw

from schedproto import ErrorCode, SchedulerError

#: Steps of SQLite's virtual machine between two checks of a deadline or a cancellation.
PROGRESS_STEPS = 200_000
#: The longest value or row that is read or written.
MAX_VALUE_BYTES = 64 << 20
#: SQLite's limits (https://www.sqlite.org/limits.html), far above what the scheduler's statements
#: and ordinary schemas need.
LIMITS: dict[int, int] = {
    apsw.SQLITE_LIMIT_LENGTH: MAX_VALUE_BYTES,
    apsw.SQLITE_LIMIT_SQL_LENGTH: 4 << 20,
    apsw.SQLITE_LIMIT_COLUMN: 2000,
    apsw.SQLITE_LIMIT_EXPR_DEPTH: 1000,
    apsw.SQLITE_LIMIT_COMPOUND_SELECT: 500,
    apsw.SQLITE_LIMIT_VDBE_OP: 5_000_000,
    apsw.SQLITE_LIMIT_FUNCTION_ARG: 127,
    apsw.SQLITE_LIMIT_ATTACHED: 2,
    apsw.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 1000,
    apsw.SQLITE_LIMIT_VARIABLE_NUMBER: 32_766,
    apsw.SQLITE_LIMIT_TRIGGER_DEPTH: 50,
    apsw.SQLITE_LIMIT_WORKER_THREADS: 0,
}
#: Time between two interruptions of statements that continue after their deadline.
_INTERRUPT_S = 0.1


class Deadline:
    """The time by which the statements of one request have to end.

    SQLite checks it between its steps, and a statement that has gone too far is interrupted.

        with deadlines.limited(30.0):
            describe(path, "org-123")  # raises `too_slow` after 30 s
    """

    def __init__(self, seconds: float, *, may_be_cancelled: bool = True) -> None:
        self.may_be_cancelled = may_be_cancelled
        self._seconds = seconds
        self._ends = time.monotonic() + seconds
        self._cancelled = False
        self._connections: list[weakref.ref[apsw.Connection]] = []

    def watch(self, connection: apsw.Connection) -> None:
        """Have a connection's statements end with this deadline."""
        self._connections.append(weakref.ref(connection))
        connection.set_progress_handler(lambda: self.over, PROGRESS_STEPS, id="deadline")

    def cancel(self) -> None:
        """End the request now: the daemon is about to exit."""
        self._cancelled = True

    @property
    def left_s(self) -> float:
        """Return the seconds that are left."""
        return 0.0 if self._cancelled else max(0.0, self._ends - time.monotonic())

    @property
    def over(self) -> bool:
        """Return whether the request has to end."""
        return self._cancelled or time.monotonic() >= self._ends

    def error(self) -> SchedulerError:
        """Return the error for a request that did not end in time."""
        if self._cancelled:
            return SchedulerError(
                ErrorCode.SHUTTING_DOWN,
                "the daemon is shutting down",
                hint="Send the request again after the restart.",
            )
        return SchedulerError(
            ErrorCode.TOO_SLOW,
            f"the request took longer than {self._seconds:g} s and was ended",
            hint="Look for a view, trigger, generated column or index in the file that never "
            "ends. If the file is only large or the machine slow, raise SCHEDD_MAX_REQUEST.",
            details={"limit_s": f"{self._seconds:g}"},
        )

    def interrupt(self) -> None:
        """Interrupt the statements that run."""
        for reference in list(self._connections):
            connection = reference()
            if connection is not None:
                with suppress(apsw.Error):  # It may have been closed.
                    connection.interrupt()


_CURRENT: ContextVar[Deadline | None] = ContextVar("deadline", default=None)


def deadline_error() -> SchedulerError | None:
    """Return the error of the current request's deadline if it is over."""
    deadline = _CURRENT.get()
    return deadline.error() if deadline is not None and deadline.over else None


class Deadlines:
    """The deadlines of all current requests, enforced by one thread. Safe for threads."""

    def __init__(self) -> None:
        self._active: set[Deadline] = set()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    @contextmanager
    def limited(self, seconds: float, *, may_be_cancelled: bool = True) -> Iterator[None]:
        """Limit the time of the block. Any error after the deadline becomes `too_slow`."""
        deadline = Deadline(seconds, may_be_cancelled=may_be_cancelled)
        token = _CURRENT.set(deadline)
        with self._changed:
            self._active.add(deadline)
            self._changed.notify()
            if self._thread is None:
                self._thread = threading.Thread(target=self._enforce, name="limits", daemon=True)
                self._thread.start()
        try:
            yield
        except Exception as error:
            if deadline.over and getattr(error, "code", None) != ErrorCode.TOO_SLOW:
                raise deadline.error() from error
            raise
        finally:
            with self._changed:
                self._active.discard(deadline)
            _CURRENT.reset(token)

    def cancel(self, *, everything: bool) -> None:
        """End the requests that may be cancelled, or all of them."""
        with self._changed:
            for deadline in self._active:
                if everything or deadline.may_be_cancelled:
                    deadline.cancel()
            self._changed.notify()

    def _enforce(self) -> None:
        """Interrupt what is over, again and again: a later statement must not continue either."""
        while True:
            with self._changed:
                over = [deadline for deadline in self._active if deadline.over]
                left = [deadline.left_s for deadline in self._active]
                if not over:
                    self._changed.wait(min(left) if left else None)
                    continue
            for deadline in over:
                deadline.interrupt()
            time.sleep(_INTERRUPT_S)


def connect(path: str, flags: int | None = None) -> apsw.Connection:
    """Open a database with all limits; the only place of the daemon that opens one.

    path: of a file, `:memory:`, or a URI with the flag for it.   flags: as of SQLite; default: read
    and write, and create.   Raises `apsw.Error`.
    """
    if flags is None:
        flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
    connection = apsw.Connection(path, flags=flags)
    for number, limit in LIMITS.items():
        connection.limit(number, limit)
    # No statement of ours, and none of the schema, can write pages or the schema's table directly.
    connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
    # The schema belongs to another program; it must not call functions with side effects.
    connection.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
    deadline = _CURRENT.get()
    if deadline is not None:
        deadline.watch(connection)
    return connection


def limit_memory(limit_bytes: int) -> None:
    """Limit the memory that SQLite takes in this process; beyond it, statements fail."""
    apsw.hard_heap_limit(limit_bytes)
