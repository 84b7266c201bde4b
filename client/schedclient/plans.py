"""Plans that were reviewed: kept in a file, and expected of a later job."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

import msgspec

from schedproto import SavedPlan

from .errors import LocalFileError, SettingsError

#: The format of saved plans that this release reads.
FORMAT = 1

#: What `submit` takes as the expected plan: `RunResult.plan` of a dry run, or the file of one.
Expected = SavedPlan | str | PathLike[str]


def save_plan(plan: SavedPlan, path: str | PathLike[str]) -> None:
    """Write a plan into a file (JSON). Raises `LocalFileError`."""
    text = msgspec.json.format(msgspec.json.encode(plan), indent=2)
    try:
        Path(path).write_bytes(text + b"\n")
    except OSError as error:
        raise LocalFileError(
            f"{path} cannot be written: {error.strerror}",
            "--save takes the path of the file to create.",
        ) from None


def load_plan(path: str | PathLike[str]) -> SavedPlan:
    """Return the plan of a file. Raises `LocalFileError`."""
    try:
        plan = msgspec.json.decode(Path(path).read_bytes(), type=SavedPlan)
    except OSError as error:
        raise LocalFileError(
            f"{path} cannot be read: {error.strerror}",
            "Create one with `schedctl preview ORGANIZATION --save FILE`.",
        ) from None
    except msgspec.DecodeError as error:
        raise LocalFileError(
            f"{path} is not a saved plan: {error}",
            "Create one with `schedctl preview ORGANIZATION --save FILE`.",
        ) from None
    if plan.format != FORMAT or not plan.digest:
        raise LocalFileError(
            f"{path} has the format {plan.format}; this release reads {FORMAT}",
            "Save the plan again with this release, or upgrade.",
        )
    return plan


def expected_plan(
    expect: Expected, organization: str, as_of: str | None, config: dict[str, Any] | None
) -> tuple[SavedPlan, str, dict[str, Any]]:
    """Return the plan, the date and the overrides of a job that expects a plan.

    Date and overrides are those of the plan; given ones must be the same. Raises `SettingsError`
    otherwise.
    """
    plan = expect if isinstance(expect, SavedPlan) else load_plan(expect)
    if plan.organization != organization:
        raise SettingsError(
            f"the expected plan belongs to {plan.organization}, not to {organization}",
            "Submit the organization whose plan was saved.",
        )
    if as_of is not None and as_of != plan.as_of:
        raise SettingsError(
            f"the expected plan is for {plan.as_of}, the job for {as_of}",
            "Omit the date, or save a plan for that day and use it.",
        )
    if config is not None and config != plan.config:
        raise SettingsError(
            "the expected plan was computed with other overrides of the configuration",
            "Omit the overrides, or save a plan with them and use it.",
        )
    return plan, plan.as_of, plan.config
