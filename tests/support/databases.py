"""Databases of one table that tests send and fetch, and what transfers leave of them."""

from __future__ import annotations

import hashlib
import random
import sqlite3
from pathlib import Path

from tests.support.folders import Folder


def table(
    path: Path, rows: int, seed: int = 1, page_size: int = 4096, journal: str = "DELETE"
) -> Path:
    """Write a database of about `rows` times 200 bytes."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(f"PRAGMA page_size = {page_size}")
    connection.execute(f"PRAGMA journal_mode = {journal}")
    source = random.Random(seed)
    connection.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, text TEXT)")
    connection.execute("BEGIN")
    connection.executemany(
        "INSERT INTO t VALUES (?, ?)", ((n, source.randbytes(100).hex()) for n in range(rows))
    )
    connection.execute("COMMIT")
    connection.close()
    return path


def change(path: Path, rows: range, seed: int = 2) -> None:
    connection = sqlite3.connect(path)
    source = random.Random(seed)
    connection.executemany(
        "UPDATE t SET text = ? WHERE id = ?", ((source.randbytes(100).hex(), n) for n in rows)
    )
    connection.commit()
    connection.close()


def content(path: Path) -> str:
    """Return a digest of the content of a database."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    digest = hashlib.sha256("\n".join(connection.iterdump()).encode()).hexdigest()
    connection.close()
    return digest


def leftovers(folder: Folder, *others: Path) -> list[str]:
    """Return the files of transfers that are still there."""
    found = list((folder.path / ".schedd" / "transfers").glob("*/*"))
    for other in others:
        found += [
            path for path in other.iterdir() if path.name.startswith(".") and path.name != ".schedd"
        ]
    return [path.name for path in found]
