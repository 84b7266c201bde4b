"""What the daemon and its worker processes say to each other.

Msgspec structs on a pipe, never pickles.
"""

from __future__ import annotations

from typing import Any

import msgspec

from schedd.replica.location import BucketLocation
from schedproto import ErrorInfo, JobSpec, RunResult


class _Message(msgspec.Struct, frozen=True, tag_field="t"):
    pass


# Daemon to worker ---------------------------------------------------------------------------------


class LeadJob(_Message, frozen=True, tag="lead"):
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


class RunShard(_Message, frozen=True, tag="shard"):
    """Run a piece of another worker's job."""

    batch: str
    number: int
    task: str
    payload: bytes


class ShardResult(_Message, frozen=True, tag="result"):
    """To the lead: a piece was done by somebody (or failed)."""

    batch: str
    number: int
    payload: bytes = b""
    error: ErrorInfo | None = None


class Granted(_Message, frozen=True, tag="granted"):
    """To the lead: the piece it may run itself; -1 if none is left that nobody has begun."""

    batch: str
    number: int


class CancelJob(_Message, frozen=True, tag="cancel"):
    """End a job."""

    job_id: str


class Stop(_Message, frozen=True, tag="stop"):
    """Exit when idle."""


# Worker to daemon ---------------------------------------------------------------------------------


class Ready(_Message, frozen=True, tag="ready"):
    """The worker has started."""


class Progressed(_Message, frozen=True, tag="progress"):
    """How far the job is."""

    job_id: str
    stage: str
    fraction: float
    done: int
    total: int


class Offer(_Message, frozen=True, tag="offer"):
    """Pieces that idle workers may take, at most `helpers` of them at once."""

    batch: str
    task: str
    payloads: list[bytes]
    helpers: int


class Claim(_Message, frozen=True, tag="claim"):
    """The lead asks for a piece to run itself."""

    batch: str


class ShardDone(_Message, frozen=True, tag="shard_done"):
    """A piece of another worker's job is done (or failed)."""

    batch: str
    number: int
    payload: bytes = b""
    error: ErrorInfo | None = None


class JobDone(_Message, frozen=True, tag="job_done"):
    """The job has ended: one of the two."""

    job_id: str
    result: RunResult | None = None
    error: ErrorInfo | None = None


class LogLine(_Message, frozen=True, tag="log"):
    """A line for the daemon's log, which alone writes to it."""

    level: str
    event: str
    fields: dict[str, Any]


ToWorker = LeadJob | RunShard | ShardResult | Granted | CancelJob | Stop
FromWorker = Ready | Progressed | Offer | Claim | ShardDone | JobDone | LogLine

encode = msgspec.msgpack.Encoder().encode
decode_to_worker = msgspec.msgpack.Decoder(ToWorker).decode
decode_from_worker = msgspec.msgpack.Decoder(FromWorker).decode
