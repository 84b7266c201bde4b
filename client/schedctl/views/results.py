"""Terminal output of results: tables, and a chart of the plan's volume per day."""

from __future__ import annotations

import datetime as dt

from rich.console import Console
from rich.table import Table
from rich.text import Text

from schedctl.terminal import (
    PIPE_PICTURE_WIDTH,
    PIPE_WIDTH,
    STATE_STYLE,
    console,
    print_pairs,
    seconds,
    size,
)
from schedproto import Job, OrganizationInfo, RunResult, VolumeInfo
from schedproto.messages import Health
from schedproto.printable import shows_printable

from .review import print_review

#: Eighths of a character's height.
_BLOCKS = " ▁▂▃▄▅▆▇█"
_PICTURE_ROWS = 8
#: From this width on the list of jobs has all its columns.
_WIDE_COLUMNS = 110


@shows_printable
def print_result(result: RunResult) -> None:
    """Show what a run did."""
    out = console()
    done = f"scheduled for {result.as_of}"
    if result.dry_run:
        done = f"planned for {result.as_of} (dry run, nothing was changed)"
    eligible = f"{result.contacts_eligible:,} of {result.contacts:,} contacts eligible"
    out.print(
        Text.assemble(
            (result.organization, "bold"),
            f" {done}: {eligible}, {result.rows_planned:,} rows planned",
        ),
        soft_wrap=True,
    )
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("type")
    statuses = ("pre-scheduled", "skipped")
    for status in statuses:
        table.add_column(status, justify="right")
    for kind, counts in result.counts.items():
        table.add_row(kind, *(f"{counts.get(status, 0):,}" for status in statuses))
    sums = [sum(counts.get(status, 0) for counts in result.counts.values()) for status in statuses]
    table.add_row("total", *(f"{number:,}" for number in sums), style="bold")
    out.print()
    out.print(table)
    out.print()
    picture(out, result)
    _print_details(out, result)
    print_review(out, result)


def _print_details(out: Console, result: RunResult) -> None:
    rows = ("would be: " if result.dry_run else "") + (
        f"{result.rows_inserted:,} inserted, {result.rows_updated:,} updated, "
        f"{result.rows_deleted:,} deleted, {result.rows_unchanged:,} unchanged"
    )
    stages = ", ".join(f"{name} {seconds(value)}" for name, value in result.stages.items())
    print_pairs(
        out,
        {
            "rows": rows,
            "issues": ", ".join(f"{count:,} {reason}" for reason, count in result.issues.items()),
            "left out": _left_out(result),
            "time": f"{seconds(result.wall_s)} ({stages})",
            "speed": f"{result.contacts_per_s:,.0f} contacts/s with {_workers(result.workers)}, "
            f"mode {result.mode}",
            "cost": None
            if result.cost_usd is None
            else f"{result.cost_usd:.6f} US dollars of machine time",
            "backup": result.backup_id,
            "bucket": _replica(result),
            "run": result.run_id,
        },
    )


def _replica(result: RunResult) -> str | None:
    use = result.replica
    if use is None:
        return None
    version = "" if not use.version else f"version {use.version} published, "
    repeated = f", carried over {use.carried_over} times" if use.carried_over else ""
    return (
        f"{version}{size(use.bytes_down)} downloaded, {size(use.bytes_up)} uploaded (complete "
        f"files: {size(use.bytes_whole)}){repeated}"
    )


def _workers(number: int) -> str:
    return "1 worker" if number == 1 else f"{number} workers"


def _left_out(result: RunResult) -> str:
    parts = []
    if result.duplicates_dropped:
        parts.append(f"{result.duplicates_dropped:,} duplicates")
    if result.keys_held:
        parts.append(f"{result.keys_held:,} whose key another row holds")
    return ", ".join(parts)


