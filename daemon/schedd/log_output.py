"""The daemon's standard error: an output that never raises and never waits.

Logging decides nothing: a daemon whose log cannot be written works as one whose log can. Standard
error may be a pipe whose reader has gone (EPIPE) or does not read (a full buffer), a file on a full
disk (ENOSPC), or closed. Lines therefore go to a bounded queue, and a thread writes them. Lines
that cannot be written are dropped and counted; the next line that can be written is preceded by one
that says how many are missing.
"""

from __future__ import annotations

import fcntl
import io
import os
import select
import sys
import threading
import time
from collections import deque
from collections.abc import Callable

#: Lines that wait for the writer, together.
MAX_QUEUED_BYTES = 4 << 20
#: How long the end of the process waits for a writer that makes no progress.
CLOSE_PATIENCE_S = 0.5
#: The longest wait at the end of the process for a writer that is slow.
CLOSE_TIMEOUT_S = 3.0
_STANDARD_ERROR = 2


def _lost_lines_text(count: int) -> str:
    return f"{count} log lines could not be written"


class LogOutput(io.TextIOBase):
    r"""A text stream that never raises and never waits, over a descriptor that may do both.

    descriptor: None if there is nothing to write to; then every line counts as lost.

        output = LogOutput(2)
        output.write("listening\n")
        output.lost_lines  # 0
        output.close_soon()
    """

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self, descriptor: int | None) -> None:
        super().__init__()
        self._descriptor = descriptor
        #: Returns the text that reports lost lines.
        self.lost_lines_text: Callable[[int], str] = _lost_lines_text
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._condition = threading.Condition()
        self._thread: threading.Thread | None = None
        self._progress = 0
        self._writing = False
        self._lost = 0
        self._reported = 0
        #: The last write failed within a line.
        self._torn = False

    # The side of the daemon: returns at once ------------------------------------------------------

    @property
    def lost_lines(self) -> int:
        """Return how many lines could not be written so far."""
        return self._lost

    def write(self, text: str) -> int:
        """Queue a text, or count its lines as lost if the queue is full."""
        if not isinstance(text, str):
            # How click and others find out that a stream takes text.
            raise TypeError("a text stream takes no bytes")
        try:
            data = text.encode("utf-8", "backslashreplace")
            with self._condition:
                if self._descriptor is None or self._queued_bytes + len(data) > MAX_QUEUED_BYTES:
                    self._lost += data.count(b"\n")
                    return len(text)
                self._queue.append(data)
                self._queued_bytes += len(data)
                self._start_thread()
                self._condition.notify_all()
        except Exception:  # noqa: BLE001 - out of memory or of threads must not stop the daemon
            self.count_lost(1)
        return len(text)

    def _start_thread(self) -> None:
        if self._thread is None:
            thread = threading.Thread(target=self._write_forever, name="log", daemon=True)
            thread.start()
            self._thread = thread

    def count_lost(self, lines: int) -> None:
        """Count lines that could not be written, or not even be made."""
        with self._condition:
            self._lost += lines

    def flush(self) -> None:
        """Do nothing: the thread writes without delay."""

    def writable(self) -> bool:
        """Return True."""
        return True

    def isatty(self) -> bool:
        """Return whether the output is a terminal."""
        return self._descriptor is not None and os.isatty(self._descriptor)

    def close_soon(self) -> None:
        """Wait for queued lines at the end of the process, but only while the writer progresses."""
        end = time.monotonic() + CLOSE_TIMEOUT_S
        with self._condition:
            while (self._queue or self._writing) and time.monotonic() < end:
                before = self._progress
                self._condition.wait(CLOSE_PATIENCE_S)
                if self._progress == before and (self._queue or self._writing):
                    return

    # The side of the thread: may wait -------------------------------------------------------------

    def _write_forever(self) -> None:
        while True:
            with self._condition:
                while not self._queue:
                    self._condition.wait()
                data = self._queue.popleft()
                self._queued_bytes -= len(data)
                self._writing = True
            try:
                written = self._report_lost() and self._write_bytes(data)
            except Exception:  # noqa: BLE001 - the thread must not end
                written = False
            if not written:
                self.count_lost(data.count(b"\n"))
            with self._condition:
                self._progress += 1
                self._writing = False
                self._condition.notify_all()

    def _report_lost(self) -> bool:
        """Write how many lines are missing, if any; returns whether that was possible."""
        missing = self._lost - self._reported
        if missing:
            notice = self.lost_lines_text(missing).rstrip("\n") + "\n"
            if not self._write_bytes(notice.encode("utf-8", "backslashreplace")):
                return False
            self._reported += missing
        return True

    def _write_bytes(self, data: bytes) -> bool:
        """Write all of a text; returns whether that was possible."""
        rest = memoryview(b"\n" + data if self._torn else data)
        while rest:
            try:
                count = os.write(self._fileno(), rest)
            except BlockingIOError:
                # The program that started the daemon made the pipe non-blocking.
                select.select([], [self._fileno()], [], 1.0)
                continue
            except OSError:
                return False
            self._torn = rest[count - 1] != ord("\n") if count else self._torn
            rest = rest[count:]
        self._torn = False
        return True

    def _fileno(self) -> int:
        assert self._descriptor is not None
        return self._descriptor


def _open_standard_descriptors() -> bool:
    """Open those of descriptors 0 to 2 that are closed; returns whether standard error was open.

    A file that the daemon opens later, a database for example, must never become descriptor 2:
    anything that is written to standard error would damage it.
    """
    was_open = True
    for descriptor in range(_STANDARD_ERROR + 1):
        try:
            fcntl.fcntl(descriptor, fcntl.F_GETFD)
        except OSError:
            # The lowest free descriptor, which is this one.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
            was_open = was_open and descriptor != _STANDARD_ERROR
    return was_open


def install() -> LogOutput:
    """Replace `sys.stderr` by an output that never raises and never waits; returns it.

    Call it first, before anything opens a file. Warnings, tracebacks and the standard library's
    log messages use the output as well.
    """
    descriptor = None
    if _open_standard_descriptors():
        # A descriptor of its own: while processes are started, 2 is another one (`child_output`).
        descriptor = fcntl.fcntl(_STANDARD_ERROR, fcntl.F_DUPFD_CLOEXEC, 3)
    output = LogOutput(descriptor)
    sys.stderr = output
    return output
