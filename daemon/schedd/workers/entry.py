"""Entry point of a worker process. The daemon imports this module, so it loads nothing of the run.

`worker` imports the run, and numpy with it: the daemon listens before any process has loaded them.
"""

from __future__ import annotations

import fcntl
import os
import signal
from multiprocessing.connection import Connection

from schedd.hardening import limit_memory, protect_memory

#: Loaded once by the fork server, so that every worker has it already.
PRELOAD = (f"{__package__}.worker",)


def worker_main(connection: Connection, alive_file: str, memory_bytes: int | None = None) -> None:
    """Run one worker until it is stopped or the daemon is gone.

    alive_file: held with a shared lock, so that the next daemon of the folder can wait until all
    workers of a killed one have ended.   memory_bytes: beyond it, the process gets no more
    memory.
    """
    # The terminal sends Ctrl-C to all processes of the group; the daemon stops its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    protect_memory()
    if memory_bytes is not None:
        limit_memory(memory_bytes)
    alive = os.open(alive_file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    fcntl.flock(alive, fcntl.LOCK_SH)

    from .worker import run_worker  # noqa: PLC0415 - loaded only in the worker process

    run_worker(connection)
