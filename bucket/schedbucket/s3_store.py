"""Object store in an S3-compatible bucket, through obstore.

docs/PERFORMANCE.md compares obstore with botocore. obstore's exception classes each stand for
several answers of a server (a 409 and a failed condition are both `AlreadyExistsError`, a 404 of a
conditional write is a `PreconditionError`), so this module reads status and code from the message.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import obstore
from obstore import exceptions
from obstore.store import S3Store

from schedproto import ErrorCode, SchedulerError, sqlite_files

from .object_store import (
    Condition,
    ConditionFailedError,
    MissingObjectError,
    ObjectInfo,
    denied,
    unreachable,
)
from .s3_answers import Answer, answer_of

if TYPE_CHECKING:
    from .settings import S3Settings

_T = TypeVar("_T")

#: Objects above this size are sent and fetched in parts of this size, several at once.
_PART_BYTES = 16 << 20
_MAX_PARTS_AT_ONCE = 4
_STREAM_BYTES = 4 << 20
#: Attempts of a request whose data was cut off or corrupted, or that met a conflict.
_TRIES, _PAUSE_S = 4, 0.2
#: The timeout of a conditional upload allows for this speed.
_MIN_BYTES_PER_S = 2 << 20


#: The process that first used obstore: its threads serve all stores, and do not survive a fork.
_runtime_pid: int | None = None


def _claim_runtime() -> None:
    """Raise `SchedulerError` in a forked child whose parent has used obstore: calls would hang."""
    global _runtime_pid  # noqa: PLW0603 - obstore has one runtime for each process
    if _runtime_pid is None:
        _runtime_pid = os.getpid()
    elif _runtime_pid != os.getpid():
        raise SchedulerError(
            ErrorCode.INVALID_ARGUMENT,
            f"this process was forked from the process {_runtime_pid}, which had used a bucket",
            hint="Use the bucket after the fork only, or start processes with `spawn` or "
            "`forkserver`.",
        )


class BucketStore:
    """Objects in one S3 bucket; see `object_store.ObjectStore`.

    Example:

        store = BucketStore(S3Settings(bucket=..., endpoint=..., ...))
        etag = store.head("orgs/org-1/head.json").etag
    """

    def __init__(self, settings: S3Settings) -> None:
        self._settings = settings
        self._retrying = self._make(
            {
                "max_retries": settings.retries,
                "retry_timeout": timedelta(seconds=settings.retry_timeout_s),
                "backoff": {
                    "init_backoff": timedelta(seconds=0.1),
                    "max_backoff": timedelta(seconds=2),
                    "base": 2,
                },
            }
        )
        self._no_retry = self._make_no_retry_store()

    @property
    def _store(self) -> S3Store:
        _claim_runtime()
        return self._retrying

    @property
    def _no_retry_store(self) -> S3Store:
        _claim_runtime()
        return self._no_retry

    def _make_no_retry_store(self, size_bytes: int = 0) -> S3Store:
        """Return a store that repeats nothing, with a timeout for this amount of data.

        If the library repeated a conditional write whose reply was lost, the write would fail on
        its own first attempt.
        """
        settings = self._settings
        retry = {"max_retries": 0, "retry_timeout": timedelta(seconds=settings.retry_timeout_s)}
        return self._make(retry, max(settings.timeout_s, size_bytes / _MIN_BYTES_PER_S))

    def _make(self, retry: dict[str, Any], timeout_s: float | None = None) -> S3Store:
        settings = self._settings
        options: dict[str, Any] = {
            "timeout": timedelta(seconds=timeout_s or settings.timeout_s),
            "connect_timeout": timedelta(seconds=min(5.0, settings.timeout_s)),
            "allow_http": settings.endpoint.startswith("http://"),
            # Tigris: have the leader answer (docs/BUCKET.md); others ignore it.
            "default_headers": {"X-Tigris-Consistent": "true"},
        }
        # obstore takes from the environment what is not given here, and prefers the variable
        # AWS_ENDPOINT_URL_S3 to `endpoint`. `settings.LIBRARY_VARIABLES` names what cannot be
        # overridden.
        token: dict[str, Any] = {}
        if settings.session_token:
            token["session_token"] = settings.session_token
        return S3Store(
            settings.bucket,
            aws_endpoint_url_s3=settings.endpoint,
            region=settings.region,
            access_key_id=settings.access_key_id,
            secret_access_key=settings.secret_access_key,
            virtual_hosted_style_request=False,
            # The server refuses data that does not match.
            checksum_algorithm="SHA256",
            client_options=options,  # type: ignore[arg-type]
            retry_config=retry,  # type: ignore[arg-type]
            **token,
        )

    def describe(self) -> str:
        """Return the store's name for messages."""
        return f"the bucket {self._settings.bucket} at {self._settings.endpoint}"

    # Reads ----------------------------------------------------------------------------------------

    def get(self, key: str) -> tuple[bytes, ObjectInfo]:
        """Return a small object. Raises `MissingObjectError`."""
        with self._errors(key):
            found = self._with_retries(lambda: obstore.get(self._store, key))
            return bytes(found.bytes()), _info(found.meta, found.attributes)

    def head(self, key: str) -> ObjectInfo:
        """Return an object's size, ETag, time and metadata. Raises `MissingObjectError`."""
        with self._errors(key):
            try:
                # Unlike `obstore.head`, this returns the metadata, too.
                found = self._with_retries(
                    lambda: obstore.get(self._store, key, options={"head": True})
                )
            except exceptions.BaseError as error:
                if answer_of(error).status not in (400, 403):
                    raise
                # An answer to HEAD has no body, so it does not say why. One to GET does.
                found = obstore.get(self._store, key, options={"range": (0, 1)})
            return _info(found.meta, found.attributes)

    def get_file(self, key: str, path: Path) -> ObjectInfo:
        """Download an object to a new file, in parts, several at once; resumes each part."""
        with self._errors(key):
            try:
                found = self._with_retries(
                    lambda: obstore.get(self._store, key, options={"range": (0, _PART_BYTES)})
                )
            except exceptions.GenericError as error:
                if answer_of(error).status != 416:
                    raise
                path.open("xb").close()  # an empty object has no first part
                return self.head(key)

            info = _info(found.meta, found.attributes)
            with path.open("xb") as file, ThreadPoolExecutor(_MAX_PARTS_AT_ONCE) as pool:
                parts = [
                    pool.submit(
                        self._get_part, info, start, file.fileno(), None if start else found
                    )
                    for start in range(0, info.size_bytes, _PART_BYTES)
                ]
                try:
                    for part in parts:
                        part.result()
                finally:
                    pool.shutdown(cancel_futures=True)
            return info

    def _get_part(self, info: ObjectInfo, start: int, descriptor: int, found: Any) -> None:
        """Download one part of an object; after an interruption, only the missing rest.

        found: the answer to a request for the part, if there is one already.
        """
        end = min(start + _PART_BYTES, info.size_bytes)
        for left in range(_TRIES - 1, -1, -1):
            try:
                if found is None:
                    options: Any = {"range": (start, end), "if_match": info.etag}
                    found = obstore.get(self._store, info.key, options=options)
                for piece in found.stream(min_chunk_size=_STREAM_BYTES):
                    start += _write_at(descriptor, piece, start)
                if start == end:
                    return
                reason = f"{info.key} ended {end - start} bytes early"
            except exceptions.GenericError as error:
                answer = answer_of(error)
                if not answer.transient:
                    raise
                reason = answer.reason
            if not left:
                raise unreachable(self.describe(), reason)
            found = None
            time.sleep(_PAUSE_S)

    def objects(self, prefix: str) -> list[ObjectInfo]:
        """Return the objects below a prefix, by name."""
        with self._errors(prefix):
            found = self._with_retries(
                lambda: [
                    _info(meta, {})
                    for page in obstore.list(self._store, prefix=prefix)
                    for meta in page
                ]
            )
        return sorted(found, key=lambda info: info.key)

    def names(self, prefix: str) -> list[str]:
        """Return the next path component of all objects below a prefix, sorted."""
        with self._errors(prefix):
            found = self._with_retries(lambda: obstore.list_with_delimiter(self._store, prefix))
        paths = [*found["common_prefixes"], *(meta["path"] for meta in found["objects"])]
        return sorted(path.rstrip("/").rpartition("/")[2] for path in paths)

    # Writes ---------------------------------------------------------------------------------------

    def put(
        self, key: str, data: bytes, condition: Condition, metadata: dict[str, str] | None = None
    ) -> str:
        """Write a small object under a condition."""
        with self._errors(key, condition, write=True):
            attributes: Any = metadata or {}
            done = obstore.put(
                self._no_retry_store, key, data, attributes=attributes, mode=_mode(condition)
            )
            return done["e_tag"] or ""

    def put_file(
        self,
        key: str,
        path: Path,
        condition: Condition | None = None,
        metadata: dict[str, str] | None = None,
    ) -> str:
        """Write a file as an object: with a condition in one request, else large ones in parts."""
        attributes: Any = metadata or {}
        with self._errors(key, condition, write=True):
            if condition is None:
                done = self._with_retries(
                    lambda: obstore.put(
                        self._store, key, path, attributes=attributes, chunk_size=_PART_BYTES
                    )
                )
            else:
                done = obstore.put(
                    self._make_no_retry_store(path.stat().st_size),
                    key,
                    path,
                    attributes=attributes,
                    mode=_mode(condition),
                    use_multipart=False,
                )
            return done["e_tag"] or ""

    def delete(self, key: str) -> None:
        """Delete an object if it exists."""
        try:
            with self._errors(key):
                self._with_retries(lambda: obstore.delete(self._store, key))
        except MissingObjectError:
            return

    # Errors ---------------------------------------------------------------------------------------

    def _with_retries(self, request: Callable[[], _T]) -> _T:
        """Make a request without a condition, and repeat it if a repeat can help.

        obstore repeats 5xx, 408 and 429 itself, with its own backoff. This covers data that arrived
        corrupted, 409 (another operation on the object is in progress; OVH answers so), and 412,
        which some servers send though no condition was set.
        """
        for left in range(_TRIES - 1, -1, -1):
            try:
                return request()
            except exceptions.BaseError as error:
                answer = answer_of(error)
                if not (answer.corrupted or answer.status in (409, 412)):
                    raise
                if not left:
                    raise unreachable(self.describe(), answer.reason) from None
            time.sleep(_PAUSE_S * 2 ** (_TRIES - 1 - left))
        raise AssertionError  # the last attempt returns or raises

    @contextmanager
    def _errors(
        self, key: str, condition: Condition | None = None, *, write: bool = False
    ) -> Iterator[None]:
        """Translate the library's errors, by the server's answer rather than by their class."""
        try:
            yield
        except (exceptions.BaseError, FileNotFoundError) as error:
            if isinstance(error, FileNotFoundError) and error.errno is not None:
                raise _local(error) from None  # of a file on this machine
            raise self._translated(answer_of(error), key, condition, write=write) from None
        except OSError as error:
            raise _local(error) from None

    def _translated(
        self, answer: Answer, key: str, condition: Condition | None, *, write: bool
    ) -> Exception:
        where = self.describe()
        if answer.code == "NoSuchBucket":
            return denied(where, "no such bucket")
        if answer.status == 404 and not write:
            return MissingObjectError(key)
        if answer.status == 412 and not write:
            return ConditionFailedError(key)  # the object was replaced during a download
        if condition is not None:
            # 409: another write of the object is in progress. 404: the object is gone.
            failed = {409, 412} if condition.etag is None else {404, 409, 412}
            if answer.status in failed:
                return ConditionFailedError(key)
        if answer.transient:
            return unreachable(where, answer.reason)
        return denied(where, answer.reason, answer.hint)


def _write_at(descriptor: int, data: Any, offset: int) -> int:
    """Write all data at an offset and return its length."""
    left = memoryview(data)
    done = 0
    while done < len(left):
        done += os.pwrite(descriptor, left[done:], offset + done)
    return done


def _local(error: OSError) -> SchedulerError:
    """Return the error of a local file that cannot be written or read."""
    return SchedulerError(
        ErrorCode.DISK_FULL if sqlite_files.is_disk_full(error) else ErrorCode.DATABASE_UNREADABLE,
        f"cannot write or read a file of the bucket's copy: {error.strerror or error}",
        hint="Check the volume's free space and permissions; nothing was changed.",
    )


def _mode(condition: Condition) -> Any:
    return "create" if condition.etag is None else {"e_tag": condition.etag}


def _info(meta: Any, attributes: Any) -> ObjectInfo:
    metadata = {name: value for name, value in dict(attributes).items() if name.islower()}
    etag = meta["e_tag"] or ""
    return ObjectInfo(meta["path"], meta["size"], etag, meta["last_modified"], metadata)
