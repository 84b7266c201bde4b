"""The difference between existing and planned rows."""

from __future__ import annotations

from random import Random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from schedd.engine.difference import difference
from schedd.engine.packing import pack_keys


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3), st.integers(-3, 3)), unique=True),
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3), st.integers(-3, 3)), unique=True),
    st.randoms(),
)
def test_difference(
    planned: list[tuple[int, int, int]], present: list[tuple[int, int, int]], random: Random
) -> None:
    """Inserts, updates and deletes turn the existing rows into the planned ones."""
    planned.sort()

    def keys(rows: list[tuple[int, int, int]]) -> np.ndarray:
        return pack_keys(*(np.array([row[i] for row in rows], np.int64) for i in range(3)))

    want = {key: random.randrange(2) for key in planned}
    have = {key: random.randrange(2) for key in present}
    change = difference(
        keys(planned),
        np.array([want[k] for k in planned], np.int64),
        keys(present),
        np.array([have[k] for k in present]),
    )
    after = dict(have)
    for index in change.delete.tolist():
        del after[present[index]]
    for new, old in zip(change.update.tolist(), change.updated.tolist(), strict=True):
        assert planned[new] == present[old]
        after[present[old]] = want[planned[new]]
    for index in change.insert.tolist():
        assert planned[index] not in have
        after[planned[index]] = want[planned[index]]
    assert after == want
    assert change.unchanged == sum(1 for key in want if have.get(key) == want[key])
