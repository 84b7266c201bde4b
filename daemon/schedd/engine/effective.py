"""A configuration written out whole, in the shape in which it is given (rules, section 13)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from . import rules as exclusion
from .configuration import PERCENT_FIELDS, SETTING_KEYS, Configuration, Layer


def effective(configuration: Configuration) -> dict[str, Any]:
    """Return every setting with its value; those that the organization's size decides are absent unless set."""
    result: dict[str, Any] = {}
    for (section, key), field in SETTING_KEYS.items():
        value = _written(field, getattr(configuration, field))
        if value is None:
            continue
        table = result.setdefault(section, {}) if section else result
        table[key] = value
    result["exclusion"]["rules"] = {
        state: [exclusion.written(rule) for rule in rules] for state, rules in sorted(configuration.rules.items())
    }
    if configuration.templates:
        result["templates"] = dict(sorted(configuration.templates.items()))
    return result


def _written(field: str, value: Any) -> Any:
    if field == "aep_days":
        return [f"{month:02d}-{day:02d}" for month, day in value]
    if field in PERCENT_FIELDS and value is not None:
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
    """Return dotted key -> the place of the layer whose value applies, for keys that some layer sets."""
    return {key: layer.place for layer in layers for key, _ in dotted(layer.values)}
