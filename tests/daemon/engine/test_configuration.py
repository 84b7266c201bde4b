"""Keys of the configuration: their values, their names in errors, merged layers, and presets."""

from __future__ import annotations

import datetime as dt
import sqlite3
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schedclient.toml import render
from schedd.engine import calendar
from schedd.engine.configuration import (
    Configuration,
    ConfigurationError,
    Layer,
    WindowRule,
    build,
    dotted,
    dump_configuration,
    parse_toml,
    sources,
)
from schedd.engine.presets import (
    DEFAULT_RULES,
    PRESETS,
    TO_BE_CONFIRMED,
    RuleDifference,
    differences,
)
from schedd.engine.rules import RULE_KINDS, in_words
from schedd.engine.states import STATES
from schedd.engine.windows import Windows
from tests.support.plans import make_database, read_plan, run_locally
from tests.support.window_rules import Person, configurations, ordinals, people_of


def made(text: str) -> Configuration:
    return build(parse_toml(text, "the test"))


def refused(text: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        made(text)
    message = str(caught.value)
    assert message.startswith("the test: ")
    return message


def test_defaults() -> None:
    """Without configuration the new keys have the values of the rules."""
    found = build()
    assert found == Configuration()
    assert found.active_statuses == ("active",)
    assert found.opt_out_columns[0] == "deleted_at"
    assert len(found.opt_out_columns) == 7
    assert found.date_formats == ("YYYY-MM-DD",)
    assert "draft" in found.void_statuses
    assert found.aliases == {}
    assert (found.unreadable_dates, found.missing_dates, found.preset) == (
        "exclude",
        "ignore",
        "default",
    )
    assert (
        found.guard_max_ineligible_increase,
        found.guard_max_removed,
        found.guard_max_unreadable,
    ) == (
        1000,
        3000,
        5000,
    )
    assert (found.guard_max_days_over_cap, found.guard_min_count) == (3, 20)


def test_names_are_trimmed_and_lower_case() -> None:
    """Statuses, columns and types are stored trimmed, in lower case and once."""
    found = made(
        """
        [contacts]
        active_statuses = [" Active\\u00a0", "ACTIVE", "\\ufeffClient\\u200b"]
        opt_out_columns = ["Stop_Mail", "deleted_at"]
        date_formats = ["MM/DD/YYYY", "YYYY-MM-DD"]
        [history]
        void_statuses = ["Draft "]
        [history.aliases]
        " Scheduled_Rate_Increase" = "Campaign_Rate_Increase "
        [exclusion]
        unreadable_dates = "ignore"
        missing_dates = "exclude"
        """
    )
    assert found.active_statuses == ("active", "client")
    assert found.opt_out_columns == ("stop_mail", "deleted_at")
    assert found.date_formats == ("MM/DD/YYYY", "YYYY-MM-DD")
    assert found.void_statuses == ("draft",)
    assert found.aliases == {"scheduled_rate_increase": "campaign_rate_increase"}
    assert (found.unreadable_dates, found.missing_dates) == ("ignore", "exclude")
    assert made("[contacts]\nactive_statuses = []\nopt_out_columns = []\n").opt_out_columns == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "[contacts]\nactive_statuses = 'active'",
            ["contacts.active_statuses", "'active'", "an array of statuses"],
        ),
        ("[contacts]\nactive_statuses = [' ']", ["contacts.active_statuses[0]", "not blank"]),
        (
            "[contacts]\nopt_out_columns = ['a', 1]",
            ["contacts.opt_out_columns[1] = 1", "not blank"],
        ),
        ("[contacts]\ndate_formats = []", ["contacts.date_formats", "one or more of YYYY-MM-DD"]),
        ("[contacts]\ndate_formats = ['YY-MM-DD']", ["'YY-MM-DD'", "DD.MM.YYYY"]),
        ("[contacts]\ndate_formats = ['YYYYMMDD', 'YYYYMMDD']", ["each once"]),
        (
            "[contacts]\ndate_format = ['YYYYMMDD']",
            ["contacts.date_format", "did you mean 'date_formats'"],
        ),
        (
            "[history]\nvoid_statuses = ['failed', ' Pre-Scheduled']",
            ["history.void_statuses", "pre-scheduled"],
        ),
        ("[history]\nvoid_statuses = ['skipped']", ["other than pre-scheduled and skipped"]),
        ("[history]\naliases = ['a']", ["history.aliases", "a table"]),
        ("[history.aliases]\na = 1", ["history.aliases.a = 1", "not blank"]),
        ("[history.aliases]\na = 'b'\nA = 'c'", ["history.aliases", "'a' twice"]),
        ("[history.aliases]\na = 'b'\nb = 'c'", ["history.aliases.a = 'b'", "final type"]),
        ("[history.aliases]\na = 'A'", ["history.aliases.a", "itself an alias"]),
        (
            "[exclusion]\nunreadable_dates = true",
            ["exclusion.unreadable_dates = True", "exclude, ignore"],
        ),
        ("[exclusion]\nmissing_dates = 'skip'", ["exclusion.missing_dates", "exclude, ignore"]),
        ("[exclusion]\npreset = '2025'", ["exclusion.preset = '2025'", "default, 2026"]),
        ("[guard]\nmax_removed_percent = 101", ["guard.max_removed_percent = 101", "0 to 100"]),
        ("[guard]\nmax_unreadable_percent = 1.234", ["at most two decimals"]),
        ("[guard]\nmax_days_over_cap = -1", ["guard.max_days_over_cap", "0 to 1000"]),
        ("[guard]\nmin_count = 0", ["guard.min_count", "1 to 1000000"]),
        ("[guard]\nmax_ineligible = 3", ["did you mean 'max_ineligible_increase_percent'"]),
        ("[exclusion.rules]\nTX = [{ kind = 'unreadable_date' }]", ["TX[0].kind", "year_round"]),
        (
            "[exclusion.rules]\nTX = [{ kind = 'year_round', before = 1 }]",
            ["unknown key", "exclusion.rules.TX[0].before"],
        ),
        (
            "[exclusion.rules]\nTX = [{ kind = 'year_round', min_age = 65 }]",
            ["unknown key", "TX[0].min_age"],
        ),
        (
            "[exclusion.rules]\nTX = [{ kind = 'year_round', from = '2026-02-30' }]",
            ["TX[0].from", "2026-02-30"],
        ),
        (
            "[exclusion.rules]\nTX = [{ kind = 'year_round', until = '9999-12-31' }]",
            ["TX[0].until", "omit it for no limit"],
        ),
        (
            "[exclusion.rules]\nTX = [{ kind = 'year_round', from = 2026-01-01T00:00:00 }]",
            ["TX[0].from"],
        ),
        (
            (
                "[exclusion.rules]\nTX = [{ kind = 'year_round', from = '2026-02-01', until = "
                "'2026-01-31' }]"
            ),
            ["TX[0].from = 2026-02-01 is after exclusion.rules.TX[0].until"],
        ),
        (
            (
                "[exclusion.rules]\nTX = [{ kind = 'birthday_window', before = 0, after = 1, "
                "min_age "
                "= 76, max_age = 75 }]"
            ),
            ["TX[0].min_age = 76 is after"],
        ),
        (
            (
                "[exclusion.rules]\nTX = [{ kind = 'birthday_window', before = 0, after = 1, "
                "max_age "
                "= 151 }]"
            ),
            ["TX[0].max_age = 151", "0 to 150"],
        ),
    ],
)
def test_errors(text: str, words: list[str]) -> None:
    """An invalid setting is refused with its key, its value and the accepted values."""
    message = refused(text)
    for word in words:
        assert word in message


