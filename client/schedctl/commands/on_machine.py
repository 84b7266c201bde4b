"""The commands on the machine itself.

`scheduler-help`, db-info, run-reliable-scheduler, run-highperf-scheduler.

They talk to the machine's daemon over the Unix socket of the data folder, so what they run goes
through the same queue, journal and runner as jobs from elsewhere.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import click

from schedclient.errors import SettingsError
from schedctl import terminal
from schedctl.common import handles_errors, json_option, print_json, run_command
from schedctl.exitcodes import ExitCode
from schedctl.views import results
from schedproto.ids import DATABASE_SUFFIX

from .jobs import follow

#: The data folder of a machine (fly.toml, [mounts]).
DATA = Path("/data")

HELP = """\
The e-mail scheduler: decides for every contact which e-mail goes out on which day.

Commands on this machine:
  scheduler-help                                this page
  db-info                                       the volume, its databases and the daemon
  run-reliable-scheduler DB [THREADS]           schedule a database, after a backup of it
  run-highperf-scheduler DB [THREADS]           the same with a cache of 2 GB and fewer syncs
  schedctl                                      everything else: status, list, cancel, report ...
  sqlite3 DB                                    a shell on a database

  DB       a file in {data}, or the organization's id: {data}/org-123.db or org-123
  THREADS  1 to 32 worker processes (default: the machine's {cores} cores)

Examples:
  run-reliable-scheduler {data}/org-123.db
  run-highperf-scheduler org-123 8
  schedctl list --data {data}
  schedctl backup list org-123 --data {data}

The daemon stops the machine automatically when idle. Jobs started here keep it running until they
end.
"""


def _data() -> Path:
    return Path(os.environ.get("SCHEDD_DATA") or DATA)


def _cores() -> int:
    return min(32, len(os.sched_getaffinity(0)))


def _database(text: str) -> tuple[Path, str]:
    """Return the data folder and the organization's id of a file or an id."""
    path = Path(text)
    if len(path.parts) == 1 and not path.exists() and path.suffix != DATABASE_SUFFIX:
        if (_data() / f"{text}{DATABASE_SUFFIX}").exists():
            _give_to_the_daemon(_data() / f"{text}{DATABASE_SUFFIX}")
        return _data(), text
    if path.suffix != DATABASE_SUFFIX:
        raise SettingsError(
            f"{text} is not a valid name for an organization's file",
            f"Name it ID{DATABASE_SUFFIX}: {path.stem}.db",
        )
    folder = path.resolve().parent if len(path.parts) > 1 or path.exists() else _data()
    if not (folder / path.name).exists():
        raise SettingsError(
            f"no such file: {folder / path.name}", f"`db-info` lists the databases in {_data()}."
        )
    _give_to_the_daemon(folder / path.name)
    return folder, path.stem


def _give_to_the_daemon(file: Path) -> None:
    """Change a file's owner from root to the data folder's owner, as whom the daemon runs."""
    owner = file.parent.stat()
    if os.geteuid() == 0 and file.stat().st_uid != owner.st_uid:
        os.chown(file, owner.st_uid, owner.st_gid)


def _run(name: str, mode: str, text: str) -> click.Command:
    @click.command(name, help=text, context_settings={"help_option_names": ["-h", "--help"]})
    @click.argument("database", metavar="DB")
    @click.argument("threads", type=click.IntRange(1, 32), required=False, metavar="[THREADS]")
    @click.option("--as-of", metavar="YYYY-MM-DD", help="Date of the run (default: today).")
    @click.option("--dry-run", is_flag=True, help="Compute the plan without writing it.")
    @json_option
    @handles_errors
    def command(
        *, database: str, threads: int | None, as_of: str | None, dry_run: bool, as_json: bool
    ) -> ExitCode:
        from schedclient.sync import Client  # noqa: PLC0415 - loads ZeroMQ

        folder, organization = _database(database)
        with Client(data=folder) as client:
            handle = client.submit(
                organization, mode=mode, workers=threads or _cores(), as_of=as_of, dry_run=dry_run
            )
            return follow(client, handle, None, as_json=as_json)

    return command


def scheduler_help() -> None:
    """Print what can be done on the machine."""
    click.echo(HELP.format(data=_data(), cores=_cores()), nl=False)


@click.command("db-info", context_settings={"help_option_names": ["-h", "--help"]})
@json_option
@handles_errors
def _db_info(*, as_json: bool) -> None:
    """Show the volume, its databases and the daemon."""
    from schedclient.sync import Client  # noqa: PLC0415 - loads ZeroMQ

    data = _data()
    if not data.is_dir():
        raise SettingsError(
            f"the data folder {data} does not exist",
            "Is the volume mounted? `df -h`, and [mounts] in fly.toml.",
        )
    mounted, usage = data.is_mount(), shutil.disk_usage(data)
    with Client(data=data) as client:
        volume, health = client.volume(), client.health()
    if as_json:
        print_json({"data": str(data), "mounted": mounted, "volume": volume, "health": health})
        return
    where = (
        "on a separate volume"
        if mounted
        else "not on a separate volume, part of the root file system"
    )
    click.echo(f"{data}: {where}; {terminal.size(usage.free)} of {terminal.size(usage.total)} free")
    jobs = (
        ", ".join(f"{count} {state}" for state, count in health.jobs.items() if count) or "none yet"
    )
    click.echo(
        f"Daemon {health.daemon_version}, up for {health.uptime_s:.0f} s, {health.workers} "
        f"workers; jobs: {jobs}"
    )
    click.echo()
    results.print_volume(volume)


def db_info() -> None:
    """Run `db-info`."""
    run_command(_db_info, "db-info")


def run_reliable_scheduler() -> None:
    """Run `run-reliable-scheduler`."""
    text = "Schedule DB in mode reliable: a backup first, and every write is synced."
    run_command(_run("run-reliable-scheduler", "reliable", text), "run-reliable-scheduler")


def run_highperf_scheduler() -> None:
    """Run `run-highperf-scheduler`."""
    text = "Schedule DB in mode highperf: 2 GB cache, fewer syncs, no backup."
    run_command(_run("run-highperf-scheduler", "highperf", text), "run-highperf-scheduler")
