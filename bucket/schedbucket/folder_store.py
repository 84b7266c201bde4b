"""A folder in place of a bucket: objects are files, written aside and renamed.

Conditions hold under a file lock.
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
    Stored,
    denied,
    unreachable,
)

#: The store's own files; no object's name begins with a dot.
LOCK, METADATA, COMING = ".lock", ".metadata", ".coming"


class FolderStore:
    """Objects in a folder of a local file system, which several processes may use at once."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def describe(self) -> str:
        """Return what people call this place."""
        return f"the folder {self._root}"

    def get(self, key: str) -> tuple[bytes, Stored]:
        """Return a small object. Raises `MissingObjectError`."""
        with self._errors(key), self._path(key).open("rb") as file:
            return file.read(), self._stored(key, os.fstat(file.fileno()))

    def get_file(self, key: str, path: Path) -> Stored:
        """Write an object to a new file."""
        with self._errors(key), self._path(key).open("rb") as source, path.open("xb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
            return self._stored(key, os.fstat(source.fileno()))

    def look(self, key: str) -> Stored:
        """Return what is known of an object."""
        with self._errors(key):
            return self._stored(key, self._path(key).stat())

    def put(
        self, key: str, data: bytes, condition: Condition, metadata: dict[str, str] | None = None
    ) -> str:
        """Write a small object under a condition."""
        coming = self._coming()
        with self._errors(key):
            coming.write_bytes(data)
            return self._place(key, coming, condition, metadata or {})

    def put_file(
        self,
        key: str,
        path: Path,
        condition: Condition | None = None,
        metadata: dict[str, str] | None = None,
    ) -> str:
        """Write a file as an object."""
        coming = self._coming()
        with self._errors(key):
            shutil.copyfile(path, coming)
            return self._place(key, coming, condition, metadata or {})

    def delete(self, key: str) -> None:
        """Remove an object."""
        with self._errors(key), suppress(FileNotFoundError):
            self._path(key).unlink()

    def objects(self, prefix: str) -> list[Stored]:
        """Return the objects below a prefix."""
        found = []
        with self._errors(prefix):
            for folder, folders, files in os.walk(self._path(prefix)):
                folders[:] = [name for name in folders if not name.startswith(".")]
                for name in files:
                    path = Path(folder) / name
                    with suppress(FileNotFoundError):
                        key = path.relative_to(self._root).as_posix()
                        found.append(self._stored(key, path.stat()))
        return sorted(found, key=lambda stored: stored.key)

    def names(self, prefix: str) -> list[str]:
        """Return the names that follow a prefix immediately."""
        with self._errors(prefix), suppress(FileNotFoundError):
            return sorted(
                path.name for path in self._path(prefix).iterdir() if not path.name.startswith(".")
            )
        return []

    # ----------------------------------------------------------------------------------------------

    def _path(self, key: str) -> Path:
        return self._root / key

    def _coming(self) -> Path:
        folder = self._root / COMING
        with self._errors(COMING):
            folder.mkdir(parents=True, exist_ok=True)
        return folder / secrets.token_hex(8)

    @staticmethod
    def _etag(info: os.stat_result) -> str:
        return f"{info.st_mtime_ns:x}-{info.st_size:x}-{info.st_ino:x}"

    def _stored(self, key: str, info: os.stat_result) -> Stored:
        etag = self._etag(info)
        metadata: dict[str, str] = {}
        with suppress(OSError, ValueError):
            kept = json.loads((self._root / METADATA / key).read_text())
            metadata = kept["metadata"] if kept["etag"] == etag else {}
        return Stored(key, info.st_size, etag, datetime.fromtimestamp(info.st_mtime, UTC), metadata)

    def _place(
        self, key: str, coming: Path, condition: Condition | None, metadata: dict[str, str]
    ) -> str:
        """Make a written file the object, if the condition holds."""
        path = self._path(key)
        try:
            sqlite_files.sync_file(coming)
            etag = self._etag(coming.stat())
            path.parent.mkdir(parents=True, exist_ok=True)
            with self._locked():
                if condition is not None:
                    try:
                        present = self._etag(path.stat())
                    except FileNotFoundError:
                        present = None
                    if present != condition.etag:
                        raise ConditionFailedError(key)
                if metadata:
                    beside = self._root / METADATA / key
                    beside.parent.mkdir(parents=True, exist_ok=True)
                    beside.write_text(json.dumps({"etag": etag, "metadata": metadata}))
                coming.rename(path)
            sqlite_files.sync_folder(path.parent)
        finally:
            coming.unlink(missing_ok=True)
        return etag

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
