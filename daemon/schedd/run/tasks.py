"""The tasks that a job gives to other processes, by name.

A task takes and returns bytes and shares no state with the job besides the scratch folder.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from schedproto import ErrorCode, SchedulerError

from .chunk_data import ChunkTask
from .finishing import finish_chunk
from .planning import plan_chunk

_task = msgspec.msgpack.Decoder(ChunkTask)

#: name -> function
TASKS: dict[str, Callable[[ChunkTask], msgspec.Struct]] = {
    "plan": plan_chunk,
    "finish": finish_chunk,
}


def run_task(task: str, payload: bytes, check: Callable[[], None]) -> bytes:
    """Run one task and return its encoded result. `check` raises if the job is to end."""
    check()
    work = TASKS.get(task)
    if work is None:
        raise SchedulerError(ErrorCode.INTERNAL, f"unknown task {task!r}")
    return msgspec.msgpack.encode(work(_task.decode(payload)))
