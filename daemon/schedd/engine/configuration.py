"""The configuration of a run (rules, section 13).

Built from layers of TOML, which are merged key by key and checked.

Pure: it gets layers as dictionaries or TOML text and returns a `Configuration` or raises
`ConfigurationError`, which names the key, the layer it stands in and what is accepted.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from . import rules as exclusion
from . import validators
from .presets import DEFAULT, DEFAULT_RULES, PRESETS
from .rules import KINDS, WindowRule
from .validators import ConfigurationError

__all__ = [
    "KINDS",
    "BalanceLimits",
    "Configuration",
    "ConfigurationError",
    "Layer",
    "WindowRule",
    "build",
    "parse_toml",
]

#: Statuses of the rows of the existing plan (section 4).
PLAN_STATUSES = ("pre-scheduled", "skipped")

#: The date formats to choose from (section 1).
DATE_FORMATS = (
    "YYYY-MM-DD",
    "YYYY/MM/DD",
    "YYYYMMDD",
    "MM/DD/YYYY",
    "MM-DD-YYYY",
    "MMDDYYYY",
    "DD/MM/YYYY",
    "DD.MM.YYYY",
)
#: What `unreadable_dates` and `missing_dates` can be.
EXCLUDE, IGNORE = "exclude", "ignore"


@dataclass(frozen=True)
class Layer:
    """One source of settings.

    `name` is how an error names it, for example "the job's overrides".

    >>> build(Layer("the job's overrides", {"send_time": "09:00:00"})).send_time
    '09:00:00'
    """

    name: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class BalanceLimits:
    """The numbers of section 9 for one organization: rows a day."""

    cap: int
    soft: int
    limit: int


#: name, first number of contacts it no longer covers, share of total in hundredths of a percent,
#: soft limit
PROFILES = (
    ("small", 10_000, 2000, 50),
    ("medium", 100_000, 1000, 200),
    ("large", 500_000, 700, 500),
    ("enterprise", None, 500, 1000),
)


@dataclass(frozen=True)
class Configuration:
    """Every setting of a run; names as in section 13, in the order of its sections.

    >>> Configuration().limits(10_000)
    BalanceLimits(cap=1000, soft=200, limit=1200)
    """

    timezone: str = "America/Chicago"
    send_time: str = "08:30:00"
    #: trimmed and in lower case, as all statuses, columns and types below
    active_statuses: tuple[str, ...] = ("active",)
    opt_out_columns: tuple[str, ...] = (
        "deleted_at",
        "unsubscribed",
        "unsubscribed_at",
        "do_not_email",
        "do_not_contact",
        "opted_out",
        "deceased",
    )
    date_formats: tuple[str, ...] = ("YYYY-MM-DD",)
    void_statuses: tuple[str, ...] = (
        "failed",
        "cancelled",
        "canceled",
        "dropped",
        "rejected",
        "error",
        "draft",
    )
    #: e-mail type of a dispatched row -> the type that it is compared as
    aliases: Mapping[str, str] = field(default_factory=dict)
    birthday_days_before: int = 14
    effective_date_days_before: int = 30
    effective_date_first_anniversary: int = 1
    #: (month, day) pairs, in the order of the calendar
    aep_days: tuple[tuple[int, int], ...] = ((9, 15),)
    aep_slack_days: int = 30
    enable_post_window: bool = True
    exclude_failed_underwriting: bool = False
    pre_window_days: int = 60
    unreadable_dates: str = EXCLUDE
    missing_dates: str = IGNORE
    #: the table of state rules that `rules` began with
    preset: str = DEFAULT
    rules: Mapping[str, tuple[WindowRule, ...]] = field(default_factory=lambda: dict(DEFAULT_RULES))
    #: hundredths of a percent; None: the profile by size
    daily_cap: int | None = None
    effective_date_soft_limit: int | None = None
    smoothing_window_days: int = 5
    catch_up_spread_days: int = 7
    max_emails_per_period: int = 3
    period_days: int = 30
    enable_followups: bool = True
    lookback_days: int = 35
    delay_days: int = 2
    #: hundredths of a percent; 10,000 never stops a run
    guard_max_ineligible_increase: int = 1000
    guard_max_removed: int = 3000
    guard_max_unreadable: int = 5000
    guard_max_days_over_cap: int = 3
    guard_min_count: int = 20
    templates: Mapping[str, str] = field(default_factory=dict)

    def limits(self, total: int) -> BalanceLimits:
        """Return the daily numbers for `total` contacts, in exact arithmetic (section 9)."""
        _, _, share, soft = next(p for p in PROFILES if p[1] is None or total < p[1])
        share = share if self.daily_cap is None else self.daily_cap
        soft = soft if self.effective_date_soft_limit is None else self.effective_date_soft_limit
        cap = max(1, total * share // 10_000)
        return BalanceLimits(cap, max(1, min(soft, cap * 3 // 10)), cap * 12 // 10)

    def template(self, email_type: str) -> str:
        """Return the template of an e-mail that is not a campaign's."""
        return self.templates.get(email_type, email_type)


