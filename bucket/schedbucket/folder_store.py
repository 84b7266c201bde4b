"""Object store in a local folder, for tests and embedded use.

An object is a file, written under a temporary name and renamed. A file lock makes the check of a
condition and the rename one step.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from schedproto import sqlite_files

from .object_store import (
    Condition,
    ConditionFailedError,
    MissingObjectError,
    ObjectInfo,
    denied,
    unreachable,
)

#: The store's own files and folders. No object's name begins with a dot.
LOCK, METADATA, INCOMING = ".lock", ".metadata", ".incoming"


class FolderStore:
    """Objects in a folder of a local file system, for use by several processes.

    Example:

        store = FolderStore(Path("/srv/bucket"))
        store.put("a/b", b"content", Condition(None))
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def describe(self) -> str:
        """Return the store's name for messages."""
        return f"the folder {self._root}"

    def get(self, key: str) -> tuple[bytes, ObjectInfo]:
        """Return a small object. Raises `MissingObjectError`."""
        with self._errors(key), self._path(key).open("rb") as file:
            return file.read(), self._info(key, os.fstat(file.fileno()))

    def get_file(self, key: str, path: Path) -> ObjectInfo:
        """Copy an object to a new file. Raises `MissingObjectError`."""
        with self._errors(key), self._path(key).open("rb") as source, path.open("xb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
            return self._info(key, os.fstat(source.fileno()))

    def head(self, key: str) -> ObjectInfo:
        """Return an object's size, ETag, time and metadata. Raises `MissingObjectError`."""
        with self._errors(key):
            return self._info(key, self._path(key).stat())

    def put(
        self, key: str, data: bytes, condition: Condition, metadata: dict[str, str] | None = None
    ) -> str:
        """Write a small object under a condition."""
        incoming = self._incoming()
        with self._errors(key):
            incoming.write_bytes(data)
            return self._commit(key, incoming, condition, metadata or {})

    def put_file(
        self,
        key: str,
        path: Path,
        condition: Condition | None = None,
        metadata: dict[str, str] | None = None,
    ) -> str:
        """Write a file as an object."""
        incoming = self._incoming()
        with self._errors(key):
            shutil.copyfile(path, incoming)
            return self._commit(key, incoming, condition, metadata or {})

    def delete(self, key: str) -> None:
        """Delete an object if it exists."""
        with self._errors(key), suppress(FileNotFoundError):
            self._path(key).unlink()

    def objects(self, prefix: str) -> list[ObjectInfo]:
        """Return the objects below a prefix, by name."""
        found = []
        with self._errors(prefix):
            for folder, folders, files in os.walk(self._path(prefix)):
                folders[:] = [name for name in folders if not name.startswith(".")]
                for name in files:
                    path = Path(folder) / name
                    with suppress(FileNotFoundError):
                        key = path.relative_to(self._root).as_posix()
                        found.append(self._info(key, path.stat()))
        return sorted(found, key=lambda info: info.key)

    def names(self, prefix: str) -> list[str]:
        """Return the next path component of all objects below a prefix, sorted."""
        with self._errors(prefix), suppress(FileNotFoundError):
            return sorted(
                path.name for path in self._path(prefix).iterdir() if not path.name.startswith(".")
            )
        return []

    # ----------------------------------------------------------------------------------------------

    def _path(self, key: str) -> Path:
        return self._root / key

    def _incoming(self) -> Path:
        """Return the path for a new temporary file."""
        folder = self._root / INCOMING
        with self._errors(INCOMING):
            folder.mkdir(parents=True, exist_ok=True)
        return folder / secrets.token_hex(8)

    @staticmethod
    def _etag(stat: os.stat_result) -> str:
        return f"{stat.st_mtime_ns:x}-{stat.st_size:x}-{stat.st_ino:x}"

    def _info(self, key: str, stat: os.stat_result) -> ObjectInfo:
        etag = self._etag(stat)
        metadata: dict[str, str] = {}
        with suppress(OSError, ValueError):
            kept = json.loads((self._root / METADATA / key).read_text())
            metadata = kept["metadata"] if kept["etag"] == etag else {}
        modified = datetime.fromtimestamp(stat.st_mtime, UTC)
        return ObjectInfo(key, stat.st_size, etag, modified, metadata)

    def _commit(
        self, key: str, incoming: Path, condition: Condition | None, metadata: dict[str, str]
    ) -> str:
        """Make a temporary file the object if the condition holds, and return its ETag."""
        path = self._path(key)
        try:
            sqlite_files.sync_file(incoming)
            etag = self._etag(incoming.stat())

            path.parent.mkdir(parents=True, exist_ok=True)
            with self._locked():
                if condition is not None and self._current_etag(path) != condition.etag:
                    raise ConditionFailedError(key)
                if metadata:
                    self._write_metadata(key, etag, metadata)
                incoming.rename(path)
            sqlite_files.sync_folder(path.parent)
        finally:
            incoming.unlink(missing_ok=True)
        return etag

    def _current_etag(self, path: Path) -> str | None:
        try:
            return self._etag(path.stat())
        except FileNotFoundError:
            return None

    def _write_metadata(self, key: str, etag: str, metadata: dict[str, str]) -> None:
        path = self._root / METADATA / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"etag": etag, "metadata": metadata}))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self._root / LOCK).open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    @contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise MissingObjectError(key) from None
        except OSError as error:
            if sqlite_files.is_disk_full(error):
                raise sqlite_files.disk_full(
                    f"no space in {self.describe()} or for its copy: {error.strerror}",
                    "Free space; nothing was changed.",
                    self._root,
                ) from None
            refused = error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)
            raise (denied if refused else unreachable)(
                self.describe(), error.strerror or str(error)
            ) from None
