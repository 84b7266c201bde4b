"""A daemon that cannot be started as a disk is full."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from schedclient import Client
from schedclient.errors import LaunchError
from schedclient.launch import local


def test_full_data_folder(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error has the code `disk_full` and says how much space is free."""

    def full(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(local, "private_folder", full)
    with Client(data=data) as client, pytest.raises(LaunchError) as caught:
        client.health()
    assert caught.value.code == "disk_full"
    assert "MB are free" in caught.value.message
