"""Warnings of a run: findings with a sentence for people (rules, section 0)."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from schedd.engine.findings import Finding, Findings
from schedproto import RunWarning

#: code -> the sentence, with the finding's fields; the order is that of the result, the most serious first.
MESSAGES: dict[str, str] = {
    "campaign_not_planned": (
        "Campaign {name}: the value of {table}.{column} cannot be read, so the campaign is not planned"
    ),
    "unreadable_contact_id": "{count:,} rows of {table} have a contact id that cannot be read; they belong to nobody",
    "unreadable_date": "{count:,} values of {table}.{column} cannot be read as a date",
    "missing_date": "{count:,} rows of {table} have no {column}; they are ignored",
    "future_date": "{count:,} values of {table}.{column} are after the date of the run and count as unreadable",
    "unreadable_boolean": "{count:,} values of {table}.{column} cannot be read as true or false; no e-mail in doubt",
    "unreadable_integer": "{count:,} values of {table}.{column} cannot be read as a whole number",
    "unknown_status": "{count:,} rows of {table} have the unknown status {name!r}; they count as sent",
    "unknown_type": "{count:,} rows of {table} have the e-mail type {name!r}, which no rule knows",
}


def to_warnings(findings: Iterable[Finding]) -> list[RunWarning]:
    """Return findings as they travel between processes, without sentences."""
    return [
        RunWarning(
            code=f.code,
            table=f.table,
            column=f.column,
            name=f.name,
            count=f.count,
            row_ids=[row_id for row_id, _ in f.examples],
            values=[value for _, value in f.examples],
        )
        for f in findings
    ]


def _finding(warning: RunWarning) -> Finding:
    examples = list(zip(warning.row_ids, warning.values, strict=True))
    return Finding(warning.code, warning.table, warning.column, warning.name, warning.count, examples)


def merged(parts: Iterable[RunWarning]) -> list[RunWarning]:
    """Return the warnings of all processes, each kind once, with their sentences, the most serious first.

    Warnings that have a sentence already are about what was written, and come first.
    """
    parts = list(parts)
    order = {code: index for index, code in enumerate(MESSAGES)}
    found = sorted(
        to_warnings(Findings(_finding(part) for part in parts if not part.message)),
        key=lambda w: (order[w.code], w.table, w.column, -w.count, w.name),
    )
    written = [part for part in parts if part.message]
    return written + [msgspec.structs.replace(warning, message=_message(warning)) for warning in found]


def _message(warning: RunWarning) -> str:
    shown = {name: getattr(warning, name) for name in ("name", "count", "table", "column")}
    return MESSAGES[warning.code].format(**shown) + "."
