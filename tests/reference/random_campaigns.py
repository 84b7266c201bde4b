"""Random campaign tables: types, instances, and the contacts in them."""

from __future__ import annotations

from datetime import date, timedelta
from random import Random

from .random_contacts import ODD_DATES, ODD_TRUTHS
from .sql import Table, without
from .values import Value

TYPE_NAMES = ("rate_increase", "promo", "blast", "spread", "after", "off")


def random_campaigns(source: Random, as_of: date, contact_ids: list[int], *, odd: float, odd_ids: bool) -> list[Table]:
    """Return the three campaign tables, now and then without some columns."""
    types = _types(source, odd)
    instances = _instances(source, as_of, [row["name"] for row in types.rows], odd, odd_ids=odd_ids)
    instance_ids = [row["id"] for row in instances.rows]
    rows = _contact_campaigns(source, as_of, contact_ids, instance_ids, odd)
    if not odd:
        return [types, instances, rows]
    optional = {
        "campaign_types": set(types.columns) - {"name"},
        "campaign_instances": set(instances.columns) - {"id", "campaign_type"},
        "contact_campaigns": {"status", "metadata", "trigger_date"},
    }
    return [
        without(table, {name for name in sorted(optional[table.name]) if source.random() < 0.04})
        for table in (types, instances, rows)
    ]


def _types(source: Random, odd: float) -> Table:
    truth = source.choice(["BOOLEAN", "INTEGER", ""])
    table = Table(
        "campaign_types",
        {
            "name": "TEXT PRIMARY KEY",
            "respect_exclusion_windows": truth,
            "enable_followups": truth,
            "days_before_event": source.choice(["INTEGER", "", "TEXT"]),
            "target_all_contacts": truth,
            "priority": source.choice(["INTEGER", "TEXT"]),
            "active": truth,
            "spread_evenly": truth,
            "skip_failed_underwriting": truth,
        },
    )

    def flag(share: float) -> Value:
        return source.choice(ODD_TRUTHS) if source.random() < odd else int(source.random() < share)

    for name in TYPE_NAMES[: source.randint(1, len(TYPE_NAMES))]:
        table.add(
            name=name,
            respect_exclusion_windows=flag(0.6),
            enable_followups=flag(0.7),
            days_before_event=source.choice([None, 0, 1, 7, 14, 14, 30, -5, -40, "7", 7.0, 400, -400]),
            target_all_contacts=flag(0.4),
            priority=source.choice([None, 1, 5, 8, 10, 10, 20, 25, 45, "5"]),
            active=flag(0.9),
            spread_evenly=flag(0.3),
            skip_failed_underwriting=flag(0.3),
        )
    return table


def _day(source: Random, as_of: date, first: int, last: int, odd: float, missing: float = 0.0) -> Value:
    """Return a day so many days from `as_of`, now and then none, with a time part, or something odd."""
    draw = source.random()
    if draw < odd / 2:
        # A date of today's calendar at most: what is planned for its last days has windows beyond it.
        return source.choice([value for value in ODD_DATES if value != "9999-12-31"] + ["2150-12-31"])
    if draw < odd / 2 + missing:
        return source.choice([None, None, ""])
    day = (as_of + timedelta(days=source.randint(first, last))).isoformat()
    return day if source.random() < 0.9 else day + source.choice(["T00:00:00", " 12:30"])


def _instances(source: Random, as_of: date, names: list[Value], odd: float, *, odd_ids: bool) -> Table:
    table = Table(
        "campaign_instances",
        {
            "id": "INTEGER PRIMARY KEY",
            **dict.fromkeys(
                [
                    *("campaign_type", "instance_name", "email_template", "sms_template", "active_start_date"),
                    *("active_end_date", "spread_start_date", "spread_end_date", "target_states", "target_carriers"),
                    "metadata",
                ],
                "TEXT",
            ),
        },
    )
    states = [None, None, "", " ", "ALL", "CA,NV,MO, TX", "FL,NY,OH", "CA", " CA , NY ", "ZZ"]
    carriers = [None, None, None, "", " ", "ALL", "aetna,UHC", " Cigna ", "nobody"]
    ids = list(range(1, source.randint(1, 8)))
    if odd_ids:
        ids += source.sample([0, -3, 70_000, 2**40], 2)
    for instance_id in ids:
        table.add(
            id=instance_id,
            campaign_type=source.choice(names if source.random() < 0.95 else ["unheard of", None]),
            instance_name=f"instance {instance_id}",
            email_template=source.choice([f"template_{instance_id}", f"template_{instance_id}", None]),
            sms_template=source.choice([None, f"sms_{instance_id}"]),
            active_start_date=_day(source, as_of, -60, 3, odd, missing=0.2),
            active_end_date=_day(source, as_of, -2, 60, odd, missing=0.3),
            spread_start_date=_day(source, as_of, -20, 20, odd, missing=0.2),
            spread_end_date=_day(source, as_of, 0, 60, odd, missing=0.2),
            target_states=source.choice(states),
            target_carriers=source.choice(carriers),
        )
    return table


def _contact_campaigns(
    source: Random, as_of: date, contact_ids: list[int], instance_ids: list[Value], odd: float
) -> Table:
    table = Table(
        "contact_campaigns",
        {
            "id": "INTEGER PRIMARY KEY",
            "contact_id": "INTEGER",
            "campaign_instance_id": "INTEGER",
            "trigger_date": "TEXT",
            "status": "TEXT",
            "metadata": "TEXT",
        },
    )
    busy_days = [(as_of + timedelta(days=source.randint(0, 25))).isoformat() for _ in range(3)]
    pair: tuple[Value, Value] = (contact_ids[0], 4711)
    for _ in range(source.randint(0, 2 * len(contact_ids) + 2)):
        # Now and then another row of the same contact and instance: several candidates.
        if source.random() < 0.85:
            contact_id = source.choice(contact_ids) if source.random() > odd / 4 else source.choice([None, 987_654])
            pair = (contact_id, source.choice(instance_ids) if instance_ids and source.random() > 0.02 else 4711)
        table.add(
            contact_id=pair[0],
            campaign_instance_id=pair[1],
            trigger_date=source.choice(busy_days) if source.random() < 0.4 else _day(source, as_of, -30, 60, odd, 0.05),
            status=source.choice([None, "pending", "pending", "pending", "scheduled", "sent", "skipped"]),
        )
    return table
