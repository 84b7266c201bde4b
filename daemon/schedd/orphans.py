"""Reaping of orphans where the daemon is process 1, as in a container without an init.

The kernel makes process 1 the parent of every process whose own parent has ended. Until it is
waited for, an ended one remains as a zombie, and zombies use up the table of processes.
"""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from multiprocessing import forkserver, resource_tracker
from pathlib import Path


def reap_orphans() -> None:
    """Wait for adopted children whenever one ends, if this is process 1. Needs a running loop."""
    if os.getpid() != 1:
        return
    asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, _reap)
    _reap()


def _reap() -> None:
    own = _own_children()
    for pid in _zombies_of(os.getpid()):
        if pid not in own:
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def _own_children() -> set[int]:
    """Return the children that multiprocessing itself waits for; it fails if another does."""
    return {
        getattr(forkserver._forkserver, "_forkserver_pid", None) or 0,  # noqa: SLF001
        getattr(resource_tracker._resource_tracker, "_pid", None) or 0,  # noqa: SLF001
    }


def _zombies_of(parent: int) -> list[int]:
    """Return the ended processes that a process has not waited for."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            # After the name, which may contain anything: state, parent.
            state, ppid = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
        except OSError:  # it has ended
            continue
        if state == "Z" and int(ppid) == parent:
            found.append(int(folder.name))
    return found
