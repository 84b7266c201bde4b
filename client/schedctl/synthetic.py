"""Makes synthetic organizations: files as the main application has them, with invented people.

Deterministic: the same number of contacts, seed and date give the same file. Addresses are under
example.org. Knows nothing of the daemon; needs only the standard library.
"""

from __future__ import annotations

import datetime as dt
import os
import random
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from schedproto.sqlite_files import replace_database

#: ZIP codes of all states, about as many for each as its share of the population.
_ZIPS = (  # noqa: SIM905 - a list of 160 texts, one a line, would hide the rest
    "90046 90660 91355 91911 92154 92401 92703 93230 93517 93728 94305 94608 95101 95337 95472 "
    "95659 95925 96065 75098 75436 75778 76085 76453 76798 77058 77480 77963 78229 78589 78840 "
    "79245 79713 32113 32343 32608 32832 33130 33408 33605 33872 34229 34734 10281 11106 11763 "
    "12196 12768 13103 13642 14138 14747 15241 15936 16738 17501 18370 19123 60160 60647 61369 "
    "61863 62370 62860 43222 43935 44440 45154 45710 30110 30363 30711 31308 31791 27292 27826 "
    "28128 28450 28704 48134 48469 48897 49338 49781 07082 07726 08067 08733 22312 23071 23867 "
    "24416 98117 98377 98674 99153 85122 85374 86004 37183 37809 38357 01254 01876 02482 46234 "
    "46991 47601 63448 64469 65557 20724 21156 21754 53203 54161 54757 80219 80755 81237 55344 "
    "56051 56522 29209 29680 35540 36475 70449 71227 40737 42081 97209 97636 73488 74464 06119 "
    "06705 84065 84627 51041 89147 72370 67037 39144 87735 83539 68724 25817 96771 03462 04495 "
    "59444 02871 19934 57375 58443 99623 20018 05478 82604 00736"
).split()

_FIRST = (
    "Ada",
    "Ben",
    "Cora",
    "Dan",
    "Eve",
    "Finn",
    "Gail",
    "Hugh",
    "Ida",
    "Jack",
    "Kim",
    "Leo",
    "Mia",
    "Ned",
    "Ora",
)
_LAST = (
    "Abbot",
    "Baker",
    "Carter",
    "Dyer",
    "Ellis",
    "Fisher",
    "Grant",
    "Harper",
    "Irwin",
    "Joiner",
    "Keller",
    "Larkin",
)
_CARRIERS = ("Aetna", "Cigna", "Humana", "UHC", None)

_SCHEMA = """
CREATE TABLE contacts(id INTEGER PRIMARY KEY, first_name TEXT, last_name TEXT, email TEXT,
  current_carrier TEXT, zip_code TEXT, birth_date TEXT, effective_date TEXT, phone_number TEXT,
  status TEXT, failed_underwriting INTEGER DEFAULT 0, created_at TEXT);
CREATE TABLE campaign_types(name TEXT PRIMARY KEY, respect_exclusion_windows BOOLEAN,
  enable_followups BOOLEAN, days_before_event INTEGER, target_all_contacts BOOLEAN, priority
  INTEGER, active BOOLEAN, spread_evenly BOOLEAN, skip_failed_underwriting BOOLEAN);
CREATE TABLE campaign_instances(id INTEGER PRIMARY KEY, campaign_type TEXT, instance_name TEXT,
  email_template TEXT, sms_template TEXT, active_start_date TEXT, active_end_date TEXT,
  spread_start_date TEXT, spread_end_date TEXT, target_states TEXT, target_carriers TEXT, metadata
  TEXT);
CREATE TABLE contact_campaigns(id INTEGER PRIMARY KEY, contact_id INTEGER, campaign_instance_id
  INTEGER, trigger_date TEXT, status TEXT, metadata TEXT);
CREATE TABLE tracking_clicks(id INTEGER PRIMARY KEY, contact_id INTEGER, clicked_at TEXT);
CREATE TABLE contact_events(id INTEGER PRIMARY KEY, contact_id INTEGER, event_type TEXT, metadata
  TEXT, created_at TEXT);
CREATE TABLE email_schedules(id INTEGER PRIMARY KEY, contact_id INTEGER NOT NULL, email_type TEXT
  NOT NULL, scheduled_send_date TEXT NOT NULL, scheduled_send_time TEXT NOT NULL DEFAULT
  '08:30:00', status TEXT NOT NULL, skip_reason TEXT, priority INTEGER, campaign_instance_id
  INTEGER, email_template TEXT, sms_template TEXT, event_year INTEGER, event_month INTEGER,
  event_day INTEGER, scheduler_run_id TEXT, metadata TEXT, created_at TEXT, updated_at TEXT,
  actual_send_datetime TEXT, UNIQUE (contact_id, email_type, scheduled_send_date));
"""
_INDEXES = """
CREATE INDEX email_schedules_status_date ON email_schedules(status, scheduled_send_date);
CREATE INDEX contact_campaigns_contact ON contact_campaigns(contact_id);
CREATE INDEX tracking_clicks_contact ON tracking_clicks(contact_id);
CREATE INDEX contact_events_contact ON contact_events(contact_id);
"""