def parse_toml(text: str, name: str) -> Layer:
    """Return the layer of a TOML text; `name` is how errors name it.

    What is not TOML raises `ConfigurationError` with line and column.
    """
    try:
        return Layer(name, tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{name} is not valid TOML: {error}") from None


# Where each key goes: (section, key) -> (field, check). Section "" is the top level.
_KEYS: dict[tuple[str, str], tuple[str, validators.Check]] = {
    ("", "timezone"): ("timezone", validators.timezone),
    ("", "send_time"): ("send_time", validators.time_of_day),
    ("contacts", "active_statuses"): ("active_statuses", validators.names("statuses")),
    ("contacts", "opt_out_columns"): ("opt_out_columns", validators.names("names of columns")),
    ("contacts", "date_formats"): ("date_formats", validators.choices(DATE_FORMATS)),
    ("history", "void_statuses"): (
        "void_statuses",
        validators.names("statuses", without=PLAN_STATUSES),
    ),
    ("history", "aliases"): ("aliases", validators.aliases),
    ("anniversary", "birthday_days_before"): ("birthday_days_before", validators.integer(0, 180)),
    ("anniversary", "effective_date_days_before"): (
        "effective_date_days_before",
        validators.integer(0, 180),
    ),
    ("anniversary", "effective_date_first_anniversary"): (
        "effective_date_first_anniversary",
        validators.integer(1, 99),
    ),
    ("anniversary", "aep_days"): ("aep_days", validators.month_days),
    ("anniversary", "aep_slack_days"): ("aep_slack_days", validators.integer(0, 90)),
    ("anniversary", "enable_post_window"): ("enable_post_window", validators.boolean),
    ("anniversary", "exclude_failed_underwriting"): (
        "exclude_failed_underwriting",
        validators.boolean,
    ),
    ("exclusion", "pre_window_days"): ("pre_window_days", validators.integer(0, 120)),
    ("exclusion", "unreadable_dates"): ("unreadable_dates", validators.choice((EXCLUDE, IGNORE))),
    ("exclusion", "missing_dates"): ("missing_dates", validators.choice((EXCLUDE, IGNORE))),
    ("exclusion", "preset"): ("preset", validators.choice(tuple(PRESETS))),
    ("balance", "daily_cap_percent"): ("daily_cap", validators.hundredths(1, 10_000)),
    ("balance", "effective_date_soft_limit"): (
        "effective_date_soft_limit",
        validators.integer(1, 100_000_000),
    ),
    ("balance", "smoothing_window_days"): ("smoothing_window_days", validators.odd_integer(1, 31)),
    ("balance", "catch_up_spread_days"): ("catch_up_spread_days", validators.integer(1, 60)),
    ("frequency", "max_emails_per_period"): ("max_emails_per_period", validators.integer(1, 1000)),
    ("frequency", "period_days"): ("period_days", validators.integer(1, 366)),
    ("followup", "enable"): ("enable_followups", validators.boolean),
    ("followup", "lookback_days"): ("lookback_days", validators.integer(0, 366)),
    ("followup", "delay_days"): ("delay_days", validators.integer(0, 366)),
    ("guard", "max_ineligible_increase_percent"): (
        "guard_max_ineligible_increase",
        validators.hundredths(0, 10_000),
    ),
    ("guard", "max_removed_percent"): ("guard_max_removed", validators.hundredths(0, 10_000)),
    ("guard", "max_unreadable_percent"): ("guard_max_unreadable", validators.hundredths(0, 10_000)),
    ("guard", "max_days_over_cap"): ("guard_max_days_over_cap", validators.integer(0, 1000)),
    ("guard", "min_count"): ("guard_min_count", validators.integer(1, 1_000_000)),
}
#: (section, key) -> field of `Configuration`
SETTING_KEYS: dict[tuple[str, str], str] = {key: field for key, (field, _) in _KEYS.items()}
#: Fields that are written in percent and kept in hundredths of a percent.
PERCENT_FIELDS = frozenset(
    field for (_, key), (field, _) in _KEYS.items() if key.endswith("_percent")
)
_SECTIONS = (*dict.fromkeys(section for section, _ in _KEYS if section), "templates")


def _check_layer(
    values: Mapping[str, Any],
) -> tuple[dict[str, Any], dict[str, Any], dict[str, str]]:
    """Return the checked fields, the state rules and the templates of one layer."""
    fields: dict[str, Any] = {}
    rules: dict[str, Any] = {}
    templates: dict[str, str] = {}
    validators.known_keys(
        values, [key for section, key in _KEYS if not section] + list(_SECTIONS), ""
    )
    for name, value in values.items():
        if ("", name) in _KEYS:
            target, check = _KEYS["", name]
            fields[target] = check(value, name)
            continue
        table = validators.table(value, name)
        if name == "templates":
            templates |= {str(t): validators.text(v, f"templates.{t}") for t, v in table.items()}
            continue
        keys = [key for section, key in _KEYS if section == name]
        validators.known_keys(table, keys + (["rules"] if name == "exclusion" else []), name)
        for key, item in table.items():
            if (name, key) == ("exclusion", "rules"):
                rules = exclusion.checked(item, "exclusion.rules")
            else:
                target, check = _KEYS[name, key]
                fields[target] = check(item, f"{name}.{key}")
    return fields, rules, templates


def build(*layers: Layer) -> Configuration:
    """Return the configuration of these layers.

    Later layers win key by key, and in `aliases` type by type. A preset replaces the table of state
    rules in whatever layer it is set; a state's list of rules replaces the preset's and earlier
    ones completely. Raises `ConfigurationError`.

    >>> build(Layer("the job", {"anniversary": {"birthday_days_before": 7}})).birthday_days_before
    7
    """
    fields: dict[str, Any] = {}
    rules: dict[str, tuple[WindowRule, ...]] = {}
    templates: dict[str, str] = {}
    for layer in layers:
        try:
            new_fields, new_rules, new_templates = _check_layer(layer.values)
            if "aliases" in new_fields:
                new_fields["aliases"] = fields.get("aliases", {}) | new_fields["aliases"]
                validators.no_chains(new_fields["aliases"], "history.aliases")
        except ConfigurationError as error:
            raise ConfigurationError(f"{layer.name}: {error}") from None
        fields |= new_fields
        rules |= new_rules
        templates |= new_templates
    preset = PRESETS[fields.get("preset", DEFAULT)]
    return Configuration(**fields, rules={**preset.rules, **rules}, templates=templates)


def dump_configuration(configuration: Configuration) -> dict[str, Any]:
    """Return every setting with its value.

    Those that the organization's size decides are absent unless set.
    """
    result: dict[str, Any] = {}
    for (section, key), name in SETTING_KEYS.items():
        value = _written(name, getattr(configuration, name))
        if value is None:
            continue
        table = result.setdefault(section, {}) if section else result
        table[key] = value
    result["exclusion"]["rules"] = {
        state: [exclusion.written(rule) for rule in rules]
        for state, rules in sorted(configuration.rules.items())
    }
    if configuration.templates:
        result["templates"] = dict(sorted(configuration.templates.items()))
    return result


def _written(name: str, value: Any) -> Any:
    if name == "aep_days":
        return [f"{month:02d}-{day:02d}" for month, day in value]
    if name in PERCENT_FIELDS and value is not None:
        return value / 100
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, Mapping):
        return dict(sorted(value.items()))
    return value


def dotted(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, value) of nested tables, in their order; an empty table is a value."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from dotted(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def sources(layers: Sequence[Layer]) -> dict[str, str]:
    """Return dotted key -> name of the layer whose value applies, for the keys that are set."""
    return {key: layer.name for layer in layers for key, _ in dotted(layer.values)}
