"""Random campaign tables: types, instances, and the contacts in them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from random import Random

from .random_contacts import READABLE_TRUTHS, UNREADABLE_TRUTHS
from .sql import RawText, Table, without
from .values import Value

TYPE_NAMES = ("rate_increase", "Promo", "blast", "spread", "after", "off")
#: Share of odd values that cannot be read; more would leave hardly any campaign to plan.
UNREADABLE = 0.12

STATES: tuple[Value, ...] = (
    *(
        None,
        None,
        "",
        " ",
        "ALL",
        "all ",
        "CA,NV,MO, TX",
        "FL,NY,OH",
        "CA",
        " CA , NY ",
        "ca;ny;tx,",
        "fl\n",
    ),
    *(
        "California; New York,texas",
        '["CA", "nv"]',
        '["Ohio", " florida "]',
        "[]",
        "district of columbia,DC,pr",
    ),
    b"TX,CA",
)
UNREADABLE_STATES: tuple[Value, ...] = (
    *(
        "ZZ",
        "CA,ZZ",
        "CA NY",
        '["CA", 5]',
        '["CA"',
        '["CA", "Narnia"]',
        "CA,ALL",
        7,
        b"\xff",
        RawText(b"C\xff"),
    ),
)
CARRIERS: tuple[Value, ...] = (
    *(
        None,
        None,
        None,
        "",
        " ",
        "ALL",
        " all",
        "aetna,UHC",
        " Cigna ",
        "nobody",
        "uhc; AETNA",
        '["Aetna", "cigna "]',
    ),
    *("7", 7, b"uhc", ",", "[]"),
)
STATUSES: tuple[Value, ...] = (
    *(None, "pending", "pending", "pending", "scheduled", "sent", "skipped"),
    *("PENDING", " scheduled", "Pending\0", "", " ", "pending!", b"pending"),
)
PLAIN_STATUSES = STATUSES[:7]
UNREADABLE_DAYS: tuple[Value, ...] = (
    *(
        "soon",
        "2026-02-30",
        "12/01/2026",
        "20261201",
        5,
        20_261_201,
        2.5,
        b"\xff",
        RawText(b"2026-12-0\xff"),
    ),
    *("2026-12-1", "2026-12-01x", "99999999", "1e9", 10**14, -1_700_000_000),
)


def random_campaigns(
    source: Random, as_of: date, contact_ids: Sequence[Value], *, odd: float, odd_ids: bool
) -> list[Table]:
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
        return odd_value(
            source, odd, READABLE_TRUTHS, UNREADABLE_TRUTHS, int(source.random() < share)
        )

    for name in TYPE_NAMES[: source.randint(1, len(TYPE_NAMES))]:
        table.add(
            name=name,
            respect_exclusion_windows=flag(0.6),
            enable_followups=flag(0.7),
            days_before_event=odd_value(
                source,
                odd,
                (" 7 ", "+3", "-2", 7.0, b"7"),
                ("7.5", 7.5, "a week", "", " ", RawText(b"7\xff")),
                source.choice([None, 0, 1, 7, 14, 14, 30, -5, -40, "7", 7.0, 400, -400]),
            ),
            target_all_contacts=flag(0.4),
            priority=odd_value(
                source,
                odd,
                ("5", 5.0, " 5"),
                ("high", "5.5", 5.5),
                source.choice([None, 1, 5, 8, 10, 10, 20, 25, 45]),
            ),
            active=flag(0.9),
            spread_evenly=flag(0.3),
            skip_failed_underwriting=flag(0.3),
        )
    return table


def odd_value(
    source: Random,
    share: float,
    readable: tuple[Value, ...],
    unreadable: tuple[Value, ...],
    usual: Value,
) -> Value:
    """Return the usual value or, in this share of calls, an odd one."""
    if source.random() >= share:
        return usual
    return source.choice(unreadable if source.random() < UNREADABLE else readable)


def written_day(source: Random, day: date) -> Value:
    """Return a date in one of the forms of section 0, or unix time on that day."""
    noon = int(datetime(day.year, day.month, day.day, 12, tzinfo=UTC).timestamp())
    number = noon + source.randint(-43_200, 43_199)
    text = day.isoformat()
    forms: list[Value] = [
        *(
            f"{text}T00:00:00",
            f"{text} 12:30",
            f" {text}",
            f"{text}T10:00:00.5Z\n",
            text.encode(),
        ),
        *(number, str(number), 1000 * number, f" {1000 * number + 999}", number + 0.5),
    ]
    return source.choice(forms)


def _day(
    source: Random, as_of: date, first: int, last: int, odd: float, missing: float = 0.0
) -> Value:
    """Return a day this far from `as_of`, sometimes absent, reformatted or unreadable."""
    if source.random() < missing:
        return source.choice([None, None, "", " "])
    day = as_of + timedelta(days=source.randint(first, last))
    draw = source.random()
    if draw < odd / 15:
        return source.choice(UNREADABLE_DAYS)
    if draw < odd:
        return written_day(source, day)
    return day.isoformat()


def _instances(
    source: Random, as_of: date, names: list[Value], odd: float, *, odd_ids: bool
) -> Table:
    table = Table(
        "campaign_instances",
        {
            "id": source.choice(["INTEGER PRIMARY KEY", "INTEGER PRIMARY KEY", "TEXT", ""])
            if odd
            else "INTEGER PRIMARY KEY",
            **dict.fromkeys(
                [
                    *(
                        "campaign_type",
                        "instance_name",
                        "email_template",
                        "sms_template",
                        "active_start_date",
                    ),
                    *(
                        "active_end_date",
                        "spread_start_date",
                        "spread_end_date",
                        "target_states",
                        "target_carriers",
                    ),
                    "metadata",
                ],
                "TEXT",
            ),
        },
    )
    ids = list(range(1, source.randint(1, 8)))
    if odd_ids:
        ids += source.sample([0, -3, 70_000, 2**40], 2)
    for instance_id in ids:
        table.add(
            id=instance_id,
            campaign_type=source.choice(names if source.random() < 0.95 else ["unheard of", None]),
            instance_name=f"instance {instance_id}",
            email_template=source.choice(
                [f"template_{instance_id}", f"template_{instance_id}", None]
            ),
            sms_template=source.choice([None, f"sms_{instance_id}"]),
            active_start_date=_day(source, as_of, -60, 3, odd, missing=0.2),
            active_end_date=_day(source, as_of, -2, 60, odd, missing=0.3),
            spread_start_date=_day(source, as_of, -20, 20, odd, missing=0.2),
            spread_end_date=_day(source, as_of, 0, 60, odd, missing=0.2),
            target_states=odd_value(
                source, 0.4 + odd, STATES, UNREADABLE_STATES if odd else STATES, None
            ),
            target_carriers=source.choice(CARRIERS) if source.random() < 0.4 else None,
        )
    return table


def id_column(source: Random, odd: float) -> str:
    """Return how a table of another program declares a contact or instance id."""
    return (
        source.choice(["INTEGER", "INTEGER", "TEXT", "", "VARCHAR(20)", "NUMERIC"])
        if odd
        else "INTEGER"
    )


def written_id(source: Random, number: Value, share: float) -> Value:
    """Return an id, in this share of calls in another type, seldom unreadable."""
    if not isinstance(number, int) or source.random() >= share:
        return number
    if source.random() < 0.1:
        unreadable: list[Value] = ["", "abc", "7x", 7.5, b"\xff", RawText(b"7\xff"), "9" * 20]
        return source.choice(unreadable)
    forms: list[Value] = [str(number), f" {number}\n", str(number).encode()]
    if abs(number) < 2**53:
        forms.append(float(number))
    if number >= 0:
        forms += [f"+{number}", f"00{number}"]
    return source.choice(forms)


def _contact_campaigns(
    source: Random, as_of: date, contact_ids: Sequence[Value], instance_ids: list[Value], odd: float
) -> Table:
    table = Table(
        "contact_campaigns",
        {
            "id": "INTEGER PRIMARY KEY",
            "contact_id": id_column(source, odd),
            "campaign_instance_id": id_column(source, odd),
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
            contact_id = (
                source.choice(contact_ids)
                if source.random() > odd / 4
                else source.choice([None, 987_654])
            )
            pair = (
                contact_id,
                source.choice(instance_ids) if instance_ids and source.random() > 0.02 else 4711,
            )
        table.add(
            contact_id=written_id(source, pair[0], odd / 2),
            campaign_instance_id=written_id(source, pair[1], odd / 2),
            trigger_date=source.choice(busy_days)
            if source.random() < 0.4
            else _day(source, as_of, -30, 60, odd, 0.05),
            status=source.choice(STATUSES if source.random() < odd else PLAIN_STATUSES),
        )
    return table
