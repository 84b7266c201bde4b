"""Exit codes of `schedd`, by name; README and docs/SETTINGS.md list them."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of the daemon."""

    #: Stopped on request or because it was idle; no job was interrupted.
    OK = 0
    #: An internal error; see the log.
    INTERNAL = 1
    #: Invalid setting or argument.
    USAGE = 2
    #: The data folder is locked by another daemon.
    LOCKED = 3
    #: Cannot listen on an endpoint, or listening there requires keys.
    BIND = 4
    #: The data folder or the journal in it cannot be used.
    DATA = 5
    #: Stopped before running jobs had ended; they continue at the next start.
    FORCED = 6


class FatalError(Exception):
    """Ends the daemon with an exit code, a sentence and a hint.

    Example:

        raise FatalError(ExitCode.USAGE, "invalid drain_s 'x'", "Use seconds from 0 to 3600.")
    """

    def __init__(self, code: ExitCode, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
