"""The client's exceptions.

Every code has one, codes of the future do too, and the drawn tree is the real one.
"""

from __future__ import annotations

import datetime as dt
import inspect
import re

import pytest

from schedclient import SchedulerClientError, errors
from schedctl.exitcodes import ExitCode, of_error
from schedproto import ErrorCode, ErrorInfo, Job, JobSpec
from schedproto.errors import RETRYABLE


def classes() -> dict[str, type[SchedulerClientError]]:
    return {
        name: kind
        for name, kind in vars(errors).items()
        if inspect.isclass(kind) and issubclass(kind, SchedulerClientError)
    }


def drawn() -> dict[str, tuple[str | None, str]]:
    """Class -> (the class above it, its text), as drawn at the top of the module."""
    found: dict[str, tuple[str | None, str]] = {}
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"^    ([│ ├└─]*)([A-Z]\w+Error)\b(.*)", line)
        if match:
            depth = len(match[1]) // 4
            del above[depth:]
            found[match[2]] = (above[-1] if above else None, match[3].strip())
            above.append(match[2])
        elif above and (more := re.match(r"^    [│ ]+ (\S.*)", line)):
            base, text = found[above[-1]]
            found[above[-1]] = (base, f"{text} {more[1]}")
    return found


def test_drawn_tree_is_the_real_one() -> None:
    """Each class is drawn once, below the class it derives from."""
    tree = drawn()
    assert tree.keys() == classes().keys()
    for name, (above, _) in tree.items():
        base = classes()[name].__bases__[0]
        assert base.__name__ == (above or "Exception"), name


def test_every_code_has_its_exception() -> None:
    """The table covers all codes, and the drawn tree names each code at its class."""
    assert set(errors.BY_CODE) == set(ErrorCode)
    tree = drawn()
    for code, kind in errors.BY_CODE.items():
        text = tree[kind.__name__][1]
        assert code.value in text or code.value.removeprefix("database") in text, code


@pytest.mark.parametrize("code", list(ErrorCode))
def test_exception_for_a_code(code: ErrorCode) -> None:
    """Message, hint, code and whether a repeat can help arrive unchanged."""
    info = ErrorInfo(
        code=code.value, message="it broke", hint="repair it", retryable=code in RETRYABLE
    )
    error = errors.from_info(info)
    assert type(error) is errors.BY_CODE[code]
    assert (error.code, error.message, error.hint) == (code.value, "it broke", "repair it")
    assert error.retryable == (code in RETRYABLE)
    assert str(error) == "it broke"


@pytest.mark.parametrize("retryable", [True, False])
def test_code_of_the_future(retryable: bool) -> None:
    """An unknown code becomes `ExecutionError` and keeps its `retryable`."""
    info = ErrorInfo(
        code="moon_phase", message="not tonight", retryable=retryable, details={"moon": "full"}
    )
    error = errors.from_info(info)
    assert type(error) is errors.ExecutionError
    assert (error.code, error.retryable, error.details) == (
        "moon_phase",
        retryable,
        {"moon": "full"},
    )


def test_wait_timeout_is_a_timeout() -> None:
    """`except TimeoutError` catches the end of a wait, as a Python programmer expects."""
    assert issubclass(errors.WaitTimeoutError, TimeoutError)


def test_own_codes() -> None:
    """Errors of the client have codes too, none of which is a code of the daemon."""
    own = {
        kind("x").code
        for kind in classes().values()
        if not issubclass(kind, errors.DaemonError) and kind is not SchedulerClientError
    }
    assert {"unreachable", "authentication", "launch", "wait_timeout", "settings"} <= own
    assert not own & set(ErrorCode)


def test_exit_codes() -> None:
    """Each kind of error has the exit code that the table promises."""
    job = Job(
        job_id="job-1",
        spec=JobSpec(organization="org-1"),
        state="failed",
        submitted_at=dt.datetime(2026, 11, 1, tzinfo=dt.UTC),
    )
    info = ErrorInfo(code="database_locked", message="locked")
    cases: dict[ExitCode, list[SchedulerClientError]] = {
        ExitCode.UNREACHABLE: [
            errors.UnreachableError("x"),
            errors.LaunchError("x"),
            errors.AuthenticationError("x"),
        ],
        ExitCode.USAGE: [errors.SettingsError("x")],
        ExitCode.TIMED_OUT: [errors.WaitTimeoutError("x")],
        ExitCode.REFUSED: [errors.DatabaseLockedError(info), errors.BusyError(info)],
        ExitCode.JOB_FAILED: [
            errors.DatabaseLockedError(info, job),
            errors.ExecutionError(info, job),
        ],
        ExitCode.CANCELLED: [errors.JobCancelledError(info, job)],
    }
    for code, examples in cases.items():
        for example in examples:
            assert of_error(example) == code, example