#: Contacts between two reports of progress.
_REPORT_CONTACTS = 50_000


def _campaigns(as_of: dt.date) -> Iterator[tuple[str, tuple[Any, ...]]]:
    def day(offset: int) -> str:
        return (as_of + dt.timedelta(days=offset)).isoformat()

    types = "INSERT INTO campaign_types VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
    yield types, ("rate_increase", 1, 1, 14, 0, 1, 1, 0, 0)
    yield types, ("newsletter", 1, 0, 0, 1, 25, 1, 1, 0)
    yield types, ("plan_review", 1, 1, 7, 0, 5, 1, 0, 1)
    instances = "INSERT INTO campaign_instances VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL)"
    # id, type, name, e-mail and SMS template, active from and to, spread from and to, states,
    # carriers
    rates, none = "rate_increase", (None, None, None, None)
    yield instances, (1, rates, "this season", "rates_v2", None, day(-40), day(120), *none)
    spread = (day(5), day(65), "FL,TX,OH,PA", "ALL")
    yield instances, (2, "newsletter", "quarterly", "news_q", None, day(-10), day(90), *spread)
    active = (day(-5), None)
    carriers = (None, None, None, "Aetna,UHC")
    yield instances, (3, "plan_review", "yearly", "review", "review_sms", *active, *carriers)
    yield instances, (4, rates, "last season", "rates_v1", None, day(-300), day(-100), *none)


