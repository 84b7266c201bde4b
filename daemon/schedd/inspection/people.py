"""Findings on contacts, read as a run reads them: eligibility, addresses, ZIPs, birth dates."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import apsw
import numpy as np
from numpy.typing import NDArray

from schedd.engine import calendar
from schedd.engine.calendar import NONE
from schedd.engine.coercions import trimmed
from schedd.engine.contacts import Contacts, Reason
from schedd.engine.findings import Finding, Findings
from schedd.engine.rows import History
from schedd.engine.states import STATES
from schedd.store.campaigns import CampaignReader
from schedd.store.contacts import ContactReader, Range, chunk_starts
from schedproto.checks import CheckFinding

from .addresses import Addresses
from .context import Group, Inspection, counts_of, finding, largest_first, plural
from .patterns import email_fault, pattern_of, zip_form

#: Number of contacts that are read at once.
CHUNK_CONTACTS = 32_768
#: A larger share of all birthdays on one day of the year is not chance (an even share is 0.27 %).
_YEARLY_SHARE = 0.02
#: Earlier birth dates are improbable.
_FIRST_DAY = dt.date(1900, 1, 1)


@dataclass
class People:
    """All contacts.

    ids: reason -> ids of contacts that are not eligible for it, one array a chunk.
    states: state -> number of eligible contacts.   births, born: birth dates (ordinals) of contacts
    that have a readable one, and the ids of these contacts.   reached: campaign instance -> number
    of eligible contacts that it would write to.   findings: values that could not be read.
    """

    total: int = 0
    eligible: int = 0
    ids: dict[Reason, list[NDArray[np.int64]]] = field(default_factory=lambda: defaultdict(list))
    states: dict[str, int] = field(default_factory=dict)
    births: list[NDArray[np.int32]] = field(default_factory=list)
    born: list[NDArray[np.int64]] = field(default_factory=list)
    reached: dict[int, int] = field(default_factory=dict)
    findings: Findings = field(default_factory=Findings)
    addresses: Addresses = field(default_factory=Addresses)

    def of(self, reason: Reason) -> NDArray[np.int64]:
        """Return the ids of the contacts that are not eligible for a reason."""
        parts = self.ids.get(reason, [])
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def read_people(inspection: Inspection, date_formats: tuple[str, ...]) -> People:
    """Read all contacts; blocks.

    date_formats: the configured ones and those that a suggestion adds. With the latter, columns in
    another format are read as fast as those in a configured one. `dates` counts unreadable dates.
    """
    run, people = inspection.run, People()
    configuration = replace(inspection.configuration, date_formats=date_formats)
    carriers = any(instance.carriers is not None for instance in run.instances)
    reader = ContactReader(
        inspection.connection, inspection.schema, configuration, carriers=carriers
    )
    targets = CampaignReader(inspection.connection, inspection.schema, run, inspection.as_of)
    states = np.zeros(len(STATES), np.int64)
    reached = np.zeros(len(run.instances), np.int64)
    order = "" if inspection.schema.ordered_contacts else " ORDER BY id"
    starts = chunk_starts(inspection.connection, CHUNK_CONTACTS)
    for low, high in zip(starts, [*starts[1:], None], strict=True):
        chunk = Range(low, high)
        contacts = reader.read(chunk)
        _add(people, contacts)
        people.addresses.add(inspection.connection, chunk, contacts, order)
        eligible = run.people(contacts)
        people.eligible += len(eligible)
        states += np.bincount(eligible.state, minlength=len(STATES))
        if run.instances:
            found = targets.targets(chunk, eligible.ids, first=low == starts[0])
            rows = run.campaigns.plan(
                eligible, contacts.carriers, found, _nothing_sent(), run.folded_types
            )
            reached += np.bincount(rows.row_class, minlength=len(run.classes))[-len(reached) :]
    people.states = {
        STATES[state]: int(states[state])
        for state in np.argsort(-states, kind="stable")
        if states[state]
    }
    people.reached = dict(zip((i.id for i in run.instances), reached.tolist(), strict=True))
    people.findings.extend(reader.findings)
    people.findings.extend(targets.findings)
    return people


def _add(people: People, contacts: Contacts) -> None:
    people.total += len(contacts.ids)
    for number in np.unique(contacts.reason).tolist():
        if number != Reason.OK:
            people.ids[Reason(number)].append(contacts.ids[contacts.reason == number])
    known = contacts.birth != NONE
    people.births.append(contacts.birth[known])
    people.born.append(contacts.ids[known])


def _nothing_sent() -> History:
    numbers = np.zeros(0, np.int32)
    return History(numbers, numbers, numbers, numbers, np.zeros(0, np.int64), numbers > 0)


# Addresses and ZIPs -------------------------------------------------------------------------------


def address_findings(inspection: Inspection, people: People) -> Iterator[CheckFinding]:
    """Yield the findings on e-mail addresses and ZIPs."""
    if not people.eligible:
        yield finding(
            "nobody_eligible",
            f"None of {plural(people.total, 'contact')} is eligible, so a run plans nothing.",
            table="contacts",
            count=people.total,
        )
    yield from _missing(people, Reason.MISSING_EMAIL, "missing_email", "email", "no e-mail address")
    invalid = _grouped(inspection, people.of(Reason.INVALID_EMAIL), "email", email_fault)
    for fault, group in invalid.items():
        yield finding(
            "invalid_email",
            f"{plural(group.count, 'e-mail address', 'e-mail addresses')} with this fault: "
            f"{fault}; these contacts are not eligible.",
            table="contacts",
            column="email",
            name=fault,
            count=group.count,
            examples=group.examples,
        )
    yield from _missing(people, Reason.MISSING_ZIP, "missing_zip", "zip_code", "no ZIP")
    unknown = _grouped(inspection, people.of(Reason.UNKNOWN_ZIP), "zip_code", pattern_of)
    for form, group in unknown.items():
        yield finding(
            "unknown_zip",
            f"{plural(group.count, 'ZIP')} with the pattern {form}, which cannot be read or is "
            "not in the ZIP table; these contacts are not eligible.",
            table="contacts",
            column="zip_code",
            name=form,
            count=group.count,
            examples=group.examples,
        )
    yield from _zip_forms(inspection)
    yield from people.addresses.findings(inspection)


def _missing(
    people: People, reason: Reason, code: str, column: str, what: str
) -> Iterator[CheckFinding]:
    ids = people.of(reason)
    if len(ids):
        yield finding(
            code,
            f"{plural(len(ids), 'contact')} with {what}; they are not eligible.",
            table="contacts",
            column=column,
            count=len(ids),
            examples=[(row_id, None) for row_id in ids[:5].tolist()],
        )


def _grouped(
    inspection: Inspection, ids: NDArray[np.int64], column: str, form: Any
) -> dict[str, Group]:
    """Return contacts by the form of their value in a column."""
    groups: dict[str, Group] = defaultdict(Group)
    if len(ids):
        source = "carray(?) AS wanted CROSS JOIN contacts ON id = wanted.value"
        bindings = (apsw.carray(np.ascontiguousarray(ids)),)
        for row_id, value in inspection.values.rows(source, ["id", column], bindings):
            group = groups[form(value)]
            group.count += 1
            if len(group.examples) < 5:
                group.examples.append((row_id, value))
    return largest_first(groups)


def _zip_forms(inspection: Inspection) -> Iterator[CheckFinding]:
    digits = "zip_code GLOB '[0-9][0-9][0-9][0-9][0-9]'"
    where = f"zip_code IS NOT NULL AND NOT (typeof(zip_code) = 'text' AND {digits})"
    groups: dict[str, Group] = defaultdict(Group)
    for value, count, row_id in inspection.distinct("contacts", ["zip_code"], where):
        if trimmed(value):
            form, known = zip_form(value)
            if known:
                groups[form].add(count, row_id, value)
    groups = largest_first(groups)
    if groups:
        count = sum(group.count for group in groups.values())
        yield finding(
            "zip_forms",
            f"{plural(count, 'ZIP')} are not written as five digits, but read: "
            + ", ".join(f"{group.count:,} as {form}" for form, group in groups.items())
            + ".",
            table="contacts",
            column="zip_code",
            count=count,
            counts=counts_of(groups),
            examples=[group.examples[0] for group in groups.values()],
        )


# Birth dates --------------------------------------------------------------------------------------


def birth_findings(inspection: Inspection, people: People) -> Iterator[CheckFinding]:
    """Yield birth dates that are readable but probably wrong."""
    births = np.concatenate(people.births) if people.births else np.zeros(0, np.int32)
    born = np.concatenate(people.born) if people.born else np.zeros(0, np.int64)
    placeholder = np.zeros(len(births), np.bool_)
    days, counts = np.unique(births, return_counts=True)
    for day, count in zip(days[counts > 20].tolist(), counts[counts > 20].tolist(), strict=True):
        if count > max(20, len(births) // 100):
            placeholder |= births == day
            yield finding(
                "placeholder_birth_date",
                f"{count:,} of {len(births):,} contacts have the birth date {calendar.iso(day)}.",
                table="contacts",
                column="birth_date",
                name=calendar.iso(day),
                count=count,
                examples=[
                    (row_id, calendar.iso(day)) for row_id in born[births == day][:5].tolist()
                ],
            )
    future = births > inspection.as_of
    early = (births < calendar.ordinal(_FIRST_DAY)) & ~placeholder
    first = (calendar.yearday_in(births, calendar.year_of(births)) == 0) & ~placeholder & ~early
    kinds = [
        ("future_birth_date", future, "after the date of the run; they count as unreadable"),
        ("improbable_birth_date", early, f"before {_FIRST_DAY.year}"),
    ]
    if first.sum() > max(20, len(births) * _YEARLY_SHARE):
        kinds.append(("placeholder_birthday", first, "on a 1 January, far more than on other days"))
    for code, chosen, what in kinds:
        rows = np.flatnonzero(chosen)
        if len(rows):
            yield finding(
                code,
                f"{plural(len(rows), 'birth date')} of contacts "
                f"{'is' if len(rows) == 1 else 'are'} {what}.",
                table="contacts",
                column="birth_date",
                count=len(rows),
                examples=[(int(born[row]), calendar.iso(int(births[row]))) for row in rows[:5]],
            )


def boolean_findings(found: Iterable[Finding]) -> Iterator[CheckFinding]:
    """Yield the booleans of contacts that could not be read."""
    for item in found:
        if item.code == "unreadable_boolean":
            yield finding(
                item.code,
                f"{plural(item.count, 'value')} of {item.table}.{item.column} cannot be read as "
                "true or false; in doubt these contacts get no e-mails.",
                table=item.table,
                column=item.column,
                count=item.count,
                examples=item.examples,
            )
