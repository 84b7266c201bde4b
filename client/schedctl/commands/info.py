"""The commands info and version."""

from __future__ import annotations

from typing import Any

import click

from schedctl.common import connection_options, handles_errors, json_option, make_client, print_json
from schedctl.views import results
from schedproto import __version__
from schedproto.messages import PROTOCOL_VERSION


@click.command("info")
@click.argument("organization", required=False)
@connection_options
@handles_errors
def info_command(organization: str | None, *, as_json: bool, **options: Any) -> None:
    """Show an organization's file, or the data folder."""
    with make_client(options) as client:
        if organization is None:
            volume = client.volume()
            print_json(volume) if as_json else results.print_volume(volume)
            return
        info = client.info(organization)
    print_json(info) if as_json else results.print_organization(info)


@click.command("version")
@json_option
def version_command(*, as_json: bool) -> None:
    """Print the version of this client."""
    if as_json:
        print_json({"version": __version__, "protocol": PROTOCOL_VERSION})
    else:
        click.echo(__version__)