def test_layers() -> None:
    """Later layers win key by key; aliases type by type, and a chain over two layers is refused."""
    first = Layer(
        "the file", {"history": {"aliases": {"a": "x", "b": "y"}, "void_statuses": ["failed"]}}
    )
    second = Layer(
        "version 3", {"history": {"aliases": {"B": "z", "c": "x"}}, "guard": {"min_count": 5}}
    )
    found = build(first, second)
    assert found.aliases == {"a": "x", "b": "z", "c": "x"}
    assert found.void_statuses == ("failed",)
    assert found.guard_min_count == 5
    assert build(first, Layer("version 4", {"history": {"void_statuses": []}})).aliases == {
        "a": "x",
        "b": "y",
    }
    with pytest.raises(
        ConfigurationError, match=r"^version 5: history\.aliases\.a = 'x' is itself an alias"
    ):
        build(first, Layer("version 5", {"history": {"aliases": {"x": "w"}}}))
    named = sources([first, second])
    assert named["history.aliases.a"] == "the file"
    assert named["history.void_statuses"] == "the file"


def test_empty_tables_are_shown() -> None:
    """A table without entries is a value of its own, so that every setting is shown."""
    assert dict(dotted(dump_configuration(Configuration())))["history.aliases"] == {}


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8).filter(
    lambda text: text.strip("\0\ufeff\u200b \t\n\r\x0b\x0c\x1c\x1d\x1e\x1f\x85\xa0").strip()
)
PERCENT = st.integers(0, 10_000).map(lambda number: number / 100)


