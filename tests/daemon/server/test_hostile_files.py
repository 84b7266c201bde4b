"""Files that cost time or memory: the request ends with an error, and all others are served."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from schedclient import Client, errors
from schedclient.errors import DaemonError
from tests.support.daemons import AS_OF, RunningDaemon
from tests.support.waiting import wait_until

#: The time limit of requests and jobs in these tests, and the time by which an answer has to come:
#: the limit, and time for a loaded machine to notice.
LIMIT_S, ANSWER_S = 3.0, 40.0
LIMITS = ("--max-request", f"{LIMIT_S:g}", "--max-run", f"{LIMIT_S:g}")
CONTACT_COLUMNS = "1 AS id, 'a@example.org' AS email, '10001' AS zip_code, 'NY' AS state"
ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n)"
#: Tables as views that never end.
ENDLESS_CONTACTS = (
    "ALTER TABLE contacts RENAME TO people;"
    f"CREATE VIEW contacts AS {ENDLESS} SELECT x AS id, 'a@example.org' AS email, "
    "'10001' AS zip_code, 'NY' AS state, '1950-01-01' AS birth_date, NULL AS effective_date FROM n"
)
ENDLESS_PLAN = (
    "DROP TABLE IF EXISTS email_schedules;"
    f"CREATE VIEW email_schedules AS {ENDLESS} SELECT x AS id, x AS contact_id, "
    "'birthday' AS email_type, '2026-12-01' AS scheduled_send_date, "
    "'pre-scheduled' AS status FROM n"
)
ENDLESS_RUNS = (
    f"CREATE VIEW scheduler_runs AS {ENDLESS} SELECT 'r' || x AS run_id, '2026-01-01' AS as_of, "
    "1 AS config_version, 'reliable' AS mode, x AS started_at, NULL AS finished_at, "
    "'completed' AS status, NULL AS error, NULL AS summary FROM n"
)
ENDLESS_CONFIGURATION = (
    f"CREATE VIEW scheduler_config AS {ENDLESS} SELECT x AS version, '' AS toml, "
    "'' AS created_at, '' AS created_by, 'now' AS withdrawn_at, '' AS withdrawn_by FROM n"
)
#: A plan whose rows cost time or memory.
PLAN = (
    "DROP TABLE IF EXISTS email_schedules;"
    "CREATE TABLE email_schedules(id INTEGER PRIMARY KEY, contact_id INTEGER, email_type TEXT, "
    "scheduled_send_date TEXT, scheduled_send_time TEXT, status TEXT, skip_reason TEXT{});"
)
ENDLESS_TRIGGER = PLAN.format("") + (
    "CREATE TRIGGER endless BEFORE INSERT ON email_schedules WHEN new.contact_id > 2 BEGIN "
    f"SELECT count(*) FROM ({ENDLESS} SELECT x FROM n); END"
)
BURNING_CHECK = PLAN.format(", CHECK (length(hex(zeroblob(30000000 + contact_id))) > 0)")
BURNING_COLUMN = PLAN.format(
    ", burned INTEGER AS (length(hex(zeroblob(30000000 + contact_id)))) STORED"
)
LARGE_COLUMN = PLAN.format(", burned TEXT AS (hex(zeroblob(100000000 + contact_id))) STORED")
BURNING_INDEX = PLAN.format("") + (
    "CREATE INDEX burned ON email_schedules(length(hex(zeroblob(30000000 + contact_id))))"
)


def run_script(path: Path, script: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)


def answer(call: Callable[[], Any]) -> str:
    """Return the code of the error that a call ends with, `ok` if it ends well."""
    started = time.monotonic()
    try:
        result = call()
    except DaemonError as error:
        code = error.code
    else:
        found = getattr(result, "error", None)
        code = "ok" if found is None else found.code
    assert time.monotonic() - started < ANSWER_S
    return str(code)


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (ENDLESS_CONTACTS, {"info": "too_slow", "schedule": "foreign_schema"}),
        (ENDLESS_PLAN, {"info": "too_slow", "schedule": "foreign_schema"}),
        (ENDLESS_RUNS, {"info": "too_slow", "schedule": "foreign_schema"}),
        (ENDLESS_CONFIGURATION, {"show_configuration": "too_slow"}),
    ],
)
def test_endless_views(
    data: Path, daemons: Callable[..., RunningDaemon], script: str, expected: dict[str, str]
) -> None:
    """Requests about endless views end at the limit; other organizations are served meanwhile."""
    run_script(data / "org-a.db", script)
    daemon = daemons(*LIMITS)
    with daemon.client(timeout_s=120) as client, daemon.client(timeout_s=20) as other:
        calls = {
            "info": lambda: client.info("org-a"),
            "check": lambda: client.check("org-a", as_of=AS_OF),
            "report": lambda: client.report("org-a"),
            "show_configuration": lambda: client.configuration("org-a"),
            "schedule": lambda: client.schedule("org-a", as_of=AS_OF),
        }
        found: dict[str, str] = {}
        threads = [
            threading.Thread(target=lambda name=name: found.update({name: answer(calls[name])}))
            for name in calls
        ]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            assert answer(lambda: other.info("org-b")) == "ok"
            time.sleep(0.2)
        assert len(found) == len(calls), found
        assert {name: found[name] for name in expected} == expected
        assert set(found.values()) <= {"too_slow", "foreign_schema", "ok"}
    assert daemon.stop() == 0


@pytest.mark.parametrize(
    ("script", "code"),
    [
        (ENDLESS_TRIGGER, "too_slow"),
        (BURNING_CHECK, "too_slow"),
        (BURNING_COLUMN, "too_slow"),
        (BURNING_INDEX, "too_slow"),
        (LARGE_COLUMN, "foreign_schema"),
    ],
)
def test_plans_that_burn_time(
    data: Path, daemons: Callable[..., RunningDaemon], script: str, code: str
) -> None:
    """A job over a table that costs too much ends with its error; other jobs run meanwhile."""
    run_script(data / "org-a.db", script)
    before = (data / "org-a.db").read_bytes()
    daemon = daemons(*LIMITS)
    with daemon.client(timeout_s=120) as client:
        attack = client.submit("org-a", as_of=AS_OF)
        assert client.schedule("org-b", as_of=AS_OF).rows_inserted
        assert answer(lambda: attack.wait(timeout_s=60)) == code
        assert client.schedule("org-c", as_of=AS_OF).rows_inserted
    assert daemon.stop() == 0
    with closing(sqlite3.connect(data / "org-a.db")) as connection:
        assert connection.execute("SELECT count(*) FROM email_schedules").fetchone() == (0,)
    assert len(before) == (data / "org-a.db").stat().st_size


def test_signal_ends_the_daemon(data: Path, daemons: Callable[..., RunningDaemon]) -> None:
    """SIGTERM ends a daemon at once whose request would take minutes."""
    run_script(data / "org-a.db", ENDLESS_CONTACTS)
    daemon = daemons()
    with daemon.client(timeout_s=30) as client:
        client.health()
        thread = threading.Thread(target=lambda: ask(client), daemon=True)
        thread.start()
        wait_until(lambda: burns(daemon), "beginning of the request")
        started = time.monotonic()
        assert daemon.stop() == 0
        assert time.monotonic() - started < 20


def ask(client: Client) -> None:
    """Ask for what takes too long; the daemon ends before it is done."""
    with suppress(errors.SchedulerClientError):
        client.info("org-a")


def burns(daemon: RunningDaemon) -> bool:
    """Return whether a request runs: a connection to the attacked file is open."""
    folder = Path("/proc", str(daemon.process.pid), "fd")
    names = [os.readlink(entry) for entry in folder.iterdir() if entry.is_symlink()]
    return any(name.endswith("org-a.db") for name in names)


def test_idle_exit(data: Path, daemons: Callable[..., RunningDaemon]) -> None:
    """After a request about an endless view the daemon becomes idle, and exits."""
    run_script(data / "org-a.db", ENDLESS_CONTACTS)
    daemon = daemons(*LIMITS, "--idle-timeout", "1")
    with daemon.client(timeout_s=60) as client:
        assert answer(lambda: client.info("org-a")) == "too_slow"
    assert daemon.wait(60) == 0


@pytest.mark.parametrize("kind", ["fifo", "loop", "zero", "socket", "folder"])
def test_no_regular_file(data: Path, daemons: Callable[..., RunningDaemon], kind: str) -> None:
    """What is not a regular file is refused at once, by every request."""
    path = data / "org-x.db"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        targets = {"loop": path, "zero": Path("/dev/zero"), "socket": data / ".schedd" / "socket"}
        path.symlink_to(targets[kind])
    daemon = daemons(*LIMITS)
    with daemon.client(timeout_s=60) as client:
        refusals = {"database_unreadable", "invalid_organization"}
        assert answer(lambda: client.info("org-x")) in refusals
        assert answer(lambda: client.check("org-x")) in refusals
        assert answer(lambda: client.schedule("org-x", as_of=AS_OF)) in refusals
        assert answer(client.volume) == "ok"
        assert answer(lambda: client.info("org-b")) == "ok"


def test_large_values(data: Path, daemons: Callable[..., RunningDaemon]) -> None:
    """Values of 100 MB in the columns that are read cost no more than an error."""
    run_script(
        data / "org-a.db",
        "UPDATE contacts SET email = hex(zeroblob(50000000)) WHERE id IN "
        "(SELECT id FROM contacts LIMIT 2);"
        + PLAN.format("")
        + "INSERT INTO email_schedules(contact_id, email_type, scheduled_send_date, status) "
        "VALUES (1, 'birthday', '2026-01-01', hex(zeroblob(50000000)))",
    )
    daemon = daemons("--max-request", "30", "--max-run", "30")
    with daemon.client(timeout_s=120) as client:
        for call in (
            lambda: client.info("org-a"),
            lambda: client.check("org-a", as_of=AS_OF),
            lambda: client.schedule("org-a", as_of=AS_OF),
        ):
            assert answer(call) in {"foreign_schema", "ok"}
        assert answer(lambda: client.info("org-b")) == "ok"
    assert daemon.process.poll() is None


def test_memory_limit(data: Path, daemons: Callable[..., RunningDaemon]) -> None:
    """A job that needs more memory than allowed ends in its error, and its worker is replaced."""
    run_script(
        data / "org-a.db",
        PLAN.format("") + "CREATE TRIGGER hungry BEFORE INSERT ON email_schedules BEGIN "
        f"SELECT count(DISTINCT hex(zeroblob(1000 + x))) FROM ({ENDLESS} SELECT x FROM n); END",
    )
    daemon = daemons("--worker-memory-mb", "1500", "--max-run", "300")
    with daemon.client(timeout_s=120) as client:
        client.health()
        wait_until(lambda: len(daemon.workers()) == 2, "start of the workers")
        before = set(daemon.workers())
        assert answer(lambda: client.schedule("org-a", as_of=AS_OF)) == "out_of_memory"
        wait_until(
            lambda: len(daemon.workers()) == 2 and set(daemon.workers()) != before, "a new worker"
        )
        assert client.schedule("org-b", as_of=AS_OF).rows_inserted
    assert daemon.stop() == 0
