"""Data exchanged between clients and the daemon: ids, jobs, messages, errors, encoding.

Imports only msgspec and the standard library. Both sides import it; it imports neither.
"""

from .backups import Backup, BackupList
from .configurations import ConfigurationVersion, OrganizationConfiguration
from .errors import ErrorCode, ErrorInfo, SchedulerError
from .explanations import EventExplanation, Explanation
from .jobs import (
    FINAL_STATES,
    GuardMeasure,
    Job,
    JobSpec,
    JobState,
    Mode,
    OrganizationInfo,
    Preview,
    Progress,
    RowChange,
    RunResult,
    RunWarning,
    SavedPlan,
    TransferStats,
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
    "GuardMeasure",
    "Job",
    "JobSpec",
    "JobState",
    "Mode",
    "OrganizationConfiguration",
    "OrganizationInfo",
    "Preview",
    "Progress",
    "Report",
    "RowChange",
    "RunResult",
    "RunWarning",
    "SavedPlan",
    "SchedulerError",
    "TransferStats",
    "TypeChanges",
    "VolumeInfo",
    "__version__",
]
