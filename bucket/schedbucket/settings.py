"""Settings of the bucket: the variables that `fly storage create` sets, or a folder instead."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from schedproto import ErrorCode, SchedulerError
from schedproto.bucket_settings import (
    DEFAULT_TIMEOUT_S,
    LAYOUTS,
    folder_field,
    layout_field,
    timeout_field,
)
from schedproto.settings import InvalidValueError, SettingError, SettingsTable, setting, text

__all__ = [
    "LAYOUT",
    "LAYOUTS",
    "LIBRARY_VARIABLES",
    "TABLE",
    "BucketSettings",
    "BucketVariables",
    "S3Settings",
    "load_settings",
    "not_configured",
]


#: Variables that the S3 library would read from the environment, with what each would change. They
#: are refused: they would change requests, and some the guarantees, without notice.
LIBRARY_VARIABLES = {
    "AWS_TOKEN": "set AWS_SESSION_TOKEN instead",
    "AWS_SKIP_SIGNATURE": "requests would not be signed",
    "AWS_CONDITIONAL_PUT": "conditional writes would be turned off",
    "AWS_UNSIGNED_PAYLOAD": "the signature would not cover the data",
    "AWS_S3_EXPRESS": "S3 Express buckets are not supported",
    "AWS_REQUEST_PAYER": "requester-pays buckets are not supported",
    "AWS_SERVER_SIDE_ENCRYPTION": "set encryption on the bucket instead",
    "AWS_SSE_KMS_KEY_ID": "set encryption on the bucket instead",
    "AWS_SSE_BUCKET_KEY_ENABLED": "set encryption on the bucket instead",
    "AWS_SSE_CUSTOMER_KEY_BASE64": "set encryption on the bucket instead",
    "AWS_DISABLE_BULK_DELETE": "deletions would be other requests than documented",
}


@dataclass(frozen=True)
class S3Settings:
    """Address and credentials of a bucket.

        S3Settings(
            bucket="organizations",
            endpoint="https://fly.storage.tigris.dev",
            access_key_id="tid_...",
            secret_access_key="tsec_...",
        )

    session_token: only with temporary credentials.   timeout_s: of one request.
    retries, retry_timeout_s: repeats of one request, by number and by time in total.
    """

    bucket: str
    endpoint: str
    access_key_id: str
    secret_access_key: str = field(repr=False)
    region: str = "auto"
    session_token: str = field(default="", repr=False)
    timeout_s: float = DEFAULT_TIMEOUT_S
    retry_timeout_s: float = DEFAULT_TIMEOUT_S * 1.5
    retries: int = 5


@dataclass(frozen=True)
class BucketSettings:
    """Location of the organizations' files: either `s3` or `folder`.

    layout: `versions` or `plain` (docs/BUCKET.md).

    A program usually takes them from the environment (`load_settings`), or names a folder:

        settings = BucketSettings(folder=Path("/srv/organizations"))
        store = open_store(settings)
    """

    s3: S3Settings | None = None
    folder: Path | None = None
    layout: str = LAYOUTS[0]


def _url(value: Any) -> str:
    """Parse the URL of a service."""
    url = text(value).rstrip("/")
    if not url.startswith(("https://", "http://")):
        raise InvalidValueError(
            "a URL",
            "Use a URL that starts with https:// (http:// for a server in the same network).",
        )
    return url


@dataclass(frozen=True, kw_only=True)
class BucketVariables:
    """The settings of the bucket, each as the environment has it. See `load_settings`."""

    name: str | None = setting(
        None,
        text,
        "a bucket's name",
        "Name of the bucket. Turns the bucket on.",
        variable="BUCKET_NAME",
    )
    endpoint: str | None = setting(
        None,
        _url,
        "a URL",
        "URL of the S3 service.",
        variable="AWS_ENDPOINT_URL_S3",
    )
    access_key_id: str | None = setting(
        None,
        text,
        "a key id",
        "Id of the access key.",
        variable="AWS_ACCESS_KEY_ID",
    )
    secret_access_key: str | None = setting(
        None,
        text,
        "a secret key",
        "Secret of the access key.",
        variable="AWS_SECRET_ACCESS_KEY",
        secret=True,
    )
    region: str = setting(
        "auto",
        text,
        "a region",
        "Region of the bucket.",
        variable="AWS_REGION",
    )
    session_token: str | None = setting(
        None,
        text,
        "a token",
        "Token of temporary credentials. A daemon does not renew them: restart it with new ones.",
        variable="AWS_SESSION_TOKEN",
        secret=True,
    )
    bucket_folder: Path | None = folder_field()
    bucket_layout: str = layout_field()
    bucket_timeout_s: float = timeout_field()


#: The settings of the bucket, in the order of docs/SETTINGS.md.
TABLE = SettingsTable(BucketVariables, prefix="SCHEDD_", arguments=True)
LAYOUT = TABLE["bucket_layout"].variable
#: Needed as soon as the first is set.
_REQUIRED = ("name", "endpoint", "access_key_id", "secret_access_key")


def load_settings(
    environment: Mapping[str, str],
    folder: str | Path | None = None,
    layout: str | None = None,
    timeout_s: float | None = None,
) -> BucketSettings | None:
    """Return the bucket's settings, or None if no bucket is set.

    Raises `SchedulerError` (`invalid_argument`).

    folder, layout, timeout_s: override the environment.
    """
    given = {
        "bucket_folder": folder or None,
        "bucket_layout": layout or None,
        "bucket_timeout_s": timeout_s or None,
    }
    found = TABLE.find(given, environment)
    # A variable of blanks counts as not set.
    found = {name: each for name, each in found.items() if str(each.value).strip()}

    if "bucket_folder" in found or "name" not in found:
        # The bucket's own variables do not matter then, whatever they are.
        found = {name: each for name, each in found.items() if name in given}
    elif missing := [name for name in _REQUIRED if name not in found]:
        variables = " nor ".join(TABLE[name].variable for name in missing)
        raise SchedulerError(
            ErrorCode.INVALID_ARGUMENT,
            f"{TABLE['name'].variable} is set, but not {variables}",
            hint="`fly storage create` sets all of them as secrets of the app; "
            "docs/BUCKET.md lists them.",
        )
    else:
        _refuse_library_variables(environment)
    try:
        return _settings(TABLE.parse(found))
    except SettingError as error:
        raise SchedulerError(ErrorCode.INVALID_ARGUMENT, error.message, hint=error.hint) from None


def _refuse_library_variables(environment: Mapping[str, str]) -> None:
    for name, consequence in LIBRARY_VARIABLES.items():
        if environment.get(name):
            raise SchedulerError(
                ErrorCode.INVALID_ARGUMENT,
                f"{name} is set, which the S3 library would read: {consequence}",
                hint=f"Unset {name} for this program; docs/BUCKET.md lists the supported ones.",
            )


def _settings(variables: BucketVariables) -> BucketSettings | None:
    if variables.bucket_folder is not None:
        return BucketSettings(folder=variables.bucket_folder, layout=variables.bucket_layout)
    if variables.name is None:
        return None
    return BucketSettings(
        s3=S3Settings(
            bucket=variables.name,
            endpoint=variables.endpoint or "",
            access_key_id=variables.access_key_id or "",
            secret_access_key=variables.secret_access_key or "",
            region=variables.region,
            session_token=variables.session_token or "",
            timeout_s=variables.bucket_timeout_s,
            retry_timeout_s=variables.bucket_timeout_s * 1.5,
        ),
        layout=variables.bucket_layout,
    )


def not_configured() -> SchedulerError:
    """Return the error of a request for the bucket when none is set."""
    variables = [TABLE[name].variable for name in (*_REQUIRED, "region")]
    folder = TABLE["bucket_folder"].variable
    return SchedulerError(
        ErrorCode.INVALID_ARGUMENT,
        "no bucket is set",
        hint=f"Set {', '.join(variables)} as `fly storage create` does, or {folder} for a folder.",
    )
