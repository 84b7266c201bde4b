"""The row of a run in `scheduler_runs`."""

from __future__ import annotations

import datetime as dt

import msgspec

from schedd.store.runs import RunRecord
from schedproto import RunResult


def _text(time: dt.datetime) -> str:
    return time.astimezone(dt.UTC).strftime("%Y-%m-%d %H:%M:%S")


def run_record(
    run_id: str,
    as_of: str,
    config_version: int | None,
    mode: str,
    times: tuple[dt.datetime, dt.datetime],
    result: RunResult | None,
    error: str | None,
) -> RunRecord:
    """Return the row of a run that succeeded, or without a result, of one that failed."""
    started, finished = (_text(time) for time in times)
    if result is None:
        return RunRecord(run_id, as_of, config_version, mode, started, finished, "failed", error)
    return RunRecord(
        run_id,
        as_of,
        config_version,
        mode,
        started,
        finished,
        "completed",
        contacts_read=result.contacts,
        contacts_eligible=result.contacts_eligible,
        rows_inserted=result.rows_inserted,
        rows_updated=result.rows_updated,
        rows_deleted=result.rows_deleted,
        rows_unchanged=result.rows_unchanged,
        counts=result.counts,
        stage_timings=result.stages,
        summary=msgspec.json.encode(result).decode(),
    )
