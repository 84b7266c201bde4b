"""The files in which the processes of a run exchange columns."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from schedd.run import shared_arrays
from schedd.run.chunk_data import ChunkTask, FinishedChunk, PlannedChunk
from schedd.run.finishing import finish_chunk
from schedd.run.planning import plan_chunk
from schedd.run.runner import run_job
from schedproto import JobSpec
from tests.support.plans import CASES, GOLDEN, LocalContext, golden, make_database


class Item(msgspec.Struct):
    name: str
    number: int


@dataclass
class Inner:
    dates: NDArray[np.int32]
    names: list[str]


@dataclass
class Outer:
    numbers: NDArray[np.int64]
    inner: Inner
    maybe: Inner | None
    flags: NDArray[np.bool_]
    items: list[Item]
    text: str | None


def equal(one: Any, other: Any) -> bool:
    if is_dataclass(one):
        return all(equal(getattr(one, f.name), getattr(other, f.name)) for f in fields(one))
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    return bool(one == other)


@pytest.mark.parametrize("size", [0, 1, 1000])
@pytest.mark.parametrize("optional", [False, True])
def test_round_trip(size: int, *, optional: bool, tmp_path: Path) -> None:
    """A dataclass comes back as it was saved, with its types, empty arrays and None included."""
    inner = Inner(np.arange(size, dtype=np.int32), ["a", "ä"])
    data = Outer(
        numbers=np.arange(2 * size)[::2],
        inner=inner,
        maybe=inner if optional else None,
        flags=np.arange(size) % 2 == 0,
        items=[Item("x", 1)],
        text="t" if optional else None,
    )
    shared_arrays.save(tmp_path / "file", data)
    assert equal(shared_arrays.load(tmp_path / "file", Outer), data)


def test_changes_are_shared(tmp_path: Path) -> None:
    """A change in place is in the file, for everyone who maps it."""
    path = tmp_path / "file"
    shared_arrays.save(path, Inner(np.zeros(3, np.int32), []))
    mapped, other = (shared_arrays.load(path, Inner) for _ in range(2))
    mapped.dates[1] = 7
    assert other.dates.tolist() == shared_arrays.load(path, Inner).dates.tolist() == [0, 7, 0]


def wrong_types(data: Any, path: str = "") -> list[str]:
    """Return the arrays of a dataclass that do not have the element type of their annotation."""
    found = []
    for name, hint in get_type_hints(type(data)).items():
        value = getattr(data, name)
        if is_dataclass(value):
            found += wrong_types(value, f"{path}{name}.")
        elif isinstance(value, np.ndarray):
            [wanted] = get_args(get_args(hint)[1])
            if value.dtype != np.dtype(wanted):
                found.append(f"{path}{name}: {value.dtype}, not {np.dtype(wanted)}")
    return found


@pytest.mark.parametrize("case", CASES[::5])
def test_columns_have_their_types(case: str, tmp_path: Path) -> None:
    """The columns of planned and finished chunks have the element types that they declare."""
    path = make_database(tmp_path / "org.db", (GOLDEN / f"{case}.sql").read_text())
    expected = golden(case)
    context = LocalContext(tmp_path / "scratch")
    spec = JobSpec(organization="org", as_of=expected["as_of"], config=expected["config"])
    run_job(spec, path, "", context)
    task = ChunkTask(str(context.scratch), "again", -(2**62), None, preview=True)
    plan_chunk(task)
    finish_chunk(task)
    planned = shared_arrays.load(task.planned_file, PlannedChunk)
    assert len(planned.existing.keys)
    assert wrong_types(planned) == []
    assert wrong_types(shared_arrays.load(task.finished_file, FinishedChunk)) == []
