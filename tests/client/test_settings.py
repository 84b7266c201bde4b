"""Sources of the client's settings, their precedence, and errors for invalid ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import zmq

from schedclient.errors import SettingsError
from schedclient.settings import TABLE, load
from schedproto.keys import render


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """An environment with a settings folder of its own."""
    (tmp_path / "config" / "schedctl").mkdir(parents=True)
    return {"XDG_CONFIG_HOME": str(tmp_path / "config"), "XDG_DATA_HOME": str(tmp_path / "share")}


def write(home: dict[str, str], text: str) -> Path:
    path = Path(home["XDG_CONFIG_HOME"]) / "schedctl" / "config.toml"
    path.write_text(text)
    return path


def test_nothing_configured(home: dict[str, str]) -> None:
    """Without any setting: the local launcher over the user's own data folder, without keys."""
    settings = load({}, home)
    assert settings.endpoint is None
    assert settings.data == Path(home["XDG_DATA_HOME"]) / "email-scheduler"
    assert (settings.secret_key, settings.server_key) == (None, None)
    assert settings.idle_timeout_s == 30.0


def test_precedence(home: dict[str, str]) -> None:
    """An argument wins over the environment, which wins over the file."""
    write(home, 'data = "/file"\nidle_timeout = 1\n')
    assert load({}, home).data == Path("/file")
    assert load({}, home).idle_timeout_s == 1.0
    variables = {**home, "SCHEDCTL_DATA": "/variable", "SCHEDCTL_IDLE_TIMEOUT": "2.5"}
    assert load({}, variables).data == Path("/variable")
    assert load({}, variables).idle_timeout_s == 2.5
    arguments = {"data": "/argument", "idle_timeout": 0}
    assert load(arguments, variables).data == Path("/argument")
    assert load(arguments, variables).idle_timeout_s == 0.0


def test_empty_variable_is_no_setting(home: dict[str, str]) -> None:
    """A variable that is set to nothing is as good as not set."""
    assert load({}, {**home, "SCHEDCTL_ENDPOINT": "", "SCHEDCTL_DATA": ""}).endpoint is None


def test_data_in_the_call_means_that_folders_daemon(home: dict[str, str]) -> None:
    """A data folder named in the call wins over an endpoint that is configured elsewhere."""
    configured = {**home, "SCHEDCTL_ENDPOINT": "tcp://127.0.0.1:7300"}
    assert load({}, configured).endpoint == "tcp://127.0.0.1:7300"
    assert load({"data": "/here"}, configured).endpoint is None
    assert (
        load({"data": "/here", "endpoint": "ipc:///there"}, configured).endpoint == "ipc:///there"
    )


def test_named_file(tmp_path: Path, home: dict[str, str]) -> None:
    """SCHEDCTL_CONFIG names the file; it then has to be there."""
    named = tmp_path / "other.toml"
    environment = {**home, "SCHEDCTL_CONFIG": str(named)}
    with pytest.raises(SettingsError, match=r"other\.toml does not exist"):
        load({}, environment)
    named.write_text('endpoint = "tcp://[::1]:7300"\n')
    assert load({}, environment).endpoint == "tcp://[::1]:7300"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data = ", "is not valid TOML"),
        ("dta = 'x'", "'dta'"),
        ("data = 5", "invalid data 5: expected a string"),
        ("endpoint = ['tcp://x']", "invalid endpoint ['tcp://x']: expected a ZeroMQ endpoint"),
        ("idle_timeout = 'soon'", "invalid idle_timeout 'soon': expected a number"),
        ("endpoint = 'http://x'", "invalid endpoint 'http://x': expected a ZeroMQ"),
    ],
)
def test_bad_file(home: dict[str, str], text: str, message: str) -> None:
    """An error in the file names the setting that is wrong."""
    write(home, text)
    with pytest.raises(SettingsError, match=r".*") as caught:
        load({}, home)
    assert message in caught.value.message


def test_typo_in_the_file(home: dict[str, str]) -> None:
    """For an unknown setting the near one is named, or all of them."""
    write(home, "endpiont = 'tcp://x:1'")
    with pytest.raises(SettingsError) as caught:
        load({}, home)
    assert caught.value.hint == "Did you mean endpoint?"
    write(home, "zzz = 1")
    with pytest.raises(SettingsError) as caught:
        load({}, home)
    assert all(setting.name in caught.value.hint for setting in TABLE)


@pytest.mark.parametrize("value", ["soon", "nan", "-1", "inf", "1e12"])
def test_bad_idle_timeout(home: dict[str, str], value: str) -> None:
    """Only seconds that a daemon takes are taken."""
    with pytest.raises(SettingsError, match="idle_timeout"):
        load({}, {**home, "SCHEDCTL_IDLE_TIMEOUT": value})


class TestKeys:
    """Key files, keys in the environment, and what is wrong with them."""

    def test_files_and_texts(self, tmp_path: Path, home: dict[str, str]) -> None:
        """Both keys may be given as files, as texts of files, or bare."""
        public, secret = (key.decode() for key in zmq.curve_keypair())
        server = zmq.curve_keypair()[0].decode()
        secret_file, server_file = tmp_path / "me.secret", tmp_path / "server.public"
        secret_file.write_text(render(public, secret, "me"))
        server_file.write_text(render(server, None, "server"))
        for given in (
            {"SCHEDCTL_KEY_FILE": str(secret_file), "SCHEDCTL_SERVER_KEY": str(server_file)},
            {"SCHEDCTL_KEY": secret, "SCHEDCTL_SERVER_KEY": server},
            {
                "SCHEDCTL_KEY": secret_file.read_text(),
                "SCHEDCTL_SERVER_KEY": server_file.read_text(),
            },
        ):
            settings = load({}, {**home, **given})
            assert (settings.secret_key, settings.server_key) == (secret.encode(), server.encode())

    def test_one_without_the_other(self, home: dict[str, str]) -> None:
        """One key alone is an error that names the missing one's variable.

        There is no unencrypted fallback.
        """
        public, secret = (key.decode() for key in zmq.curve_keypair())
        with pytest.raises(SettingsError, match="server_key is missing") as caught:
            load({}, {**home, "SCHEDCTL_KEY": secret})
        assert "SCHEDCTL_SERVER_KEY" in caught.value.hint
        with pytest.raises(SettingsError, match="key_file is missing"):
            load({}, {**home, "SCHEDCTL_SERVER_KEY": public})

    @pytest.mark.parametrize("content", ["", "rubbish", "secret-key short", "äöü"])
    def test_bad_key_file(self, tmp_path: Path, home: dict[str, str], content: str) -> None:
        """A file that holds no key is an error, and its content is not shown."""
        file = tmp_path / "bad.secret"
        file.write_text(content)
        with pytest.raises(SettingsError, match="invalid key") as caught:
            load({"key_file": file, "server_key": zmq.curve_keypair()[0].decode()}, home)
        assert not content or content not in caught.value.message
        assert "schedctl keys new" in caught.value.hint

    def test_missing_key_file(self, tmp_path: Path, home: dict[str, str]) -> None:
        """A key file that is not there is named."""
        with pytest.raises(SettingsError, match=r"nothing\.secret"):
            load({"key_file": tmp_path / "nothing.secret"}, home)

    def test_several_server_keys(self, home: dict[str, str]) -> None:
        """The server has one key; two are refused with their number."""
        two = "\n".join(zmq.curve_keypair()[0].decode() for _ in range(2))
        with pytest.raises(SettingsError, match="2 public keys; expected one"):
            load({"key": zmq.curve_keypair()[1].decode(), "server_key": two}, home)
