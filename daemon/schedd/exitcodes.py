"""Exit codes of `schedd`, by name; README and docs/SETTINGS.md list them."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Why the daemon ended."""

    #: Asked to stop, or idle for long enough; no job was left behind in the middle.
    OK = 0
    #: A fault of the daemon itself; the log has it.
    INTERNAL = 1
    #: A setting or an argument is wrong.
    USAGE = 2
    #: Another daemon has the data folder.
    LOCKED = 3
    #: An endpoint cannot be listened on, or may not be without keys.
    BIND = 4
    #: The data folder or the journal in it cannot be used.
    DATA = 5
    #: Stopped before running jobs had ended; they are in the journal and continue at the next start.
    FORCED = 6


class FatalError(Exception):
    """Ends the daemon with an exit code, a sentence and a hint."""

    def __init__(self, code: ExitCode, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
