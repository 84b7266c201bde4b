"""Objects in an S3-compatible bucket, by obstore (measured against botocore in docs/PERFORMANCE.md)."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import obstore
from obstore import exceptions as trouble
from obstore.store import S3Store

from schedproto import ErrorCode, SchedulerError, sqlite_files

from .object_store import (
    Condition,
    ConditionFailedError,
    MissingObjectError,
    Stored,
    denied,
    unreachable,
)

if TYPE_CHECKING:
    from .settings import S3Settings

_T = TypeVar("_T")

#: From so many bytes on, an object is sent and fetched in parts of so many bytes, so many at once.
_PART_BYTES = 16 << 20
_PARTS_AT_ONCE = 4
_STREAM_BYTES = 4 << 20
#: How often a part is asked for whose answer breaks off, or an object is sent that arrives spoilt.
_TRIES, _PAUSE_S = 3, 0.2
#: A request's time is at least what its data takes at this speed.
_SLOWEST_BYTES_PER_S = 2 << 20
#: What the server says of data that did not arrive as it was sent.
_SPOILT = re.compile(
    r"<Code>(XAmzContentSHA256Mismatch|XAmzContentChecksumMismatch|BadDigest|IncompleteBody)</Code>"
)
#: Answers of the server that can be others a moment later; and what the library says where there
#: was none.
_PASSING_STATUS, _PASSING_CODE = (
    re.compile(r"408|429|5\d\d"),
    re.compile(r"<Code>RequestTimeout</Code>"),
)
_NO_ANSWER = re.compile(
    r"error sending request|body error|error decoding response body|timed? ?out|connection",
    re.IGNORECASE,
)
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
        self._once = self._make_once()

    def _make_once(self, size_bytes: int = 0) -> S3Store:
        """Return a store that repeats nothing, with time for so much data.

        A repeated conditional write would be told that its own first try, whose answer was lost, is
        in the way.
        """
        settings = self._settings
        retry = {"max_retries": 0, "retry_timeout": timedelta(seconds=settings.patience_s)}
        return self._make(retry, max(settings.timeout_s, size_bytes / _SLOWEST_BYTES_PER_S))

    def _make(self, retry: dict[str, Any], timeout_s: float | None = None) -> S3Store:
        settings = self._settings
        options: dict[str, Any] = {
            "timeout": timedelta(seconds=timeout_s or settings.timeout_s),
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
            # What arrives otherwise than it was sent is refused by the server.
            checksum_algorithm="SHA256",
            client_options=options,  # type: ignore[arg-type]
            retry_config=retry,  # type: ignore[arg-type]
        )

    def describe(self) -> str:
        """Return what people call this place."""
        return f"the bucket {self._settings.bucket} at {self._settings.endpoint}"

    def get(self, key: str) -> tuple[bytes, Stored]:
        """Return a small object. Raises `MissingObjectError`."""
        with self._errors(key):
            found = self._patiently(lambda: obstore.get(self._store, key))
            return bytes(found.bytes()), _stored(found.meta, found.attributes)

    def get_file(self, key: str, path: Path) -> Stored:
        """Write an object to a new file, in parts and several at once.

        A part that breaks off is asked for again.
        """
        with self._errors(key):
            try:
                found = self._patiently(
                    lambda: obstore.get(self._store, key, options={"range": (0, _PART_BYTES)})
                )
            except trouble.GenericError as error:
                if "status code: 416" not in str(error):
                    raise
                path.open("xb").close()  # an empty object has no first part
                return self.look(key)
            stored = _stored(found.meta, found.attributes)
            starts = range(0, stored.size_bytes, _PART_BYTES)
            with path.open("xb") as file, ThreadPoolExecutor(_PARTS_AT_ONCE) as pool:
                parts = [
                    pool.submit(
                        self._get_part, stored, start, file.fileno(), None if start else found
                    )
                    for start in starts
                ]
                try:
                    for part in parts:
                        part.result()
                finally:
                    pool.shutdown(cancel_futures=True)
            return stored

    def _get_part(self, stored: Stored, start: int, descriptor: int, found: Any) -> None:
        """Write one part of an object into its place; what has arrived is not asked for again.

        found: the answer to a request for it, if there is one already.
        """
        end = min(start + _PART_BYTES, stored.size_bytes)
        for left in range(_TRIES - 1, -1, -1):
            try:
                if found is None:
                    options: Any = {"range": (start, end), "if_match": stored.etag}
                    found = obstore.get(self._store, stored.key, options=options)
                for piece in found.stream(min_chunk_size=_STREAM_BYTES):
                    left_over = memoryview(piece)
                    while left_over:
                        written = os.pwrite(descriptor, left_over, start)
                        start += written
                        left_over = left_over[written:]
                if start == end:
                    return
                why = f"{stored.key} ended {end - start} bytes early"
            except trouble.GenericError as error:
                if not _passes(error):
                    raise
                why = _why(error)
            if not left:
                raise unreachable(self.describe(), why)
            found = None
            time.sleep(_PAUSE_S)

    def look(self, key: str) -> Stored:
        """Return what is known of an object."""
        with self._errors(key):
            # Unlike the library's `head`, this tells the metadata, too.
            found = self._patiently(lambda: obstore.get(self._store, key, options={"head": True}))
            return _stored(found.meta, found.attributes)

    def put(
        self, key: str, data: bytes, condition: Condition, metadata: dict[str, str] | None = None
    ) -> str:
        """Write a small object under a condition."""
        with self._errors(key):
            attributes: Any = metadata or {}
            done = obstore.put(self._once, key, data, attributes=attributes, mode=_mode(condition))
            return done["e_tag"] or ""

    def put_file(
        self,
        key: str,
        path: Path,
        condition: Condition | None = None,
        metadata: dict[str, str] | None = None,
    ) -> str:
        """Write a file as an object.

        Under a condition in one request, else in parts where it is large.
        """
        with self._errors(key):
            attributes: Any = metadata or {}
            if condition is None:
                done = self._patiently(
                    lambda: obstore.put(
                        self._store, key, path, attributes=attributes, chunk_size=_PART_BYTES
                    )
                )
                return done["e_tag"] or ""
            once = self._make_once(path.stat().st_size)
            done = obstore.put(
                once, key, path, attributes=attributes, mode=_mode(condition), use_multipart=False
            )
            return done["e_tag"] or ""

    def _patiently(self, request: Callable[[], _T]) -> _T:
        """Make a request without a condition, which may be made again.

        The store's own library repeats what servers say of themselves; this is for data that
        arrives spoilt, and for the answer that a condition does not hold where none was set.
        """
        for left in range(_TRIES - 1, -1, -1):
            try:
                return request()
            except trouble.GenericError as error:
                if not left or not _SPOILT.search(str(error)):
                    raise
            except trouble.PreconditionError as error:
                if not left:
                    raise unreachable(self.describe(), _why(error)) from None
            time.sleep(_PAUSE_S)
        raise AssertionError  # the last try returns or raises

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
            found = [
                _stored(meta, {})
                for page in obstore.list(self._store, prefix=prefix)
                for meta in page
            ]
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
                raise denied(self.describe(), "no such bucket") from None
            raise MissingObjectError(key) from None
        except (trouble.AlreadyExistsError, trouble.PreconditionError):
            raise ConditionFailedError(key) from None
        except (trouble.PermissionDeniedError, trouble.UnauthenticatedError) as error:
            raise denied(self.describe(), _why(error)) from None
        except trouble.BaseError as error:
            raise (unreachable if _passes(error) else denied)(
                self.describe(), _why(error)
            ) from None
        except OSError as error:
            raise _local(error) from None


def _local(error: OSError) -> SchedulerError:
    """Return the error of a file here that cannot be written or read."""
    return SchedulerError(
        ErrorCode.DISK_FULL if sqlite_files.is_disk_full(error) else ErrorCode.DATABASE_UNREADABLE,
        f"cannot write or read a file of the bucket's copy: {error.strerror or error}",
        hint="Check the volume's free space and permissions; nothing was changed.",
    )


def _mode(condition: Condition) -> Any:
    return "create" if condition.etag is None else {"e_tag": condition.etag}


def _stored(meta: Any, attributes: Any) -> Stored:
    own = {name: value for name, value in dict(attributes).items() if name.islower()}
    return Stored(meta["path"], meta["size"], meta["e_tag"] or "", meta["last_modified"], own)


def _text(error: Exception) -> str:
    """Return what an obstore error says, without the page that describes its parts to programmers."""
    return str(error).partition("\n\nDebug source")[0]


def _passes(error: Exception) -> bool:
    """Return whether the same request may succeed a moment later."""
    text = _text(error)
    status = _STATUS.search(text)
    if status is None:
        return _NO_ANSWER.search(text) is not None
    passing = (
        _PASSING_STATUS.fullmatch(status.group(1))
        or _PASSING_CODE.search(text)
        or _SPOILT.search(text)
    )
    return passing is not None


def _why(error: Exception) -> str:
    """Return the short part of what an obstore error says."""
    text = _text(error)
    if found := _STATUS.search(text):
        status, name, code = found.groups()
        return " ".join(word for word in ("HTTP", status, code or name.strip()) if word)
    return text.split("\n", maxsplit=1)[0].rpartition(" - ")[2][:200]
