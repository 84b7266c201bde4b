"""Rows of `email_schedules` whose contact id is not stored as a number (rules, section 0).

The rows of a chunk of contacts are selected by a range of numbers. A text such as `'12'` is in no
such range, and in a column of texts no range of numbers works. These rows are read once for a run,
sorted by their contact, and passed to the chunks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import apsw
import numpy as np
from numpy.typing import NDArray

from schedd.engine.coercions import integer_of
from schedd.engine.findings import Findings

from . import blocks
from .blocks import MisalignedError
from .contacts import Range
from .odd_values import OddValues
from .schema import PLAN, Schema

#: Affinities that store the text of a number as the number.
CONVERTING = ("INTEGER", "NUMERIC")


@dataclass
class OutsideRows:
    """The outside rows of one file, in the order of the contact ids.

    exact: whether the id is stored as SQLite would store the number.   nobody: row ids of rows
    whose contact id cannot be read.   converted: whether the column stores texts of numbers as
    numbers, so that a range of numbers finds them.
    """

    row_id: NDArray[np.int64]
    contact_id: NDArray[np.int64]
    exact: NDArray[np.bool_]
    nobody: NDArray[np.int64]
    converted: bool

    def of(self, chunk: Range) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
        """Return row ids, contact ids and exactness of the rows of a chunk."""
        first = np.searchsorted(self.contact_id, chunk.low)
        last = (
            len(self.contact_id)
            if chunk.high is None
            else np.searchsorted(self.contact_id, chunk.high)
        )
        return self.row_id[first:last], self.contact_id[first:last], self.exact[first:last]

    def before(self, first: int) -> NDArray[np.int64]:
        """Return the row ids of rows that are in no chunk. first: the lowest contact id."""
        return np.concatenate([self.nobody, self.row_id[: np.searchsorted(self.contact_id, first)]])


def _plain_condition(affinity: str) -> str | None:
    """Return the SQL of whether an outside id is in the form in which the column stores numbers.

    None if the column stores numbers as integers: then no outside id is in that form.
    """
    if affinity == "TEXT":
        return (
            "typeof(contact_id) = 'text' AND octet_length(contact_id) <= 14 "
            "AND contact_id GLOB '[1-9]*' AND contact_id NOT GLOB '*[^0-9]*'"
        )
    if affinity == "REAL":
        return (
            "typeof(contact_id) = 'real' AND contact_id BETWEEN 0 AND 1e14 "
            "AND contact_id = CAST(contact_id AS INTEGER)"
        )
    return None


def _outside_source(affinity: str, plain: str | None) -> str:
    """Return the SQL after FROM of the rows that `_plain_rows` does not read."""
    if affinity in CONVERTING:
        # Two searches of an index; as one condition they would be a scan of the table.
        return f"""(
            SELECT id, contact_id FROM {PLAN} WHERE contact_id >= ''
            UNION ALL
            SELECT id, contact_id FROM {PLAN} WHERE contact_id IS NULL
        )"""
    if plain is None:
        return f"{PLAN} WHERE typeof(contact_id) <> 'integer'"
    return f"{PLAN} WHERE NOT coalesce({plain}, 0)"


def read_outside_rows(
    connection: apsw.Connection, schema: Schema, findings: Findings
) -> OutsideRows:
    """Return the outside rows of a file; unreadable ids are added to `findings`."""
    none = np.zeros(0, np.int64)
    affinity = schema.affinity(PLAN, "contact_id")
    converted = affinity in CONVERTING
    if not schema.has(PLAN, "id", "contact_id"):
        return OutsideRows(none, none, none > 0, none, converted)

    plain = _plain_condition(affinity)
    source = _outside_source(affinity, plain)
    try:
        row_id, contact_id = (none, none) if plain is None else _plain_rows(connection, plain)
    except MisalignedError:  # row ids that no block holds
        row_id, contact_id, source = none, none, PLAN

    exact = np.ones(len(row_id), np.bool_)
    odd_rows, odd_contacts, odd_exact, nobody = [], [], [], []
    for row, value in OddValues(connection).rows(source, ["id", "contact_id"]):
        contact = integer_of(value)
        if contact is None:
            nobody.append(row)
            findings.add("unreadable_contact_id", PLAN, "contact_id", row, value)
        else:
            odd_rows.append(row)
            odd_contacts.append(contact)
            odd_exact.append(_is_exact(value, contact, affinity))
    row_id = np.concatenate([row_id, np.array(odd_rows, np.int64)])
    contact_id = np.concatenate([contact_id, np.array(odd_contacts, np.int64)])
    exact = np.concatenate([exact, np.array(odd_exact, np.bool_)])
    order = np.lexsort((row_id, contact_id))
    return OutsideRows(
        row_id[order], contact_id[order], exact[order], np.array(nobody, np.int64), converted
    )


def _is_exact(value: Any, contact: int, affinity: str) -> bool:
    """Return whether an id is stored as the column stores the number."""
    return (affinity == "TEXT" and value == str(contact)) or (
        affinity == "REAL" and isinstance(value, float)
    )


def _plain_rows(
    connection: apsw.Connection, condition: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return row and contact ids of the rows with a plain contact id (`_plain_condition`)."""
    contact = blocks.number("CAST(contact_id AS INTEGER)")
    [(count, ids, contacts)] = connection.execute(
        f"SELECT count(*), {blocks.number('id')}, {contact} FROM {PLAN} WHERE {condition}"
    )
    return blocks.numbers(ids, count), blocks.numbers(contacts, count)
