"""The client library: connects to the daemon, and starts one if none runs.

    from schedclient import Client

    with Client() as client:
        result = client.schedule("org-123")

Modules that need ZeroMQ are loaded on first use, so that importing this package is fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from schedproto import (
    GuardMeasure,
    Job,
    JobSpec,
    JobState,
    Mode,
    OrganizationInfo,
    RunResult,
    RunWarning,
    SavedPlan,
    VolumeInfo,
    __version__,
)

from . import errors
from .errors import SchedulerClientError

if TYPE_CHECKING:
    from .aio import AsyncClient
    from .batch import AsyncBatch
    from .handles import AsyncJobHandle
    from .plans import load_plan, save_plan
    from .sync import Batch, Client, JobHandle

_LAZY = {
    "AsyncBatch": "batch",
    "AsyncClient": "aio",
    "AsyncJobHandle": "handles",
    "Batch": "sync",
    "Client": "sync",
    "JobHandle": "sync",
    "load_plan": "plans",
    "save_plan": "plans",
}

__all__ = [
    "AsyncBatch",
    "AsyncClient",
    "AsyncJobHandle",
    "Batch",
    "Client",
    "GuardMeasure",
    "Job",
    "JobHandle",
    "JobSpec",
    "JobState",
    "Mode",
    "OrganizationInfo",
    "RunResult",
    "RunWarning",
    "SavedPlan",
    "SchedulerClientError",
    "VolumeInfo",
    "__version__",
    "errors",
    "load_plan",
    "save_plan",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(f".{_LAZY[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
