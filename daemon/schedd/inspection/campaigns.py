"""Findings on campaigns, their targets, and engagement."""

from __future__ import annotations

from collections.abc import Iterator

from schedd.engine.coercions import integer_of, is_blank
from schedd.engine.findings import Finding
from schedproto.checks import WARNING, CheckFinding

from .context import Group, Inspection, finding, plural
from .history import contact_ids
from .people import People

_TARGETS = "contact_campaigns"
#: Tables of engagement and the column of their dates.
_ENGAGEMENT = {"tracking_clicks": "clicked_at", "contact_events": "created_at"}


def campaign_findings(inspection: Inspection, people: People) -> Iterator[CheckFinding]:
    """Yield all findings of this module."""
    yield from _unplanned(inspection)
    yield from _without_contacts(inspection, people)
    yield from (
        _target(item)
        for item in people.findings
        if item.table == _TARGETS and item.code in _TARGET_TEXTS
    )
    if inspection.schema.has(_TARGETS, "contact_id", "campaign_instance_id"):
        yield from _unknown_campaigns(inspection)
        yield from contact_ids(inspection, _TARGETS)
    for table, column in _ENGAGEMENT.items():
        if inspection.schema.has(table, "contact_id", column):
            yield from _engagement(inspection, table, column)
            yield from contact_ids(inspection, table)


def _unplanned(inspection: Inspection) -> Iterator[CheckFinding]:
    """Yield campaigns that cannot be planned."""
    for item in inspection.run.findings:
        [(_, value)] = item.examples[:1]
        yield finding(
            "campaign_not_planned",
            f"Campaign {item.name.partition(' ')[0]}: the value {value!r} of "
            f"{item.table}.{item.column} cannot be read, so the campaign is not planned.",
            table=item.table,
            column=item.column,
            name=item.name,
            count=item.count,
            examples=item.examples,
        )


def _without_contacts(inspection: Inspection, people: People) -> Iterator[CheckFinding]:
    """Yield active campaigns that reach no eligible contact."""
    names = {instance.id: instance.type.name for instance in inspection.run.instances}
    for instance, contacts in people.reached.items():
        if not contacts:
            yield finding(
                "campaign_without_contacts",
                f"The active campaign {instance} ({names[instance]}) reaches no eligible contact "
                "on a day that is left.",
                table="campaign_instances",
                column="id",
                name=f"{instance}",
                count=1,
                examples=[(instance, names[instance])],
            )


_NO_EMAIL = "these contacts get no e-mail of the campaign"
_TARGET_TEXTS = {
    "unreadable_date": f"with a {{column}} that cannot be read; {_NO_EMAIL}",
    "missing_date": f"without a {{column}}; {_NO_EMAIL}",
    "unreadable_integer": "with a {column} that cannot be read as a whole number; they are ignored",
}


def _target(item: Finding) -> CheckFinding:
    text = _TARGET_TEXTS[item.code].format(column=item.column)
    return finding(
        item.code,
        f"{plural(item.count, 'row')} of {item.table} {text}.",
        fix="Write the dates as YYYY-MM-DD in the application."
        if item.code == "unreadable_date"
        else "",
        table=item.table,
        column=item.column,
        count=item.count,
        examples=item.examples,
    )


def _unknown_campaigns(inspection: Inspection) -> Iterator[CheckFinding]:
    known = set()
    if inspection.schema.has("campaign_instances", "id"):
        known = {
            integer_of(value) for (value,) in inspection.values.rows("campaign_instances", ["id"])
        }
    unknown = Group()
    for value, count, row_id in inspection.distinct(_TARGETS, ["campaign_instance_id"]):
        if integer_of(value) is not None and integer_of(value) not in known:
            unknown.add(count, row_id, value)
    if unknown.count:
        yield finding(
            "unknown_campaign",
            f"{plural(unknown.count, 'row')} of {_TARGETS} of campaign instances that do not "
            "exist; they are ignored.",
            table=_TARGETS,
            column="campaign_instance_id",
            count=unknown.count,
            examples=unknown.examples,
        )


def _engagement(inspection: Inspection, table: str, column: str) -> Iterator[CheckFinding]:
    unreadable = Group()
    # SQLite gives these two forms back unchanged; the dates module reads the others.
    plain = (f"{column} COLLATE BINARY IS NOT {form}({column})" for form in ("date", "datetime"))
    where = " AND ".join(plain)
    if table == "contact_events" and inspection.schema.has(table, "event_type"):
        where += " AND CAST(event_type AS TEXT) = 'eligibility_answered'"
    for value, count, row_id in inspection.distinct(table, [column], where):
        if not is_blank(value) and not inspection.run.dates.read(value)[1]:
            unreadable.add(count, row_id, value)
    if unreadable.count:
        yield finding(
            "unreadable_date",
            f"{plural(unreadable.count, 'row')} of {table} with a {column} that cannot be read; "
            "follow-ups do not take them into account.",
            fix="Write the dates as YYYY-MM-DD HH:MM:SS in the application.",
            severity=WARNING,
            table=table,
            column=column,
            count=unreadable.count,
            examples=unreadable.examples,
        )
