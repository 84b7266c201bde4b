"""What becomes of a copy that somebody has changed on the volume and the bucket does not know of: it is kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from schedd.store.backups import Backups
from schedproto.layout import replica_folder

from .place import ReplicaPlace

CHANGED = "changed.db"
REASON = "changed on the volume and not published"


def keeper_of_changed(backups: Backups | None, place: ReplicaPlace, organization: str) -> Callable[[Path], None]:
    """Return what keeps a changed copy: as a backup, else as one file beside what is known of the copy."""

    def keep(path: Path) -> None:
        if backups is not None:
            from schedd.store.restore import keep_present  # noqa: PLC0415 - rarely needed

            if keep_present(backups, path, REASON):
                return
        kept = replica_folder(Path(place.data), organization) / CHANGED
        path.replace(kept)
        for suffix in ("-wal", "-shm", "-journal"):
            beside = path.with_name(path.name + suffix)
            if beside.exists():
                beside.replace(kept.with_name(kept.name + suffix))

    return keep
