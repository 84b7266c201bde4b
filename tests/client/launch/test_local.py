"""The local launcher.

One daemon serves all clients, exits when idle, and is started again when a client needs it.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from schedclient import Client, JobState
from schedclient.errors import LaunchError
from schedclient.launch import local
from schedproto.layout import socket_path, state_folder
from tests.support.waiting import wait_until

AS_OF = "2026-11-01"
SCHEDULE = """
import sys
from schedclient import Client
with Client(data=sys.argv[1]) as client:
    print(client.welcome().pid)
    print(client.schedule(sys.argv[2], as_of="2026-11-01", timeout_s=120).contacts)
"""
ROUNDS = 40


def test_clients_at_once_start_one_daemon(folder) -> None:
    """Six processes that begin at the same moment get their results from one daemon."""
    clients = [
        subprocess.Popen(
            [sys.executable, "-c", SCHEDULE, str(folder.path), f"org-{1 + number % 2}"],
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(6)
    ]
    answers = [client.communicate(timeout=120)[0].split() for client in clients]
    assert {pid for pid, _ in answers} == {str(folder.daemon())}
    assert [contacts for _, contacts in answers] == ["300"] * 6
    assert folder.starts() == 1


@pytest.mark.slow
def test_daemon_goes_when_idle_and_comes_back(folder) -> None:
    """An idle daemon exits; the same client starts a new one with its next call."""
    with folder.client(idle_timeout=0.3) as client:
        first = client.schedule("org-1", as_of=AS_OF, timeout_s=120)
        pid = client.welcome().pid
        wait_until(lambda: folder.daemon() is None)
        wait_until(lambda: not socket_path(folder.path).exists())
        second = client.schedule("org-1", as_of=AS_OF, timeout_s=120)
        assert client.welcome().pid != pid
    assert first.rows_planned == second.rows_unchanged


@pytest.mark.slow
def test_daemon_stays_while_a_job_runs(folder) -> None:
    """A job that takes longer than the idle time keeps its daemon, even when nobody watches."""
    idle_s = 4.0
    with folder.client(idle_timeout=idle_s) as client:
        pid = client.welcome().pid
        folder.pause_workers(client)
        job_id = client.submit("org-1", as_of=AS_OF).job_id
    time.sleep(1.5 * idle_s)
    assert folder.daemon() == pid
    folder.resume_workers()
    wait_until(lambda: folder.daemon() is None)
    with folder.client() as client:
        assert client.status(job_id).state == JobState.SUCCEEDED


@pytest.mark.slow
def test_job_that_arrives_as_the_daemon_goes_idle(folder) -> None:
    """Every job submitted around the idle exit is accepted, done and in the journal."""
    idle_s = 0.15
    job_ids = []
    boots = set()
    with folder.client(idle_timeout=idle_s) as client:
        for number in range(ROUNDS):
            handle = client.submit("org-1", as_of=AS_OF, dry_run=True)
            handle.wait(120)
            job_ids.append(handle.job_id)
            boots.add(client.welcome().boot_id)
            # From just before the daemon decides to go, to well within its going.
            time.sleep(idle_s * 0.9 + (number % 10) * 0.012)
        states = {job_id: client.status(job_id).state for job_id in job_ids}
    assert set(states.values()) == {JobState.SUCCEEDED}
    assert len(states) == ROUNDS
    assert len(boots) > 1, "no daemon went idle: the rounds missed the moment"


@pytest.mark.slow
def test_clients_at_the_idle_exit(folder) -> None:
    """Processes that each come for one job, while daemons keep going idle, all get it done."""
    script = SCHEDULE.replace("data=sys.argv[1]", "data=sys.argv[1], idle_timeout=0.1")
    for _ in range(6):
        clients = [
            subprocess.Popen(
                [sys.executable, "-c", script, str(folder.path), name],
                stdout=subprocess.PIPE,
                text=True,
            )
            for name in ("org-1", "org-2")
        ]
        for client in clients:
            assert client.communicate(timeout=120)[0].split()[1] == "300"


def test_daemon_killed_while_a_client_waits(folder) -> None:
    """After SIGKILL the waiting client starts a new daemon and gets its result."""
    with folder.client() as client:
        folder.pause_workers(client)
        handle = client.submit("org-1", as_of=AS_OF)
        boot = client.welcome().boot_id
        results = []
        seen = threading.Event()
        waiting = threading.Thread(
            target=lambda: results.append(handle.wait(120, lambda _: seen.set()))
        )
        waiting.start()
        assert seen.wait(120)
        folder.kill_daemon()
        folder.resume_workers()
        waiting.join(120)
        assert [result.contacts for result in results] == [300]
        assert client.welcome().boot_id != boot
        assert [job.job_id for job in client.list("org-1")] == [handle.job_id]
    assert folder.starts() == 2


def test_daemon_stopped_while_a_client_waits(folder) -> None:
    """SIGTERM lets the running job end, and the client that waits for it gets its result."""
    with folder.client() as client:
        folder.pause_workers(client)
        handle = client.submit("org-1", as_of=AS_OF)
        os.kill(folder.daemon(), signal.SIGTERM)
        wait_until(lambda: client.health().status == "draining")
        folder.resume_workers()
        assert handle.wait(120).contacts == 300


@pytest.mark.slow
def test_submit_while_the_daemon_drains(folder) -> None:
    """A job that meets a daemon which is just stopping waits for the next one and is done there."""
    with folder.client() as client:
        folder.pause_workers(client)
        client.submit("org-1", as_of=AS_OF)
        os.kill(folder.daemon(), signal.SIGTERM)
        wait_until(lambda: client.health().status == "draining")
        resuming = threading.Timer(0.3, folder.resume_workers)
        resuming.start()
        assert client.schedule("org-2", as_of=AS_OF, timeout_s=120).contacts == 300
        resuming.join()
    assert folder.starts() == 2


def test_stale_socket_is_no_obstacle(folder) -> None:
    """Socket and lock file of a killed daemon do not prevent the next start."""
    with folder.client() as client:
        client.health()
    folder.kill_daemon()
    wait_until(lambda: folder.daemon() is None)
    assert socket_path(folder.path).exists()
    with folder.client() as client:
        assert client.schedule("org-1", as_of=AS_OF, timeout_s=120).contacts == 300


def test_data_folder_that_does_not_exist(tmp_path: Path) -> None:
    """The error names the folder and says what to do, and nothing is made."""
    missing = tmp_path / "nowhere"
    with pytest.raises(LaunchError, match="nowhere") as caught, Client(data=missing) as client:
        client.health()
    assert "--data" in caught.value.hint
    assert not missing.exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_data_folder_that_cannot_be_written(folder) -> None:
    """A read-only folder is an error that says so."""
    folder.path.chmod(0o500)
    try:
        with pytest.raises(LaunchError, match="cannot be written"), folder.client() as client:
            client.health()
    finally:
        folder.path.chmod(0o700)


def test_state_folder_is_a_file(make_folder) -> None:
    """If the state folder cannot be created, the error names the data folder."""
    folder = make_folder("odd")
    state_folder(folder.path).write_text("in the way")
    with pytest.raises(LaunchError, match="odd"), folder.client() as client:
        client.health()
    state_folder(folder.path).unlink()


def test_daemon_that_cannot_start(folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon's own words and its exit code are in the error."""
    monkeypatch.setenv("SCHEDD_WORKERS", "many")
    with (
        pytest.raises(LaunchError, match=r"exit code 2.*SCHEDD_WORKERS.*1 to 32") as caught,
        folder.client() as client,
    ):
        client.health()
    assert "daemon.log" in caught.value.hint


