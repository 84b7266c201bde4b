"""The compiled program: `schedd`, `schedctl` and the commands on the machine in one.

Nuitka compiles this module (tools/binary.sh). The name under which the program is called selects
the command. Under any other name, the first argument does:

    email-scheduler schedctl submit org-123

Only the module of the selected command is loaded.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from importlib import import_module
from pathlib import PurePath

#: linux/prctl.h
_PR_SET_PDEATHSIG = 1
#: name -> module with the function that runs it
COMMANDS = {
    "schedd": ("schedd.cli", "main"),
    "schedctl": ("schedctl", "main"),
    "scheduler-help": ("schedctl.commands.on_machine", "scheduler_help"),
    "db-info": ("schedctl.commands.on_machine", "db_info"),
    "run-reliable-scheduler": ("schedctl.commands.on_machine", "run_reliable_scheduler"),
    "run-highperf-scheduler": ("schedctl.commands.on_machine", "run_highperf_scheduler"),
}


def _end_with_the_bootstrap() -> None:
    """Have this process killed when the process that unpacked it is.

    As one file, the program is a child of that process. Otherwise a kill -9 of the process that was
    started would leave the daemon running.
    """
    if "NUITKA_ONEFILE_PARENT" in os.environ:
        import ctypes  # noqa: PLC0415 - loaded only in this form

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _called_as() -> str:
    """Return the word that the program was called by.

    As one file, sys.argv has the file's own name instead.
    """
    return str(getattr(globals().get("__compiled__"), "original_argv0", None) or sys.argv[0])


def main() -> None:
    """Run the command that the program was called as."""
    multiprocessing.freeze_support()
    _end_with_the_bootstrap()
    name = PurePath(_called_as()).name
    if name not in COMMANDS and len(sys.argv) > 1 and sys.argv[1] in COMMANDS:
        name = sys.argv.pop(1)
    if name not in COMMANDS:
        sys.stderr.write(
            f"{name}: unknown command name; call this program by one of these names, or pass "
            "one as the first argument:\n"
            f"  {', '.join(COMMANDS)}\n"
        )
        sys.exit(2)
    module, function = COMMANDS[name]
    getattr(import_module(module), function)()


if __name__ == "__main__":
    main()
