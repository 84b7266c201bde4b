"""The command deploy."""

from __future__ import annotations

from pathlib import Path

import click

from schedclient.errors import SettingsError
from schedclient.fly.deploy import Plan, deploy
from schedclient.settings import DEFAULT_PORT, load
from schedctl.common import handles_errors
from schedproto import prices


@click.command("deploy")
@click.option("--app", help="Fly app, created if it does not exist. (SCHEDCTL_APP)")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    default=Path("fly.toml"),
    show_default=True,
    help="The app's fly.toml.",
)
@click.option(
    "--keys",
    type=click.Path(path_type=Path),
    default=Path("keys"),
    show_default=True,
    help="Folder with the keys created by `schedctl keys new`.",
)
@click.option(
    "--rotate-keys", is_flag=True, help="Replace the app's existing keys with those of --keys."
)
@click.option(
    "--region", default=prices.DEFAULT_REGION, show_default=True, help="Region of a new volume."
)
@click.option(
    "--vm-size", "size", default=prices.DEFAULT_SIZE, show_default=True, help="Machine size."
)
@click.option(
    "--volume-size",
    "volume_gb",
    type=click.IntRange(1, 500),
    default=10,
    show_default=True,
    help="Size of a new volume in GB.",
)
@click.option("--org", "organization", metavar="NAME", help="Fly organization that owns a new app.")
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
    """Deploy this project to Fly.

    Creates the app, its volume and its secrets if they are missing. Needs flyctl and the project's
    folder. Idempotent: changes only what differs.
    """
    fly = load({"app": app}).fly
    if fly is None:
        raise SettingsError(
            "no app is set", "Set --app or SCHEDCTL_APP; the app is created if it does not exist."
        )
    plan = Plan(fly.app, config, keys, region, size, "data", volume_gb, organization, rotate_keys)
    deploy(plan, lambda text: click.echo(text, err=True))
    click.echo(
        f"Deployed. A client needs: SCHEDCTL_APP={fly.app}, FLY_API_TOKEN (`fly tokens create "
        "deploy`),"
    )
    click.echo(
        f"  SCHEDCTL_KEY_FILE={keys / 'client.secret'}, "
        f"SCHEDCTL_SERVER_KEY={keys / 'server.public'}"
    )
    if fly.port != DEFAULT_PORT:
        click.echo(f"  SCHEDCTL_PORT={fly.port}")
    click.echo("Then: schedctl doctor, and schedctl push FILE org-123, and schedctl submit org-123")
