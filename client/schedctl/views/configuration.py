"""Terminal output of configurations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click
from rich.table import Table
from rich.text import Text

from schedclient.toml import dotted, inline, render
from schedctl.terminal import console
from schedproto import OrganizationConfiguration
from schedproto.printable import shows_printable

#: Settings that depend on the number of contacts if they are not set.
_BY_SIZE = ("balance.daily_cap_percent", "balance.effective_date_soft_limit")


def _applies(configuration: OrganizationConfiguration) -> str:
    if configuration.version is None:
        return "no version applies; the defaults are used"
    return f"version {configuration.version} of the configuration applies"


def print_toml(configuration: OrganizationConfiguration) -> None:
    """Print every setting as TOML, with the source of each set one as a comment."""
    heading = f"# {configuration.organization}: {_applies(configuration)}\n"
    click.echo(heading + render(configuration.effective, configuration.sources), nl=False)
    print_error(configuration)


@shows_printable
def print_configuration(configuration: OrganizationConfiguration) -> None:
    """Show every setting, and the source of each set one."""
    out = console()
    out.print(Text.assemble((configuration.organization, "bold"), f"  {_applies(configuration)}"))
    print_error(configuration)
    out.print()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("setting", "value", "set by"):
        table.add_column(name, no_wrap=name == "setting")
    for key, value in dotted(configuration.effective):
        source = configuration.sources.get(key)
        table.add_row(Text(key, style="bold" if source else ""), inline(value), source or "")
    out.print(table)
    known = dict(dotted(configuration.effective))
    if missing := [key for key in _BY_SIZE if key not in known]:
        out.print(f"\n{' and '.join(missing)}: by the organization's size (rules, section 9)")


@shows_printable
def print_error(configuration: OrganizationConfiguration) -> None:
    """Say what is wrong with the stored version that applies."""
    if configuration.error is not None:
        out = console(err=True)
        out.print(Text(f"Runs fail: {configuration.error.message}", style="red"), soft_wrap=True)
        out.print("Set a new version, or withdraw this one.")


def print_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    """Show which settings differ."""
    old, new = dict(dotted(before)), dict(dotted(after))
    out = console()
    table = Table(box=None, pad_edge=False, show_header=False)
    for _ in range(3):
        table.add_column()
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) != new.get(key):
            missing = "by size" if key.startswith("balance.") else "none"
            shown = [missing if v.get(key) is None else inline(v[key]) for v in (old, new)]
            table.add_row(f"  {key}", shown[0], f"-> {shown[1]}")
    out.print(table if table.row_count else "  No setting changes.")


@shows_printable
def print_versions(configuration: OrganizationConfiguration) -> None:
    """List the stored versions."""
    out = console()
    if not configuration.versions:
        out.print(f"{configuration.organization} has no configuration; the defaults apply.")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("version", "created (UTC)", "by", "withdrawn (UTC)", "by"):
        table.add_column(name, no_wrap=True)
    for entry in configuration.versions:
        applies = entry.version == configuration.version
        table.add_row(
            Text(
                f"{entry.version}{' applies' if applies else ''}", style="green" if applies else ""
            ),
            entry.created_at,
            entry.created_by,
            entry.withdrawn_at or "",
            entry.withdrawn_by or "",
        )
    out.print(table)
    if configuration.versions_more:
        out.print("Older versions exist; name one to see it.")
    print_error(configuration)
