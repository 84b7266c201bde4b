"""Protection of secrets and data: no core dumps, no new privileges, private files."""

from __future__ import annotations

import ctypes
import os
import resource
from contextlib import suppress
from pathlib import Path

#: linux/prctl.h
_PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 4, 38
#: Files and folders that the daemon creates are for its own user.
UMASK = 0o077


def protect_files() -> None:
    """Set the umask of this process and its children, whatever it was started with."""
    os.umask(UMASK)


def protect_memory() -> None:
    """Forbid core dumps and, to other processes of the same user, this process's memory.

    The limit holds for child processes too. It does not stop a core dump that the kernel pipes to a
    program (core_pattern), so the process is made undumpable as well, which `execve` resets: each
    process that holds secrets calls this. /proc/PID/environ and /proc/PID/mem are then root's.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _prctl(_PR_SET_DUMPABLE, 0)


def machine_memory_bytes() -> int:
    """Return the memory of this machine, or of the container (cgroup) if that is less."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [total]
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):  # "max", or another version of cgroups
            limits.append(int(Path("/sys/fs/cgroup", name).read_text(encoding="ascii")))
    return min(limits)


def limit_memory(limit_bytes: int) -> None:
    """Limit the private memory of this process; beyond it, allocations fail.

    Memory that is shared between workers (/dev/shm) does not count.
    """
    resource.setrlimit(resource.RLIMIT_DATA, (limit_bytes, limit_bytes))


def forbid_new_privileges() -> None:
    """Have `execve` ignore set-user-ID bits and file capabilities, in child processes too."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
