"""The command deploy."""

from __future__ import annotations

from pathlib import Path

import click

from schedclient.errors import SettingsError
from schedclient.fly.deploy import Plan, deploy
from schedclient.settings import DEFAULT_PORT, load
from schedproto import prices

from .common import handles_errors


@click.command("deploy")
@click.option("--app", help="The app on Fly, made if it does not exist. (SCHEDCTL_APP)")
@click.option(
    "--config", type=click.Path(path_type=Path), default=Path("fly.toml"), show_default=True, help="The app's fly.toml."
)
@click.option(
    "--keys",
    type=click.Path(path_type=Path),
    default=Path("keys"),
    show_default=True,
    help="Folder of keys, as made by `schedctl keys new`.",
)
@click.option("--rotate-keys", is_flag=True, help="Set the keys of --keys also where the app has some.")
@click.option("--region", default=prices.DEFAULT_REGION, show_default=True, help="Where a new volume is made.")
@click.option("--vm-size", "size", default=prices.DEFAULT_SIZE, show_default=True, help="Size of the machine.")
@click.option(
    "--volume-size",
    "volume_gb",
    type=click.IntRange(1, 500),
    default=10,
    show_default=True,
    help="Of a new volume, GB.",
)
@click.option("--org", "organization", metavar="NAME", help="Fly organization of a new app.")
@handles_errors
def deploy_command(
    *,
    app: str | None,
    config: Path,
    keys: Path,
    rotate_keys: bool,
    region: str,
    size: str,
    volume_gb: int,
    organization: str | None,
) -> None:
    """Make the app on Fly, its volume and its secrets where they are missing, and deploy this project's image.

    Needs flyctl and the project's folder. May be repeated: it changes only what is different.
    """
    fly = load({"app": app}).fly
    if fly is None:
        raise SettingsError("no app is named", "Name it with --app or SCHEDCTL_APP; it is made if it does not exist.")
    plan = Plan(fly.app, config, keys, region, size, "data", volume_gb, organization, rotate_keys)
    deploy(plan, lambda text: click.echo(text, err=True))
    click.echo(f"Deployed. A client needs: SCHEDCTL_APP={fly.app}, FLY_API_TOKEN (`fly tokens create deploy`),")
    click.echo(f"  SCHEDCTL_KEY_FILE={keys / 'client.secret'}, SCHEDCTL_SERVER_KEY={keys / 'server.public'}")
    if fly.port != DEFAULT_PORT:
        click.echo(f"  SCHEDCTL_PORT={fly.port}")
    click.echo("Then: schedctl doctor, and schedctl push FILE org-123, and schedctl submit org-123")
