"""Defaults and overrides (rules, sections 3, 9 and 13).

Takes overrides that are valid: it merges them and refuses unknown keys, but does not check ranges.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from .values import trim


@dataclass(frozen=True)
class ExclusionRule:
    """One rule of one state. The kinds: birthday_window, effective_date_window, year_round."""

    kind: str
    before: int = 0
    after: int = 0
    month_start: bool = False
    pre_window_days: int | None = None


def _birthday(before: int, after: int, *, month_start: bool = False) -> tuple[ExclusionRule, ...]:
    return (ExclusionRule("birthday_window", before, after, month_start),)


def default_rules() -> dict[str, tuple[ExclusionRule, ...]]:
    """Return the rules of section 3, by state."""
    rules = {
        "CA": _birthday(30, 60),
        "ID": _birthday(0, 63),
        "KY": _birthday(0, 60),
        "MD": _birthday(0, 30),
        "NV": _birthday(0, 60, month_start=True),
        "OK": _birthday(0, 60),
        "OR": _birthday(0, 31),
        "VA": _birthday(0, 30),
        "MO": (ExclusionRule("effective_date_window", 30, 33),),
    }
    return rules | {state: (ExclusionRule("year_round"),) for state in ("CT", "MA", "NY", "WA")}


@dataclass(frozen=True)
class Configuration:
    """All settings that a plan depends on, flat; the table each comes from is in `_PLACES`."""

    timezone: str = "America/Chicago"
    #: Trimmed and in lower case, as are the void statuses.
    active_statuses: frozenset[str] = frozenset({"active"})
    opt_out_columns: tuple[str, ...] = (
        *("deleted_at", "unsubscribed", "unsubscribed_at", "do_not_email", "do_not_contact"),
        *("opted_out", "deceased"),
    )
    date_formats: tuple[str, ...] = ("YYYY-MM-DD",)
    void_statuses: frozenset[str] = frozenset(
        {"failed", "cancelled", "canceled", "dropped", "rejected", "error", "draft"}
    )
    #: Email type of history -> the type it counts as, both in lower case.
    aliases: dict[str, str] = field(default_factory=dict)
    birthday_days_before: int = 14
    effective_date_days_before: int = 30
    effective_date_first_anniversary: int = 1
    aep_days: tuple[str, ...] = ("09-15",)
    aep_slack_days: int = 30
    enable_post_window: bool = True
    exclude_failed_underwriting: bool = False
    pre_window_days: int = 60
    #: True: a rule whose date is unreadable, or missing, excludes every date.
    unreadable_dates_exclude: bool = True
    missing_dates_exclude: bool = False
    rules: dict[str, tuple[ExclusionRule, ...]] = field(default_factory=default_rules)
    #: None: by the size of the organization.
    daily_cap_percent: int | float | None = None
    effective_date_soft_limit: int | None = None
    smoothing_window_days: int = 5
    catch_up_spread_days: int = 7
    max_emails_per_period: int = 3
    period_days: int = 30
    followup_enable: bool = True
    followup_lookback_days: int = 35
    followup_delay_days: int = 2
    templates: dict[str, str] = field(default_factory=dict)

    def month_days(self) -> list[tuple[int, int]]:
        """Return the AEP days as (month, day)."""
        return [(int(day[:2]), int(day[3:])) for day in self.aep_days]

    @property
    def zone(self) -> ZoneInfo:
        """The organization's time zone."""
        return ZoneInfo(self.timezone)

    def template(self, email_type: str) -> str:
        """Return the email template of a type that is not a campaign's."""
        return self.templates.get(email_type, email_type)


_TABLES = (
    *("contacts", "history", "anniversary", "exclusion", "balance", "frequency", "followup"),
    "templates",
)
_FOLLOWUP = {
    "enable": "followup_enable",
    "lookback_days": "followup_lookback_days",
    "delay_days": "followup_delay_days",
}
_NAMES = {item.name for item in fields(Configuration)}


def configure(overrides: dict[str, Any]) -> Configuration:
    """Return the defaults merged with the overrides (section 13), key by key."""
    changes: dict[str, Any] = {}
    for table, content in overrides.items():
        if table == "timezone":
            changes["timezone"] = content
        elif table == "send_time":
            continue  # not a part of what a plan says about dates
        elif table == "templates":
            changes["templates"] = dict(content)
        elif table in _TABLES:
            for key, value in content.items():
                changes.update(_setting(table, key, value))
        else:
            raise ValueError(f"unknown table {table!r}")
    return replace(Configuration(), **changes)


def _setting(table: str, key: str, value: Any) -> dict[str, Any]:
    name = _FOLLOWUP[key] if table == "followup" else key
    if (table, key) == ("exclusion", "rules"):
        own = {
            state: tuple(ExclusionRule(**rule) for rule in rules) for state, rules in value.items()
        }
        return {"rules": default_rules() | own}
    if table == "exclusion" and key in ("unreadable_dates", "missing_dates"):
        return {f"{key}_exclude": value == "exclude"}
    if name not in _NAMES:
        raise ValueError(f"unknown key {table}.{key}")
    if key in ("active_statuses", "void_statuses"):
        return {name: frozenset(trim(status).lower() for status in value)}
    if key == "opt_out_columns":
        return {name: tuple(column.lower() for column in value)}
    if key == "aliases":
        return {name: {old.lower(): new.lower() for old, new in value.items()}}
    return {name: tuple(value) if isinstance(value, list) else value}


@dataclass(frozen=True)
class Limits:
    """The daily limits of e-mails."""

    cap: int
    soft: int
    limit: int


def limits(configuration: Configuration, total: int) -> Limits:
    """Return the limits of an organization of `total` contacts (section 9), in exact arithmetic."""
    percent, soft_limit = _profile(total)
    if configuration.daily_cap_percent is not None:
        percent = Decimal(str(configuration.daily_cap_percent))
    if configuration.effective_date_soft_limit is not None:
        soft_limit = configuration.effective_date_soft_limit
    hundredths = int((percent * 100).to_integral_value())
    cap = max(1, total * hundredths // 10_000)
    return Limits(cap, soft=max(1, min(soft_limit, cap * 3 // 10)), limit=cap * 12 // 10)


def _profile(total: int) -> tuple[Decimal, int]:
    if total < 10_000:
        return Decimal(20), 50
    if total < 100_000:
        return Decimal(10), 200
    if total < 500_000:
        return Decimal(7), 500
    return Decimal(5), 1000
