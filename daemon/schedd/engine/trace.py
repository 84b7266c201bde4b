"""The steps of one contact's events through sections 1 to 8, to a row or to none.

Uses the functions that plan complete chunks, on a chunk of one contact, and notes where an event is
dropped or changes. `explain` continues with sections 9 to 11.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from . import calendar
from .anniversary import POST_WINDOW_SLACK, Event, EventOutcome
from .calendar import NONE, iso
from .configuration import KINDS
from .contacts import People
from .rows import (
    AEP,
    BIRTHDAY,
    CAMPAIGN_PREFIX,
    EFFECTIVE_DATE,
    FIXED_TYPES,
    FOLLOWUP_TYPES,
    POST_WINDOW,
    exclusion_reason,
)
from .run import ChunkInput, Run
from .states import STATES
from .windows import MISSING, UNREADABLE, Span

_NO_BIRTH, _NO_EFFECTIVE = "the contact has no birth date", "the contact has no effective date"
_NAMES = {AEP: "AEP day", BIRTHDAY: "birthday", EFFECTIVE_DATE: "anniversary of the effective date"}


@dataclass
class TraceStep:
    """One step of an event.

    rule: section of the rules; date: the e-mail's date afterwards, `NONE` if there is none.
    """

    rule: str
    kind: str
    text: str
    date: int = int(NONE)


@dataclass
class Trace:
    """One event of the contact, and the steps that it passes. Dates are ordinals or `NONE`.

    row_class: class of its row.   row: whether the plan has a row for it so far.   reason: number
    in `SKIP_REASONS`.
    """

    email_type: str
    row_class: int = -1
    instance: int | None = None
    event: int = int(NONE)
    ideal: int = int(NONE)
    latest: int = int(NONE)
    caught_up: int = int(NONE)
    smoothed: int = int(NONE)
    capped: int = int(NONE)
    date: int = int(NONE)
    row: bool = False
    reason: int = 0
    steps: list[TraceStep] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)

    def add(self, rule: str, kind: str, text: str, date: int = int(NONE)) -> None:
        """Add a step."""
        self.steps.append(TraceStep(rule, kind, text, date))


_CLOSED = {UNREADABLE: "cannot be read", MISSING: "is missing"}


def span_text(span: Span, state: str) -> str:
    """Return a window in words."""
    kind = KINDS[span.kind - 1].replace("_", " ")
    days = "" if span.start is None else f" from {iso(span.start)}"
    days += "" if span.end is None else f" until {iso(span.end)}"
    if span.kind in _CLOSED:
        cause = f"a date that the rules of {state} count from {_CLOSED[span.kind]}"
        return f"{cause}, so every day{days} is excluded ({kind})"
    if span.start is None or span.end is None or span.base is None:
        return f"{state} allows no e-mails at all{days} (year-round)"
    return (
        f"the {kind} of {state} from {iso(span.start)} to {iso(span.end)} "
        f"(counted from {iso(span.base)})"
    )


def exclude(trace: Trace, run: Run, people: People, date: int) -> None:
    """Note that a date is excluded, by which windows, and make the row a skipped one."""
    state = STATES[int(people.state[0])]
    trace.spans = run.windows.containing(people, 0, date)
    kind = min(span.kind for span in trace.spans)
    trace.reason = int(exclusion_reason(people.state[:1], np.array([kind], np.int8))[0])
    texts = "; ".join(span_text(span, state) for span in trace.spans)
    trace.add("3", "excluded", f"{iso(date)} is excluded: {texts}", date)


def _dispatched(run: Run, chunk: ChunkInput, row_class: int, event: Event) -> str:
    """Return the days of the dispatched rows that handle the one event of the one contact."""
    number = int(run.folded_types[row_class])
    days = []
    for index in np.flatnonzero(chunk.history.type_number == number).tolist():
        row = chunk.history.take(np.array([index]))
        if not len(
            run.anniversaries.unhandled(row_class, event, chunk.people, row, number).contact_index
        ):
            day, own = int(row.date[0]), int(row.own_date[0])
            days.append(
                iso(day)
                if day != NONE
                else f"event {iso(own)}"
                if own != NONE
                else "a day that cannot be read"
            )
    return ", ".join(sorted(days))


def _missing(run: Run, row_class: int, people: People) -> tuple[str, str]:
    """Return (rule, text): why no event of a type has an e-mail that could still go out."""
    if not run.anniversaries.eligible_for_all(people)[0] and row_class != AEP:
        return (
            "5",
            (
                "the contact failed underwriting, "
                "and exclude_failed_underwriting leaves only AEP e-mails"
            ),
        )
    if row_class == BIRTHDAY and people.birth_day[0] < 0:
        return "1", "the contact has a birth date that cannot be read" if people.unreadable_birth[
            0
        ] else _NO_BIRTH
    if row_class == EFFECTIVE_DATE:
        if people.effective_day[0] < 0:
            return "1", _NO_EFFECTIVE if not people.unreadable_effective[0] else (
                "the contact has an effective date that cannot be read"
            )
        count = int(run.anniversaries.next_year[people.effective_day[0]]) - int(
            people.effective_year[0]
        )
        first = run.configuration.effective_date_first_anniversary
        if count < first:
            return (
                "5",
                (
                    f"the next anniversary is number {count}, "
                    f"before number {first} (first_anniversary)"
                ),
            )
    return "5", "the last day on which the e-mail of the next event may go out has passed"


def _before(run: Run, row_class: int) -> int:
    settings = run.configuration
    return {
        BIRTHDAY: settings.birthday_days_before,
        EFFECTIVE_DATE: settings.effective_date_days_before,
    }.get(row_class, 0)


def _set_dates(trace: Trace, run: Run, event: Event, before: int, what: str) -> None:
    """Fill in event, ideal and candidate date."""
    trace.event, trace.latest, trace.date = (
        int(event.event[0]),
        int(event.latest[0]),
        int(event.date[0]),
    )
    trace.ideal = trace.event - before
    trace.add(
        "5",
        "event",
        f"the next {what} is {iso(trace.event)}; the e-mail may go out until {iso(trace.latest)}",
    )
    trace.add(
        "5", "ideal", f"its ideal date is {iso(trace.ideal)}, {before} days before", trace.ideal
    )
    _catch_up(trace, run)


def _catch_up(trace: Trace, run: Run) -> None:
    if trace.ideal < run.as_of:
        trace.caught_up = trace.date
        spread = run.configuration.catch_up_spread_days
        text = (
            f"that is before {iso(run.as_of)}, "
            f"so it is caught up on {iso(trace.date)} (spread over {spread} days)"
        )
        trace.add("5", "caught_up", text, trace.date)


def anniversary_traces(
    run: Run, chunk: ChunkInput, outcomes: dict[int, EventOutcome]
) -> Iterator[Trace]:
    """Yield the next birthday, effective date and AEP events (sections 4 and 5)."""
    people = chunk.people
    for row_class in (BIRTHDAY, EFFECTIVE_DATE, AEP):
        trace = Trace(FIXED_TYPES[row_class], row_class)
        upcoming, _ = run.anniversaries.events(row_class, people)
        following = outcomes[row_class].following
        if not len(upcoming.contact_index):
            rule, text = _missing(run, row_class, people)
            trace.add(rule, "none", text)
        elif not len(following.contact_index):
            _set_dates(trace, run, upcoming, _before(run, row_class), _NAMES[row_class])
            sent = _dispatched(run, chunk, row_class, upcoming)
            trace.add(
                "4",
                "handled",
                f"the sender has an e-mail of this type for this event already ({sent})",
            )
        else:
            _set_dates(trace, run, following, _before(run, row_class), _NAMES[row_class])
            trace.row = True
            if outcomes[row_class].kinds[0]:
                exclude(trace, run, people, trace.date)
        yield trace


def post_window_traces(
    run: Run, chunk: ChunkInput, outcomes: dict[int, EventOutcome]
) -> Iterator[Trace]:
    """Yield the post-window e-mails of excluded events, one for each day (section 6)."""
    people, found = chunk.people, dict[int, Trace]()
    state = STATES[int(people.state[0])]
    for row_class in (AEP, BIRTHDAY, EFFECTIVE_DATE):
        for event in outcomes[row_class].excluded_events:
            if not len(event.contact_index):
                continue
            event_day, day = int(event.event[0]), int(event.date[0])
            spans = run.windows.containing(people, 0, day)
            windows = "; ".join(span_text(span, state) for span in spans)
            lost = (
                f"the {FIXED_TYPES[row_class]} e-mail for {iso(event_day)} fell on {iso(day)}, "
                f"in {windows}"
            )
            after = run.anniversaries.days_after(people, event)
            if not len(after.contact_index):
                trace = Trace(FIXED_TYPES[POST_WINDOW], POST_WINDOW)
                trace.add("6", "none", f"{lost}; its windows follow each other without end")
                yield trace
                continue
            day = int(after.event[0])
            known = found.get(day)
            if known is not None:
                known.add("6", "post_window", f"{lost}; the day after is the same")
                continue
            trace = found[day] = Trace(FIXED_TYPES[POST_WINDOW], POST_WINDOW, event=day)
            trace.add(
                "6", "post_window", f"{lost}; the day after the window's end is {iso(day)}", day
            )
            _evaluate_post_window(trace, run, chunk, after, day)
    yield from found.values()


def _evaluate_post_window(
    trace: Trace, run: Run, chunk: ChunkInput, after: Event, day: int
) -> None:
    number = int(run.folded_types[POST_WINDOW])
    trace.ideal, trace.latest = day, day + POST_WINDOW_SLACK
    found = run.anniversaries.post_window_events(chunk.people, chunk.history, after, number)
    if trace.latest < run.as_of:
        trace.add(
            "6", "none", f"the last day on which it may go out, {iso(trace.latest)}, has passed"
        )
    elif not len(found.contact_index):
        sent = _dispatched(run, chunk, POST_WINDOW, after)
        trace.add("4", "handled", f"the sender has a post-window e-mail already ({sent})")
    else:
        trace.date, trace.row = int(found.date[0]), True
        _catch_up(trace, run)
        if run.windows.excluded(chunk.people, found.contact_index, found.date)[0]:
            exclude(trace, run, chunk.people, trace.date)


def campaign_traces(run: Run, chunk: ChunkInput) -> Iterator[Trace]:
    """Yield each candidate of the active campaign instances, or why there is none (section 7)."""
    people, campaigns = chunk.people, run.campaigns
    contact_index, instances, triggers = campaigns.audience(
        people, chunk.contacts.carriers, chunk.targets
    )
    everybody = np.zeros(1, np.int32)
    for number, instance in enumerate(run.instances):
        candidates = np.flatnonzero(instances == number)
        first = Trace(CAMPAIGN_PREFIX + instance.type.name, len(FIXED_TYPES) + number, instance.id)
        if not len(candidates):
            first.add("7", "none", _no_candidate(run, chunk, number, everybody))
            yield first
        for index in candidates.tolist():
            chosen = slice(index, index + 1)
            yield _campaign_trace(
                run, chunk, number, contact_index[chosen], instances[chosen], triggers[chosen]
            )


def _campaign_trace(
    run: Run,
    chunk: ChunkInput,
    number: int,
    contact_index: NDArray[np.int32],
    instance_index: NDArray[np.int32],
    trigger: NDArray[np.int64],
) -> Trace:
    """Return one candidate of instance `number`; the arrays have its one element."""
    people, campaigns, instance = chunk.people, run.campaigns, run.instances[number]
    trace = Trace(CAMPAIGN_PREFIX + instance.type.name, len(FIXED_TYPES) + number, instance.id)
    event, latest = campaigns.bounds(instance_index, trigger)
    ideal = campaigns.ideal(people, contact_index, instance_index, event)
    _campaign_dates(trace, int(event[0]), int(ideal[0]), int(latest[0]))

    rows = campaigns.dates(people, contact_index, instance_index, trigger)
    if campaigns.handled(contact_index, instance_index, chunk.history, run.folded_types)[0]:
        trace.add("4", "handled", "the sender has an e-mail of this campaign instance already")
    elif not len(rows):
        trace.add("7", "none", "there is no day left on which it may go out")
    else:
        trace.row, trace.date = True, int(rows.date[0])
        _catch_up(trace, run)
        if rows.reason[0]:
            exclude(trace, run, people, trace.date)
        elif not instance.type.respects_windows:
            text = "this campaign does not respect exclusion windows"
            trace.add("7", "windows_ignored", text, trace.date)
    return trace


def _campaign_dates(trace: Trace, event: int, ideal: int, latest: int) -> None:
    def shown(day: int) -> str:
        return iso(day) if calendar.FIRST <= day <= calendar.LAST else "no day of the calendar"

    trace.event, trace.ideal, trace.latest = event, ideal, latest
    trace.add(
        "7", "event", f"its event is {shown(event)}; the e-mail may go out until {shown(latest)}"
    )
    trace.add("7", "ideal", f"its ideal date is {shown(ideal)}", ideal)


def _no_candidate(
    run: Run,
    chunk: ChunkInput,
    number: int,
    contact_index: NDArray[np.int32],
) -> str:
    instance, targets = run.instances[number], chunk.targets
    rows = np.flatnonzero(targets.instance == number)
    if not run.campaigns.narrowed(chunk.people, chunk.contacts.carriers, instance, contact_index)[
        0
    ]:
        return "the contact is left out by target_states, target_carriers or failed underwriting"
    if not len(rows):
        return "the contact is not a target of this instance, and it does not target all contacts"
    if not instance.type.target_all and not targets.waiting[rows].any():
        return "the contact's target row is neither pending nor scheduled"
    return "the target row has no trigger date that can be read"


def followup_traces(run: Run, chunk: ChunkInput) -> Iterator[Trace]:
    """Yield the follow-up of the contact's latest e-mail, if one was sent lately (section 8)."""
    parents, settings = chunk.parents, run.configuration
    recent = (parents.sent != NONE) & (parents.sent <= run.as_of)
    recent &= parents.sent >= run.as_of - settings.lookback_days
    if not recent.any():
        return
    plan = run.followups(chunk)
    rows = np.flatnonzero(recent)
    latest = rows[np.lexsort((parents.row_id[rows], parents.sent[rows]))][-1]
    sent = int(parents.sent[latest])
    trace = Trace("followup", event=sent)
    trace.add(
        "8",
        "event",
        f"the latest e-mail that has follow-ups was sent on {iso(sent)} "
        f"(row {parents.row_id[latest]})",
    )
    if not len(plan):
        trace.add("4", "handled", "the sender has a follow-up since that day already")
        yield trace
        return
    trace.email_type = FOLLOWUP_TYPES[int(plan.kind[0])]
    trace.date = trace.ideal = int(plan.date[0])
    trace.row, trace.reason = True, int(plan.reason[0])
    trace.add(
        "8",
        "ideal",
        f"{_ENGAGEMENT[int(plan.kind[0])]}: {trace.email_type} on {iso(trace.date)}",
        trace.date,
    )
    if trace.reason:
        exclude(trace, run, chunk.people, trace.date)
    yield trace


_ENGAGEMENT = (
    "nothing was clicked or answered since",
    "something was clicked since",
    "the eligibility questions were answered since, none with yes",
    "an eligibility question was answered with yes since",
)


def traces(run: Run, chunk: ChunkInput) -> list[Trace]:
    """Return all events of the one contact of a chunk, in the order of the sections."""
    numbers = run.folded_types
    outcomes = {
        row_class: run.anniversaries.evaluate(
            row_class, chunk.people, chunk.history, int(numbers[row_class])
        )
        for row_class in (AEP, BIRTHDAY, EFFECTIVE_DATE)
    }
    return [
        *anniversary_traces(run, chunk, outcomes),
        *post_window_traces(run, chunk, outcomes),
        *campaign_traces(run, chunk),
        *followup_traces(run, chunk),
    ]
