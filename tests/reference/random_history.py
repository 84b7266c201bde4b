"""Random rows of `email_schedules`, clicks and events: what happened before, and an old plan."""

from __future__ import annotations

from datetime import date, timedelta
from random import Random

from .random_campaigns import TYPE_NAMES
from .sql import Table, without
from .values import Value

STATUSES = (
    "sent",
    "sent",
    "sent",
    "delivered",
    "scheduled",
    "processing",
    "failed",
    "cancelled",
    "pre-scheduled",
    "skipped",
)
OWN_TYPES = ("birthday", "effective_date", "aep", "post_window")
FOLLOWUPS = ("followup_1_cold", "followup_2_clicked_no_hq", "followup_3_hq_no_yes", "followup_4_hq_with_yes")
OTHER_TYPES = ("welcome", "campaign_gone", "campaign_")
METADATA: tuple[Value, ...] = (
    *(
        '{"has_medical_conditions": true}',
        '{"main_questions_yes_count": 1}',
        '{"has_medical_conditions": true, "x": []}',
    ),
    *('{"has_medical_conditions": true}', '{"main_questions_yes_count": 2, "has_medical_conditions": false}'),
    *('{"has_medical_conditions": false, "main_questions_yes_count": 0}', '{"main_questions_yes_count": 0.5}', "{}"),
    *(None, "", "not json", "[]", '"text"', "[true]", '{"has_medical_conditions": "no"}', '{"other": true}', '{"has'),
    '{"has_medical_conditions": null, "main_questions_yes_count": null}',
)


def empty_schedules(source: Random) -> Table:
    """Return the table `email_schedules` as an existing file may have it."""
    table = Table(
        "email_schedules",
        {
            "id": source.choice(["INTEGER PRIMARY KEY", "INTEGER PRIMARY KEY AUTOINCREMENT"]),
            "contact_id": "INTEGER NOT NULL",
            "email_type": "TEXT NOT NULL",
            "scheduled_send_date": "TEXT NOT NULL",
            "scheduled_send_time": "TEXT NOT NULL DEFAULT '08:30:00'",
            "status": "TEXT NOT NULL DEFAULT 'pre-scheduled'",
            "skip_reason": "TEXT",
            "priority": "INTEGER DEFAULT 10",
            "campaign_instance_id": "INTEGER",
            **dict.fromkeys(["email_template", "sms_template"], "TEXT"),
            **dict.fromkeys(["event_year", "event_month", "event_day"], "INTEGER"),
            **dict.fromkeys(["scheduler_run_id", "metadata"], "TEXT"),
            **dict.fromkeys(["created_at", "updated_at"], "TEXT DEFAULT CURRENT_TIMESTAMP"),
            "actual_send_datetime": "TEXT",
        },
        constraints=source.choice(["", "UNIQUE (contact_id, email_type, scheduled_send_date)"]),
    )
    if source.random() < 0.1:
        optional = (
            "skip_reason",
            "sms_template",
            "metadata",
            "event_year",
            "actual_send_datetime",
            "campaign_instance_id",
        )
        table = without(table, set(source.sample(optional, source.randint(1, 3))))
    return table


class History:
    """Rows of `email_schedules` in the making, one for each key."""

    def __init__(self, source: Random, table: Table) -> None:
        self.source = source
        self.table = table
        self._keys: set[tuple[Value, Value, Value]] = set()
        self._id = 0

    def add(self, contact_id: int, email_type: str, day: str, **content: Value) -> bool:
        """Add a row unless its key is taken; return whether it was added. Ids rise, with gaps."""
        key = (contact_id, email_type, day)
        if key in self._keys:
            return False
        self._keys.add(key)
        self._id += self.source.choice([1, 1, 1, 5])
        row: dict[str, Value] = {"scheduled_send_time": "08:30:00", "priority": 10}
        row.update(content)
        self.table.add(id=self._id, contact_id=contact_id, email_type=email_type, scheduled_send_date=day, **row)
        return True

    def fill(self, as_of: date, contact_ids: list[int], instance_ids: list[int], odd: float) -> None:
        """Add what was sent, is being sent, failed, or was planned before."""
        source = self.source
        for _ in range(source.randint(0, 3 * len(contact_ids))):
            contact_id = source.choice(contact_ids) if source.random() < 0.97 else 987_654
            email_type, instance = self._type(instance_ids)
            status = source.choice(STATUSES) if source.random() > odd / 4 else source.choice(["", "Sent", "opened"])
            recent = source.random() < 0.7
            day = as_of + timedelta(days=source.randint(-40, 12) if recent else source.randint(-500, 90))
            written = day.isoformat()
            if source.random() < odd / 4:
                written = source.choice(["", "soon", "2024-02-30", (as_of - timedelta(days=9)).isoformat() + " 08:30"])
            self.add(
                contact_id,
                email_type,
                written,
                status=status,
                priority=source.choice([10, 20, 1, 30]) if source.random() > odd / 4 else None,
                campaign_instance_id=instance,
                actual_send_datetime=self._sent(day, status),
            )

    def _type(self, instance_ids: list[int]) -> tuple[str, int | None]:
        source = self.source
        draw = source.random()
        if draw < 0.5:
            return source.choice(OWN_TYPES), None
        if draw < 0.8:
            instance = source.choice(instance_ids) if instance_ids and source.random() < 0.9 else None
            return f"campaign_{source.choice(TYPE_NAMES)}", instance
        if draw < 0.95:
            return source.choice(FOLLOWUPS), None
        return source.choice(OTHER_TYPES), None

    def _sent(self, day: date, status: str) -> Value:
        source = self.source
        if status not in {"sent", "delivered"} or source.random() < 0.4:
            return None if source.random() < 0.95 else ""
        sent = (day + timedelta(days=source.choice([0, 0, 0, 1, 3]))).isoformat()
        return sent + source.choice(["T14:30:00Z", " 14:30:00", ""])


def random_engagement(source: Random, as_of: date, contact_ids: list[int], *, odd: float) -> list[Table]:
    """Return the tables of clicks and events."""
    clicks = Table("tracking_clicks", {"id": "INTEGER PRIMARY KEY", "contact_id": "INTEGER", "clicked_at": "TEXT"})
    events = Table(
        "contact_events",
        {
            "id": "INTEGER PRIMARY KEY",
            "contact_id": "INTEGER",
            "event_type": "TEXT",
            "metadata": "TEXT",
            "created_at": "TEXT",
        },
    )
    for table in (clicks, events):
        for _ in range(source.randint(0, len(contact_ids))):
            day = (as_of + timedelta(days=source.randint(-45, 1))).isoformat()
            when: Value = day + source.choice(["T10:00:00Z", " 09:00:00", ""])
            if source.random() < odd / 2:
                when = source.choice([None, "", "yesterday", "2024-02-30", "1700000000"])
            table.add(
                contact_id=source.choice(contact_ids) if source.random() < 0.97 else source.choice([None, 987_654]),
                clicked_at=when,
                created_at=when,
                event_type=source.choice(["eligibility_answered", "eligibility_answered", "page_view", None]),
                metadata=source.choice(METADATA),
            )
    if odd and source.random() < 0.1:
        return [
            without(clicks, {"clicked_at"}),
            without(events, {source.choice(["created_at", "metadata", "event_type"])}),
        ]
    return [clicks, events]
