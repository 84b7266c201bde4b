"""The pieces of work a job hands to other processes, by name.

Bytes in, bytes out, no shared state.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from schedproto import ErrorCode, SchedulerError

from . import chunks

_task = msgspec.msgpack.Decoder(chunks.ChunkTask)

#: name -> what it runs
TASKS: dict[str, Callable[[chunks.ChunkTask], msgspec.Struct]] = {
    "plan": chunks.plan_chunk,
    "finish": chunks.finish_chunk,
}


def run_task(task: str, payload: bytes, check: Callable[[], None]) -> bytes:
    """Run one piece of work. `check` raises if the job is to end."""
    check()
    work = TASKS.get(task)
    if work is None:
        raise SchedulerError(ErrorCode.INTERNAL, f"unknown task {task!r}")
    return msgspec.msgpack.encode(work(_task.decode(payload)))
