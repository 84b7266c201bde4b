"""Paths in a data folder, which the daemon writes and the local launcher reads.

DATA/org-123.db            one file per organization
DATA/.schedd/journal.db    the durable journal of jobs
DATA/.schedd/lock          held (flock) by the one daemon of this folder
DATA/.schedd/launch.lock   held by a client while it starts a daemon
DATA/.schedd/schedd.sock   the Unix socket
DATA/.schedd/backups/      an organization's backups in a folder of its name
DATA/.schedd/transfers/    likewise, the files of transfers in progress
DATA/.schedd/temporary/    temporary copies; emptied when a daemon starts
DATA/.schedd/replicas/     likewise, the state of the copy of the bucket's file
DATA/.schedd/daemon.log    the log of a daemon that the local launcher started
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from .ids import DATABASE_SUFFIX, check_organization
from .private import private_folder

STATE_FOLDER = ".schedd"

#: A Unix socket's path has at most 107 bytes on Linux (unix(7)); some room is kept for ZeroMQ.
MAX_SOCKET_PATH_BYTES = 100


def state_folder(data_dir: Path) -> Path:
    """Return the folder of the daemon's own files."""
    return data_dir / STATE_FOLDER


def database_path(data_dir: Path, organization: str) -> Path:
    """Return the file of an organization; the id is checked, links are not followed."""
    return data_dir / f"{check_organization(organization)}{DATABASE_SUFFIX}"


def backup_folder(data_dir: Path, organization: str) -> Path:
    """Return the folder with the backups of an organization's file; the id is checked."""
    return state_folder(data_dir) / "backups" / check_organization(organization)


def transfer_folder(data_dir: Path, organization: str) -> Path:
    """Return the folder of an organization's transfers in progress; the id is checked."""
    return state_folder(data_dir) / "transfers" / check_organization(organization)


def temporary_folder(data_dir: Path) -> Path:
    """Return the folder for temporary copies of files, created if it is missing.

    It is on the same file system as the organizations' files, and emptied when a daemon starts.
    """
    folder = state_folder(data_dir) / "temporary"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def replica_folder(data_dir: Path, organization: str) -> Path:
    """Return the folder with the state of an organization's copy of the bucket's file.

    The id is checked.
    """
    return state_folder(data_dir) / "replicas" / check_organization(organization)


def replica_folders(data_dir: Path) -> list[Path]:
    """Return the folders of all organizations' copies."""
    try:
        return sorted(
            path for path in (state_folder(data_dir) / "replicas").iterdir() if path.is_dir()
        )
    except FileNotFoundError:
        return []


def socket_path(data_dir: Path) -> Path:
    """Return the path of the data folder's Unix socket.

    It is in the data folder, unless that would be too long for a socket: then in a folder
    of this user under the runtime or temporary folder, named by a hash of the data folder's real
    path.
    """
    path = state_folder(data_dir.resolve()) / "schedd.sock"
    if len(os.fsencode(path)) <= MAX_SOCKET_PATH_BYTES:
        return path
    digest = hashlib.sha256(os.fsencode(data_dir.resolve())).hexdigest()[:16]
    runtime = os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
    return Path(runtime) / f"schedd-{os.getuid()}" / f"{digest}.sock"


def prepare_socket_folder(data_dir: Path) -> None:
    """Create or check the folder of a socket that is not in the data folder.

    Daemon and clients call it before they use the socket: the owner of its folder could put another
    socket there. Raises `OSError` if that is neither this user nor the data folder's owner.
    """
    folder = socket_path(data_dir).parent
    if folder != state_folder(data_dir.resolve()):
        private_folder(folder, owners=(data_dir.stat().st_uid,))


def socket_endpoint(data_dir: Path) -> str:
    """Return the ZeroMQ endpoint of the data folder's Unix socket.

    ZeroMQ takes texts in UTF-8. In a process with another encoding of file names, such as one under
    the locale `C`, a path is another text for the same bytes.
    """
    path = os.fsencode(socket_path(data_dir)).decode("utf-8", "surrogateescape")
    return f"ipc://{path}"
