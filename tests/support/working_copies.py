"""Machines, each with a working copy of its own, that share a bucket."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from schedbucket import BucketSettings, Repository, WorkingCopy, open_repository, open_store


def make_database(path: Path, rows: int = 2000) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE contacts(id INTEGER PRIMARY KEY, email TEXT)")
        connection.executemany(
            "INSERT INTO contacts VALUES (?, ?)", ((n, f"c{n}@example.org") for n in range(rows))
        )


def write(path: Path, text: str, row: int = 7) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("INSERT OR REPLACE INTO contacts VALUES (?, ?)", (row, text))


def read(path: Path, row: int = 7) -> str:
    with closing(sqlite3.connect(path)) as connection:
        [(text,)] = connection.execute("SELECT email FROM contacts WHERE id = ?", (row,))
        return str(text)


class Machine:
    """One machine: its own disk, the common bucket."""

    def __init__(self, where: BucketSettings, organization: str, folder: Path) -> None:
        folder.mkdir()
        self.repository: Repository = open_repository(where, open_store(where), organization)
        self.copy = WorkingCopy(folder / "org.db", folder / "state", self.repository)
        self.path = self.copy.path

    def change(self, text: str, row: int = 7, **options: Any) -> int:
        self.copy.refresh()
        self.copy.begin()
        write(self.path, text, row)
        return self.copy.publish(**options)[1]


def two_machines(
    settings: BucketSettings, organization: str, root: Path
) -> tuple[Machine, Machine]:
    """Return two machines; the first one has published a first version."""
    one, two = (Machine(settings, organization, root / name) for name in ("one", "two"))
    make_database(one.path)
    one.copy.refresh()
    one.copy.publish()
    return one, two
