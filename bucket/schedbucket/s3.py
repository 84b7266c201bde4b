"""Objects in an S3-compatible bucket, by obstore (measured against botocore in docs/PERFORMANCE.md)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import obstore
from obstore import exceptions as trouble
from obstore.store import S3Store

from schedproto import ErrorCode, SchedulerError

from .store import Condition, ConditionFailedError, MissingObjectError, Stored, denied, unreachable

if TYPE_CHECKING:
    from .settings import S3Settings

#: From so many bytes on, an object is sent in parts of so many bytes.
_PART_BYTES = 16 << 20
_STREAM_BYTES = 4 << 20
#: An answer of the server that says so can be another one a moment later.
_PASSING = re.compile(r"status code: (408|429|5\d\d)|error sending request|timed? ?out|connection", re.IGNORECASE)
_STATUS = re.compile(r"status code: (\d{3}) ?([A-Za-z ]*)(?:: .*?<Code>([^<]*)</Code>)?", re.DOTALL)


class BucketStore:
    """Objects in one bucket."""

    def __init__(self, settings: S3Settings) -> None:
        self._settings = settings
        patient = {
            "max_retries": settings.retries,
            "retry_timeout": timedelta(seconds=settings.patience_s),
            "backoff": {
                "init_backoff": timedelta(seconds=0.1),
                "max_backoff": timedelta(seconds=2),
                "base": 2,
            },
        }
        self._store = self._make(patient)
        # A repeated conditional write would be told that its own first try, whose answer was lost, is in the way.
        self._once = self._make({"max_retries": 0, "retry_timeout": timedelta(seconds=settings.patience_s)})

    def _make(self, retry: dict[str, Any]) -> S3Store:
        settings = self._settings
        options: dict[str, Any] = {
            "timeout": timedelta(seconds=settings.timeout_s),
            "connect_timeout": timedelta(seconds=min(5.0, settings.timeout_s)),
            "allow_http": settings.endpoint.startswith("http://"),
            # Tigris: have the leader answer (docs/BUCKET.md); others ignore it.
            "default_headers": {"X-Tigris-Consistent": "true"},
        }
        return S3Store(
            settings.bucket,
            endpoint=settings.endpoint,
            region=settings.region,
            access_key_id=settings.access_key_id,
            secret_access_key=settings.secret_access_key,
            virtual_hosted_style_request=False,
            client_options=options,  # type: ignore[arg-type]
            retry_config=retry,  # type: ignore[arg-type]
        )

    def describe(self) -> str:
        """Return what people call this place."""
        return f"the bucket {self._settings.bucket} at {self._settings.endpoint}"

    def get(self, key: str) -> tuple[bytes, Stored]:
        """Return a small object. Raises `MissingObjectError`."""
        with self._errors(key):
            found = obstore.get(self._store, key)
            return bytes(found.bytes()), _stored(found.meta, found.attributes)

    def get_file(self, key: str, path: Path) -> Stored:
        """Write an object to a new file, piece by piece."""
        with self._errors(key):
            found = obstore.get(self._store, key)
            got = 0
            with path.open("xb") as file:
                for piece in found.stream(min_chunk_size=_STREAM_BYTES):
                    got += file.write(piece)
            if got != found.meta["size"]:
                raise unreachable(self.describe(), f"{key} ended after {got} of {found.meta['size']} bytes")
            return _stored(found.meta, found.attributes)

    def look(self, key: str) -> Stored:
        """Return what is known of an object."""
        with self._errors(key):
            # Metadata comes with a read only; of one byte, here.
            try:
                found = obstore.get(self._store, key, options={"range": (0, 1)})
            except trouble.GenericError as error:
                if "status code: 416" not in str(error):
                    raise
                return _stored(obstore.head(self._store, key), {})
            return _stored(found.meta, found.attributes)

    def put(self, key: str, data: bytes, condition: Condition) -> str:
        """Write a small object under a condition."""
        with self._errors(key):
            done = obstore.put(self._once, key, data, mode=_mode(condition))
            return done["e_tag"] or ""

    def put_file(
        self, key: str, path: Path, condition: Condition | None = None, metadata: dict[str, str] | None = None
    ) -> str:
        """Write a file as an object: under a condition in one request, else in parts where it is large."""
        with self._errors(key):
            attributes: Any = metadata or {}
            if condition is None:
                done = obstore.put(self._store, key, path, attributes=attributes, chunk_size=_PART_BYTES)
            else:
                done = obstore.put(
                    self._once, key, path, attributes=attributes, mode=_mode(condition), use_multipart=False
                )
            return done["e_tag"] or ""

    def delete(self, key: str) -> None:
        """Remove an object."""
        with self._errors(key):
            try:
                obstore.delete(self._store, key)
            except FileNotFoundError:
                return

    def objects(self, prefix: str) -> list[Stored]:
        """Return the objects below a prefix."""
        with self._errors(prefix):
            found = [_stored(meta, {}) for page in obstore.list(self._store, prefix=prefix) for meta in page]
        return sorted(found, key=lambda stored: stored.key)

    def names(self, prefix: str) -> list[str]:
        """Return the names that follow a prefix immediately."""
        with self._errors(prefix):
            found = obstore.list_with_delimiter(self._store, prefix)
        paths = [*found["common_prefixes"], *(meta["path"] for meta in found["objects"])]
        return sorted(path.rstrip("/").rpartition("/")[2] for path in paths)

    @contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            if "NoSuchBucket" in str(error):
                raise denied(self.describe(), "there is no such bucket") from None
            raise MissingObjectError(key) from None
        except (trouble.AlreadyExistsError, trouble.PreconditionError):
            raise ConditionFailedError(key) from None
        except (trouble.PermissionDeniedError, trouble.UnauthenticatedError) as error:
            raise denied(self.describe(), _why(error)) from None
        except trouble.BaseError as error:
            passing = _PASSING.search(str(error)) is not None
            raise (unreachable if passing else denied)(self.describe(), _why(error)) from None
        except OSError as error:
            raise _local(error) from None


def _local(error: OSError) -> SchedulerError:
    """Return the error of a file here that cannot be written or read."""
    return SchedulerError(
        ErrorCode.DISK_FULL if error.errno in (28, 122) else ErrorCode.DATABASE_UNREADABLE,
        f"a file of the bucket's copy cannot be written or read: {error.strerror or error}",
        hint="Check the volume's free space and rights; nothing was changed.",
    )


def _mode(condition: Condition) -> Any:
    return "create" if condition.etag is None else {"e_tag": condition.etag}


def _stored(meta: Any, attributes: Any) -> Stored:
    own = {name: value for name, value in dict(attributes).items() if name.islower()}
    return Stored(meta["path"], meta["size"], meta["e_tag"] or "", meta["last_modified"], own)


def _why(error: Exception) -> str:
    """Return the short part of an obstore error, which goes on for a page."""
    text = str(error)
    if found := _STATUS.search(text):
        status, name, code = found.groups()
        return " ".join(word for word in ("HTTP", status, code or name.strip()) if word)
    return text.split("\n", maxsplit=1)[0].rpartition(" - ")[2][:200]
