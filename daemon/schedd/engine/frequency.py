"""One contact, one day; the frequency limit; one row a key (rules, section 10).

Nearly all contacts have few e-mails, far apart: numpy recognizes them for complete columns. The
others are evaluated row by row in their order, but all contacts at the same time.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .calendar import NONE
from .configuration import Configuration
from .packing import pack_keys
from .rows import FREQUENCY, NOT_SKIPPED, SAME_DAY, History, RowClasses, Rows


def limit_frequency(
    configuration: Configuration, classes: RowClasses, rows: Rows, history: History
) -> None:
    """Skip the pre-scheduled rows that section 10 does not accept, in place (`reason`)."""
    planned = np.flatnonzero(rows.reason == NOT_SKIPPED)
    past = np.flatnonzero(~history.followup & (history.date != NONE))
    risky = _risky(configuration, rows, planned, history, past)
    if not len(risky):
        return
    # A contact may have rows in one of the two alone, and either may be empty.
    marked = np.zeros(
        1
        + max(int(column.max(initial=0)) for column in (rows.contact_index, history.contact_index)),
        np.bool_,
    )
    marked[risky] = True
    planned = planned[marked[rows.contact_index[planned]]]
    past = past[marked[history.contact_index[past]]]
    order = np.lexsort(
        (
            classes.type_number[rows.row_class[planned]],
            classes.instance[rows.row_class[planned]],
            rows.date[planned],
            classes.priority_rank[rows.row_class[planned]],
            rows.contact_index[planned],
        )
    )
    planned = planned[order]
    past = past[np.argsort(history.contact_index[past], kind="stable")]
    _evaluate(configuration, rows, planned, history, past)


def _risky(
    configuration: Configuration,
    rows: Rows,
    planned: NDArray[Any],
    history: History,
    past: NDArray[Any],
) -> NDArray[np.int32]:
    """Return the contacts for whom a same day or a full period is possible at all."""
    contact_index = np.concatenate([rows.contact_index[planned], history.contact_index[past]])
    date = np.concatenate([rows.date[planned], history.date[past]])
    # The date is shifted to be never negative, so that it stays apart from the contact's bits.
    key = np.sort((contact_index.astype(np.int64) << 32) + date.astype(np.int64) + (1 << 31))
    contact_index, date = (key >> 32).astype(np.int32), key & 0xFFFFFFFF
    same_day = key[1:] == key[:-1]
    found = [contact_index[1:][same_day]]
    # A row that is limited has `most` others less than a period away, so all of them lie within two
    # periods.
    most = configuration.max_emails_per_period
    if len(contact_index) > most:
        near = (contact_index[most:] == contact_index[:-most]) & (
            date[most:] - date[:-most] <= 2 * (configuration.period_days - 1)
        )
        found.append(contact_index[most:][near])
    return np.unique(np.concatenate(found))


def _evaluate(
    configuration: Configuration,
    rows: Rows,
    planned: NDArray[Any],
    history: History,
    past: NDArray[Any],
) -> None:
    """Evaluate the planned rows, the n-th of every contact in round n.

    planned: rows grouped by contact, in the order of section 10.   past: history, by contact.
    """
    contacts, start, count = np.unique(
        rows.contact_index[planned], return_index=True, return_counts=True
    )
    past_contact = history.contact_index[past]
    past_start = np.searchsorted(past_contact, contacts)
    past_count = np.searchsorted(past_contact, contacts, side="right") - past_start
    # Contacts of similar size together, so that a few with very many rows do not widen everybody's
    # table.
    width = count + past_count
    for low, high in zip((0, 8, 32, 128, 512), (8, 32, 128, 512, 1 << 40), strict=True):
        group = np.flatnonzero((width > low) & (width <= high))
        if not len(group):
            continue
        table = np.full((len(group), int(width[group].max())), NONE, np.int64)
        for column in range(int(past_count[group].max())):
            has = past_count[group] > column
            table[has, column] = history.date[past[past_start[group[has]] + column]]
        for turn in range(int(count[group].max())):
            alive = np.flatnonzero(count[group] > turn)
            _round(
                configuration,
                rows,
                planned[start[group[alive]] + turn],
                table,
                alive,
                past_count[group[alive]] + turn,
            )


def _round(
    configuration: Configuration,
    rows: Rows,
    evaluated: NDArray[Any],
    table: NDArray[np.int64],
    lines: NDArray[Any],
    column: NDArray[Any],
) -> None:
    """Evaluate one row of each contact against the dates that were accepted so far.

    table: those dates, a line for each contact, filled up with `NONE`.   lines: the line of each
    evaluated row's contact.   column: where an accepted date goes.
    """
    date = rows.date[evaluated].astype(np.int64)
    accepted = table[lines]
    distance = np.abs(accepted - date[:, None])
    same_day = (distance == 0).any(axis=1)
    near = (distance < configuration.period_days) & (accepted != NONE)
    full = near.sum(axis=1) >= configuration.max_emails_per_period
    rows.reason[evaluated] = np.where(same_day, SAME_DAY, np.where(full, FREQUENCY, NOT_SKIPPED))
    good = ~same_day & ~full
    table[lines[good], column[good]] = date[good]


def key_order(classes: RowClasses, rows: Rows) -> NDArray[np.intp]:
    """Return the order of (contact, type, date); among equal keys, the row that stays comes first.

    The accepted row of a key stays, else the one with the lowest (priority, campaign instance).
    """
    keys = pack_keys(rows.contact_index, classes.type_number[rows.row_class], rows.date)
    # The rows of each class are in the order of the contacts, so this merges some sorted runs.
    order: NDArray[np.intp] = np.argsort(keys, kind="stable")
    ordered = keys[order]
    equal = np.flatnonzero(ordered[1:] == ordered[:-1])
    if len(equal):
        tied_at = np.union1d(equal, equal + 1)
        tied = order[tied_at]
        row_class = rows.row_class[tied]
        tied_order = np.lexsort(
            (
                classes.instance[row_class],
                classes.priority_rank[row_class],
                rows.reason[tied] != NOT_SKIPPED,
                keys[tied],
            )
        )
        order[tied_at] = tied[tied_order]
    return order


def one_a_key(classes: RowClasses, rows: Rows) -> NDArray[np.intp]:
    """Return the rows that stay, in the order of (contact, type, date), one of each."""
    order = key_order(classes, rows)
    keys = pack_keys(
        rows.contact_index[order], classes.type_number[rows.row_class[order]], rows.date[order]
    )
    chosen: NDArray[np.intp] = order[np.concatenate([[True], keys[1:] != keys[:-1]])[: len(order)]]
    return chosen


def drop_duplicates(classes: RowClasses, rows: Rows) -> tuple[Rows, int]:
    """Return the rows in key order with one row a key, and how many were left out."""
    chosen = one_a_key(classes, rows)
    return rows.take(chosen), len(rows) - len(chosen)
