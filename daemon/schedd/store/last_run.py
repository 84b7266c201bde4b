"""The contacts' state at the last completed run, for the guards (rules, section 13)."""

from __future__ import annotations

import apsw
import numpy as np
from numpy.typing import NDArray

from schedd.engine.coercions import integer_of
from schedd.engine.contacts import INVALID_BIRTH_DATE, INVALID_EFFECTIVE_DATE, ISSUES

from . import blocks
from .blocks import MisalignedError
from .odd_values import OddValues
from .schema import Schema

#: Reasons in `contact_issues` that leave a contact eligible.
_ELIGIBLE = ", ".join(
    f"'{ISSUES[number]}'" for number in (INVALID_BIRTH_DATE, INVALID_EFFECTIVE_DATE)
)


def has_completed_run(connection: apsw.Connection, schema: Schema) -> bool:
    """Return whether a run of the scheduler has completed in this file."""
    if not schema.has("scheduler_runs", "run_id", "status"):
        return False
    [(found,)] = connection.execute(
        "SELECT EXISTS(SELECT 1 FROM scheduler_runs WHERE status = 'completed')"
    )
    return bool(found)


def ineligible_contacts(
    connection: apsw.Connection, schema: Schema
) -> tuple[NDArray[np.int64], int | None] | None:
    """Return the ids of contacts that were not eligible, and the highest id with any issue.

    Both are of the last run. None if there is no table of issues.
    """
    if not schema.has("contact_issues", "contact_id", "reason"):
        return None
    ineligible = f"coalesce(reason, '') NOT IN ({_ELIGIBLE})"
    try:
        number = f"{blocks.NUMBER_BASE} + contact_id"
        [(count, block, highest)] = connection.execute(
            f"""
            SELECT
                count(*) FILTER (WHERE {ineligible}),
                CAST(group_concat({number}, '') FILTER (WHERE {ineligible}) AS BLOB),
                max(contact_id)
            FROM contact_issues
            """
        )
        return blocks.numbers(block, count), None if highest is None else int(highest)
    except (MisalignedError, ValueError):
        return _by_value(connection, ineligible)


def _by_value(connection: apsw.Connection, ineligible: str) -> tuple[NDArray[np.int64], int | None]:
    """Return the same for a table whose ids are not all ordinary numbers."""
    rows = OddValues(connection).rows("contact_issues", ["contact_id", ineligible])
    read = [(integer_of(value), chosen) for value, chosen in rows]
    known = [(contact, chosen) for contact, chosen in read if contact is not None]
    ids = np.array([contact for contact, chosen in known if chosen], np.int64)
    return ids, max((contact for contact, _ in known), default=None)
