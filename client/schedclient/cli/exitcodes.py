"""Exit codes of `schedctl`, by name; docs/CLI.md lists them."""

from __future__ import annotations

from enum import IntEnum

from schedclient import errors


class ExitCode(IntEnum):
    """How a command ended."""

    #: All is well; of a job: it succeeded (or was accepted, with --detach).
    OK = 0
    #: The job failed; of `check` and `doctor`: errors were found.
    JOB_FAILED = 1
    #: Wrong arguments or settings.
    USAGE = 2
    #: No daemon was reached, or none could be started.
    UNREACHABLE = 3
    #: The daemon refused the request.
    REFUSED = 4
    #: The wait ended before the job did; the job goes on.
    TIMED_OUT = 5
    #: The job was cancelled.
    CANCELLED = 6
    #: Left with Ctrl-C; a submitted job goes on.
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
