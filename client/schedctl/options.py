"""Options that several commands share."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import click

from schedclient.errors import SettingsError

as_of_option = click.option(
    "--as-of",
    metavar="YYYY-MM-DD",
    help="Date of the run (default: today in the organization's time zone).",
)
config_option = click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="TOML file with overrides for the organization's configuration.",
)
timeout_option = click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0.1),
    metavar="SECONDS",
    help="Stop waiting after this time; the job continues.",
)
workers_option = click.option(
    "--workers",
    type=click.IntRange(1, 32),
    metavar="N",
    help="Worker processes (default: chosen by organization size).",
)


def read_overrides(path: Path | None) -> dict[str, Any]:
    """Return the overrides of a TOML file, or none."""
    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(
            f"{path} cannot be read: {error.strerror}", "--config takes a TOML file."
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not valid TOML: {error}") from None
