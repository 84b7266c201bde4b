"""Databases as files (`schedproto.sqlite_files`): sidecars, replacement, checks and full disks."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest

from schedd.store.errors import translate
from schedproto import ErrorCode, sqlite_files
from schedproto.sqlite_files import (
    SIDECAR_SUFFIXES,
    copy_content,
    disk_full,
    faults,
    is_disk_full,
    move_database,
    quick_check,
    remove_database,
    replace_database,
    sidecar,
    sync_folder,
    table_faults,
    unmerged_sidecar,
    write_file,
)

NOT_TEXT = "CAST(x'6eff' AS TEXT)"


def database(path: Path, sql: str = "CREATE TABLE t (a, b)", mode: str = "DELETE") -> Path:
    with closing(sqlite3.connect(path)) as connection:
        connection.create_function("own", 1, lambda value: 1, deterministic=True)
        connection.execute(f"PRAGMA journal_mode = {mode}")
        connection.executescript(sql)
    return path


def with_all_sidecars(path: Path, content: str) -> Path:
    path.write_text(content)
    for suffix in SIDECAR_SUFFIXES:
        sidecar(path, suffix).write_text(content + suffix)
    return path


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


# Sidecars -----------------------------------------------------------------------------------------


def test_suffixes_are_those_of_sqlite(tmp_path: Path) -> None:
    """SQLite names its files as the module does: log and index of the log, or a journal."""
    path = database(tmp_path / "log.db", mode="WAL")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("INSERT INTO t VALUES (1, 2)")
        assert {p.name for p in tmp_path.iterdir()} == {"log.db", "log.db-wal", "log.db-shm"}
    path = database(tmp_path / "journal.db")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript("BEGIN; INSERT INTO t VALUES (1, 2)")
        assert sidecar(path, "-journal").exists()
        assert unmerged_sidecar(path) == sidecar(path, "-journal")


def test_unmerged_sidecar(tmp_path: Path) -> None:
    """Only a log or journal with content counts; one that cannot be read is an error."""
    path = tmp_path / "org.db"
    assert unmerged_sidecar(path) is None
    sidecar(path, "-wal").touch()
    sidecar(path, "-shm").write_text("index")
    assert unmerged_sidecar(path) is None
    sidecar(path, "-journal").write_text("pages")
    assert unmerged_sidecar(path) == sidecar(path, "-journal")
    assert unmerged_sidecar(path, ("-wal",)) is None
    with pytest.raises(NotADirectoryError):
        unmerged_sidecar(path.with_name("org.db-shm") / "below")


def test_remove(tmp_path: Path) -> None:
    """A database goes with its sidecars, other files stay, and a second removal is allowed."""
    path = with_all_sidecars(tmp_path / "org.db", "old")
    other = with_all_sidecars(tmp_path / "org.db2", "other")
    remove_database(path)
    remove_database(path)
    assert set(contents(tmp_path)) == {other.name, *(other.name + s for s in SIDECAR_SUFFIXES)}


def test_move_leaves_no_sidecar_of_the_target(tmp_path: Path) -> None:
    """A moved database has its own sidecars and none of the one that it replaces."""
    path, target = tmp_path / "new.db", with_all_sidecars(tmp_path / "old.db", "old")
    path.write_text("new")
    sidecar(path, "-wal").write_text("new-wal")
    move_database(path, target)
    assert contents(tmp_path) == {"old.db": "new", "old.db-wal": "new-wal"}


# Content and durability ---------------------------------------------------------------------------


def recorded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record the calls that decide about durability, in their order."""
    calls: list[str] = []
    unlink, rename, fsync = Path.unlink, Path.replace, os.fsync

    def record_unlink(path: Path, *, missing_ok: bool = False) -> None:
        calls.append(f"unlink {path.name}")
        unlink(path, missing_ok=missing_ok)

    def record_rename(path: Path, target: Path) -> Path:
        calls.append(f"rename {path.name} {target.name}")
        return rename(path, target)

    def record_fsync(descriptor: int) -> None:
        calls.append("fsync " + Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        fsync(descriptor)

    monkeypatch.setattr(Path, "unlink", record_unlink)
    monkeypatch.setattr(Path, "replace", record_rename)
    monkeypatch.setattr(os, "fsync", record_fsync)
    return calls


def test_replace_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Content is synced before the rename; sidecars are gone by then; the folder is last."""
    path = with_all_sidecars(tmp_path / "org.db", "old")
    new = tmp_path / "incoming"
    new.write_text("new")
    calls = recorded(monkeypatch)
    replace_database(new, path)
    assert calls == [
        "fsync incoming",
        *(f"unlink org.db{suffix}" for suffix in SIDECAR_SUFFIXES),
        "rename incoming org.db",
        f"fsync {tmp_path.name}",
    ]
    assert contents(tmp_path) == {"org.db": "new"}


def test_old_log_is_not_applied_to_the_new_database(tmp_path: Path) -> None:
    """A log that a killed program left is not read into the database that replaces its own."""
    path = database(tmp_path / "org.db", mode="WAL")
    script = (
        "import os, sqlite3, sys\n"
        "c = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "c.execute('INSERT INTO t VALUES (1, 2)')\n"
        "os._exit(0)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(path)], check=True, timeout=60)
    assert unmerged_sidecar(path) == sidecar(path, "-wal")
    new = database(tmp_path / "new.db", "CREATE TABLE other (x); INSERT INTO other VALUES (7)")
    replace_database(new, path)
    with closing(sqlite3.connect(path)) as connection:
        tables = connection.execute("SELECT name FROM sqlite_schema").fetchall()
        assert (tables, connection.execute("SELECT x FROM other").fetchall()) == (
            [("other",)],
            [(7,)],
        )


def test_replace_that_cannot_sync_keeps_the_old_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the new content does not reach the disk, the old database and its log stay."""
    path = with_all_sidecars(tmp_path / "org.db", "old")
    before = contents(tmp_path)
    new = tmp_path / "incoming"
    new.write_text("new")

    def fail(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        replace_database(new, path)
    assert contents(tmp_path) == before | {"incoming": "new"}


def test_write_file_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A note is synced before it gets its name."""
    calls = recorded(monkeypatch)
    write_file(tmp_path / "note", b"1")
    assert calls == ["fsync note.new", "rename note.new note"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_write_file_on_a_failing_disk(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that fails leaves the earlier note and no half of the new one."""
    note = tmp_path / "note"
    write_file(note, b"before")

    def fail(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match=os.strerror(number)) as caught:
        write_file(note, b"after")
    assert is_disk_full(caught.value) == (number != errno.EIO)
    assert contents(tmp_path) == {"note": "before"}


def test_sync_folder_refuses_a_file(tmp_path: Path) -> None:
    """A path that is not a folder is an error, not a sync of something else."""
    path = tmp_path / "file"
    path.touch()
    with pytest.raises(NotADirectoryError):
        sync_folder(path)


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    """Neither success nor failure leaks a descriptor."""
    new, path = tmp_path / "new", tmp_path / "org.db"
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        new.write_text("nonsense" * 1000)
        replace_database(new, path)
        with pytest.raises(FileNotFoundError):
            replace_database(new, path)
        assert quick_check(path) is not None
    assert len(os.listdir("/proc/self/fd")) == before


def test_copy_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All steps are copied; a source that became shorter is an error."""
    monkeypatch.setattr(sqlite_files, "_COPY_BYTES", 1000)
    data = os.urandom(4321)
    (tmp_path / "source").write_bytes(data)
    with (tmp_path / "source").open("rb") as source, (tmp_path / "target").open("xb") as target:
        copy_content(source.fileno(), target.fileno(), len(data))
        with pytest.raises(OSError, match="truncated"):
            copy_content(source.fileno(), target.fileno(), len(data) + 1)
    assert (tmp_path / "target").read_bytes() == data


# Checks -------------------------------------------------------------------------------------------

Open = Callable[[str], Any]


@pytest.fixture(params=["sqlite3", "apsw"])
def opened(request: pytest.FixtureRequest) -> Open:
    """Open a database with one of the two libraries."""
    return sqlite3.connect if request.param == "sqlite3" else apsw.Connection


def break_index(path: Path, more: str = "") -> None:
    """Make the index `i` of `t` one on another column, without rebuilding it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(
            "UPDATE sqlite_schema SET sql = replace(sql, '(a)', '(b)') WHERE type = 'index'"
        )
        connection.executescript(more)


def test_sound_database(tmp_path: Path, opened: Open) -> None:
    """A sound database has no faults, in any encoding."""
    for encoding in ("UTF-8", "UTF-16le", "UTF-16be"):
        sql = f"PRAGMA encoding = '{encoding}'; CREATE TABLE t (a, b); INSERT INTO t VALUES (1, 2)"
        path = database(tmp_path / f"{encoding}.db", sql)
        with closing(opened(str(path))) as connection:
            assert faults(connection) == faults(connection, indexes=True) == []
            assert table_faults(connection, "t") == []
        assert quick_check(path) is None


@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16le"])
def test_damaged_index(tmp_path: Path, opened: Open, encoding: str) -> None:
    """An index that disagrees with its table is found only if indexes are compared."""
    sql = "CREATE TABLE t (a, b); CREATE INDEX i ON t (a); INSERT INTO t VALUES (1, 2)"
    path = database(tmp_path / "org.db", f"PRAGMA encoding = '{encoding}'; {sql}")
    break_index(path)
    with closing(opened(str(path))) as connection:
        assert faults(connection) == []
        assert faults(connection, indexes=True) == ["row 1 missing from index i"]
        assert table_faults(connection, "t") == ["row 1 missing from index i"]


def test_index_name_that_is_not_text(tmp_path: Path, opened: Open) -> None:
    """A fault that quotes a name of invalid UTF-8 is reported, not an error of the decoder."""
    sql = "CREATE TABLE t (a, b); CREATE INDEX i ON t (a); INSERT INTO t VALUES (1, 2)"
    path = database(tmp_path / "org.db", sql)
    name = f"name = {NOT_TEXT}, sql = 'CREATE INDEX \"' || {NOT_TEXT} || '\" ON t (b)'"
    break_index(path, f"UPDATE sqlite_schema SET {name} WHERE type = 'index'")
    with closing(opened(str(path))) as connection:
        assert faults(connection, indexes=True) == [
            "row 1 missing from index n\N{REPLACEMENT CHARACTER}"
        ]
        assert len(table_faults(connection, "t")) == 1


def test_damaged_page(tmp_path: Path) -> None:
    """A page of nonsense is a fault, and so is a file that is not a database or does not exist."""
    path = database(tmp_path / "org.db")
    content = bytearray(path.read_bytes())
    content[4096:4196] = b"\xff" * 100
    path.write_bytes(content)
    assert quick_check(path) is not None
    path.write_bytes(b"nonsense" * 1000)
    assert quick_check(path) == "file is not a database"
    path.unlink()
    assert "unable to open" in str(quick_check(path))
    assert not path.exists()


def test_function_of_the_application(tmp_path: Path, opened: Open) -> None:
    """A table whose CHECK needs a function of its application is left out.

    The others are checked.
    """
    sql = "CREATE TABLE c (x, CHECK (own(x))); INSERT INTO c VALUES (1);"
    sql += "CREATE TABLE t (a, b); CREATE INDEX i ON t (a); INSERT INTO t VALUES (1, 2)"
    path = database(tmp_path / "org.db", sql)
    assert quick_check(path) is None
    with closing(opened(str(path))) as connection:
        assert faults(connection, indexes=True) == []
    break_index(path)
    with closing(opened(str(path))) as connection:
        assert faults(connection, indexes=True) == ["row 1 missing from index i"]


def test_values_are_not_damage(tmp_path: Path, opened: Open) -> None:
    """A NULL in a NOT NULL column, which other programs can write, is not a fault of the file."""
    path = database(tmp_path / "org.db", "CREATE TABLE t (a); INSERT INTO t VALUES (NULL)")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(
            "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = 'CREATE TABLE t (a NOT "
            "NULL)'"
        )
    with closing(opened(str(path))) as connection:
        assert list(connection.execute("PRAGMA quick_check")) == [("NULL value in t.a",)]
        assert faults(connection) == []
    assert quick_check(path) is None


def test_check_does_not_touch_the_folder(tmp_path: Path) -> None:
    """A check needs no lock and leaves no file, also if the path has `?` and `%`."""
    folder = tmp_path / "a%20b?c#d"
    folder.mkdir()
    path = database(folder / "org.db", mode="WAL")
    assert quick_check(path) is None
    assert [p.name for p in folder.iterdir()] == ["org.db"]


# Full disks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (OSError(errno.ENOSPC, ""), True),
        (OSError(errno.EDQUOT, ""), True),
        (OSError(errno.EIO, ""), False),
        (OSError("without a number"), False),
        (ValueError("13"), False),
        (sqlite3.OperationalError("raised by Python"), False),
    ],
)
def test_is_disk_full(error: Exception, full: bool) -> None:
    """Only errors that mean a full disk count."""
    assert is_disk_full(error) == full


