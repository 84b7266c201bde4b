"""What travels between a client and the daemon: ids, jobs, messages, errors and their encoding.

Imports msgspec and the standard library alone; both sides import it, and it imports neither.
"""

from .backups import Backup, BackupList
from .configurations import ConfigurationVersion, OrganizationConfiguration
from .errors import ErrorCode, ErrorInfo, SchedulerError
from .explanations import EventExplanation, Explanation
from .jobs import (
    FINAL_STATES,
    Job,
    JobSpec,
    JobState,
    Mode,
    OrganizationInfo,
    Preview,
    Progress,
    ReplicaUse,
    RowChange,
    RunResult,
    RunWarning,
    TypeChanges,
    VolumeInfo,
)
from .reports import ContactIssue, Report
from .version import __version__

__all__ = [
    "FINAL_STATES",
    "Backup",
    "BackupList",
    "ConfigurationVersion",
    "ContactIssue",
    "ErrorCode",
    "ErrorInfo",
    "EventExplanation",
    "Explanation",
    "Job",
    "JobSpec",
    "JobState",
    "Mode",
    "OrganizationConfiguration",
    "OrganizationInfo",
    "Preview",
    "Progress",
    "ReplicaUse",
    "Report",
    "RowChange",
    "RunResult",
    "RunWarning",
    "SchedulerError",
    "TypeChanges",
    "VolumeInfo",
    "__version__",
]
