"""The command cost."""

from __future__ import annotations

from typing import Any

import click
from rich.table import Table

from schedclient.errors import SettingsError
from schedctl import costs as cost
from schedctl.common import connection_options, handles_errors, make_client, print_json
from schedctl.terminal import console
from schedproto import prices

#: A month of 30 days, by which volumes are priced, in a year.
MONTHS_OF_A_YEAR = 365 / 30


def _price(size: str, region: str, per_hour: float | None) -> tuple[float, str, str]:
    if per_hour is not None:
        return per_hour / 3600, "today", "--price-per-hour"
    known = prices.per_second(size, region)
    if known is None:
        places = ", ".join(
            f"{name} in {', '.join(regions)}" for name, regions in prices.PER_SECOND.items()
        )
        raise SettingsError(
            f"unknown price for {size} in {region}",
            f"Set it with --price-per-hour (https://fly.io/docs/about/pricing/). Known: {places}.",
        )
    return known, prices.AS_OF, prices.SOURCE


def _own_rows(options: dict[str, Any], usd_per_s: float, idle_s: float) -> list[cost.CostRow]:
    with make_client(options) as client:
        jobs = client.list(states=["succeeded"], limit=1000)
    newest = {
        job.spec.organization: job.result
        for job in reversed(jobs)
        if job.result and not job.result.dry_run
    }
    return [
        cost.row(result.contacts, f"last run of {name}", result.wall_s, usd_per_s, idle_s)
        for name, result in sorted(newest.items())
    ]


def _print(table: cost.CostTable) -> None:
    out = console()
    shown = Table(box=None, pad_edge=False, header_style="bold")
    shown.add_column("contacts", justify="right")
    shown.add_column("run")
    for name in ("seconds", "run, $", "until it stops, $", "daily for a year, $"):
        shown.add_column(name, justify="right", no_wrap=True)
    for row in table.rows:
        shown.add_row(
            f"{row.contacts:,}",
            row.kind,
            f"{row.run_s:.2f}",
            f"{row.run_usd:.6f}",
            f"{row.with_idle_usd:.4f}",
            f"{row.year_usd:.2f}",
        )
    out.print(shown)
    out.print(
        f"\n{table.size} in {table.region}: {table.usd_per_hour:.4f} $/h ({table.price_as_of}, "
        f"{table.price_source}).\n"
        f"It stops {table.idle_s:g} s after the last job; this idle time is billed, once for runs "
        "in quick "
        "succession.\n"
        f"The same machine always on: {table.always_on_usd:,.0f} $ a year. "
        f"A volume of {table.volume_gb} GB: {table.volume_year_usd:.2f} $ a year, always billed.\n"
        "Excludes Fly's boot time of the machine, which is not measured here."
    )


@click.command("cost")
@click.option(
    "--vm-size", "size", default=prices.DEFAULT_SIZE, show_default=True, help="Machine size."
)
@click.option(
    "--region", default=prices.DEFAULT_REGION, show_default=True, help="Region of the machine."
)
@click.option(
    "--price-per-hour",
    type=click.FloatRange(min=0),
    metavar="DOLLARS",
    help="Override the hourly price.",
)
@click.option(
    "--idle",
    "idle_s",
    type=click.FloatRange(min=0),
    default=cost.IDLE_S,
    show_default=True,
    metavar="SECONDS",
    help="Idle time before the machine stops.",
)
@click.option(
    "--volume-size",
    "volume_gb",
    type=click.IntRange(1),
    default=10,
    show_default=True,
    help="Volume size in GB.",
)
@click.option("--runs", is_flag=True, help="Use this daemon's past runs instead of the benchmark.")
@connection_options
@handles_errors
def cost_command(
    *,
    size: str,
    region: str,
    price_per_hour: float | None,
    idle_s: float,
    volume_gb: int,
    runs: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Estimate the cost of runs.

    The prices are a dated list. Without --runs, needs no daemon: the times come from the project's
    benchmark on 2 processors.
    """
    usd_per_s, as_of, source = _price(size, region, price_per_hour)
    table = cost.CostTable(
        size=size,
        region=region,
        usd_per_hour=usd_per_s * 3600,
        price_as_of=as_of,
        price_source=source,
        idle_s=idle_s,
        rows=_own_rows(options, usd_per_s, idle_s)
        if runs
        else cost.measured_rows(usd_per_s, idle_s),
        always_on_usd=usd_per_s * 3600 * cost.HOURS_OF_A_YEAR,
        volume_gb=volume_gb,
        volume_year_usd=volume_gb * prices.VOLUME_GB_MONTH * MONTHS_OF_A_YEAR,
    )
    print_json(table) if as_json else _print(table)
