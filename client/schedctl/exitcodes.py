"""Exit codes of `schedctl`, by name; docs/CLI.md lists them."""

from __future__ import annotations

from enum import IntEnum

from schedclient import errors


class ExitCode(IntEnum):
    """Exit codes of a command."""

    #: Success; for a job: it succeeded (or was accepted, with --detach).
    OK = 0
    #: The job failed; for `check` and `doctor`: errors were found.
    JOB_FAILED = 1
    #: Wrong arguments or settings.
    USAGE = 2
    #: No daemon was reachable, or none could be started.
    UNREACHABLE = 3
    #: The daemon refused the request.
    REFUSED = 4
    #: The wait timed out; the job continues.
    TIMED_OUT = 5
    #: The job was cancelled.
    CANCELLED = 6
    #: Interrupted with Ctrl-C; a submitted job continues.
    DETACHED = 130


def of_error(error: errors.SchedulerClientError) -> ExitCode:
    """Return the exit code for an error."""
    if isinstance(error, errors.JobCancelledError):
        return ExitCode.CANCELLED
    if isinstance(error, errors.WaitTimeoutError):
        return ExitCode.TIMED_OUT
    if isinstance(error, errors.SettingsError | errors.LocalFileError):
        return ExitCode.USAGE
    if isinstance(error, errors.ConnectionFailedError):
        return ExitCode.UNREACHABLE
    if isinstance(error, errors.DaemonError) and error.job is None:
        return ExitCode.REFUSED
    return ExitCode.JOB_FAILED
