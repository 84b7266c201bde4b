"""`schedctl` on a terminal: the progress bar, colours, Ctrl-C."""

from __future__ import annotations

import re

from schedctl.exitcodes import ExitCode
from tests.support.command_line import SCHEDCTL
from tests.support.waiting import wait_until

AS_OF = "2026-11-01"
INTERRUPT = "\x03"
#: Escape codes that choose a colour (not bold, not cursor movements).
COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-7]|38;\d+|9[0-7])[;\d]*m")
ANY_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def plain(screen: str) -> str:
    return ANY_ESCAPE.sub("", screen).replace("\r\n", "\n")


def test_progress_and_result(folder, terminal) -> None:
    """While the job runs there is a bar with its state.

    Afterwards the bar is gone and the result is there.
    """
    with folder.client() as client:
        folder.pause_workers(client)
    screen = terminal("submit", "org-1", "--data", folder.path, "--as-of", AS_OF)
    screen.expect("running")
    screen.expect("0 %")
    screen.expect("━")
    folder.resume_workers()
    assert screen.wait() == ExitCode.OK
    assert f"org-1 scheduled for {AS_OF}" in plain(screen.screen)
    assert COLOUR.search(screen.screen)
    assert screen.screen.count("\x1b[?25l") == screen.screen.count("\x1b[?25h"), (
        "the cursor stays hidden"
    )


def test_no_color(folder, terminal) -> None:
    """NO_COLOR takes all colours away, from results and from errors."""
    screen = terminal("submit", "org-1", "--data", folder.path, "--as-of", AS_OF, NO_COLOR="1")
    assert screen.wait() == ExitCode.OK
    assert "e-mails per day" in screen.screen
    assert not COLOUR.search(screen.screen)
    wrong = terminal("submit", "org-99", "--data", folder.path, NO_COLOR="1")
    assert wrong.wait() == ExitCode.JOB_FAILED
    assert "Error:" in plain(wrong.screen)
    assert not COLOUR.search(wrong.screen)


def test_errors_are_red(folder, terminal) -> None:
    """On a terminal an error stands out."""
    screen = terminal("submit", "org-99", "--data", folder.path)
    assert screen.wait() == ExitCode.JOB_FAILED
    assert COLOUR.search(screen.screen)
    assert "Error: there is no file org-99.db" in plain(screen.screen)


def test_json_on_a_terminal(folder, terminal) -> None:
    """--json shows neither bar nor colours, even here."""
    screen = terminal("submit", "org-1", "--data", folder.path, "--as-of", AS_OF, "--json")
    assert screen.wait() == ExitCode.OK
    assert "\x1b" not in screen.screen
    assert screen.screen.lstrip().startswith("{")


def test_narrow_terminal(folder, terminal) -> None:
    """On 40 columns the picture is as narrow as that, and nothing breaks."""
    screen = terminal("submit", "org-1", "--data", folder.path, "--as-of", AS_OF, columns=40)
    assert screen.wait() == ExitCode.OK
    picture = [line for line in plain(screen.screen).splitlines() if "█" in line]
    assert picture
    assert all(len(line) <= 40 for line in picture)


def interrupted(folder, terminal, *options: str):
    """A submit that was interrupted while its job runs, at the question."""
    with folder.client() as client:
        folder.pause_workers(client)
    screen = terminal("submit", "org-1", "--data", folder.path, "--as-of", AS_OF, *options)
    screen.expect("running")
    screen.type(INTERRUPT)
    screen.expect("[c]ancel")
    return screen


def the_job(folder):
    with folder.client() as client:
        [job] = client.list("org-1")
        return job


def test_second_interrupt_detaches(folder, terminal) -> None:
    """The first Ctrl-C asks, the second detaches and shows how to watch the job."""
    screen = interrupted(folder, terminal)
    screen.type(INTERRUPT)
    try:
        code = screen.wait(20)
    except AssertionError:
        # A key that comes between the prompt and the start of reading is only seen with the next
        # one.
        screen.type(INTERRUPT)
        code = screen.wait()
    assert code == ExitCode.DETACHED
    job = the_job(folder)
    assert not job.final
    [way_back] = re.findall(r"schedctl (watch \S+ --data \S+)", plain(screen.screen))
    assert job.job_id in way_back
    assert "Traceback" not in screen.screen
    folder.resume_workers()
    again = terminal(*way_back.split())
    assert again.wait() == ExitCode.OK
    assert f"org-1 scheduled for {AS_OF}" in plain(again.screen)


def test_interrupt_and_detach(folder, terminal) -> None:
    """Answering d, or just Enter, detaches."""
    screen = interrupted(folder, terminal)
    screen.type("\r")
    assert screen.wait() == ExitCode.DETACHED
    assert "The job continues" in plain(screen.screen)
    assert not the_job(folder).final


def test_interrupt_and_cancel(folder, terminal) -> None:
    """Answering c cancels the job, with the exit code of a cancelled job."""
    screen = interrupted(folder, terminal)
    screen.type("c\r")
    screen.expect("is being cancelled")
    folder.resume_workers()
    assert screen.wait() == ExitCode.CANCELLED
    assert the_job(folder).state == "cancelled"


def test_interrupt_and_continue(folder, terminal) -> None:
    """Answering g shows the bar again, up to the result."""
    screen = interrupted(folder, terminal)
    shown = len(screen.screen)
    screen.type("g\r")
    while "running" not in screen.screen[shown:]:
        screen.read(1.0)
    folder.resume_workers()
    assert screen.wait() == ExitCode.OK
    assert f"org-1 scheduled for {AS_OF}" in plain(screen.screen)