def picture(out: Console, result: RunResult) -> None:
    """Draw the e-mails per day: a column for some days, as high as their busiest; months below."""
    days = {dt.date.fromisoformat(day): count for day, count in result.volume.items()}
    if not days:
        out.print("No e-mail is planned to go out.")
        return
    first, last = min(days), max(days)
    span = (last - first).days + 1
    width = max(10, min(out.width - 2, 120)) if out.width != PIPE_WIDTH else PIPE_PICTURE_WIDTH
    per_column = max(1, -(-span // width))
    columns = [
        max(
            days.get(first + dt.timedelta(days=i), 0)
            for i in range(start, min(start + per_column, span))
        )
        for start in range(0, span, per_column)
    ]
    peak = max(columns)
    busiest = max(days, key=lambda day: days[day])
    out.print(
        f"e-mails per day: busiest {busiest} with {peak:,}, cap {result.daily_cap:,}"
        + (f" (a column is {per_column} days)" if per_column > 1 else "")
    )
    for row in range(_PICTURE_ROWS - 1, -1, -1):
        line = "".join(
            _BLOCKS[max(0, min(8, round(8 * (count * _PICTURE_ROWS / peak - row))))]
            for count in columns
        )
        out.print(Text(line, style="cyan"), no_wrap=True, crop=True)
    out.print(Text(_months(first, len(columns), per_column), style="dim"), no_wrap=True, crop=True)
    out.print()


def _months(first: dt.date, columns: int, per_column: int) -> str:
    line = [" "] * columns
    end = 0
    for index in range(columns):
        day = first + dt.timedelta(days=index * per_column)
        begins = index == 0 or day.month != (day - dt.timedelta(days=per_column)).month
        label = f"{day:%b}" if day.month > 1 or index == 0 else f"{day:%Y}"
        if begins and index >= end and index + len(label) <= columns:
            line[index : index + len(label)] = label
            end = index + len(label) + 1
    return "".join(line)


def _local(moment: dt.datetime | None) -> str:
    return "" if moment is None else f"{moment.astimezone():%Y-%m-%d %H:%M:%S}"


@shows_printable
def print_jobs(jobs: list[Job]) -> None:
    """List jobs."""
    out = console()
    if not jobs:
        out.print("No jobs.")
        return
    # A narrow terminal gets fewer columns: an id that is cut off is of no use.
    wide = out.width >= _WIDE_COLUMNS
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("job", no_wrap=True, min_width=len(jobs[0].job_id))
    table.add_column("organization", no_wrap=True)
    table.add_column("state", no_wrap=True, min_width=max(len(job.state) for job in jobs))
    for name in ("as of", "submitted", "took") if wide else ("submitted",):
        table.add_column(name, no_wrap=True)
    table.add_column("rows changed", no_wrap=True)
    for job in jobs:
        result = job.result
        changed = (
            ""
            if result is None
            else f"{result.rows_inserted + result.rows_updated + result.rows_deleted:,}"
        )
        submitted = _local(job.submitted_at)
        between = (
            [
                (result.as_of if result else job.spec.as_of) or "",
                submitted,
                seconds(result.wall_s) if result else "",
            ]
            if wide
            else [submitted[len("2026-") : -len(":00")]]
        )
        table.add_row(
            job.job_id,
            job.spec.organization,
            Text(job.state, style=STATE_STYLE.get(job.state, "")),
            *between,
            changed if job.error is None else job.error.code,
        )
    out.print(table)


@shows_printable
def print_job(job: Job) -> None:
    """Show one job."""
    out = console()
    progress = f"{job.progress.stage} {job.progress.fraction:.0%}" if job.progress else None
    print_pairs(
        out,
        {
            "job": job.job_id,
            "organization": job.spec.organization,
            "state": Text(job.state, style=STATE_STYLE.get(job.state, "")),
            "progress": progress,
            "jobs ahead": job.position,
            "submitted": _local(job.submitted_at),
            "started": _local(job.started_at),
            "finished": _local(job.finished_at),
            "attempts": job.attempts,
            "error": f"{job.error.code}: {job.error.message}" if job.error else None,
            "hint": job.error.hint if job.error else None,
        },
    )
    if job.result is not None:
        out.print()
        print_result(job.result)


@shows_printable
def print_health(health: Health) -> None:
    """Show the daemon's state."""
    idle = None if health.idle_exit_in_s is None else f"idle exit in {health.idle_exit_in_s:.0f} s"
    print_pairs(
        console(),
        {
            "daemon": f"{health.status}, version {health.daemon_version}",
            "up": seconds(health.uptime_s),
            "idle": idle,
            "jobs": ", ".join(f"{count} {state}" for state, count in health.jobs.items()),
            "workers": f"{health.workers_busy} of {health.workers} busy",
            "free space": size(health.free_bytes),
            "log": f"{health.log_lines_lost:,} lines could not be written"
            if health.log_lines_lost
            else None,
            "journal": f"cannot be written; {health.jobs_unwritten:,} ended jobs are in memory"
            if health.jobs_unwritten
            else None,
        },
    )


@shows_printable
def print_volume(volume: VolumeInfo) -> None:
    """Show the data folder."""
    out = console()
    print_pairs(
        out,
        {
            "data folder": volume.data_dir,
            "free space": f"{size(volume.free_bytes)} of {size(volume.total_bytes)}",
        },
    )
    out.print()
    if not volume.organizations:
        out.print("No organizations. Put their databases in this folder, for example org-123.db.")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("organization")
    table.add_column("size", justify="right")
    for name, size_bytes in volume.organizations.items():
        table.add_row(name, size(size_bytes))
    out.print(table)


@shows_printable
def print_organization(info: OrganizationInfo) -> None:
    """Show an organization's file."""
    out = console()
    run = info.last_run
    print_pairs(
        out,
        {
            "organization": info.organization,
            "file": f"{info.path} ({size(info.size_bytes)}, journal mode {info.journal_mode})",
            "contacts": None if info.contacts is None else f"{info.contacts:,}",
            "plan": ", ".join(f"{count:,} {status}" for status, count in info.plan.items())
            or "none yet",
            "issues": ", ".join(f"{count:,} {reason}" for reason, count in info.issues.items()),
            "configuration": "defaults"
            if info.config_version is None
            else f"version {info.config_version}",
            "last run": None
            if run is None
            else f"{run.run_id}, as of {run.as_of}, {run.status}, {run.finished_at} UTC",
            "next days": ", ".join(
                f"{day[5:]} {count:,}" for day, count in list(info.next_dates.items())[:7]
            ),
            "error": None if info.error is None else Text(info.error.message, style="red"),
        },
    )
    out.print()
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("table")
    table.add_column("rows", justify="right")
    table.add_column("missing columns")
    for entry in info.tables:
        rows = "-" if entry.rows is None else f"{entry.rows:,}"
        table.add_row(
            entry.name, rows if entry.present else "missing", ", ".join(entry.missing_columns)
        )
    out.print(table)