@given(st.data(), configurations())
@settings(deadline=None, max_examples=60)
def test_round_trip(data: st.DataObject, windows: Configuration) -> None:
    """A written configuration reads back equal, as a dictionary and as TOML."""
    layer: dict[str, Any] = {
        "contacts": {
            "active_statuses": data.draw(st.lists(TEXTS, max_size=3)),
            "opt_out_columns": data.draw(st.lists(TEXTS, max_size=3)),
            "date_formats": data.draw(
                st.sampled_from([["DD.MM.YYYY"], ["MMDDYYYY", "YYYY-MM-DD"]])
            ),
        },
        "history": {
            "aliases": {f"old_{i}": f"new_{i}" for i in range(data.draw(st.integers(0, 3)))}
        },
        "guard": {
            "max_ineligible_increase_percent": data.draw(PERCENT),
            "max_removed_percent": data.draw(PERCENT),
            "max_unreadable_percent": data.draw(PERCENT),
        },
        "exclusion": {"preset": data.draw(st.sampled_from(list(PRESETS)))},
    }
    rules = Layer("rules", {"exclusion": dump_configuration(windows)["exclusion"]})
    configuration = build(rules, Layer("random", layer))
    complete = dump_configuration(configuration)
    assert build(Layer("complete", complete)) == configuration
    assert tomllib.loads(render(complete)) == complete
    assert build(Layer("text", tomllib.loads(render(complete)))) == configuration


def test_rule_keys() -> None:
    """`from` and `until` are days as text or as dates of TOML, both ends included."""
    found = made(
        """
        [[exclusion.rules.TX]]
        kind = "birthday_window"
        before = 0
        after = 45
        from = "2026-01-01"
        until = 2026-12-31
        min_age = 65
        max_age = 75

        [[exclusion.rules.TX]]
        kind = "year_round"
        from = 2027-01-01
        """
    ).rules["TX"]
    first, last, later = (
        calendar.ordinal(dt.date.fromisoformat(d))
        for d in ("2026-01-01", "2026-12-31", "2027-01-01")
    )
    assert found == (
        WindowRule(
            "birthday_window", 0, 45, from_date=first, until_date=last, min_age=65, max_age=75
        ),
        WindowRule("year_round", from_date=later),
    )
    assert in_words(found) == (
        "0 days before to 45 days after the birthday, from age 65, to age 75, from 2026-01-01, "
        "until 2026-12-31; "
        "year-round, from 2027-01-01"
    )


def test_preset_replaces_the_table() -> None:
    """A preset takes the place of the built-in table, in whichever layer.

    A state's own rules come on top of it.
    """
    own = Layer("the file", {"exclusion": {"rules": {"CA": [], "TX": [{"kind": "year_round"}]}}})
    found = build(own, Layer("version 1", {"exclusion": {"preset": "2026"}}))
    assert found.preset == "2026"
    assert found.rules == {**PRESETS["2026"].rules, "CA": (), "TX": (WindowRule("year_round"),)}
    assert build().rules == DEFAULT_RULES
    assert build(Layer("x", {"exclusion": {"preset": "default"}})) == build()
    back = build(
        Layer("x", {"exclusion": {"preset": "2026"}}),
        Layer("y", {"exclusion": {"preset": "default"}}),
    )
    assert back == build()


@pytest.mark.parametrize("name", list(PRESETS))
def test_presets_are_complete(name: str) -> None:
    """Every entry has a known state, valid rules, a source and a note to confirm."""
    preset = PRESETS[name]
    assert preset.name == name
    for state, entry in preset.entries.items():
        assert state in STATES
        assert entry.rules
        assert entry.source
        assert TO_BE_CONFIRMED in entry.note
        assert entry.effect is None or dt.date.fromisoformat(entry.effect).year > 2000
        assert all(rule.kind in RULE_KINDS for rule in entry.rules)
    assert not set(preset.open_points) & set(preset.entries)
    assert set(preset.open_points) <= set(STATES)
    written = dump_configuration(build(Layer("x", {"exclusion": {"preset": name}})))
    assert (
        build(
            Layer("again", {"exclusion": {"rules": written["exclusion"]["rules"], "preset": name}})
        ).rules
        == preset.rules
    )


