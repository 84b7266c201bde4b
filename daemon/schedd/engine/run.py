"""One run of the engine: what all chunks share, and the plan of one chunk up to load balancing.

The order of a run: `plan_chunk` for every chunk (sections 1 to 8), then `balance` over all of them
(section 9), then `finish_chunk` for every chunk (section 10). The store reads the input and writes
the result.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import contacts as contacts_module
from .anniversary import Anniversaries
from .campaigns import Campaigns, CampaignType, Instance, Targets, active_instances, campaign_types
from .coercions import Dates, text_of
from .configuration import Configuration
from .contacts import Contacts, People
from .findings import Findings
from .followups import Engagement, FollowUps, Parents, plan_followups
from .frequency import drop_duplicates, limit_frequency
from .hashing import Salt
from .rows import (
    AEP,
    BIRTHDAY,
    CAMPAIGN_PREFIX,
    EFFECTIVE_DATE,
    FIXED_PRIORITIES,
    FIXED_TYPES,
    FOLLOWUP_TYPES,
    POST_WINDOW,
    History,
    RowClasses,
    Rows,
)
from .windows import Windows


def make_classes(configuration: Configuration, instances: Sequence[Instance]) -> RowClasses:
    """Return the classes of a run.

    The four fixed types, then one for each active campaign instance.
    """
    names = [*FIXED_TYPES, *(CAMPAIGN_PREFIX + instance.type.name for instance in instances)]
    types = tuple(sorted({*names, *FOLLOWUP_TYPES}))
    number = {name: index for index, name in enumerate(types)}
    lower: dict[str, int] = {}
    for index, name in enumerate(types):
        lower.setdefault(name.lower(), index)
    priorities = (*FIXED_PRIORITIES, *(instance.type.priority for instance in instances))
    rank = {priority: index for index, priority in enumerate(sorted(set(priorities)))}
    fixed = len(FIXED_TYPES)
    salts = [int(Salt.AEP), int(Salt.BIRTHDAY), int(Salt.EFFECTIVE_DATE), int(Salt.POST_WINDOW)]
    ids = [instance.id for instance in instances]
    return RowClasses(
        types=types,
        folded=np.array([lower[name.lower()] for name in types], np.int32),
        type_number=np.array([number[name] for name in names], np.int32),
        priorities=priorities,
        priority_rank=np.array([rank[priority] for priority in priorities], np.int32),
        respects=np.array([True] * fixed + [i.type.respects_windows for i in instances], np.bool_),
        instance=np.array([0] * fixed + ids, np.int64),
        # Sums wrap around, as all of the hash's arithmetic does.
        salt=np.concatenate(
            [np.array(salts, np.int64), np.int64(Salt.CAMPAIGN) + np.array(ids, np.int64)]
        ),
        email_template=(
            *(configuration.template(name) for name in FIXED_TYPES),
            *(instance.email_template for instance in instances),
        ),
        sms_template=(
            *(None for _ in FIXED_TYPES),
            *(instance.sms_template for instance in instances),
        ),
    )


@dataclass
class ChunkInput:
    """The input for one chunk of contacts, as the store read it.

    `contact_index` columns count through `eligible(contacts)`.
    """

    contacts: Contacts
    people: People
    history: History
    targets: Targets
    parents: Parents
    engagement: Engagement


@dataclass
class ChunkPlan:
    """The plan of one chunk before load balancing."""

    rows: Rows
    followups: FollowUps


class Run:
    """The data that all chunks of a run share. `as_of` is the ordinal of D.

    Example:

        run = Run(calendar.ordinal(date), configuration, type_rows, instance_rows)
        plan = run.plan_chunk(chunk)  # then load balancing, over the plans of all chunks
        rows, duplicates = run.finish_chunk(plan.rows, chunk.history)
    """

    def __init__(
        self,
        as_of: int,
        configuration: Configuration,
        type_rows: Iterable[Mapping[str, Any]],
        instance_rows: Iterable[Mapping[str, Any]],
    ) -> None:
        self.as_of = as_of
        self.configuration = configuration
        self.dates = Dates(configuration.timezone)
        #: what the campaign tables have that cannot be read
        self.findings = Findings()
        self.types: dict[str, CampaignType] = campaign_types(type_rows)
        self.instances: list[Instance] = active_instances(
            self.types, instance_rows, as_of, self.dates, self.findings
        )
        self.windows = Windows.of(configuration)
        self.classes = make_classes(configuration, self.instances)
        #: class -> number of its type in `History`
        self.folded_types = self.classes.folded[self.classes.type_number]
        self.anniversaries = Anniversaries(as_of, configuration, self.windows)
        self.campaigns = Campaigns(as_of, configuration, self.windows, self.instances)

    @property
    def parent_types(self) -> list[str]:
        """Return the e-mail types, in lower case, that have follow-ups (section 8)."""
        campaigns = [
            (CAMPAIGN_PREFIX + t.name).lower() for t in self.types.values() if t.enable_followups
        ]
        return [*FIXED_TYPES, *campaigns] if self.configuration.enable_followups else []

    @property
    def campaign_names(self) -> set[str]:
        """Return the e-mail types of all campaign types, as they are written."""
        return {CAMPAIGN_PREFIX + name for name in self.types}

    @property
    def known_types(self) -> set[str]:
        """Return all e-mail types, in lower case, that the rules or the campaign tables know."""
        return {*FIXED_TYPES, *FOLLOWUP_TYPES, *(name.lower() for name in self.campaign_names)}

    def canonical_type(self, value: Any) -> str:
        """Return the type of a dispatched row in lower case and after the aliases (section 4)."""
        name = text_of(value).lower()
        return self.configuration.aliases.get(name, name)

    def people(self, contacts: Contacts) -> People:
        """Return the eligible contacts of a chunk.

        Birth dates after D become unreadable first (section 1).
        """
        contacts_module.reject_future_births(contacts, self.as_of)
        return contacts_module.eligible(contacts)

    def plan_chunk(self, chunk: ChunkInput) -> ChunkPlan:
        """Return the rows of sections 5 to 8."""
        numbers = {
            row_class: int(self.folded_types[row_class])
            for row_class in (AEP, BIRTHDAY, EFFECTIVE_DATE, POST_WINDOW)
        }
        people, history = chunk.people, chunk.history
        parts = [self.anniversaries.plan(people, history, numbers)]
        if self.instances:
            parts.append(
                self.campaigns.plan(
                    people, chunk.contacts.carriers, chunk.targets, history, self.folded_types
                )
            )
        return ChunkPlan(Rows.concatenate(parts), self.followups(chunk))

    def followups(self, chunk: ChunkInput) -> FollowUps:
        """Return the follow-ups of section 8."""
        followup = chunk.history.followup
        return plan_followups(
            self.as_of,
            self.configuration,
            self.windows,
            chunk.people,
            chunk.parents,
            chunk.engagement,
            (chunk.history.contact_index[followup], chunk.history.date[followup]),
        )

    def finish_chunk(self, rows: Rows, history: History) -> tuple[Rows, int]:
        """Apply section 10 to a chunk's rows.

        Returns them in key order, and how many duplicates were dropped.
        """
        limit_frequency(self.configuration, self.classes, rows, history)
        return drop_duplicates(self.classes, rows)


def day_counts(dates: NDArray[Any]) -> dict[int, int]:
    """Return how many of some dates are on each day; works for any small integers."""
    if not len(dates):
        return {}
    first = int(dates.min())
    if int(dates.max()) - first > 4 * len(dates) + 10_000:
        # A table of all days between would be far larger than the dates.
        days, counts = np.unique(dates, return_counts=True)
        return dict(zip(days.tolist(), counts.tolist(), strict=True))
    table = np.bincount(dates - first)
    used = np.flatnonzero(table)
    return dict(zip((used + first).tolist(), table[used].tolist(), strict=True))