def test_wrong_answer_is_asked_again(folder, terminal) -> None:
    """An invalid answer repeats the prompt, and the job is not affected meanwhile."""
    screen = interrupted(folder, terminal)
    screen.type("x\r")
    screen.expect("Error")
    assert not the_job(folder).final
    screen.type("c\r")
    screen.expect("is being cancelled")
    folder.resume_workers()
    assert screen.wait() == ExitCode.CANCELLED


def test_interrupt_with_json(folder, terminal) -> None:
    """With --json the question is on standard error, the job on standard output."""
    with folder.client() as client:
        folder.pause_workers(client)
    screen = terminal("submit", "org-1", "--data", folder.path, "--as-of", AS_OF, "--json")
    poll_job(folder)
    screen.type(INTERRUPT)
    screen.expect("[c]ancel")
    screen.type("d\r")
    assert screen.wait() == ExitCode.DETACHED
    assert f'"job_id": "{the_job(folder).job_id}"' in screen.screen


def poll_job(folder) -> None:
    with folder.client() as client:
        wait_until(
            lambda: any(job.state == "running" for job in client.list("org-1")),
            "the job's beginning",
        )


def test_interrupt_without_a_terminal(folder, tmp_path) -> None:
    """A script that gets SIGINT is not asked: it detaches, with the way back on standard error."""
    import os
    import signal
    import subprocess

    with folder.client() as client:
        folder.pause_workers(client)
    command = [*SCHEDCTL, "submit", "org-1"]
    process = subprocess.Popen(
        [*command, "--data", str(folder.path)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    poll_job(folder)
    os.kill(process.pid, signal.SIGINT)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == ExitCode.DETACHED, errors
    assert output == ""
    assert "schedctl watch job-" in errors
    assert not the_job(folder).final


def interrupted_batch(folder, terminal, *options: str):
    """Two organizations, one at once, interrupted while the first one runs."""
    with folder.client() as client:
        folder.pause_workers(client)
    screen = terminal(
        "submit", "--all", "--at-once", "1", "--data", folder.path, "--as-of", AS_OF, *options
    )
    if not options:
        screen.expect("1 waiting")
    poll_job(folder)
    screen.type(INTERRUPT)
    screen.expect("[c]ancel all")
    return screen


def test_batch_progress(folder, terminal) -> None:
    """Several organizations have one table while they run, and one afterwards."""
    with folder.client() as client:
        folder.pause_workers(client)
    screen = terminal(
        "submit",
        "org-1",
        "org-2",
        "org-99",
        "--at-once",
        "2",
        "--data",
        folder.path,
        "--as-of",
        AS_OF,
    )
    screen.expect("0 of 3 ended")
    screen.expect("2 running")
    screen.expect("1 waiting")
    folder.resume_workers()
    assert screen.wait() == ExitCode.JOB_FAILED
    shown = plain(screen.screen)
    assert "2 of 3 organizations scheduled" in shown
    assert "1 failed" in shown
    assert "database_missing" in shown
    assert screen.screen.count("\x1b[?25l") == screen.screen.count("\x1b[?25h"), (
        "the cursor stays hidden"
    )


def test_batch_interrupt_and_detach(folder, terminal) -> None:
    """Detaching leaves the job that runs, submits no other, and says how to look."""
    screen = interrupted_batch(folder, terminal)
    screen.type("d\r")
    assert screen.wait() == ExitCode.DETACHED
    shown = plain(screen.screen)
    assert "the rest is not submitted" in shown
    assert f"schedctl list --data {folder.path}" in shown
    assert f"org-1: {the_job(folder).job_id} continues" in shown
    assert not the_job(folder).final
    folder.resume_workers()
    with folder.client() as client:
        client.job(the_job(folder).job_id).wait(120)
        assert client.list("org-2") == []


def test_batch_interrupt_and_cancel(folder, terminal) -> None:
    """Cancelling ends the job that runs and submits no other.

    The exit code of what was cancelled.
    """
    screen = interrupted_batch(folder, terminal)
    screen.type("c\r")
    screen.expect("Cancelling running jobs")
    folder.resume_workers()
    assert screen.wait() == ExitCode.CANCELLED
    assert the_job(folder).state == "cancelled"
    with folder.client() as client:
        assert client.list("org-2") == []
    assert "the job was not submitted" in plain(screen.screen)


def test_batch_interrupt_and_continue(folder, terminal) -> None:
    """Going on shows the table again, up to the end of all."""
    screen = interrupted_batch(folder, terminal, "--json")
    screen.type("g\r")
    folder.resume_workers()
    assert screen.wait() == ExitCode.OK
    assert '"succeeded": 2' in screen.screen


def test_dumb_terminal(folder, terminal) -> None:
    """A terminal that can do nothing gets no escape codes for colours or movements."""
    screen = terminal("submit", "org-1", "--data", folder.path, "--as-of", AS_OF, TERM="dumb")
    assert screen.wait() == ExitCode.OK
    assert not COLOUR.search(screen.screen)


def test_list_on_a_usual_terminal(folder, terminal) -> None:
    """On 80 columns ids and states are not truncated: people copy them."""
    with folder.client() as client:
        job_id = client.submit("org-1", as_of=AS_OF).job_id
        client.job(job_id).wait(120)
    screen = terminal("list", "--data", folder.path, columns=80)
    assert screen.wait() == ExitCode.OK
    [line] = [line for line in plain(screen.screen).splitlines() if job_id in line]
    assert "org-1" in line
    assert "succeeded" in line
    assert len(line) <= 80