def test_the_preset_of_2026_is_never_shorter() -> None:
    """A date that the default table excludes is excluded by the preset, too."""
    default, newer = (
        Windows.of(build()),
        Windows.of(build(Layer("x", {"exclusion": {"preset": "2026"}}))),
    )
    days = [dt.date(2024, 1, 1) + dt.timedelta(days=number) for number in range(3 * 366)]
    for state in DEFAULT_RULES:
        people = people_of([Person(state, dt.date(1950, 5, 20), dt.date(2015, 9, 1))])
        who = people.ids.repeat(len(days))
        excluded = default.excluded(people, who, ordinals(days)) > 0
        assert (newer.excluded(people, who, ordinals(days))[excluded] > 0).all()


def test_differences() -> None:
    """Two tables are compared state by state; the order of a state's rules makes no difference."""
    found = {
        difference.state: difference
        for difference in differences(DEFAULT_RULES, PRESETS["2026"].rules)
    }
    assert list(found) == ["IL", "IN", "KY", "LA", "ME", "UT", "VA", "WY"]
    assert found["VA"].rules == DEFAULT_RULES["VA"]
    assert found["VA"].other_rules == (WindowRule("birthday_window", 0, 60),)
    assert in_words(found["IL"].rules) == "no rule"
    one, two = WindowRule("year_round"), WindowRule("birthday_window", 1, 2)
    assert differences({"TX": (one, two)}, {"TX": (two, one)}) == ()
    assert differences({"TX": (one,), "UT": ()}, {}) == (RuleDifference("TX", (one,), ()),)


SCRIPT = """
CREATE TABLE contacts(id INTEGER PRIMARY KEY, email TEXT, zip_code TEXT, birth_date TEXT,
  effective_date TEXT);
-- Los Angeles, Kansas City, New Orleans, Austin
INSERT INTO contacts VALUES
  (1, 'a@example.org', '90001', 'spring', '2015-02-10'),
  (2, 'b@example.org', '64101', '1950-02-10', NULL),
  (3, 'c@example.org', '70112', '1950-12-20', NULL),
  (4, 'd@example.org', '78701', 'spring', NULL);
"""


@pytest.mark.parametrize(
    ("exclusion", "expected"),
    [
        (
            {},
            {
                (1, "effective_date"): "exclusion:CA:unreadable_date",
                (1, "aep"): "exclusion:CA:unreadable_date",
                (2, "birthday"): None,
                (2, "aep"): None,
                (3, "birthday"): None,
                (3, "aep"): None,
                (4, "aep"): None,
            },
        ),
        (
            {"missing_dates": "exclude", "unreadable_dates": "ignore", "preset": "2026"},
            {
                (1, "effective_date"): None,
                (1, "aep"): None,
                (2, "birthday"): "exclusion:MO:missing_date",
                (2, "aep"): "exclusion:MO:missing_date",
                (3, "birthday"): "exclusion:LA:birthday_window",
                (3, "aep"): None,
                (4, "aep"): None,
            },
        ),
    ],
)
def test_a_run(
    exclusion: dict[str, Any], expected: dict[tuple[int, str], str | None], tmp_path: Path
) -> None:
    """Contacts without a readable rule date get no e-mail, and the reason says so."""
    path = make_database(tmp_path / "org.db", SCRIPT)
    result = run_locally(path, tmp_path / "scratch", "2026-11-24", config={"exclusion": exclusion})
    plan = read_plan(path)
    assert {(row[0], row[1]): row[4] for row in plan if row[1] != "post_window"} == expected
    assert {row[0] for row in plan if row[1] == "post_window"} <= {3}
    assert all(reason in result.skipped for reason in expected.values() if reason)
    again = run_locally(
        path, tmp_path / "scratch", "2026-11-24", "job-test.2", config={"exclusion": exclusion}
    )
    assert (again.rows_inserted, again.rows_updated, again.rows_deleted) == (0, 0, 0)
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def test_explained(tmp_path: Path) -> None:
    """The explanation says that the date cannot be read."""
    path = make_database(tmp_path / "org.db", SCRIPT)
    result = run_locally(path, tmp_path / "scratch", "2026-11-24", dry_run=True, explain=[1])
    (contact,) = result.explanations or []
    event = next(event for event in contact.events if event.email_type == "aep")
    assert [(window.kind, window.start, window.end) for window in event.windows] == [
        ("unreadable_date", None, None)
    ]
    assert any("cannot be read, so every day is excluded" in step.text for step in event.steps)
