"""Factories: the store that the settings name, and an organization's repository in their layout."""

from __future__ import annotations

import os
from functools import lru_cache

from schedproto import SchedulerError
from schedproto.ids import check_organization

from .object_store import ObjectStore
from .plain import SUFFIX, PlainRepository
from .repository import ROOT, Repository
from .settings import BucketSettings
from .versions import VersionsRepository


def open_store(settings: BucketSettings) -> ObjectStore:
    """Return the store; one per process and settings, so that its connections are reused."""
    return _open(settings, os.getpid())


@lru_cache(maxsize=8)
def _open(settings: BucketSettings, _process: int) -> ObjectStore:
    """Return a store of this very process: connections and their threads do not survive a fork."""
    if settings.folder is not None:
        from .folder_store import FolderStore  # noqa: PLC0415 - a store is loaded when it is used

        return FolderStore(settings.folder)
    from .s3_store import BucketStore  # noqa: PLC0415

    assert settings.s3 is not None
    return BucketStore(settings.s3)


def open_repository(settings: BucketSettings, store: ObjectStore, organization: str) -> Repository:
    """Return an organization's repository. Raises `SchedulerError` (`invalid_organization`).

    Example:

        repository = open_repository(settings, open_store(settings), "org-123")
        newest = repository.newest()
    """
    check_organization(organization)
    kind = VersionsRepository if settings.layout == "versions" else PlainRepository
    return kind(store, organization)


def organizations(settings: BucketSettings, store: ObjectStore) -> list[str]:
    """Return the organizations that the bucket has, sorted."""
    found = []
    for name in store.names(ROOT):
        if (settings.layout == "plain") != name.endswith(SUFFIX):
            continue
        try:
            found.append(check_organization(name.removesuffix(SUFFIX)))
        except SchedulerError:
            continue  # an object of somebody else
    return found
