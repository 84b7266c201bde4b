"""Secrets are not in command lines, worker environments, logs, errors or core dumps."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
import zmq

from schedbucket.settings import load_settings
from schedclient import settings as client_settings
from schedclient.errors import SettingsError
from schedd import settings as daemon_settings
from schedd.exitcodes import FatalError
from tests.support.command_line import SCHEDCTL
from tests.support.daemons import RunningDaemon
from tests.support.waiting import wait_until

SERVER_PUBLIC, SERVER_SECRET = (key.decode() for key in zmq.curve_keypair())
CLIENT_PUBLIC, CLIENT_SECRET = (key.decode() for key in zmq.curve_keypair())
BUCKET = {
    "BUCKET_NAME": "synthetic",
    "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9",
    "AWS_ACCESS_KEY_ID": "synthetic-id",
    "AWS_SECRET_ACCESS_KEY": "synthetic-secret-of-a-bucket",
}


@pytest.fixture
def daemon(daemons: Callable[..., RunningDaemon], monkeypatch: pytest.MonkeyPatch) -> RunningDaemon:
    """A daemon that has its key from the environment, listening on TCP as well."""
    monkeypatch.setenv("SCHEDD_SERVER_KEY", SERVER_SECRET)
    monkeypatch.setenv("SCHEDD_ALLOW_CLIENTS", CLIENT_PUBLIC)
    for name, value in BUCKET.items():
        monkeypatch.setenv(name, value)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    daemon = daemons("--listen", f"tcp://127.0.0.1:{port}", "--log-level", "debug")
    with daemon.client() as client:
        wait_until(lambda: client.health().status == "serving")
    return daemon


def family(daemon: RunningDaemon) -> list[int]:
    """The daemon, the fork server and the workers."""
    import psutil

    wait_until(daemon.workers)
    process = psutil.Process(daemon.process.pid)
    return [process.pid, *(child.pid for child in process.children(recursive=True))]


def test_key_of_the_daemon(daemon: RunningDaemon) -> None:
    """The key is in no command line, in no child's environment and not in the log."""
    pids = family(daemon)
    assert len(pids) > 2
    for pid in pids:
        assert SERVER_SECRET.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
    for pid in pids[1:]:
        assert SERVER_SECRET.encode() not in Path(f"/proc/{pid}/environ").read_bytes()
    assert daemon.stop() == 0
    log = daemon.log()
    assert "listening" in log
    for secret in (SERVER_SECRET, BUCKET["AWS_SECRET_ACCESS_KEY"]):
        assert secret not in log


def test_no_core_dumps(daemon: RunningDaemon) -> None:
    """The daemon and its workers may not dump core, and cannot raise the limit again."""
    for pid in family(daemon):
        assert resource.prlimit(pid, resource.RLIMIT_CORE) == (0, 0)


def test_no_core_dumps_of_schedctl() -> None:
    """The command holds the client's key and the token; the library leaves its process as it is."""
    script = (
        "import resource, sys; import schedclient; before = "
        "resource.getrlimit(resource.RLIMIT_CORE)\n"
        "from schedctl import main; sys.argv = ['schedctl', 'version']\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print(before, resource.getrlimit(resource.RLIMIT_CORE))"
    )
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    soft = hard if hard != resource.RLIM_INFINITY else 1 << 20
    if not hard:
        pytest.skip("this process may not dump core to begin with")
    done = subprocess.run(
        [sys.executable, "-c", script],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (soft, hard)),
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines()[-1] == f"{(soft, hard)} {(0, hard)}", done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a process as another user")
def test_memory_is_closed_to_the_same_user() -> None:
    """A process of the same user reads neither environment nor memory of a protected process."""
    script = (
        "import os; from schedd.hardening import protect_memory; os.setgid(65534); "
        "os.setuid(65534);"
        "protect_memory(); print(os.getpid(), flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        pid = process.stdout.readline().strip()
        for name in ("environ", "mem", "fd/0"):
            done = subprocess.run(
                ["head", "-c", "1", f"/proc/{pid}/{name}"],
                user=65534,
                group=65534,
                extra_groups=[],
                capture_output=True,
                text=True,
            )
            assert "Permission denied" in done.stderr, name
        process.communicate("\n", timeout=30)


def test_secret_as_a_flag(daemons: Callable[..., RunningDaemon]) -> None:
    """A key in the command line is refused, and not repeated."""
    daemon = daemons("--server-key", SERVER_SECRET)
    assert daemon.wait() == 2
    assert "--server-key-file" in daemon.log()
    assert SERVER_SECRET not in daemon.log()


def test_no_option_takes_a_secret() -> None:
    """No command of schedctl has an option for a secret's value.

    A file or the environment has it.
    """
    from schedctl.main import COMMANDS, cli

    names: set[str] = set()

    def collect(command: Any) -> None:
        names.update(option for parameter in command.params for option in parameter.opts)
        for inner in getattr(command, "commands", {}).values():
            collect(inner)

    for name in COMMANDS:
        collect(cli.get_command(click.Context(cli), name))
    # --key is an idempotency key, --server-key a public key.
    secret = {name for name in names if any(word in name for word in ("token", "secret", "key"))}
    assert secret == {"--key", "--server-key", "--key-file", "--keys", "--rotate-keys"}


def test_errors_about_secrets(tmp_path: Path) -> None:
    """A secret that is not valid is not repeated by the error."""
    broken = SERVER_SECRET[:-1]
    file = tmp_path / "settings.toml"
    file.write_text(f"server_key = ['{broken}']\n")
    with pytest.raises(FatalError) as error:
        daemon_settings.load({}, environment={}, file=file)
    assert broken not in str(vars(error.value))
    with pytest.raises(SettingsError) as client_error:
        client_settings.load(
            {}, environment={"SCHEDCTL_KEY": broken, "SCHEDCTL_SERVER_KEY": SERVER_PUBLIC}
        )
    assert broken not in str(vars(client_error.value)) + str(client_error.value)


def test_settings_are_shown_without_secrets() -> None:
    """The settings' own representation, as in a log line or a traceback, leaves secrets out."""
    token = "FlyV1 synthetic-token"
    daemon = daemon_settings.load({}, environment={"SCHEDD_SERVER_KEY": SERVER_SECRET})
    client = client_settings.load(
        {},
        environment={
            "SCHEDCTL_KEY": CLIENT_SECRET,
            "SCHEDCTL_SERVER_KEY": SERVER_PUBLIC,
            "SCHEDCTL_APP": "app",
            "FLY_API_TOKEN": token,
        },
    )
    bucket = load_settings(BUCKET)
    assert client.fly is not None
    assert bucket is not None
    assert bucket.s3 is not None
    assert (daemon.server_key, client.fly.token) == (SERVER_SECRET, token)
    assert client.secret_key == CLIENT_SECRET.encode()
    assert bucket.s3.secret_access_key == BUCKET["AWS_SECRET_ACCESS_KEY"]
    shown = repr(daemon) + repr(client) + repr(bucket)
    for secret in (SERVER_SECRET, CLIENT_SECRET, token, BUCKET["AWS_SECRET_ACCESS_KEY"]):
        assert secret not in shown


def test_bucket_errors(tmp_path: Path) -> None:
    """An error about an unreachable bucket names neither key nor secret."""
    done = subprocess.run(
        [*SCHEDCTL, "bucket", "list", "--json"],
        env={**os.environ, **BUCKET, "SCHEDD_BUCKET_TIMEOUT": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode != 0
    assert BUCKET["AWS_SECRET_ACCESS_KEY"] not in done.stdout + done.stderr
