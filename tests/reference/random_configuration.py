"""Random dates to plan for and random valid overrides (rules, section 13)."""

from __future__ import annotations

from datetime import date, timedelta
from random import Random
from typing import Any

from .contacts import DATE_FORMATS

TIME_ZONES = ("America/Chicago", "America/New_York", "Pacific/Honolulu", "Asia/Tokyo", "UTC")
RULE_STATES = ("CA", "NV", "MO", "NY", "TX", "FL", "OH", "GU")


def random_as_of(source: Random) -> date:
    """Return a date.

    The ends of February and of the year, and the weeks around AEP, come up often.
    """
    year = source.randint(2024, 2033)
    kind = source.randrange(5)
    if kind == 0:
        return date(year, 2, 26) + timedelta(days=source.randint(0, 5))
    if kind == 1:
        return date(year, 12, 28) + timedelta(days=source.randint(0, 8))
    if kind == 2:
        return date(year, 8, 20) + timedelta(days=source.randint(0, 65))
    return date(year, 1, 1) + timedelta(days=source.randint(0, 364))


def random_overrides(source: Random) -> dict[str, Any]:
    """Return overrides in the shape of section 13; often few or none, all of them valid."""
    if source.random() < 0.3:
        return {}
    tables: dict[str, dict[str, Any]] = {
        "contacts": _some(source, _contacts(source)),
        "history": _some(source, _history(source)),
        "anniversary": _some(source, _anniversary(source)),
        "exclusion": _some(source, _exclusion(source)),
        "balance": _some(source, _balance(source)),
        "frequency": _some(
            source,
            {
                "max_emails_per_period": source.choice([1, 2, 3, 4, 99]),
                "period_days": source.choice([1, 2, 7, 30, 45]),
            },
        ),
        "followup": _some(source, _followup(source)),
        "templates": _some(
            source,
            {"birthday": "bday_v2", "post_window": "back again", "followup_1_cold": "hello'"},
        ),
    }
    overrides: dict[str, Any] = {name: content for name, content in tables.items() if content}
    if source.random() < 0.2:
        overrides["timezone"] = source.choice(TIME_ZONES)
    return overrides


def _some(source: Random, content: dict[str, Any]) -> dict[str, Any]:
    """Return some of the keys."""
    share = source.choice([0.0, 0.3, 0.8])
    return {key: value for key, value in content.items() if source.random() < share}


def _contacts(source: Random) -> dict[str, Any]:
    formats = source.sample(DATE_FORMATS, source.randint(1, 5))
    if "YYYY-MM-DD" not in formats and source.random() < 0.9:
        formats.insert(source.randint(0, len(formats)), "YYYY-MM-DD")
    statuses = [["active", "Requested_Follow_Up"], ["ACTIVE", "bounced", "1"], ["inactive"]]
    columns = ["deleted_at", "do_not_email", "deceased", "unsubscribed_at", "stop", "left_at"]
    return {
        "active_statuses": source.choices(statuses, [4, 4, 1])[0],
        "opt_out_columns": source.sample(columns, source.randint(1, 4)),
        "date_formats": formats,
    }


def _history(source: Random) -> dict[str, Any]:
    return {
        "void_statuses": source.choice(
            [["failed", "Bounced", "held"], ["failed", "sent"], ["draft", "mystery"]]
        ),
        "aliases": source.choice(
            [
                {
                    "scheduled_rate_increase": "campaign_rate_increase",
                    "post_window_birthday": "post_window",
                },
                {
                    "WELCOME": "Birthday",
                    "campaign_gone": "campaign_promo",
                    "followup_old": "followup_1_cold",
                },
                # Names that the rules or the campaign tables know themselves.
                {
                    "campaign_promo": "campaign_rate_increase",
                    "aep": "birthday",
                    "campaign_blast": "effective_date",
                },
                {
                    "birthday": "campaign_promo",
                    "post_window": "aep",
                    "followup_1_cold": "effective_date",
                },
            ]
        ),
    }


def _exclusion(source: Random) -> dict[str, Any]:
    return {
        "pre_window_days": source.choice([0, 1, 10, 60, 120]),
        "rules": _rules(source),
        "unreadable_dates": source.choice(["exclude", "ignore"]),
        "missing_dates": source.choice(["exclude", "exclude", "ignore"]),
    }


def _anniversary(source: Random) -> dict[str, Any]:
    days = ["09-15", "03-01", "02-29", "12-31", "01-01", "10-20", "12-20"]
    return {
        "birthday_days_before": source.choice([0, 1, 2, 7, 14, 21, 90, 180]),
        "effective_date_days_before": source.choice([0, 1, 5, 30, 45, 180]),
        "effective_date_first_anniversary": source.choice([1, 1, 2, 5]),
        "aep_days": source.sample(days, source.randint(1, 3)),
        "aep_slack_days": source.choice([0, 1, 10, 30, 90]),
        "enable_post_window": source.random() < 0.7,
        "exclude_failed_underwriting": source.random() < 0.7,
    }


def _balance(source: Random) -> dict[str, Any]:
    return {
        "daily_cap_percent": source.choice([0.01, 2.5, 3.33, 7.0, 10.0, 12.34, 20.0, 33.3, 100.0]),
        "effective_date_soft_limit": source.choice([1, 2, 3, 50]),
        "smoothing_window_days": source.choice([1, 3, 5, 9, 31]),
        "catch_up_spread_days": source.choice([1, 2, 4, 7, 30, 60]),
    }


def _followup(source: Random) -> dict[str, Any]:
    return {
        "enable": source.random() < 0.8,
        "lookback_days": source.choice([5, 20, 35, 60]),
        "delay_days": source.choice([1, 2, 4, 7]),
    }


def _rules(source: Random) -> dict[str, list[dict[str, Any]]]:
    states = source.sample(RULE_STATES, source.randint(1, 4))
    return {
        state: [_rule(source) for _ in range(source.choice([0, 1, 1, 2, 3]))] for state in states
    }


def _rule(source: Random) -> dict[str, Any]:
    if source.random() < 0.15:
        return {"kind": "year_round"}
    rule: dict[str, Any] = {
        "kind": source.choice(["birthday_window", "effective_date_window"]),
        "before": source.choice([0, 0, 5, 30, 90]),
        "after": source.choice([0, 5, 20, 60, 90]),
    }
    if source.random() < 0.3:
        rule["month_start"] = True
    if source.random() < 0.3:
        rule["pre_window_days"] = source.choice([0, 1, 30, 120])
    return rule
