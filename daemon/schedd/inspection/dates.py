"""Findings on unreadable dates of contacts, by pattern, with the formats that would read them."""

from __future__ import annotations

import datetime as dt
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from schedd.engine.calendar import iso
from schedd.engine.coercions import contact_date
from schedd.engine.configuration import DATE_FORMATS, EXCLUDE
from schedd.store.tables import quoted
from schedproto.checks import ERROR, WARNING, CheckFinding

from .context import Group, Inspection, finding, largest_first, plural
from .patterns import SAME_LAYOUT, date_hint, pattern_of, readings_of

#: Column -> how many years before and after the run's date its values are plausible.
_YEARS = {"birth_date": (130, 0), "effective_date": (100, 10)}
#: A format is decided on if this many times more values can only be read in it than only in another
#: one.
DOMINANCE = 20
_REWRITE = "write them as YYYY-MM-DD in the application."
AMBIGUOUS, MIXED = "ambiguous_date", "mixed_dates"
_KINDS = {"birth_date": "birthday", "effective_date": "effective-date"}


@dataclass
class _Layout:
    """Counts of a column's unreadable values that have the same layout.

    only: format -> values that can be read only in it.   reads: format -> values that can be read
    in it.
    """

    only: Counter[str] = field(default_factory=Counter)
    reads: Counter[str] = field(default_factory=Counter)

    def decision(self) -> str:
        """Return the format to use, or `AMBIGUOUS` or `MIXED`."""
        if len(self.reads) == 1:
            return next(iter(self.reads))
        if not self.only:
            return AMBIGUOUS
        (first, count), *others = self.only.most_common()
        return first if not others or count >= DOMINANCE * others[0][1] else MIXED


@dataclass
class ColumnDates:
    """The unreadable values of a column.

    values: (value, number of rows, lowest id, formats that read it).   decisions: layout -> format,
    `AMBIGUOUS` or `MIXED`.
    """

    column: str
    values: list[tuple[Any, int, int, frozenset[str]]]
    decisions: dict[str, str]

    def format_of(self, readings: frozenset[str]) -> str:
        """Return the format that reads a value, `AMBIGUOUS`, `MIXED`, or an empty text."""
        decided = {self.decisions[_layout_of(name)] for name in readings}
        return next(
            (name for name in sorted(decided) if name in readings or name in {AMBIGUOUS, MIXED}), ""
        )


@dataclass
class DateFormats:
    """The unreadable dates of all columns.

    suggested: the formats to configure; those that are configured already come first.
    """

    columns: list[ColumnDates]
    suggested: tuple[str, ...]


def _layout_of(name: str) -> str:
    return next((names[0] for names in SAME_LAYOUT if name in names), name)


def scan_dates(inspection: Inspection) -> DateFormats:
    """Find the unreadable dates of contacts and the formats that would read them."""
    columns = [
        _scan(inspection, name) for name in _YEARS if inspection.schema.has("contacts", name)
    ]
    configured = inspection.configuration.date_formats
    wanted: Counter[str] = Counter()
    for column in columns:
        for _, count, _, readings in column.values:
            name = column.format_of(readings)
            if name in DATE_FORMATS:
                wanted[name] += count
    for names in SAME_LAYOUT:
        # The decisions of the columns must not contradict each other or the configuration.
        decided = {column.decisions.get(names[0]) for column in columns}
        if len({*decided, *configured} & set(names)) > 1:
            for name in names:
                wanted.pop(name, None)
            for column in columns:
                if column.decisions.get(names[0]) in names:
                    column.decisions[names[0]] = MIXED
    added = [name for name, _ in wanted.most_common() if name not in configured]
    return DateFormats(columns, (*configured, *added))


def _scan(inspection: Inspection, column: str) -> ColumnDates:
    formats, name = inspection.configuration.date_formats, quoted(column)
    where = f"{name} IS NOT NULL"
    if "YYYY-MM-DD" in formats:
        # SQLite's date() gives back exactly what is a real day in this form; the calendar begins
        # with year 1.
        where += (
            f" AND ({name} COLLATE BINARY IS NOT date({name}) OR {name} COLLATE BINARY < '0001')"
        )
    year = dt.date.fromisoformat(iso(inspection.as_of)).year
    before, after = _YEARS[column]
    values, layouts = [], defaultdict[str, _Layout](_Layout)
    for value, count, row_id in inspection.distinct("contacts", [column], where):
        if contact_date(value, formats)[1]:
            continue
        readings = readings_of(value, year - before, year + after)
        values.append((value, count, row_id, readings))
        for layout in {_layout_of(reading) for reading in readings}:
            of_layout = {reading for reading in readings if _layout_of(reading) == layout}
            for reading in of_layout:
                layouts[layout].reads[reading] += count
                if readings == {reading}:
                    layouts[layout].only[reading] += count
    return ColumnDates(
        column, values, {layout: found.decision() for layout, found in layouts.items()}
    )


def date_findings(inspection: Inspection, found: DateFormats) -> Iterator[CheckFinding]:
    """Yield the unreadable dates of contacts by column and pattern."""
    settings = {"contacts": {"date_formats": list(found.suggested)}}
    for column in found.columns:
        outcomes: dict[str, dict[str, Group]] = defaultdict(lambda: defaultdict(Group))
        for value, count, row_id, readings in column.values:
            outcomes[column.format_of(readings)][pattern_of(value)].add(count, row_id, value)
        for outcome, groups in outcomes.items():
            for pattern, group in largest_first(groups).items():
                yield _finding(inspection, column.column, outcome, pattern, group, settings)


def _finding(
    inspection: Inspection,
    column: str,
    outcome: str,
    pattern: str,
    group: Group,
    settings: dict[str, Any],
) -> CheckFinding:
    many = f"{plural(group.count, 'value')} of contacts.{column} with the pattern {pattern}"
    fields: dict[str, Any] = {
        "table": "contacts",
        "column": column,
        "name": pattern,
        "count": group.count,
        "examples": group.examples,
    }
    if outcome == AMBIGUOUS:
        return finding(
            AMBIGUOUS,
            f"{many} can be read as month and day or as day and month, so they are not read.",
            **fields,
        )
    if outcome == MIXED:
        return finding(
            MIXED,
            f"{many} are not read: some dates of this form can only be month and day, others "
            "only day and month.",
            **fields,
        )
    lost = f"{many} cannot be read; these contacts get no {_KINDS[column]} e-mails"
    if inspection.configuration.unreadable_dates == EXCLUDE:
        lost += f", and in states with a {_KINDS[column]} window none at all"
    lost += "."
    if outcome in DATE_FORMATS:
        fix = f'Add "{outcome}" to contacts.date_formats.'
        return finding("unreadable_date", lost, fix=fix, settings=settings, **fields)
    fix = "Correct the values in the application."
    if outcome:
        fix = f"They look like {outcome}, which cannot be configured: {_REWRITE}"
    elif hint := date_hint(group.examples[0][1]):
        fix = f"They look like {hint}: {_REWRITE}"
    severity = WARNING if inspection.few(group.count) else ERROR
    return finding("unreadable_date", lost, fix=fix, severity=severity, **fields)
