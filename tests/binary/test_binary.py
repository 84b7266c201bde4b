"""The compiled program, end to end: jobs, pool, kills, signals and exit codes, in both forms."""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from schedclient import Client
from schedctl.synthetic import make_organization
from tests.support.binaries import Program
from tests.support.machines import make_site
from tests.support.machines_api import serving
from tests.support.names_server import naming
from tests.support.paths import ROOT
from tests.support.plans import CASES, GOLDEN, golden, make_database, read_plan, run_locally
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.binary, pytest.mark.slow, pytest.mark.timeout(300)]
AS_OF = "2026-11-01"


def organization(data: Path, contacts: int, name: str = "org-123") -> Path:
    path = data / f"{name}.db"
    make_organization(path, contacts, 1, dt.date.fromisoformat(AS_OF))
    return path


def test_same_plan(program: Program, data: Path, tmp_path: Path) -> None:
    """The compiled program writes the same plan as Python does, with several workers."""
    path = organization(data, 60_000)
    other = tmp_path / "org-123.db"
    shutil.copy(path, other)
    program.serve(data)
    with Client(data=data) as client:
        result = client.schedule("org-123", as_of=AS_OF, workers=2)
        assert client.health().workers == 2
    run_locally(other, tmp_path / "scratch", AS_OF)
    assert result.workers == 2
    assert read_plan(path) == read_plan(other)


