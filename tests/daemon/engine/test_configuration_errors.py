"""Errors, layers and size profiles of the configuration."""

from __future__ import annotations

import pytest

from schedd.engine.configuration import Configuration, ConfigurationError, Layer, build, parse_toml


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"anniversry": {}}, ["anniversry", "did you mean 'anniversary'"]),
        (
            {"anniversary": {"birthday_days_before": 181}},
            ["anniversary.birthday_days_before", "0 to 180"],
        ),
        (
            {"anniversary": {"birthday_days_before": "14"}},
            ["anniversary.birthday_days_before", "whole number"],
        ),
        ({"anniversary": {"birthday_days_before": True}}, ["whole number"]),
        ({"anniversary": {"aep_days": []}}, ["anniversary.aep_days", "MM-DD"]),
        ({"anniversary": {"aep_days": ["02-30"]}}, ["02-30"]),
        ({"balance": {"smoothing_window_days": 4}}, ["odd"]),
        ({"balance": {"daily_cap_percent": 0.001}}, ["0.01 to 100"]),
        ({"balance": {"daily_cap_percent": 1.234}}, ["two decimals"]),
        ({"exclusion": {"rules": {"XX": []}}}, ["exclusion.rules.XX"]),
        ({"exclusion": {"rules": {"CA": [{"kind": "never"}]}}}, ["exclusion.rules.CA[0].kind"]),
        ({"exclusion": {"rules": {"CA": [{"kind": "birthday_window", "before": 1}]}}}, ["'after'"]),
        (
            {"exclusion": {"rules": {"CA": [{"kind": "year_round", "before": 1}]}}},
            ["exclusion.rules.CA[0].before"],
        ),
        ({"timezone": "Mars/Olympus"}, ["timezone", "Mars/Olympus"]),
        ({"send_time": "8:30"}, ["HH:MM:SS"]),
        ({"templates": {"birthday": 5}}, ["templates.birthday"]),
        ({"frequency": 3}, ["frequency", "a table"]),
    ],
)
def test_configuration_errors(values: dict[str, object], words: list[str]) -> None:
    """An unknown key, wrong type or value is named with its location and what is accepted."""
    with pytest.raises(ConfigurationError) as caught:
        build(Layer("the file x.toml", values))
    for word in ["the file x.toml", *words]:
        assert word in str(caught.value)


def test_configuration_layers() -> None:
    """Later layers win key by key; a state's rules are replaced as a whole."""
    first = parse_toml(
        "[anniversary]\nbirthday_days_before = 3\n[exclusion.rules]\nCA = []\nTX = [{ kind = "
        '"year_round" }]',
        "first",
    )
    second = parse_toml(
        '[anniversary]\naep_slack_days = 4\n[exclusion.rules]\nTX = []\n[templates]\naep = "x"',
        "second",
    )
    configuration = build(first, second)
    assert (configuration.birthday_days_before, configuration.aep_slack_days) == (3, 4)
    assert configuration.rules["CA"] == configuration.rules["TX"] == ()
    assert configuration.rules["NV"][0].month_start
    assert configuration.template("aep") == "x"
    assert configuration.template("birthday") == "birthday"


@pytest.mark.parametrize(
    ("total", "cap", "soft", "limit"),
    [
        (1, 1, 1, 1),
        (60, 12, 3, 14),
        (9_999, 1_999, 50, 2_398),
        (10_000, 1_000, 200, 1_200),
        (100_000, 7_000, 500, 8_400),
        (500_000, 25_000, 1_000, 30_000),
    ],
)
def test_profiles(total: int, cap: int, soft: int, limit: int) -> None:
    """Cap, soft limit and limit follow the organization's size, in exact arithmetic."""
    found = Configuration().limits(total)
    assert (found.cap, found.soft, found.limit) == (cap, soft, limit)
