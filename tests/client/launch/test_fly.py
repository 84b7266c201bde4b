"""Machines on loopback, end to end.

API, names, machines that are real daemons, clients that know nothing but the app.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from schedclient import Client
from schedclient.errors import AuthenticationError, LaunchError, SettingsError, UnreachableError
from schedctl.synthetic import make_organization
from tests.support.command_line import SCHEDCTL
from tests.support.machines import Site, make_site
from tests.support.machines_api import Fault, MachinesApiServer
from tests.support.names_server import NamesServer
from tests.support.waiting import wait_until

AS_OF = "2026-11-01"


def add_organization(site: Site, name: str = "org-123", contacts: int = 300) -> Path:
    path = site.body.volume / f"{name}.db"
    make_organization(path, contacts, 1, dt.date.fromisoformat(AS_OF))
    return path


def stopped(site: Site) -> bool:
    return site.machine.state == "stopped"


def test_machine_starts_for_a_job_and_stops(site: Site) -> None:
    """A job from another process starts the machine, which stops itself afterwards."""
    add_organization(site)
    # Far longer than a client on a loaded machine needs to connect: the machine starts once.
    site.body.idle_timeout_s = 10.0
    code = (
        "import schedclient, json, msgspec; client = schedclient.Client()\n"
        f"result = client.schedule('org-123', as_of='{AS_OF}')\n"
        "print(msgspec.json.encode(result).decode())"
    )
    assert stopped(site)
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=site.environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["contacts"] == 300
    wait_until(lambda: stopped(site), "the machine's stop")
    assert site.machine.starts == 1
    exit_event = next(event for event in site.machine.events if event["type"] == "exit")["request"][
        "exit_event"
    ]
    assert exit_event["exit_code"] == 0
    assert not exit_event["requested_stop"]
    assert "idle, exiting" in site.log()


@pytest.mark.slow
def test_machine_starts_again_after_each_idle_exit(site: Site) -> None:
    """One client schedules again after each time that the machine has stopped itself.

    The client gets no notice of the stop.
    """
    add_organization(site)
    site.body.idle_timeout_s = 10.0
    with Client(**site.settings()) as client:
        for day in (1, 2, 3):
            assert client.schedule("org-123", as_of=f"2026-11-0{day}").contacts == 300
            wait_until(lambda: stopped(site), "the machine's stop")
    assert site.machine.starts == 3


def test_two_clients_at_once(site: Site) -> None:
    """Clients that come at the same moment share one machine; each gets its result."""
    for number in range(4):
        add_organization(site, f"org-{number}")

    def schedule(number: int) -> int:
        with Client(**site.settings()) as client:
            return client.schedule(f"org-{number}", as_of=AS_OF).contacts

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(schedule, range(4))) == [300] * 4
    assert site.machine.starts == 1


@pytest.mark.slow
def test_idle_just_as_a_job_arrives(site: Site) -> None:
    """Jobs submitted around the idle exit are all done, each once."""
    add_organization(site, contacts=20)
    site.body.idle_timeout_s = 1.0
    jobs = set()
    with Client(**site.settings()) as client:
        for step in range(8):
            handle = client.submit("org-123", as_of=AS_OF)
            handle.wait(120)
            jobs.add(handle.job_id)
            # The daemon exits a second after the last message: come a little before, at, and a
            # little after that.
            time.sleep(0.9 + step * 0.03)
        assert len(jobs) == 8
        assert {job.job_id for job in client.list()} >= jobs
        assert {str(job.state) for job in client.list()} == {"succeeded"}


@pytest.mark.slow
def test_killed_machine(site: Site) -> None:
    """The machine's process is killed during a job.

    The machine starts again by its policy, and the job is done.
    """
    add_organization(site, contacts=30_000)
    with Client(**site.settings()) as client:
        handle = client.submit("org-123", as_of=AS_OF)
        wait_until(lambda: str(handle.status().state) == "running", "the job's beginning")
        process = site.machine.process
        assert isinstance(process, subprocess.Popen)
        process.kill()
        assert handle.wait(120).contacts == 30_000
        assert handle.status().attempts == 2


def test_stopped_during_a_job(site: Site) -> None:
    """Somebody stops the machine during a job.

    The daemon lets it end, and the client gets the result.
    """
    add_organization(site, contacts=30_000)
    with Client(**site.settings()) as client:
        handle = client.submit("org-123", as_of=AS_OF)
        wait_until(lambda: str(handle.status().state) == "running", "the job's beginning")
        site.machine.stop()
        assert handle.wait(120).contacts == 30_000
    wait_until(lambda: stopped(site), "the machine's stop")
    assert '"name": "OK"' in site.log()


@pytest.mark.slow
def test_name_comes_late(site: Site) -> None:
    """A machine whose name is known only a moment after its start is found.

    A name server that is silent is asked again.
    """
    site.machine.dns_s = 0.7
    site.names.silent = 1
    with Client(**site.settings()) as client:
        assert client.health().status == "serving"


@pytest.mark.slow
def test_no_name_at_all(site: Site) -> None:
    """If the name server fails, the address that the API knows is used."""
    site.names.broken = True
    with Client(**site.settings()) as client:
        assert client.health().status == "serving"


@pytest.mark.slow
def test_new_address(site: Site) -> None:
    """A machine that comes back under another address is found there, by its name."""
    with Client(**site.settings()) as client:
        client.health()
        site.machine.stop()
        wait_until(lambda: stopped(site), "the machine's stop")
        first, *rest = site.machine.address.rpartition(".")
        site.machine.address = f"{first}.{(int(rest[1]) + 100) % 250 + 2}"
        assert client.health().status == "serving"


@pytest.mark.slow
def test_exits_at_once(server: MachinesApiServer, names: NamesServer, tmp_path: Path) -> None:
    """A machine whose daemon cannot start is not started for ever: the error has its exit code."""
    site = make_site(server, names, tmp_path)
    site.body.keys.server_secret = "no key"
    site.machine.retries = 0
    with (
        Client(**site.settings(), timeout_s=120) as client,
        pytest.raises(LaunchError, match=r"exit code 2") as caught,
    ):
        client.health()
    assert "fly logs" in caught.value.hint


def test_wrong_keys(site: Site) -> None:
    """An unknown client is refused, and the error says what to check."""
    settings = site.settings(key="D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs")
    with Client(**settings) as client, pytest.raises(AuthenticationError, match="refused"):
        client.health()


@pytest.mark.slow
def test_api_faults_at_every_call(site: Site) -> None:
    """Errors, lost answers and rate limits of the API delay a job; it does not fail."""
    add_organization(site)
    for action in ("list", "get", "start", "wait"):
        site.server.faults.append(Fault(action, 503, "unavailable"))
        site.server.faults.append(Fault(action, 0, after=True))
        site.server.faults.append(Fault(action, 429, "rate limit exceeded"))
    with Client(**site.settings()) as client:
        assert client.schedule("org-123", as_of=AS_OF).contacts == 300
    assert site.machine.starts == 1


@pytest.mark.slow
def test_daemon_of_a_started_machine_is_dead(site: Site) -> None:
    """A machine that is started though nothing listens in it.

    The error comes within the time limit and names the address.
    """
    site.machine.body = lambda _: None
    with (
        Client(**site.settings(), timeout_s=2) as client,
        pytest.raises(UnreachableError, match=str(site.body.port)),
    ):
        client.health()


def test_no_token() -> None:
    """Without a token the client says how to make one before anything is asked."""
    with pytest.raises(SettingsError, match="token") as caught:
        Client(app="email-scheduler", token="")
    assert "fly tokens create deploy -a email-scheduler" in caught.value.hint


def test_submit_from_a_shell(site: Site) -> None:
    """`schedctl submit` with the app in the environment starts the machine and shows the result."""
    add_organization(site)
    done = subprocess.run(
        [*SCHEDCTL, "submit", "org-123", "--as-of", AS_OF],
        env=site.environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "of 300 contacts eligible" in done.stdout


@pytest.mark.slow
def test_stays_up_while_a_client_waits(site: Site) -> None:
    """The machine does not stop itself while a job takes longer than the idle timeout."""
    add_organization(site, contacts=30_000)
    site.body.idle_timeout_s = 1.0
    with Client(**site.settings()) as client:
        handle = client.submit("org-123", as_of=AS_OF)
        wait_until(lambda: handle.status().state == "running", "the job's beginning")
        # A slow client may have met more than one start. From here on there is only this one.
        starts, workers = site.machine.starts, site.workers()
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(3 * site.body.idle_timeout_s)
        assert not handle.status().final
        for pid in workers:
            os.kill(pid, signal.SIGCONT)
        assert handle.wait(120).contacts == 30_000
        assert handle.status().attempts == 1
    assert site.machine.starts == starts
    wait_until(lambda: stopped(site), "the machine's stop")
