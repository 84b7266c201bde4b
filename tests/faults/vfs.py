"""A SQLite VFS that counts disk operations and makes one of them fail.

What it counts are writes, syncs, truncations and deletions of database, journal and write-ahead
log; locks and shared memory pass through. What can happen at the chosen operation:

- `io_error`, `full`: it fails with that error and does nothing;
- `short`: of a write, only the first half is done, then it fails;
- `kill`: the process is gone before it;   `kill_torn`: of a write the first half is done, then the
  process is gone;
- `power`: power is lost before it. Of each file, what had been synced is there; each later write or
  truncation is there completely, in part (some of its 512-byte sectors) or not at all, at
  random; a file
  that was created and never synced, or removed without syncing its folder, is there or not, at
  random. SQLite takes for granted that a sector which is written does not harm those next to it
  (powersafe overwrite), and so does this model.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw

SECTOR = 512
KINDS = ("io_error", "full", "short", "kill", "kill_torn", "power")


@dataclass
class DiskFile:
    """The state of a file in the model of the disk.

    synced: the content that is sure; None while it may not exist.
    """

    synced: bytes | None
    now: bytearray
    pending: list[tuple[int, bytes | None]] = field(
        default_factory=list
    )  # (offset, data), or (size, None)
    deleted: bool = False
    #: SQLite syncs the folder together with the first sync of a journal or log that it has created
    syncs_folder: bool = False
    #: The removed file of the same name, while its removal is not certain. It is a file of its own:
    #: none of its content appears in the new one, so after the power loss the name holds either the
    #: one or the other.
    replaced: DiskFile | None = None

    def write(self, offset: int, data: bytes) -> None:
        if len(self.now) < offset:
            self.now.extend(bytes(offset - len(self.now)))
        self.now[offset : offset + len(data)] = data
        self.pending.append((offset, data))

    def truncate(self, size: int) -> None:
        del self.now[size:]
        self.now.extend(bytes(max(0, size - len(self.now))))
        self.pending.append((size, None))

    def sync(self) -> None:
        self.synced = bytes(self.now)
        self.pending.clear()

    def survivor(self, source: random.Random) -> bytes | None:
        """The content after the power was lost; None for no file."""
        if self.synced is None and source.random() < 0.5:
            return None
        content = bytearray(self.synced or b"")
        for place, data in self.pending:
            fate = source.choice(("complete", "complete", "torn", "lost"))
            if data is None:
                if fate != "lost":
                    del content[place:]
                    content.extend(bytes(max(0, place - len(content))))
                continue
            for start in range(0, len(data), SECTOR):
                if fate == "complete" or (fate == "torn" and source.random() < 0.5):
                    end = min(start + SECTOR, len(data))
                    if len(content) < place + start:
                        content.extend(bytes(place + start - len(content)))
                    content[place + start : place + end] = data[start:end]
        return bytes(content)


class Plan:
    """A planned fault. point: the operation that fails; 0: none, and `log` lists the operations."""

    def __init__(self, folder: Path, kind: str, point: int, seed: int = 0) -> None:
        self.folder, self.kind, self.point = str(folder), kind, point
        self.seed = seed
        self.log: list[str] = []
        self.files: dict[str, DiskFile] = {}
        self.lost = folder / "lost"

    def watches(self, name: str | None) -> bool:
        return name is not None and name.startswith(self.folder) and not name.endswith("-shm")

    def opened(self, name: str, journal: bool) -> None:
        exists = os.path.exists(name)
        known = self.files.get(name)
        if known is None:
            content = Path(name).read_bytes() if exists else b""
            self.files[name] = known = DiskFile(content if exists else None, bytearray(content))
        elif known.deleted:
            # The removal may not be on the disk yet: what was there before can come back.
            self.files[name] = known = DiskFile(None, bytearray(), replaced=known)
        if journal and not exists:
            known.syncs_folder = True

    def synced(self, name: str) -> None:
        file = self.files[name]
        file.sync()
        if file.syncs_folder:
            file.syncs_folder = False
            self.files = {other: known for other, known in self.files.items() if not known.deleted}
            for known in self.files.values():
                known.synced = known.synced or b""
                known.replaced = None

    def step(self, operation: str, name: str, tear: Callable[[], Any] | None = None) -> None:
        """Count an operation; at the chosen one, the fault."""
        self.log.append(
            f"{operation} {name.rpartition('-')[2] if '-' in name[-8:] else 'database'}"
        )
        if len(self.log) != self.point:
            return
        if self.kind == "power":
            self._lose_power()
        if self.kind in {"short", "kill_torn"} and tear is not None:
            tear()
        if self.kind.startswith("kill"):
            os._exit(77)
        if self.kind == "full":
            raise apsw.FullError("the disk is full")
        raise apsw.IOError("the disk failed")

    def _lose_power(self) -> None:
        source = random.Random(self.seed)
        self.lost.mkdir()
        for name, latest in self.files.items():
            file = latest
            while file.replaced is not None and source.random() < 0.5:
                file = file.replaced
            content = None if file.deleted and source.random() < 0.5 else file.survivor(source)
            if file.deleted and file.synced is None:
                content = None
            if content is not None:
                (self.lost / Path(name).name).write_bytes(content)
        os._exit(77)


class FaultyFile(apsw.VFSFile):
    def __init__(self, plan: Plan, base: str, name: Any, flags: list[int]) -> None:
        self._plan = plan
        self._name = name.filename() if isinstance(name, apsw.URIFilename) else (name or "")
        if plan.watches(self._name):
            journal = (
                apsw.SQLITE_OPEN_MAIN_JOURNAL
                | apsw.SQLITE_OPEN_WAL
                | apsw.SQLITE_OPEN_SUPER_JOURNAL
            )
            plan.opened(self._name, bool(flags[0] & journal))
        super().__init__(base, name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:
        if self._plan.watches(self._name):
            half = bytes(data[: len(data) // 2])
            self._plan.step(
                "write", self._name, lambda: super(FaultyFile, self).xWrite(half, offset)
            )
            self._plan.files[self._name].write(offset, bytes(data))
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:
        if self._plan.watches(self._name):
            self._plan.step("sync", self._name)
            self._plan.synced(self._name)
        super().xSync(flags)

    def xTruncate(self, size: int) -> None:
        if self._plan.watches(self._name):
            self._plan.step("truncate", self._name)
            self._plan.files[self._name].truncate(size)
        super().xTruncate(size)


class FaultyVFS(apsw.VFS):
    """The default VFS while it exists."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._base = apsw.vfs_names()[0]
        super().__init__("faulty", self._base, makedefault=True)

    def xOpen(self, name: Any, flags: list[int]) -> FaultyFile:
        return FaultyFile(self._plan, self._base, name, flags)

    def xDelete(self, name: str, sync_folder: bool) -> None:
        if self._plan.watches(name) and os.path.exists(name):
            self._plan.step("delete", name)
            file = self._plan.files.get(name)
            if file is not None:
                if sync_folder:
                    del self._plan.files[name]
                else:
                    file.deleted = True
        super().xDelete(name, sync_folder)