def test_demo_starts_the_compiled_daemon(program: Program, data: Path) -> None:
    """`schedctl demo` starts a daemon of the same program, which exits when idle."""
    done = program.run(
        "schedctl",
        "demo",
        "--data",
        str(data),
        "--contacts",
        "2000",
        "--json",
        SCHEDCTL_IDLE_TIMEOUT="1",
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["contacts"] == 2000
    wait_until(lambda: not program.family(), "the daemon's idle exit")
    assert list(program.temp.iterdir()) == []


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_signals(program: Program, data: Path, name: str) -> None:
    """A signal to the started process ends the daemon and its workers with exit code 0."""
    process = program.serve(data)
    process.send_signal(getattr(signal, name))
    assert process.wait(120) == 0
    wait_until(lambda: not program.family(), "the end of all processes")
    assert list(program.temp.iterdir()) == []
    assert not (data / ".schedd" / "schedd.sock").exists()


def test_drain_and_force(program: Program, data: Path) -> None:
    """After a signal the running job may end; after a second one the next start runs it again.

    The exit code is then 6.
    """
    organization(data, 200_000)
    with Client(data=data) as client:
        process = program.serve(data)
        first = client.submit("org-123", as_of=AS_OF)
        wait_until(lambda: str(first.status().state) == "running", "the job's beginning")
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0
        process = program.serve(data)
        assert str(first.status().state) == "succeeded"
        second = client.submit("org-123", as_of="2026-11-02", mode="highperf")
        wait_until(lambda: str(second.status().state) == "running", "the job's beginning")
        process.send_signal(signal.SIGTERM)
        wait_until(
            lambda: "draining" in "".join(p.read_text() for p in data.parent.glob("*.log")),
            "draining",
        )
        process.send_signal(signal.SIGTERM)
        code = process.wait(120)
        process = program.serve(data)
        assert second.wait(120).contacts == 200_000
        assert code == (6 if second.status().attempts == 2 else 0)


def test_killed(program: Program, data: Path) -> None:
    """kill -9 of the process that was started ends all of it.

    The next start takes the job up, nothing is left over.
    """
    organization(data, 200_000)
    with Client(data=data) as client:
        process = program.serve(data)
        handle = client.submit("org-123", as_of=AS_OF)
        wait_until(lambda: str(handle.status().state) == "running", "the job's beginning")
        process.kill()
        process.wait(120)
        wait_until(lambda: not program.family(), "the end of all processes")
        program.serve(data)
        assert handle.wait(120).contacts == 200_000
        assert handle.status().attempts == 2
    assert list(program.temp.iterdir()) == []


def test_killed_workers(program: Program, data: Path) -> None:
    """kill -9 of workers during a job: they are started again, and the job is done."""
    organization(data, 200_000)
    with Client(data=data) as client:
        program.serve(data)
        handle = client.submit("org-123", as_of=AS_OF)
        wait_until(lambda: str(handle.status().state) == "running", "the job's beginning")
        [daemon] = [p for p in program.family() if p.pid == client.welcome().pid]
        workers = [child for child in daemon.children(recursive=True) if child.ppid() != daemon.pid]
        assert len(workers) == 2
        for worker in workers:
            worker.kill()
        assert handle.wait(120).contacts == 200_000
        assert client.health().workers == 2


def test_exit_codes(program: Program, data: Path) -> None:
    """Exit codes come through: usage 2, folder locked 3, endpoint in use 4, no data folder 5."""
    assert program.run("schedd", "serve", "--data", str(data), "--workers", "99").returncode == 2
    assert program.run("schedd", "serve", "--data", str(data / "nowhere")).returncode == 5
    with socket.create_server(("127.0.0.1", 0)) as taken:
        endpoint = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        assert (
            program.run("schedd", "serve", "--data", str(data), "--listen", endpoint).returncode
            == 4
        )
    program.serve(data)
    locked = program.run("schedd", "serve", "--data", str(data))
    assert locked.returncode == 3
    assert "another daemon" in locked.stderr
    assert (
        program.run(
            "schedctl", "status", "--endpoint", "tcp://127.0.0.1:9", "--data", str(data)
        ).returncode
        == 3
    )
    assert program.run("schedctl", "nosuch").returncode == 2
    assert program.run("nosuch").returncode == 2


def test_links_select_the_command(program: Program, tmp_path: Path) -> None:
    """Linked under a command's name, the program is that command."""
    for name, words, said in (
        ("schedd", ["version"], "0."),
        ("schedctl", ["version"], "0."),
        ("scheduler-help", [], "run-reliable-scheduler"),
        ("db-info", ["--help"], "Show the volume"),
        ("run-highperf-scheduler", ["--help"], "highperf"),
    ):
        link = tmp_path / name
        link.symlink_to(program.path)
        done = subprocess.run(
            [str(link), *words],
            env=program.environment(),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, (name, done.stderr)
        assert said in done.stdout


def test_all_commands_load(program: Program) -> None:
    """Every command's help is there: no module was left out when it was compiled."""
    from schedctl.main import COMMANDS

    for name in COMMANDS:
        done = program.run("schedctl", name, "--help")
        assert done.returncode == 0, (name, done.stderr)
    for name in ("serve", "settings", "version"):
        assert program.run("schedd", name, "--help").returncode == 0


def test_report_and_files(program: Program, data: Path, tmp_path: Path) -> None:
    """Report, explain, configuration, backups, push and pull work compiled."""
    organization(data, 2000)
    at = ("--data", str(data))
    for words in (
        ("submit", "org-123", "--as-of", AS_OF),
        ("report", "org-123", "--html", str(tmp_path / "report.html")),
        ("explain", "org-123", "5"),
        ("preview", "org-123"),
        ("config", "show", "org-123"),
        ("backup", "list", "org-123"),
        ("pull", "org-123", str(tmp_path / "back.db")),
        ("push", str(tmp_path / "back.db"), "org-new"),
        ("doctor", "org-new"),
        ("info", "org-new"),
        ("list",),
        ("cost", "--runs"),
    ):
        done = program.run("schedctl", *words, *at)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
    assert (tmp_path / "report.html").stat().st_size > 10_000


@pytest.fixture
def tls_port() -> Iterator[int]:
    """A port that takes connections and says nothing that is TLS."""
    server = socket.create_server(("127.0.0.1", 0))
    closing = threading.Event()

    def serve() -> None:
        while not closing.is_set():
            try:
                connection, _ = server.accept()
            except OSError:
                return
            connection.sendall(b"this is not TLS\r\n" * 10)
            connection.close()

    threading.Thread(target=serve, daemon=True).start()
    yield server.getsockname()[1]
    closing.set()
    server.close()


def bare_root() -> Path | None:
    """A Debian with nothing installed, as `make image-check` makes it."""
    base = ROOT / "build" / "image" / "base"
    return base if (base / ".complete").exists() and os.geteuid() == 0 else None


def test_in_an_empty_debian(
    program: Program, tmp_path: Path, tls_port: int, request: pytest.FixtureRequest
) -> None:
    """An empty Debian suffices: scheduling, time zones and HTTPS certificates work."""
    base = bare_root()
    if base is None:
        pytest.skip("needs root and the Debian that `make image-check` makes")
    root = tmp_path / "root"
    subprocess.run(["cp", "-a", str(base), str(root)], check=True, timeout=120)
    for name in (
        "usr/share/zoneinfo",
        "etc/ssl",
        "etc/machine-certificates.crt",
        "usr/share/ca-certificates",
    ):
        gone = root / name
        shutil.rmtree(gone, ignore_errors=True) if gone.is_dir() else gone.unlink(missing_ok=True)
    for name in ("usr/bin/python3", "usr/bin/perl", "usr/bin/gcc"):
        assert name == "usr/bin/perl" or not (root / name).exists()
    target = root / "opt"
    if program.form == "folder":
        shutil.copytree(program.path.parent, target / "app", symlinks=True)
        command = "/opt/app/email-scheduler"
    else:
        shutil.copy(program.path, target / "email-scheduler")
        command = "/opt/email-scheduler"

    request.addfinalizer(lambda: subprocess.run(["umount", "-l", str(root / "proc")], check=True))
    subprocess.run(["mount", "-t", "proc", "proc", str(root / "proc")], check=True)

    def inside(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        settings = [f"{name}={value}" for name, value in environment.items()]
        return subprocess.run(
            [
                "chroot",
                str(root),
                "/usr/bin/env",
                "-i",
                "HOME=/root",
                "PATH=/usr/bin:/bin",
                *settings,
                command,
                *words,
            ],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    (root / "data").mkdir()
    (root / "dev" / "shm").mkdir(parents=True, exist_ok=True)
    configuration = root / "data" / "zone.toml"
    configuration.write_text('timezone = "Pacific/Honolulu"\n')
    made = inside(
        "schedctl", "demo", "--out", "/data/org-123.db", "--contacts", "2000", "--as-of", AS_OF
    )
    assert made.returncode == 0, made.stderr
    done = inside(
        *(
            "schedctl",
            "submit",
            "org-123",
            "--config",
            "/data/zone.toml",
            "--data",
            "/data",
            "--json",
        ),
        SCHEDCTL_IDLE_TIMEOUT="1",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (
        json.loads(done.stdout)["as_of"]
        == dt.datetime.now(dt.timezone(dt.timedelta(hours=-10))).date().isoformat()
    )
    https = inside(
        *("schedctl", "machine", "list", "--app", "x"),
        FLY_API_TOKEN="x",
        SCHEDCTL_FLY_API=f"https://127.0.0.1:{tls_port}",
    )
    assert https.returncode == 3
    assert "does not answer" in https.stderr
    assert "No such file" not in https.stderr
    assert "SSL" in https.stderr


def test_machine_starts_for_a_job_and_stops(program: Program, tmp_path: Path) -> None:
    """A compiled client starts a compiled machine, which stops when idle."""
    with serving() as server, naming(server) as names:
        site = make_site(
            server, names, tmp_path, command=[str(program.path), "schedd"], idle_timeout_s=1.0
        )
        organization(site.body.volume, 300)
        words = {n: v for n, v in site.environment().items() if n.startswith(("SCHEDCTL_", "FLY_"))}
        done = program.run("schedctl", "submit", "org-123", "--as-of", AS_OF, "--json", **words)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["contacts"] == 300
        wait_until(lambda: site.machine.state == "stopped", "the machine's stop")
        assert site.machine.starts == 1
        assert "idle, exiting" in site.log()


def test_no_python_needed(program: Program) -> None:
    """Variables of the machine's own Python change nothing."""
    done = program.run(
        "schedctl", "version", PYTHONPATH="/nowhere", PYTHONHOME="/nowhere", PYTHONSTARTUP="/x"
    )
    assert done.returncode == 0, done.stderr
    assert sys.prefix not in done.stdout


def test_golden_plans(program: Program, data: Path) -> None:
    """Every golden organization comes out right, compiled."""
    program.serve(data)
    with Client(data=data) as client:
        for name in CASES:
            expected = golden(name)
            path = make_database(data / f"org-{name}.db", (GOLDEN / f"{name}.sql").read_text())
            client.schedule(f"org-{name}", as_of=expected["as_of"], config=expected["config"])
            assert read_plan(path) == sorted(expected["rows"], key=lambda row: row[:3]), name
