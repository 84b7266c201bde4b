"""Standard error of the worker processes: a pipe that the daemon reads and logs.

A worker therefore never writes to the daemon's own standard error, which may block or fail. What
it prints (the traceback of a crash, for example) becomes lines of the daemon's log.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_STANDARD_ERROR = 2
_READ_BYTES = 1 << 16


class ChildOutput:
    """The pipe that processes get as standard error. Everything runs in the event loop.

    Example:

        output = ChildOutput(log)
        with output.as_standard_error():
            process.start()
        output.close()
    """

    def __init__(self, log: Any) -> None:
        self._log = log
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._reading, False)
        asyncio.get_running_loop().add_reader(self._reading, self.read)

    @contextmanager
    def as_standard_error(self) -> Iterator[None]:
        """Make the pipe this process's descriptor 2, for processes that are started meanwhile."""
        own = os.dup(_STANDARD_ERROR)
        try:
            os.dup2(self._writing, _STANDARD_ERROR)
            yield
        finally:
            os.dup2(own, _STANDARD_ERROR)
            os.close(own)

    def read(self) -> None:
        """Log what the processes have written so far."""
        try:
            while data := os.read(self._reading, _READ_BYTES):
                self._log.warning(
                    "output of a worker process", text=data.decode("utf-8", "replace").rstrip()
                )
        except BlockingIOError:
            return

    def close(self) -> None:
        """Log the rest and close the pipe."""
        self.read()
        asyncio.get_running_loop().remove_reader(self._reading)
        os.close(self._reading)
        os.close(self._writing)
