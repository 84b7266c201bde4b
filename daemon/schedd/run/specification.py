"""Validation of a job's specification when it is submitted; knows nothing of running it."""

from __future__ import annotations

import datetime as dt

from schedd.engine.configuration import ConfigurationError, Layer, build
from schedproto import ErrorCode, JobSpec, Mode, SavedPlan, SchedulerError
from schedproto.ids import check_organization
from schedproto.jobs import MAX_WORKERS, MIN_WORKERS

#: The first and last date of a run: all arithmetic of the rules then stays in the calendar.
FIRST_AS_OF, LAST_AS_OF = dt.date(1971, 1, 1), dt.date(8999, 12, 31)
#: Contacts that one job explains.
MAX_EXPLAINED = 100
#: The format of `SavedPlan` that this release writes and reads.
PLAN_FORMAT = 1


def parse_as_of(text: str) -> dt.date:
    """Return the date D of a job, or raise `SchedulerError` (`invalid_argument`)."""
    try:
        day = dt.datetime.strptime(text, "%Y-%m-%d").date()  # noqa: DTZ007 - a date has no time zone
    except ValueError:
        raise SchedulerError(
            ErrorCode.INVALID_ARGUMENT,
            f"as_of = {text!r:.40} is not a date",
            hint="Use YYYY-MM-DD.",
        ) from None
    if not FIRST_AS_OF <= day <= LAST_AS_OF:
        raise SchedulerError(
            ErrorCode.INVALID_ARGUMENT,
            f"as_of = {text} is out of range",
            hint=f"Use {FIRST_AS_OF} to {LAST_AS_OF}.",
        )
    return day


def check_spec(spec: JobSpec) -> None:
    """Raise `SchedulerError` for a specification that could never run."""
    check_organization(spec.organization)
    if spec.as_of is not None:
        parse_as_of(spec.as_of)
    if spec.mode not in set(Mode):
        raise SchedulerError(
            ErrorCode.INVALID_ARGUMENT,
            f"unknown mode {spec.mode!r:.40}",
            hint=f"Modes: {', '.join(Mode)}.",
        )
    if spec.workers is not None and not MIN_WORKERS <= spec.workers <= MAX_WORKERS:
        raise SchedulerError(
            ErrorCode.INVALID_ARGUMENT,
            f"workers = {spec.workers} is out of range",
            hint=f"Use {MIN_WORKERS} to {MAX_WORKERS}, or omit it to let the daemon choose.",
        )
    _check_explained(spec)
    if spec.expect is not None:
        _check_expected(spec, spec.expect)
    try:
        build(Layer("the job's configuration", spec.config))
    except ConfigurationError as error:
        raise SchedulerError(
            ErrorCode.INVALID_CONFIGURATION,
            str(error),
            hint="docs/RULES.md, section 13, lists the keys and their values.",
        ) from None


def _check_explained(spec: JobSpec) -> None:
    if spec.explain and not (spec.dry_run and len(spec.explain) <= MAX_EXPLAINED):
        raise SchedulerError(
            ErrorCode.INVALID_ARGUMENT,
            f"explain = {len(spec.explain)} contacts"
            + ("" if spec.dry_run else " without dry_run"),
            hint=f"A dry run explains at most {MAX_EXPLAINED} contacts.",
        )
    if any(abs(contact) >= 1 << 62 for contact in spec.explain):
        raise SchedulerError(
            ErrorCode.INVALID_ARGUMENT,
            "explain: contact id out of range",
            hint="Contact ids have 62 bits.",
        )


def _check_expected(spec: JobSpec, expected: SavedPlan) -> None:
    if expected.format != PLAN_FORMAT:
        raise SchedulerError(
            ErrorCode.INVALID_ARGUMENT,
            f"the expected plan has the format {expected.format}; "
            f"this release supports {PLAN_FORMAT}",
            hint="Save a plan with this release: `schedctl preview ORGANIZATION --save FILE`.",
        )
    if expected.organization != spec.organization:
        raise SchedulerError(
            ErrorCode.INVALID_ARGUMENT,
            f"the expected plan belongs to {expected.organization!r:.80}, "
            f"not to {spec.organization!r}",
            hint="Submit the organization whose plan was saved.",
        )
