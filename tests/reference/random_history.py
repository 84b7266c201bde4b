"""Random rows of `email_schedules`, clicks and events: what happened before, and an old plan."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from random import Random

from .random_campaigns import TYPE_NAMES, UNREADABLE_DAYS, id_column, written_day, written_id
from .sql import RawText, Table, without
from .values import Value

STATUSES: tuple[Value, ...] = (
    *("sent", "sent", "sent", "delivered", "scheduled", "processing", "opened", "clicked"),
    *("failed", "cancelled", "pre-scheduled", "skipped"),
)
ODD_STATUSES: tuple[Value, ...] = (
    *(
        "",
        "Sent",
        " SENT ",
        "Opened\n",
        "clicked\0",
        "bounced",
        "complained",
        "queued",
        "accepted",
        "deferred",
    ),
    *(
        "FAILED",
        " Canceled",
        "dropped",
        "rejected",
        "Error",
        "draft",
        "held",
        "mystery",
        "Skipped",
        " pre-scheduled",
    ),
    *(b"sent", b"skipped", RawText(b"sen\xff"), 5),
)
OWN_TYPES = ("birthday", "effective_date", "aep", "post_window")
FOLLOWUPS = (
    "followup_1_cold",
    "followup_2_clicked_no_hq",
    "followup_3_hq_no_yes",
    "followup_4_hq_with_yes",
)
OTHER_TYPES = (
    "welcome",
    "campaign_gone",
    "campaign_",
    "followup_old",
    "scheduled_rate_increase",
    "post_window_birthday",
)
METADATA: tuple[Value, ...] = (
    *(
        '{"has_medical_conditions": true}',
        '{"main_questions_yes_count": 1}',
        '{"has_medical_conditions": true, "x": []}',
    ),
    *(
        '{"has_medical_conditions": true}',
        '{"main_questions_yes_count": 2, "has_medical_conditions": false}',
    ),
    *(
        '{"has_medical_conditions": false, "main_questions_yes_count": 0}',
        '{"main_questions_yes_count": 0.5}',
        "{}",
    ),
    *(
        None,
        "",
        "not json",
        "[]",
        '"text"',
        "[true]",
        '{"has_medical_conditions": "no"}',
        '{"other": true}',
        '{"has',
    ),
    *(
        '{"has_medical_conditions": null, "main_questions_yes_count": null}',
        b'{"has_medical_conditions": true}',
    ),
    RawText(b'{"has_medical_conditions": true, "name": "\xff"}'),
)


def empty_schedules(source: Random, odd: float) -> Table:
    """Return the table `email_schedules` as an existing file may have it."""
    table = Table(
        "email_schedules",
        {
            "id": source.choice(["INTEGER PRIMARY KEY", "INTEGER PRIMARY KEY AUTOINCREMENT"]),
            "contact_id": f"{id_column(source, odd)} NOT NULL",
            "email_type": "TEXT NOT NULL",
            "scheduled_send_date": source.choice(["TEXT NOT NULL", "TEXT NOT NULL", "DATE", ""])
            if odd
            else "TEXT NOT NULL",
            "scheduled_send_time": "TEXT NOT NULL DEFAULT '08:30:00'",
            "status": source.choice(["TEXT NOT NULL DEFAULT 'pre-scheduled'", "TEXT"]),
            "skip_reason": "TEXT",
            "priority": "INTEGER DEFAULT 10",
            "campaign_instance_id": id_column(source, odd),
            **dict.fromkeys(["email_template", "sms_template"], "TEXT"),
            **dict.fromkeys(
                ["event_year", "event_month", "event_day"],
                source.choice(["INTEGER", "INTEGER", "INTEGER", ""]),
            ),
            **dict.fromkeys(["scheduler_run_id", "metadata"], "TEXT"),
            **dict.fromkeys(["created_at", "updated_at"], "TEXT DEFAULT CURRENT_TIMESTAMP"),
            "actual_send_datetime": source.choice(["TEXT", "DATETIME"]),
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
    """Rows of `email_schedules` in the making.

    One for each key, but for the current plan of a table without key.
    """

    def __init__(self, source: Random, table: Table) -> None:
        self.source = source
        self.table = table
        self.nullable = {
            name for name, declared in table.columns.items() if "NOT NULL" not in declared
        }
        self._keys: set[tuple[Value, Value, Value]] = set()
        self._id = 0

    def add(
        self, contact_id: Value, email_type: Value, day: Value, odd: float = 0.0, **content: Value
    ) -> bool:
        """Add a row unless its key is taken; return whether it was added. Ids rise, with gaps."""
        key = (contact_id, email_type, day)
        repeated = not self.table.constraints and content.get("status") in (
            "pre-scheduled",
            "skipped",
        )
        if key in self._keys and not repeated:
            return False
        self._keys.add(key)
        self._id += self.source.choice([1, 1, 1, 5])
        row: dict[str, Value] = {"scheduled_send_time": "08:30:00", "priority": 10}
        row.update(content)
        written = written_id(self.source, contact_id, odd / 3)
        self.table.add(
            id=self._id, contact_id=written, email_type=email_type, scheduled_send_date=day, **row
        )
        return True

    def fill(
        self, as_of: date, contact_ids: Sequence[Value], instance_ids: Sequence[Value], odd: float
    ) -> None:
        """Add what was sent, is being sent, failed, or was planned before."""
        source = self.source
        for _ in range(source.randint(0, 3 * len(contact_ids))):
            contact_id = source.choice(contact_ids) if source.random() < 0.97 else 987_654
            email_type, instance = self._type(instance_ids)
            status: Value = (
                source.choice(STATUSES) if source.random() > odd else source.choice(ODD_STATUSES)
            )
            if source.random() < odd / 8 and "status" in self.nullable:
                status = None
            recent = source.random() < 0.7
            day = as_of + timedelta(
                days=source.randint(-40, 12) if recent else source.randint(-500, 90)
            )
            written: Value = day.isoformat()
            if source.random() < odd / 3:
                written = written_day(source, day)
            elif source.random() < odd / 6:
                written = source.choice(("", " ", *UNREADABLE_DAYS))
                if source.random() < 0.2 and "scheduled_send_date" in self.nullable:
                    written = None
            self.add(
                contact_id,
                self._spelled(email_type, odd),
                written,
                odd,
                status=status,
                priority=source.choice([10, 20, 1, 30])
                if source.random() > odd / 4
                else source.choice([None, "2", "x"]),
                campaign_instance_id=written_id(source, instance, odd / 2),
                actual_send_datetime=self._sent(day, status, odd),
                **self._event(day, odd),
            )

    def _spelled(self, email_type: str, odd: float) -> Value:
        """Return the type, seldom in another spelling."""
        if self.source.random() >= odd / 2:
            return email_type
        raw = RawText(email_type.encode() + b"\xff")
        spellings: list[Value] = [
            email_type.upper(),
            email_type.title(),
            email_type.upper(),
            f" {email_type}",
            raw,
        ]
        return self.source.choice(spellings)

    def _event(self, day: date, odd: float) -> dict[str, Value]:
        """Return the three columns of the event date, which may be missing, partial or odd."""
        source = self.source
        if source.random() < 0.5:
            return {}
        event = day + timedelta(days=source.choice([0, 14, 14, 30, 30, source.randint(-220, 220)]))
        found: dict[str, Value] = {
            "event_year": event.year,
            "event_month": event.month,
            "event_day": event.day,
        }
        if source.random() < odd:
            column = source.choice(list(found))
            found[column] = source.choice(
                [None, 0, 31, "x", str(found[column]), 2.0, -1, 10**12, b"7"]
            )
        return found

    def _type(self, instance_ids: Sequence[Value]) -> tuple[str, Value]:
        source = self.source
        draw = source.random()
        if draw < 0.5:
            return source.choice(OWN_TYPES), None
        if draw < 0.8:
            instance = (
                source.choice(instance_ids) if instance_ids and source.random() < 0.9 else None
            )
            return f"campaign_{source.choice(TYPE_NAMES)}", instance
        if draw < 0.95:
            return source.choice(FOLLOWUPS), None
        return source.choice(OTHER_TYPES), None

    def _sent(self, day: date, status: Value, odd: float) -> Value:
        source = self.source
        if source.random() < odd / 3:
            return source.choice([written_day(source, day), *UNREADABLE_DAYS[:3]])
        if status in {"failed", "scheduled", "processing"} or source.random() < 0.4:
            return None if source.random() < 0.95 else ""
        sent = (day + timedelta(days=source.choice([0, 0, 0, 1, 3]))).isoformat()
        return sent + source.choice(["T14:30:00Z", " 14:30:00", ""])


def random_engagement(
    source: Random, as_of: date, contact_ids: Sequence[Value], *, odd: float
) -> list[Table]:
    """Return the tables of clicks and events."""
    clicks = Table(
        "tracking_clicks",
        {"id": "INTEGER PRIMARY KEY", "contact_id": id_column(source, odd), "clicked_at": "TEXT"},
    )
    events = Table(
        "contact_events",
        {
            "id": "INTEGER PRIMARY KEY",
            "contact_id": id_column(source, odd),
            "event_type": "TEXT",
            "metadata": "TEXT",
            "created_at": "TEXT",
        },
    )
    for table in (clicks, events):
        for _ in range(source.randint(0, len(contact_ids))):
            day = as_of + timedelta(days=source.randint(-45, 1))
            when: Value = day.isoformat() + source.choice(["T10:00:00Z", " 09:00:00", ""])
            if source.random() < odd:
                when = source.choice(
                    [None, "", "yesterday", "2024-02-30", *[written_day(source, day)] * 8]
                )
            contact_id = (
                source.choice(contact_ids)
                if source.random() < 0.97
                else source.choice([None, 987_654])
            )
            table.add(
                contact_id=written_id(source, contact_id, odd / 2),
                clicked_at=when,
                created_at=when,
                event_type=source.choice(
                    ["eligibility_answered", "eligibility_answered", "page_view", None]
                ),
                metadata=source.choice(METADATA),
            )
    if odd and source.random() < 0.1:
        return [
            without(clicks, {"clicked_at"}),
            without(events, {source.choice(["created_at", "metadata", "event_type"])}),
        ]
    return [clicks, events]
