"""Another program takes part by docs/BUCKET.md alone.

Written from the document, without a line of `schedbucket`.

It has what any language has: an S3 library, JSON, SHA-256, zstd and SQLite.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import secrets
import sqlite3
import struct
from contextlib import closing
from pathlib import Path
from typing import Any

import obstore
import obstore.exceptions
import pytest
import zstandard
from obstore.store import S3Store

from schedclient import errors
from schedproto import JobState
from tests.support.buckets import Site, is_current, replica_of, schedule
from tests.support.daemons import AS_OF
from tests.support.s3_server import BUCKET, KEY, SECRET, S3Server
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow


def now(ahead_s: float = 0.0) -> str:
    moment = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=ahead_s)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class OtherProgram:
    """The main application, in whatever language it is."""

    def __init__(self, endpoint: str, organization: str) -> None:
        self.store = S3Store(
            BUCKET,
            endpoint=endpoint,
            region="auto",
            access_key_id=KEY,
            secret_access_key=SECRET,
            client_options={"allow_http": True},
        )
        self.folder = f"orgs/{organization}/"
        self.nonce = secrets.token_hex(8)

    def head(self) -> tuple[dict[str, Any], str]:
        found = obstore.get(self.store, f"{self.folder}head.json")
        return json.loads(bytes(found.bytes())), str(found.meta["e_tag"])

    def replace_head(self, head: dict[str, Any], etag: str) -> None:
        head["write_id"] = secrets.token_hex(8)
        obstore.put(
            self.store, f"{self.folder}head.json", json.dumps(head).encode(), mode={"e_tag": etag}
        )

    def take_lease(self) -> None:
        head, etag = self.head()
        assert head["lease"] is None
        head["fence"] += 1
        head["lease"] = {
            "holder": "the main application",
            "nonce": self.nonce,
            "token": head["fence"],
            "beat": 0,
            "duration_s": 30.0,
            "expires_at": now(30),
        }
        self.replace_head(head, etag)

    def fetch(self, path: Path) -> dict[str, Any]:
        head, _ = self.head()
        chain: list[dict[str, Any]] = []
        for version in head["versions"]:
            chain = [version] if version["kind"] == "snapshot" else [*chain, version]
        data = b""
        for version in chain:
            stored = bytes(obstore.get(self.store, version["key"]).bytes())
            assert len(stored) == version["stored_bytes"]
            assert hashlib.sha256(stored).hexdigest() == version["stored_sha256"]
            if version["kind"] == "snapshot":
                data = zstandard.ZstdDecompressor().decompressobj().decompress(stored)
            else:
                data = self.patched(data, stored)
            assert len(data) == version["size_bytes"]
            assert hashlib.sha256(data).hexdigest() == version["sha256"]
        path.write_bytes(data)
        return chain[-1]

    @staticmethod
    def patched(old: bytes, patch: bytes) -> bytes:
        assert patch[:8] == b"SCHEDPAT"
        old_size, new_size, blocks, begin = struct.unpack_from("<4Q", patch, 8)
        assert old_size == len(old)
        numbers, last = [], 0
        if blocks:
            gaps = zstandard.ZstdDecompressor().decompressobj().decompress(patch[begin:])
            for (gap,) in struct.iter_unpack("<I", gaps):
                last += gap
                numbers.append(last)
        assert len(numbers) == blocks
        new = bytearray(old[:new_size].ljust(-(-new_size // 4096) * 4096, b"\0"))
        at = 40
        for first in range(0, blocks, 128):
            group = numbers[first : first + 128]
            (length,) = struct.unpack_from("<I", patch, at)
            before = b"".join(old[n * 4096 : (n + 1) * 4096].ljust(4096, b"\0") for n in group)
            dictionary = zstandard.ZstdCompressionDict(
                before, dict_type=zstandard.DICT_TYPE_RAWCONTENT
            )
            after = zstandard.ZstdDecompressor(dict_data=dictionary).decompress(
                patch[at + 4 : at + 4 + length]
            )
            for index, number in enumerate(group):
                new[number * 4096 : (number + 1) * 4096] = after[index * 4096 : (index + 1) * 4096]
            at += 4 + length
        assert at == begin
        return bytes(new[:new_size])

    def publish_and_release(self, path: Path, changed: dict[str, Any]) -> None:
        data, write_id = path.read_bytes(), secrets.token_hex(8)
        stored = zstandard.ZstdCompressor().compress(data)
        number = changed["version"] + 1
        key = f"{self.folder}{number:08d}-{write_id}.snapshot.zst"
        obstore.put(self.store, key, stored)
        entry = {
            "version": number,
            "kind": "snapshot",
            "key": key,
            "stored_bytes": len(stored),
            "stored_sha256": hashlib.sha256(stored).hexdigest(),
            "size_bytes": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
            "write_id": write_id,
            "created_at": now(),
            "created_by": "the main application",
            "note": "",
        }
        while True:
            head, etag = self.head()
            assert head["lease"]["nonce"] == self.nonce
            assert head["versions"][-1] == changed
            head["versions"].append(entry)
            head["lease"] = None
            try:
                self.replace_head(head, etag)
            except obstore.exceptions.PreconditionError:
                continue  # another program asked for the lease meanwhile
            return


@pytest.mark.parametrize("layout", ["versions"])
def test_program_without_the_library_takes_part(
    s3_server: S3Server, sites: Any, organization: str, layout: str, tmp_path: Path
) -> None:
    """It takes the lease, reads snapshot and patches, writes and publishes, while a job waits.

    The job sees it all.
    """
    site: Site = sites(s3_server.settings())
    copy = site.publish_new(organization, 2000)
    daemon = site.machine("one")
    schedule(daemon, organization)
    for row in (
        3,
        5,
        900,
    ):  # patches of some kinds: rows that change, a file that grows and one that shrinks
        site.write(copy, "UPDATE contacts SET birth_date = '1980-01-05' WHERE id = ?", row)
    site.write(
        copy, "CREATE TABLE extra AS SELECT randomblob(3000) AS noise FROM contacts LIMIT 300"
    )
    site.write(copy, "DROP TABLE extra")
    schedule(daemon, organization)
    other, path = OtherProgram(s3_server.endpoint, organization), tmp_path / "other.db"
    other.take_lease()
    with daemon.client(timeout_s=120) as client:
        with pytest.raises(errors.LeaseError, match="the main application"):
            client.set_configuration(organization, 'timezone = "America/New_York"\n')
        # Three of four contacts go meanwhile, more than the guards allow.
        handle = client.submit(organization, as_of=AS_OF, accept_changes=True)
        wait_until(
            lambda: (job := client.status(handle.job_id)).progress and job.progress.stage == "lease"
        )
        newest = other.fetch(path)
        assert newest["kind"] == "patch"
        with closing(sqlite3.connect(path)) as connection, connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            connection.execute("DELETE FROM contacts WHERE id > 500")
        other.publish_and_release(path, newest)
        result = handle.wait(120)
        assert client.status(handle.job_id).state == JobState.SUCCEEDED
    assert result.contacts == 500
    assert replica_of(result).version_before == newest["version"] + 1
    assert is_current(daemon, organization)
    assert other.fetch(path)["note"] == result.run_id
