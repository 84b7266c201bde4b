"""Explanations of the plans of single contacts (`schedctl explain`).

Reads the contacts, has the engine trace their events, and returns the traces as messages.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from schedd.engine import contacts as engine_contacts
from schedd.engine.calendar import FIRST, LAST, iso
from schedd.engine.configuration import KINDS, BalanceLimits
from schedd.engine.contacts import ISSUES, Contacts, Reason
from schedd.engine.explain import BalanceNote, explain
from schedd.engine.rows import SKIP_REASONS
from schedd.engine.run import Run
from schedd.engine.states import STATES
from schedd.engine.trace import Trace
from schedd.engine.windows import Span
from schedd.engine.zips import UNKNOWN
from schedd.store.connection import open_reader
from schedd.store.contacts import Range
from schedd.store.outside_rows import OutsideRows
from schedproto import EventExplanation, Explanation
from schedproto.explanations import Step, Window

from .planning import key_conflicts
from .reading import ChunkReader


def explain_contacts(
    run: Run,
    database: Path,
    contacts: Sequence[int],
    notes: Sequence[BalanceNote],
    limits: BalanceLimits,
    outside: OutsideRows,
) -> list[Explanation]:
    """Return the explanations of these contacts. notes: what section 9 did to their rows."""
    connection = open_reader(database)
    try:
        connection.execute("BEGIN")
        reader = ChunkReader(run, connection, outside)
        return [_explain(run, reader, contact, notes, limits) for contact in contacts]
    finally:
        connection.close()


def _explain(
    run: Run, reader: ChunkReader, contact: int, notes: Sequence[BalanceNote], limits: BalanceLimits
) -> Explanation:
    read = reader.read(Range(contact, contact + 1))
    found = read.chunk.contacts
    if not len(found.ids):
        return Explanation(contact_id=contact, found=False)
    events: list[Trace] = []
    if len(read.chunk.people):
        _, conflicts = key_conflicts(run, read.existing, read.chunk.people.ids)
        own = [note for note in notes if note.contact_id == contact]
        events = explain(run, read.chunk, own, limits, conflicts)
    state = STATES[int(found.state[0])] if found.state[0] != UNKNOWN else None
    return Explanation(
        contact_id=contact,
        eligible=bool(len(read.chunk.people)),
        reason=ISSUES[int(found.reason[0])] or None if found.reason[0] != Reason.OK else None,
        issues=_issues(found),
        state=state,
        birth_date=_day(int(found.birth[0])),
        effective_date=_day(int(found.effective[0])),
        events=[_event(trace, state) for trace in events],
    )


def _issues(contacts: Contacts) -> list[str]:
    _, kinds = engine_contacts.issues(contacts)
    return [ISSUES[kind] for kind in np.atleast_1d(kinds).tolist()]


def _day(ordinal: int) -> str | None:
    return iso(ordinal) if FIRST <= ordinal <= LAST else None


def _event(trace: Trace, state: str | None) -> EventExplanation:
    status = None
    if trace.row:
        status = "skipped" if trace.reason else "pre-scheduled"
    return EventExplanation(
        email_type=trace.email_type,
        campaign_instance_id=trace.instance,
        event_date=_day(trace.event),
        ideal_date=_day(trace.ideal),
        latest_date=_day(trace.latest),
        caught_up_date=_day(trace.caught_up),
        smoothed_date=_day(trace.smoothed),
        capped_date=_day(trace.capped),
        send_date=_day(trace.date) if trace.row else None,
        status=status,
        skip_reason=SKIP_REASONS[trace.reason] or None if trace.row else None,
        windows=[_window(span, state) for span in trace.spans],
        steps=[
            Step(rule=step.rule, kind=step.kind, text=step.text, date=_day(step.date))
            for step in trace.steps
        ],
    )


def _window(span: Span, state: str | None) -> Window:
    def day(ordinal: int | None) -> str | None:
        return None if ordinal is None else _day(ordinal)

    return Window(
        kind=KINDS[span.kind - 1],
        state=state or "",
        start=day(span.start),
        end=day(span.end),
        base=day(span.base),
    )