@pytest.mark.parametrize(
    ("result", "full"),
    [
        (apsw.SQLITE_FULL, True),
        (apsw.SQLITE_IOERR_SHMSIZE, True),
        (apsw.SQLITE_IOERR_WRITE, False),
        (apsw.SQLITE_IOERR, False),
        (apsw.SQLITE_CANTOPEN, False),
    ],
)
def test_results_of_apsw(result: int, full: bool) -> None:
    """The store's errors call a full disk one, whichever of SQLite's operations met it."""
    error = apsw.exception_for(result)
    assert isinstance(error, apsw.Error)
    vars(error)["extendedresult"] = result
    assert is_disk_full(error) == full
    refusal = translate(error, Path("org.db"))
    assert (refusal.code == ErrorCode.DISK_FULL) == full


def test_result_of_sqlite3(tmp_path: Path) -> None:
    """The standard library's SQLite reports a full database with its code."""
    path = database(tmp_path / "org.db")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA max_page_count = 2")
        with pytest.raises(sqlite3.OperationalError) as caught:
            connection.execute("INSERT INTO t VALUES (zeroblob(100000), 1)")
    assert is_disk_full(caught.value)


def test_error_names_the_path(tmp_path: Path) -> None:
    """The error has the code of a full disk, the hint and the path."""
    error = disk_full("no space", "Free some.", tmp_path)
    assert error.code == ErrorCode.DISK_FULL
    assert (error.hint, error.details) == ("Free some.", {"path": str(tmp_path)})


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 256 KiB."""
    if os.getuid() != 0 or not shutil.which("mount"):
        pytest.skip("a small file system can only be mounted by root")
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("file systems cannot be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_full_file_system(small: Path) -> None:
    """On a full file system each kind of error is recognized, and nothing half-written stays."""
    write_file(small / "note", b"before")
    path = database(small / "org.db", mode="WAL")
    free = os.statvfs(small).f_bavail * os.statvfs(small).f_bsize
    (small / "filler").write_bytes(bytes(free))

    with pytest.raises(OSError, match="No space") as caught:
        write_file(small / "note", b"after" * 10_000)
    assert is_disk_full(caught.value)
    assert sorted(p.name for p in small.iterdir()) == ["filler", "note", "org.db"]
    assert (small / "note").read_bytes() == b"before"

    connection = apsw.Connection(str(path))
    try:
        # SQLite chooses which statement fails.
        with pytest.raises(apsw.Error) as refused:  # noqa: PT012
            connection.execute("SELECT count(*) FROM t").fetchall()
            connection.execute("INSERT INTO t VALUES (zeroblob(100000), 1)")
        assert translate(refused.value, path).code == ErrorCode.DISK_FULL
    finally:
        connection.close()
    assert quick_check(path) is None
