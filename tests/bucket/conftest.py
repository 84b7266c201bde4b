"""Buckets for tests: a folder, a real S3 server, and that server behind a proxy that makes trouble."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bucket.s3_server import Proxy, S3Server
from schedbucket.settings import BucketSettings

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """One server for all tests of a process; each test has organizations of its own names."""
    server = S3Server(tmp_path_factory.mktemp("s3"))
    server.start()
    yield server
    server.close()


@pytest.fixture
def proxy(s3_server: S3Server) -> Iterator[Proxy]:
    proxy = Proxy(s3_server)
    yield proxy
    proxy.close()


@pytest.fixture
def organization() -> str:
    """A name that no other test of this process has used."""
    return f"org-{next(_numbers)}"


@pytest.fixture(params=["folder", "s3"])
def settings_of(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., BucketSettings]:
    """Settings of a bucket of either kind: called with the layout."""

    def make(layout: str = "versions") -> BucketSettings:
        if request.param == "folder":
            return BucketSettings(folder=tmp_path / "bucket", layout=layout)
        return request.getfixturevalue("s3_server").settings(layout=layout)

    return make
