"""Where the bucket is: from the variables that `fly storage create` sets, or a folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from schedproto import ErrorCode, SchedulerError

#: The variables of the bucket, as `fly storage create` names them; the first names the bucket and
#: turns it on.
VARIABLES = (
    "BUCKET_NAME",
    "AWS_ENDPOINT_URL_S3",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_REGION",
)
FOLDER, LAYOUT, TIMEOUT = "SCHEDD_BUCKET_FOLDER", "SCHEDD_BUCKET_LAYOUT", "SCHEDD_BUCKET_TIMEOUT"
LAYOUTS = ("versions", "plain")


@dataclass(frozen=True)
class S3Settings:
    """A bucket. timeout_s: of one request.

    patience_s: of one request and its repeats, at most `retries`.
    """

    bucket: str
    endpoint: str
    access_key_id: str
    secret_access_key: str
    region: str = "auto"
    timeout_s: float = 120.0
    patience_s: float = 180.0
    retries: int = 5


@dataclass(frozen=True)
class BucketSettings:
    """Where the organizations' files are: `s3` or `folder`, one of them.

    Layout: `versions` or `plain`.
    """

    s3: S3Settings | None = None
    folder: Path | None = None
    layout: str = "versions"


def load_settings(
    environment: Mapping[str, str],
    folder: str | Path | None = None,
    layout: str | None = None,
    timeout_s: float | None = None,
) -> BucketSettings | None:
    """Return where the bucket is, None where none is set.

    Raises `SchedulerError` (`invalid_argument`).

    folder, layout, timeout_s: settings that come before the environment's.
    """
    chosen = layout or environment.get(LAYOUT) or "versions"
    if chosen not in LAYOUTS:
        raise SchedulerError(
            ErrorCode.INVALID_ARGUMENT,
            f"{chosen!r:.40} is not a valid bucket layout",
            hint=f"Set {LAYOUT} to {' or '.join(LAYOUTS)}.",
        )
    place = folder or environment.get(FOLDER)
    if place:
        return BucketSettings(folder=Path(place).expanduser(), layout=chosen)
    values = {name: environment.get(name, "").strip() for name in VARIABLES}
    if not values["BUCKET_NAME"]:
        return None
    missing = [name for name in VARIABLES[:-1] if not values[name]]
    if missing:
        raise SchedulerError(
            ErrorCode.INVALID_ARGUMENT,
            f"BUCKET_NAME is set, but not {' nor '.join(missing)}",
            hint="`fly storage create` sets all of them as secrets of the app; docs/BUCKET.md lists them.",
        )
    endpoint = values["AWS_ENDPOINT_URL_S3"].rstrip("/")
    if not endpoint.startswith(("https://", "http://")):
        raise SchedulerError(
            ErrorCode.INVALID_ARGUMENT,
            f"AWS_ENDPOINT_URL_S3 = {endpoint!r:.80} is not a valid URL",
            hint="Use a URL that starts with https:// (http:// for a server in the same network).",
        )
    timeout = timeout_s or _timeout(environment.get(TIMEOUT))
    return BucketSettings(
        s3=S3Settings(
            bucket=values["BUCKET_NAME"],
            endpoint=endpoint,
            access_key_id=values["AWS_ACCESS_KEY_ID"],
            secret_access_key=values["AWS_SECRET_ACCESS_KEY"],
            region=values["AWS_REGION"] or "auto",
            timeout_s=timeout,
            patience_s=timeout * 1.5,
        ),
        layout=chosen,
    )


def _timeout(text: str | None) -> float:
    if not text:
        return S3Settings.timeout_s
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 1 <= seconds <= 3600:
        raise SchedulerError(
            ErrorCode.INVALID_ARGUMENT,
            f"invalid {TIMEOUT} {text!r:.40}",
            hint="Use 1 to 3600 seconds.",
        )
    return seconds


def not_configured() -> SchedulerError:
    """Return the error of asking for a bucket where none is set."""
    return SchedulerError(
        ErrorCode.INVALID_ARGUMENT,
        "no bucket is set",
        hint=f"Set {', '.join(VARIABLES)} as `fly storage create` does, or {FOLDER} for a folder.",
    )
