"""Warnings of a run: findings with a sentence for people (rules, section 0)."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from schedd.engine.findings import Finding, Findings
from schedproto import RunWarning

#: code -> the sentence, with the finding's fields; the order is that of the result, the most
#: serious first.
MESSAGES: dict[str, str] = {
    "campaign_not_planned": "Campaign {name}: {table}.{column} cannot be read, "
    "so the campaign is not planned",
    "unreadable_contact_id": "{table}.{column}: {values} cannot be read as a contact id; "
    "the rows match no contact",
    "unreadable_date": "{table}.{column}: {values} cannot be read as a date",
    "missing_date": "{table}.{column}: {rows} without a date, which are ignored",
    "future_date": "{table}.{column}: {values} after the date of the run, taken as unreadable",
    "unreadable_boolean": "{table}.{column}: {values} cannot be read as true or false; "
    "in doubt there is no e-mail",
    "unreadable_integer": "{table}.{column}: {values} cannot be read as a whole number",
    "unknown_status": "{table}.{column}: {rows} with the unknown status {name!r}, taken as sent",
    "unknown_type": "{table}.{column}: {rows} with the e-mail type {name!r}, which no rule knows",
}


def to_warnings(findings: Iterable[Finding]) -> list[RunWarning]:
    """Return findings as messages between processes, without sentences."""
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
    return Finding(
        warning.code, warning.table, warning.column, warning.name, warning.count, examples
    )


def merged(parts: Iterable[RunWarning]) -> list[RunWarning]:
    """Return the warnings of all processes, each kind once, with their sentences.

    Warnings that already have a sentence are about what was written, and come first. The others
    follow in the order of `MESSAGES`.
    """
    parts = list(parts)
    order = {code: index for index, code in enumerate(MESSAGES)}
    found = sorted(
        to_warnings(Findings(_finding(part) for part in parts if not part.message)),
        key=lambda w: (order[w.code], w.table, w.column, -w.count, w.name),
    )
    written = [part for part in parts if part.message]
    return written + [
        msgspec.structs.replace(warning, message=_message(warning)) for warning in found
    ]


def _message(warning: RunWarning) -> str:
    ending = "" if warning.count == 1 else "s"
    return (
        MESSAGES[warning.code].format(
            table=warning.table,
            column=warning.column,
            name=warning.name,
            values=f"{warning.count:,} value{ending}",
            rows=f"{warning.count:,} row{ending}",
        )
        + "."
    )