class _Maker:
    """Invents contacts and their history; collects rows until they are written."""

    INSERTS = (
        ("people", "INSERT INTO contacts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"),
        (
            "targets",
            (
                "INSERT INTO contact_campaigns(contact_id, campaign_instance_id, trigger_date, "
                "status) VALUES (?, ?, ?, ?)"
            ),
        ),
        (
            "sent",
            (
                "INSERT INTO email_schedules(contact_id, email_type, scheduled_send_date, status, "
                "priority, email_template, actual_send_datetime) VALUES (?, ?, ?, ?, ?, ?, ?)"
            ),
        ),
        ("clicks", "INSERT INTO tracking_clicks(contact_id, clicked_at) VALUES (?, ?)"),
        (
            "events",
            (
                "INSERT INTO contact_events(contact_id, event_type, metadata, created_at) "
                "VALUES (?, ?, ?, ?)"
            ),
        ),
    )

    def __init__(self, rng: random.Random, as_of: dt.date) -> None:
        self.random = rng.random
        self.year = as_of.year
        self.past = [(as_of - dt.timedelta(days=n)).isoformat() for n in range(400)]
        self.future = [(as_of + dt.timedelta(days=n)).isoformat() for n in range(100)]
        self.days = [f"{month:02d}-{day:02d}" for month in range(1, 13) for day in range(1, 29)]
        self.firsts = [f"{month:02d}-01" for month in range(1, 13)]
        self.rows: dict[str, list[tuple[Any, ...]]] = {name: [] for name, _ in self.INSERTS}

    def pick(self, values: Sequence[Any]) -> Any:
        """Return one of some values."""
        return values[int(self.random() * len(values))]

    def add_contact(self, number: int) -> None:
        """Add a contact; about 3 in 100 have a wrong or missing value."""
        first, last = _FIRST[number % len(_FIRST)], _LAST[number % len(_LAST)]
        email: str | None = f"{first.lower()}.{last.lower()}.{number}@example.org"
        zip_code, status = self.pick(_ZIPS), None
        birth = f"{self.year - 60 - int(self.random() * 35)}-{self.pick(self.days)}"
        # Most policies start on the first of a month.
        start = self.pick(self.firsts if self.random() < 0.85 else self.days)
        effective: str | None = f"{self.year - 1 - int(self.random() * 15)}-{start}"
        odd = self.random()
        if odd < 0.004:
            email = None
        elif odd < 0.007:
            email = "unknown"
        elif odd < 0.010:
            zip_code = "00000"
        elif odd < 0.015:
            status = "unsubscribed"
        elif odd < 0.018:
            birth = "unknown"
        elif odd < 0.030:
            effective = None
        failed, created = int(self.random() < 0.02), self.past[399]
        carrier = self.pick(_CARRIERS)
        person = (number, first, last, email, carrier, zip_code, birth, effective, None)
        self.rows["people"].append((*person, status, failed, created))

    def add_history(self, number: int) -> None:
        """Add a contact's campaigns, sent e-mails, clicks and answers, if any."""
        if self.random() < 0.1:
            instance = 1 if self.random() < 0.5 else 3
            self.rows["targets"].append((number, instance, self.pick(self.future), "pending"))
        if self.random() >= 0.06:
            return
        ago = 2 + int(self.random() * 330)
        kind, priority = ("birthday", 10) if self.random() < 0.6 else ("effective_date", 20)
        day = self.past[ago]
        self.rows["sent"].append((number, kind, day, "sent", priority, kind, f"{day} 14:30:00"))
        if self.random() < 0.3:
            self.rows["clicks"].append((number, f"{self.past[int(self.random() * ago)]} 09:00:00"))
        if self.random() < 0.1:
            yes = int(self.random() * 2)
            metadata = f'{{"has_medical_conditions": false, "main_questions_yes_count": {yes}}}'
            answered = f"{self.past[int(self.random() * ago)]}T10:00:00Z"
            self.rows["events"].append((number, "eligibility_answered", metadata, answered))

    def flush(self, connection: sqlite3.Connection) -> None:
        """Write the rows collected so far."""
        for name, sql in self.INSERTS:
            connection.executemany(sql, self.rows[name])
            self.rows[name].clear()


def make_organization(
    path: Path,
    contacts: int,
    seed: int,
    as_of: dt.date,
    on_progress: Callable[[int], None] | None = None,
) -> None:
    """Write an organization's file; it appears under its name when it is complete.

    on_progress: called with the number of contacts written so far.   Raises `OSError`.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.unlink(missing_ok=True)
    try:
        connection = sqlite3.connect(partial, isolation_level=None)
        try:
            _fill(connection, contacts, seed, as_of, on_progress)
        finally:
            connection.close()

        replace_database(partial, path)
    except sqlite3.Error as error:
        raise OSError(f"{path} could not be written: {error}") from error
    finally:
        partial.unlink(missing_ok=True)


def _fill(
    connection: sqlite3.Connection,
    contacts: int,
    seed: int,
    as_of: dt.date,
    on_progress: Callable[[int], None] | None,
) -> None:
    """Write tables, rows and indexes in one transaction."""
    connection.execute("PRAGMA journal_mode = OFF")
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("BEGIN")
    for statement in _SCHEMA.split(";"):
        connection.execute(statement)
    for sql, values in _campaigns(as_of):
        connection.execute(sql, values)

    maker = _Maker(random.Random(seed), as_of)  # noqa: S311 - reproducible, not secret
    for number in range(1, contacts + 1):
        maker.add_contact(number)
        maker.add_history(number)
        if number % _REPORT_CONTACTS == 0 or number == contacts:
            maker.flush(connection)
            if on_progress is not None:
                on_progress(number)

    for statement in _INDEXES.split(";"):
        connection.execute(statement)
    connection.execute("COMMIT")
