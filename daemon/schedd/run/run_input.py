"""The input of a run, which every process of the run reads from the scratch folder."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from schedd.engine.configuration import Layer, build
from schedd.engine.run import Run
from schedd.store.contacts import new_learned
from schedd.store.odd_values import Learned

_NAME = "run"


class RunInput(msgspec.Struct, frozen=True):
    """The input that every process needs to plan: the file `run` of the scratch folder.

    as_of: ordinal of the run's date.   layers: (name, values) of each layer of the configuration.
    campaign_types, campaign_instances: rows of the tables of these names.
    """

    database: str
    as_of: int
    layers: list[tuple[str, dict[str, Any]]]
    campaign_types: list[dict[str, Any]]
    campaign_instances: list[dict[str, Any]]


@dataclass(frozen=True)
class SharedRun:
    """A run as a process of it sees it.

    learned: values of columns that this process has evaluated, by column.
    """

    run: Run
    database: Path
    learned: dict[str, Learned]


def save_run_input(folder: Path, value: RunInput) -> None:
    """Write the input for the other processes."""
    (folder / _NAME).write_bytes(msgspec.msgpack.encode(value))


def load_run(folder: Path) -> SharedRun:
    """Return the run of a scratch folder.

    The last one is kept, because a worker gets many chunks of one run.
    """
    info = (folder / _NAME).stat()
    return _load(folder, info.st_ino, info.st_mtime_ns)


@lru_cache(maxsize=1)
def _load(folder: Path, _inode: int, _changed_ns: int) -> SharedRun:
    value = msgspec.msgpack.decode((folder / _NAME).read_bytes(), type=RunInput)
    configuration = build(*(Layer(name, values) for name, values in value.layers))
    run = Run(value.as_of, configuration, value.campaign_types, value.campaign_instances)
    return SharedRun(run, Path(value.database), new_learned())
