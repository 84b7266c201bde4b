"""Follow-ups to e-mails that were sent (rules, section 8). Sections 9 and 10 pass them by."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .calendar import NONE, Ordinals
from .coercions import text_of
from .configuration import Configuration
from .contacts import People
from .rows import exclusion_reason
from .windows import Windows


@dataclass
class Parents:
    """Sent or delivered rows whose type has follow-ups.

    sent: the day t, `NONE` if unreadable.
    """

    contact_index: NDArray[np.int32]
    row_id: NDArray[np.int64]
    sent: Ordinals


@dataclass
class Engagement:
    """Clicks and answered eligibility questions.

    Contact, day, and for answers whether one was a yes.
    """

    click_contact: NDArray[np.int32]
    click_day: Ordinals
    answer_contact: NDArray[np.int32]
    answer_day: Ordinals
    answer_yes: NDArray[np.bool_]


@dataclass
class FollowUps:
    """Planned follow-ups, at most one a contact.

    parent: index into `Parents`; kind: index of the type.
    """

    contact_index: NDArray[np.int32]
    kind: NDArray[np.int8]
    date: Ordinals
    event: Ordinals
    parent: NDArray[np.int64]
    reason: NDArray[np.int16]

    def __len__(self) -> int:
        return len(self.contact_index)


def says_yes(metadata: Any) -> bool:
    """Return whether an answer's metadata has a medical condition or a question answered yes."""
    try:
        answers = json.loads(text_of(metadata))
    except (ValueError, RecursionError):
        return False
    if not isinstance(answers, dict):
        return False
    count = answers.get("main_questions_yes_count")
    if answers.get("has_medical_conditions") is True:
        return True
    return isinstance(count, int | float) and not isinstance(count, bool) and count > 0


def plan_followups(
    as_of: int,
    configuration: Configuration,
    rules: Windows,
    people: People,
    parents: Parents,
    engagement: Engagement,
    dispatched: tuple[NDArray[np.int32], Ordinals],
) -> FollowUps:
    """Return the follow-ups. `dispatched`: contact and date of each dispatched follow-up."""
    rows = _latest_parents(as_of, configuration, parents)
    contact_index, sent = parents.contact_index[rows], parents.sent[rows]
    since = np.full(len(people), np.iinfo(np.int32).max, np.int32)
    since[contact_index] = sent

    def engaged(contact: NDArray[np.int32], day: Ordinals) -> NDArray[np.bool_]:
        found = np.zeros(len(people), np.bool_)
        found[contact[(day != NONE) & (day >= since[contact])]] = True
        return found[contact_index]

    answered = engaged(engagement.answer_contact, engagement.answer_day)
    yes = engagement.answer_yes
    yes_answered = engaged(engagement.answer_contact[yes], engagement.answer_day[yes])
    clicked = engaged(engagement.click_contact, engagement.click_day)
    kind = np.where(yes_answered, 3, np.where(answered, 2, np.where(clicked, 1, 0))).astype(np.int8)

    chosen = ~engaged(*dispatched)
    contact_index, rows = contact_index[chosen], rows[chosen]
    sent, kind = sent[chosen], kind[chosen]
    date = np.maximum(sent + np.int32(configuration.delay_days), np.int32(as_of))
    kinds = rules.excluded(people, contact_index, date)
    return FollowUps(
        contact_index, kind, date, sent, rows, exclusion_reason(people.state[contact_index], kinds)
    )


def _latest_parents(as_of: int, configuration: Configuration, parents: Parents) -> NDArray[np.intp]:
    """Return the latest parent of each contact that has one in the time that counts.

    The latest is the last one in the order (contact, day, row id).
    """
    recent = (parents.sent <= as_of) & (parents.sent >= as_of - configuration.lookback_days)
    rows = np.flatnonzero(recent & (parents.sent != NONE))
    rows = rows[np.lexsort((parents.row_id[rows], parents.sent[rows], parents.contact_index[rows]))]
    contact_index = parents.contact_index[rows]
    last = np.ones(len(rows), np.bool_)
    last[:-1] = contact_index[1:] != contact_index[:-1]
    return rows[last]