def test_without_the_daemon_installed(folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the daemon's package, the error says how to install it or set an endpoint."""
    monkeypatch.setattr(local, "find_spec", lambda _: None)
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    monkeypatch.setenv("PATH", str(folder.path))
    with pytest.raises(LaunchError, match="not installed") as caught, folder.client() as client:
        client.health()
    assert "[daemon]" in caught.value.hint
    assert "--endpoint" in caught.value.hint


def test_daemon_elsewhere_on_the_path(folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a daemon in its environment, the client uses `schedd` of the PATH."""
    tools = folder.path.parent / "tools"
    tools.mkdir()
    (tools / "schedd").write_text(f'#!/bin/sh\nexec {sys.executable} -m schedd "$@"\n')
    (tools / "schedd").chmod(0o755)
    monkeypatch.setattr(local, "find_spec", lambda _: None)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", "/nonexistent/python")
        assert local.daemon_command() == [str(tools / "schedd")]
        with folder.client() as client:
            assert client.schedule("org-1", as_of=AS_OF, timeout_s=120).contacts == 300


def test_long_paths(make_folder) -> None:
    """A data folder whose socket path would be too long for the system still works."""
    folder = make_folder("d" * 120)
    with folder.client() as client:
        assert client.schedule("org-1", as_of=AS_OF, timeout_s=120).contacts == 300


def in_child(client: Client, answers) -> None:
    try:
        answers.put(client.schedule("org-2", as_of=AS_OF, timeout_s=120).organization)
        client.close()
    except BaseException as error:
        answers.put(repr(error))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_fork(folder) -> None:
    """A forked child gets its own connection; the parent's stays usable."""
    forking = multiprocessing.get_context("fork")
    with folder.client() as client:
        folder.pause_workers(client)
        handle = client.submit("org-1", as_of=AS_OF)
        answers = forking.Queue()
        child = forking.Process(target=in_child, args=(client, answers))
        child.start()
        wait_until(lambda: any(job.spec.organization == "org-2" for job in client.list()))
        folder.resume_workers()
        assert answers.get(timeout=120) == "org-2"
        child.join(120)
        assert child.exitcode == 0
        assert handle.wait(120).contacts == 300


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_fork_does_not_disturb_the_parent(folder) -> None:
    """A child that closes its parent's client does not affect the parent's connection."""
    with folder.client() as client:
        boot = client.welcome().boot_id
        connection = id(client._client._session.connection)
        for _ in range(3):
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    assert client.welcome().boot_id == boot
                    client.close()
                    del client
                    gc.collect()
                    code = 0
                finally:
                    os._exit(code)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
            assert client.health().boot_id == boot
        assert id(client._client._session.connection) == connection
