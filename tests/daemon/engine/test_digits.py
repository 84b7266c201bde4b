"""Numbers and blanks in blocks of text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedd.store.blocks import Block


@given(
    st.lists(st.text(alphabet="0123456789 /:x", min_size=18, max_size=18), max_size=20),
    st.integers(0, 17),
    st.data(),
)
def test_numbers_in_blocks(texts: list[str], start: int, data: st.DataObject) -> None:
    """Any part of the texts of a block is read as the number that it writes, or said to be none."""
    end = data.draw(st.integers(start + 1, 18))
    values, clean = Block("".join(texts).encode(), len(texts), 18).number(start, end)
    for text, value, good in zip(texts, values.tolist(), clean.tolist(), strict=True):
        part = text[start:end]
        assert good == part.isdigit()
        assert not good or value == int(part)
    blank = Block("".join(texts).encode(), len(texts), 18).blank()
    assert len(blank) == len(texts)


@pytest.mark.parametrize("width", [1, 5, 8, 10, 16])
def test_blank_texts(width: int) -> None:
    """Only texts of blanks alone are blank."""
    texts = [" " * width, "x" * width, " " * (width - 1) + "x", "x" + " " * (width - 1)]
    assert Block("".join(texts).encode(), 4, width).blank().tolist() == [True, False, False, False]
