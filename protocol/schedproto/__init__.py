"""What travels between a client and the daemon: ids, jobs, messages, errors and their encoding.

Imports msgspec and the standard library alone; both sides import it, and it imports neither.
"""

from .errors import ErrorCode, ErrorInfo, SchedulerError
from .jobs import (
    FINAL_STATES,
    Job,
    JobSpec,
    JobState,
    Mode,
    OrganizationInfo,
    Progress,
    RunResult,
    VolumeInfo,
)
from .version import __version__

__all__ = [
    "FINAL_STATES",
    "ErrorCode",
    "ErrorInfo",
    "Job",
    "JobSpec",
    "JobState",
    "Mode",
    "OrganizationInfo",
    "Progress",
    "RunResult",
    "SchedulerError",
    "VolumeInfo",
    "__version__",
]
