"""Data of `schedctl config`: an organization's versioned configuration."""

from __future__ import annotations

from typing import Any

import msgspec

from .errors import ErrorInfo

#: The longest TOML text of a version, encoded as UTF-8; with it, a request stays within its limit
#: (codec.py).
MAX_TOML_BYTES = 512 * 1024
#: The longest name of a person who changes a configuration.
MAX_NAME_CHARACTERS = 200


class ConfigurationVersion(msgspec.Struct, frozen=True, kw_only=True):
    """One row of `scheduler_config`. Times are UTC, `YYYY-MM-DD HH:MM:SS`.

    toml_left_out: `toml` is empty because the answer would be too large; ask for this version.
    """

    version: int
    toml: str
    created_at: str = ""
    created_by: str = ""
    withdrawn_at: str | None = None
    withdrawn_by: str | None = None
    toml_left_out: bool = False


class OrganizationConfiguration(msgspec.Struct, frozen=True, kw_only=True):
    """The configuration that a run of an organization would start from, job overrides aside.

    version: the stored version that applies, None if there is none.
    effective: every setting with its value, in the shape of the rules' section 13; what the size of
    the organization decides (section 9) is absent unless set.   sources: dotted key -> where its
    value comes from, for keys that are not at their default.   versions: the stored versions,
    newest first.
    versions_more: there are more of them than are listed; one that was asked for is always among
    them.
    error: what is wrong with the stored version that applies; `effective` is then without it, and
    no run starts.
    """

    organization: str
    version: int | None = None
    effective: dict[str, Any] = {}
    sources: dict[str, str] = {}
    versions: list[ConfigurationVersion] = []
    versions_more: bool = False
    error: ErrorInfo | None = None
