"""Random organizations, small and dense enough that every rule has something to do.

`random_organization(seed)` for many of them by number; `organizations()` for Hypothesis, which
makes them small when something fails. The same seed gives the same organization as long as these
modules do not change.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from random import Random
from typing import Any

from hypothesis import strategies as st

from .plan import Plan, plan
from .random_campaigns import random_campaigns
from .random_configuration import random_as_of, random_overrides
from .random_contacts import random_contacts
from .random_history import History, empty_schedules, random_engagement
from .sql import Table


@dataclass(frozen=True)
class RandomOrganization:
    """An SQL script that makes the file, the date, and the overrides.

    `name` says how to make it again.
    """

    name: str
    script: str
    as_of: date
    overrides: dict[str, Any]

    def connect(self) -> sqlite3.Connection:
        """Return the organization in memory."""
        connection = sqlite3.connect(":memory:")
        connection.executescript(self.script)
        return connection

    def write(self, path: Path) -> Path:
        """Write the organization as a file."""
        connection = sqlite3.connect(path)
        connection.executescript(self.script)
        connection.close()
        return path

    def plan(self) -> Plan:
        """Return the plan that the reference arrives at."""
        connection = self.connect()
        try:
            return plan(connection, self.as_of, self.overrides)
        finally:
            connection.close()


def random_organization(seed: int, contacts: int | None = None) -> RandomOrganization:
    """Return the organization of a seed.

    `contacts` sets its size (else 1 to 60, one in twenty up to 400).
    """
    source = Random(seed)
    if contacts is None:
        contacts = source.randint(100, 400) if source.random() < 0.05 else source.randint(1, 60)
    return make_organization(source, contacts, name=f"random_organization({seed}, {contacts})")


@st.composite
def organizations(draw: st.DrawFn, max_contacts: int = 8) -> RandomOrganization:
    """Return a Hypothesis strategy for organizations of a few contacts."""
    size = draw(st.integers(1, max_contacts))
    source = draw(st.randoms(use_true_random=False))
    return make_organization(
        source, size, name=f"an organization of {size} contacts made by Hypothesis"
    )


def make_organization(source: Random, size: int, *, name: str) -> RandomOrganization:
    """Return an organization of this many contacts, all its choices taken from `source`."""
    as_of, overrides = random_as_of(source), random_overrides(source)
    odd = source.choice([0.0, 0.0, 0.03, 0.15])
    odd_ids = source.random() < 0.05
    contacts = random_contacts(source, as_of, size, odd=odd, odd_ids=odd_ids)
    ids = [row["id"] for row in contacts.rows if isinstance(row["id"], int)]
    campaigns = random_campaigns(source, as_of, ids, odd=odd, odd_ids=odd_ids)
    instance_ids = [row["id"] for row in campaigns[1].rows if isinstance(row["id"], int)]
    tables = [contacts, *campaigns, *random_engagement(source, as_of, ids, odd=odd)]
    if odd:
        # Any table but `contacts` may be missing.
        tables = [contacts, *(table for table in tables[1:] if source.random() > 0.06)]
    if source.random() < 0.92:
        history = History(source, empty_schedules(source, odd))
        history.fill(as_of, ids, instance_ids, odd)
        before = RandomOrganization(name, _script([*tables, history.table]), as_of, overrides)
        _take_keys(history, before.plan(), as_of, instance_ids)
        tables.append(history.table)
    return RandomOrganization(name, _script(tables), as_of, overrides)


def _script(tables: list[Table]) -> str:
    return "BEGIN;\n" + "".join(table.script() for table in tables) + "COMMIT;\n"


def _take_keys(history: History, found: Plan, as_of: date, instance_ids: list[int]) -> None:
    """Add rows on the very keys that would be planned.

    They are rows of an older plan, failed ones, and ones being sent.
    """
    source = history.source
    share = source.choice([0.0, 0.1, 0.5])
    for row in found.rows:
        if source.random() >= share:
            continue
        draw = source.random()
        content = row._asdict() if draw < 0.3 else {"priority": 77, "email_template": "of old"}
        for name in ("contact_id", "email_type", "scheduled_send_date", "parent_id"):
            content.pop(name, None)
        if draw < 0.6:
            content["status"] = (
                source.choice(["pre-scheduled", "skipped"]) if draw >= 0.3 else row.status
            )
        elif draw < 0.8:
            content["status"] = source.choice(["failed", "cancelled", "bounced", " Failed"])
        else:
            content["status"] = source.choice(["scheduled", "processing", "sent", "opened", "held"])
            content["campaign_instance_id"] = source.choice([None, *instance_ids])
            if source.random() < 0.3:
                content.update(
                    event_year=row.event_year, event_month=row.event_month, event_day=row.event_day
                )
        day = row.scheduled_send_date
        if source.random() < 0.1:
            day = (as_of + timedelta(days=source.randint(-5, 5))).isoformat()
        email_type = row.email_type.upper() if source.random() < 0.05 else row.email_type
        history.add(row.contact_id, email_type, day, **content)
