"""The settings of daemon, client and bucket come from one design: sources, errors, suggestions."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest

from schedbucket import settings as bucket_settings
from schedclient import settings as client_settings
from schedd import settings as daemon_settings
from schedd.exitcodes import ExitCode, FatalError
from schedproto import SchedulerError
from schedproto.settings import (
    Setting,
    SettingError,
    SettingsTable,
    choice,
    did_you_mean,
    integer,
    number,
    setting,
    texts,
)

TABLES: dict[str, SettingsTable[Any]] = {
    "daemon": daemon_settings.TABLE,
    "client": client_settings.TABLE,
    "bucket": bucket_settings.TABLE,
}
#: setting -> two different values that it accepts, as text
VALUES = {
    "data": ("/one", "/two"),
    "listen": ("tcp://127.0.0.1:1", "tcp://127.0.0.1:2"),
    "metrics_listen": ("9091", "127.0.0.1:9092"),
    "bucket_layout": ("versions", "plain"),
    "log_format": ("pretty", "json"),
    "log_level": ("debug", "error"),
    "endpoint": ("http://127.0.0.1:1", "http://127.0.0.1:2"),
    "metadata": ("role=one", "role=two"),
    "api": ("http://127.0.0.1:1", "http://127.0.0.1:2"),
    "resolver": ("fdaa::3", "fdaa::4"),
    "app": ("one", "two"),
    "worker_memory_mb": ("512", "1024"),
}
EACH = [(name, each) for name, table in TABLES.items() for each in table]


def values_of(table: str, each: Setting) -> tuple[str, str]:
    if (table, each.name) == ("client", "endpoint"):
        return ("tcp://127.0.0.1:1", "ipc:///socket")
    return VALUES.get(each.name, ("11", "12"))


@pytest.mark.parametrize(("name", "each"), EACH, ids=[f"{n}-{e.name}" for n, e in EACH])
def test_each_setting_from_each_source(name: str, each: Setting, tmp_path: Path) -> None:
    """A flag overrides the environment, that the file, and that the default."""
    table = TABLES[name]
    first, second = values_of(name, each)
    file = tmp_path / "settings.toml"
    file.write_text(f'{each.name} = "{first}"\n')
    in_file = table.read_file(file)
    parsed_first, parsed_second = each.parse(first), each.parse(second)
    assert parsed_first != parsed_second

    def loaded(
        flags: dict[str, str], environment: dict[str, str], values: dict[str, str]
    ) -> object:
        return getattr(table.load(flags, environment, values, "file"), each.name)

    assert loaded({}, {}, in_file) == parsed_first
    assert loaded({}, {each.variable: second}, in_file) == parsed_second
    if each.secret and name == "daemon":
        with pytest.raises(SettingError, match="other users can read command lines"):
            loaded({each.name: first}, {}, {})
    else:
        lower = {each.variable: second}, {each.name: second}
        assert loaded({each.name: first}, *lower) == parsed_first
    # Nothing, or an empty variable, is the default.
    default = loaded({}, {}, {})
    assert loaded({}, {each.variable: ""}, {}) == default
    if each.name != "workers":  # computed
        assert default == each.default


@pytest.mark.parametrize(("name", "each"), EACH, ids=[f"{n}-{e.name}" for n, e in EACH])
def test_error_names_source_and_expectation(name: str, each: Setting) -> None:
    """An invalid setting is refused with source, name, value and what is accepted."""
    with pytest.raises(SettingError) as caught:
        TABLES[name].load({}, {}, {each.name: {}}, "settings.toml")
    shown = re.escape("***" if each.secret else "{}")
    assert re.fullmatch(
        rf"settings\.toml: invalid {each.name} {shown}: expected .+", caught.value.message
    )


def test_unknown_name_gets_a_suggestion(tmp_path: Path) -> None:
    """An unknown name is refused with the similar one, or with all names."""
    file = tmp_path / "settings.toml"
    for table in TABLES.values():
        for each in table:
            file.write_text(f"{each.name}x = 1\n")
            with pytest.raises(SettingError) as caught:
                table.read_file(file)
            assert caught.value.message == f"{file}: unknown setting '{each.name}x'"
            assert caught.value.hint.startswith("Did you mean ")
        file.write_text("zzzz = 1\n")
        with pytest.raises(SettingError) as caught:
            table.read_file(file)
        assert all(each.name in caught.value.hint for each in table)
    assert did_you_mean("drian_s", ["drain_s", "data"]) == "Did you mean drain_s?"
    assert did_you_mean("zzz", ["drain_s", "data"]) == ""


@pytest.mark.parametrize(
    ("parse", "wrong"),
    [
        (number(0, 10), [-1, 11, "x", "nan", True, None, [1]]),
        (integer(1, 5), [0, 6, 2.0, "2.5", True, None]),
        (choice("a", "b"), ["c", "", 1, None]),
        (texts, [1, ["a", 1], None]),
    ],
)
def test_parsers_refuse(parse, wrong: list[object]) -> None:
    """Values out of range or of another type are refused."""
    for value in wrong:
        with pytest.raises(ValueError, match=r"."):
            parse(value)


def test_names_follow_from_the_field() -> None:
    """A field declares all there is: flag, variable, default and documentation."""

    @dataclass(frozen=True, kw_only=True)
    class Settings:
        wait_time_s: float = setting(2.0, number(0, 9), "seconds", "How long to wait.")

    table = SettingsTable(Settings, prefix="X_")
    [each] = table
    assert (each.flag, each.variable) == ("--wait-time", "X_WAIT_TIME")
    assert table.load({}, {"X_WAIT_TIME": "3"}) == Settings(wait_time_s=3.0)
    assert table.markdown().splitlines()[-1] == (
        "| `wait_time_s` | `--wait-time` | `X_WAIT_TIME` | seconds | 2 | How long to wait. |"
    )


def test_arguments_of_a_client_are_its_settings() -> None:
    """The typed keyword arguments of a client are the fields of its settings."""
    names = {each.name for each in fields(client_settings.ClientOptions)}
    assert set(client_settings.SettingArguments.__annotations__) == names - {"endpoint"}


def test_bucket_settings_of_daemon_and_bucket_agree() -> None:
    """Daemon and bucket read the same variables in the same way."""
    for each in TABLES["bucket"]:
        if each.name.startswith("bucket_"):
            other = TABLES["daemon"][each.name]
            assert (each.variable, each.default, each.accepts, each.help) == (
                other.variable,
                other.default,
                other.accepts,
                other.help,
            )


def test_each_package_has_its_own_exception(tmp_path: Path) -> None:
    """Daemon and bucket turn a wrong setting into their own errors.

    The client's test is in tests/client.
    """
    with pytest.raises(FatalError) as fatal:
        daemon_settings.load({"drain_s": "x"}, {})
    assert fatal.value.code is ExitCode.USAGE
    assert fatal.value.message == (
        "--drain: invalid drain_s 'x': expected a number of seconds from 0 to 3600"
    )
    with pytest.raises(FatalError, match="cannot be read"):
        daemon_settings.load({}, {}, tmp_path / "missing.toml")
    with pytest.raises(SchedulerError, match="SCHEDD_BUCKET_LAYOUT: invalid bucket_layout 'x'"):
        bucket_settings.load_settings({"SCHEDD_BUCKET_LAYOUT": "x"})


def test_bucket_variables() -> None:
    """The bucket's variables come all together; blanks are nothing, and a folder needs none."""
    complete = {
        "BUCKET_NAME": "b",
        "AWS_ENDPOINT_URL_S3": "https://s3.example.org/",
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_SECRET_ACCESS_KEY": "secret",
    }
    loaded = bucket_settings.load_settings({**complete, "SCHEDD_BUCKET_TIMEOUT": "10"})
    assert loaded is not None
    assert loaded.s3 == bucket_settings.S3Settings(
        "b", "https://s3.example.org", "id", "secret", timeout_s=10.0, retry_timeout_s=15.0
    )
    assert bucket_settings.load_settings({**complete, "BUCKET_NAME": " "}) is None
    folder = bucket_settings.load_settings({**complete, "AWS_ENDPOINT_URL_S3": "x"}, folder="/f")
    assert folder is not None
    assert folder.folder == Path("/f")
    with pytest.raises(SchedulerError, match="BUCKET_NAME is set, but not AWS_ACCESS_KEY_ID"):
        bucket_settings.load_settings({**complete, "AWS_ACCESS_KEY_ID": ""})
    with pytest.raises(SchedulerError, match="invalid endpoint 's3': expected a URL"):
        bucket_settings.load_settings({**complete, "AWS_ENDPOINT_URL_S3": "s3"})
