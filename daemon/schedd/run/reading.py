"""Reads all that the rules need of a chunk of contacts, over one connection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import apsw
import numpy as np

from schedd.engine.calendar import iso
from schedd.engine.contacts import Contacts
from schedd.engine.findings import MAX_EXAMPLES, Finding, Findings, RowId
from schedd.engine.run import ChunkInput, Run
from schedd.store.campaigns import CampaignReader
from schedd.store.contacts import ContactReader, Range
from schedd.store.existing import ExistingRows, history_of
from schedd.store.followups import ParentValues
from schedd.store.odd_values import Learned
from schedd.store.outside_rows import OutsideRows
from schedd.store.schedules import ScheduleReader
from schedd.store.schema import Schema, read_schema


@dataclass
class ChunkRead:
    """A chunk as read: the engine's input, the existing rows, and the columns of each parent."""

    chunk: ChunkInput
    existing: ExistingRows
    parent_values: Sequence[ParentValues]


class ChunkReader:
    """Reads chunks for a run.

    outside: the rows that no range of contact ids finds.   learned: values that this process has
    evaluated before, by column.

        reader = ChunkReader(run, connection, load_outside(folder))
        read = reader.read(Range(1, 32_769))
        plan = run.plan_chunk(read.chunk)
    """

    def __init__(
        self,
        run: Run,
        connection: apsw.Connection,
        outside: OutsideRows,
        learned: dict[str, Learned] | None = None,
    ) -> None:
        self._run = run
        self.schema: Schema = read_schema(connection)
        carriers = any(instance.carriers is not None for instance in run.instances)
        since = run.as_of - run.configuration.lookback_days
        self._contacts = ContactReader(
            connection, self.schema, run.configuration, carriers=carriers, learned=learned
        )
        self._schedules = ScheduleReader(connection, self.schema, run, since, outside)
        self._campaigns = CampaignReader(connection, self.schema, run, since)
        self._future_births = Findings()

    def read(self, chunk: Range, *, first: bool = True) -> ChunkRead:
        """Return the contacts of a chunk with their rows, targets and engagement.

        first: whether it is the run's first chunk, which reports values that belong to no chunk.
        """
        run = self._run
        contacts = self._contacts.read(chunk)
        self._note_future_births(contacts)
        people = run.people(contacts)
        existing = self._schedules.read(chunk)
        sent = existing.sent_lately
        parents, parent_values = self._campaigns.parents(
            existing.row_id[sent], existing.contact_id[sent], people.ids
        )
        chunk_input = ChunkInput(
            contacts=contacts,
            people=people,
            history=history_of(existing, run, people.ids),
            targets=self._campaigns.targets(chunk, people.ids, first=first),
            parents=parents,
            engagement=self._campaigns.engagement(chunk, people.ids, first=first),
        )
        return ChunkRead(chunk_input, existing, parent_values)

    def count_unreadable(self, contacts: Contacts) -> int:
        """Return how many contacts have a date or a boolean that cannot be read.

        contacts: those of the chunk that was read last.
        """
        unreadable = contacts.invalid_birth | contacts.invalid_effective
        if self._contacts.unreadable_booleans:
            unreadable |= np.isin(contacts.ids, self._contacts.unreadable_booleans)
        return int(unreadable.sum())

    def _note_future_births(self, contacts: Contacts) -> None:
        future = np.flatnonzero(contacts.birth > self._run.as_of)
        if not len(future):
            return
        examples: list[tuple[RowId, str]] = [
            (int(contacts.ids[index]), iso(int(contacts.birth[index])))
            for index in future[:MAX_EXAMPLES].tolist()
        ]
        self._future_births.extend(
            [Finding("future_date", "contacts", "birth_date", "", len(future), examples)]
        )

    @property
    def findings(self) -> Findings:
        """Return what could not be read or is not known, in the chunks read so far."""
        found = Findings(self._future_births)
        for part in (self._contacts, self._schedules, self._campaigns):
            found.extend(part.findings)
        return found
