"""Messages between the daemon and its worker processes: msgspec structs on a pipe, no pickles.

The coordinator of a job is the worker that runs it; it offers shards (parts of the job) that other
workers run.
"""

from __future__ import annotations

from typing import Any

import msgspec

from schedd.replica.location import BucketLocation
from schedproto import ErrorInfo, JobSpec, RunResult


class _Message(msgspec.Struct, frozen=True, tag_field="t"):
    pass


# Daemon to worker ---------------------------------------------------------------------------------


class RunJob(_Message, frozen=True, tag="run_job"):
    """Run a job."""

    job_id: str
    run_id: str
    spec: JobSpec
    database: str
    defaults_toml: str
    scratch: str
    default_workers: int
    backup_folder: str
    backup_days: float
    replica: BucketLocation | None = None


class RunShard(_Message, frozen=True, tag="run_shard"):
    """Run a shard of another worker's job."""

    batch: str
    number: int
    task: str
    payload: bytes


class ShardResult(_Message, frozen=True, tag="shard_result"):
    """To the coordinator: another worker has run a shard, or it failed."""

    batch: str
    number: int
    payload: bytes = b""
    error: ErrorInfo | None = None


class ShardGrant(_Message, frozen=True, tag="shard_grant"):
    """To the coordinator: the shard that it may run itself; -1 if all have been started."""

    batch: str
    number: int


class CancelJob(_Message, frozen=True, tag="cancel"):
    """Cancel a job."""

    job_id: str


class Stop(_Message, frozen=True, tag="stop"):
    """Exit when idle."""


# Worker to daemon ---------------------------------------------------------------------------------


class Ready(_Message, frozen=True, tag="ready"):
    """The worker has started."""


class Progressed(_Message, frozen=True, tag="progress"):
    """Progress of a job."""

    job_id: str
    stage: str
    fraction: float
    done: int
    total: int


class ShardBatch(_Message, frozen=True, tag="shard_batch"):
    """Shards that idle workers may run, at most `helpers` of them at once."""

    batch: str
    task: str
    payloads: list[bytes]
    helpers: int


class ShardRequest(_Message, frozen=True, tag="shard_request"):
    """The coordinator asks for a shard to run itself."""

    batch: str


class ShardDone(_Message, frozen=True, tag="shard_done"):
    """A shard of another worker's job is done, or it failed."""

    batch: str
    number: int
    payload: bytes = b""
    error: ErrorInfo | None = None


class JobDone(_Message, frozen=True, tag="job_done"):
    """The job has ended, with a result or an error."""

    job_id: str
    result: RunResult | None = None
    error: ErrorInfo | None = None


class LogLine(_Message, frozen=True, tag="log"):
    """A line for the daemon's log, which alone writes to it."""

    level: str
    event: str
    fields: dict[str, Any]


ToWorker = RunJob | RunShard | ShardResult | ShardGrant | CancelJob | Stop
FromWorker = Ready | Progressed | ShardBatch | ShardRequest | ShardDone | JobDone | LogLine

encode = msgspec.msgpack.Encoder().encode
decode_to_worker = msgspec.msgpack.Decoder(ToWorker).decode
decode_from_worker = msgspec.msgpack.Decoder(FromWorker).decode
