"""Where the ledger lies, and what kind of file system that is."""

from __future__ import annotations

import os

from corral.ledger.errors import ELSEWHERE, LedgerError, explain_os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

LEDGER = "ledger.db"
RECENT = "recent.ndjson"
OPEN_LEASES = "leases.open"
"""Is there while a lease may be open. ``ledger.leases`` alone makes and removes it."""

_NETWORK = (
    *("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "drvfs", "virtiofs", "vboxsf", "vmhgfs", "prl_fs"),
    *("afs", "beegfs", "ceph", "coda", "davfs", "glusterfs", "gpfs", "lustre", "ncpfs"),
    *("fuse.ceph", "fuse.glusterfs", "fuse.sshfs"),
)


def find_folder(environ: Mapping[str, str]) -> str:
    """``$CORRAL_STATE_DIR``, else ``$XDG_STATE_HOME/corral``, else ``~/.local/state/corral``; it need not exist.

    Raises LedgerError where no home is known.
    """
    named = environ.get("CORRAL_STATE_DIR")
    if named:
        return os.path.abspath(os.path.expanduser(named))
    state = environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(state):
        home = environ.get("HOME", "")
        if not os.path.isabs(home):
            raise LedgerError("There is no place for the ledger: HOME is not set.", ELSEWHERE)
        state = os.path.join(home, ".local", "state")
    return os.path.join(state, "corral")


def make_folder(folder: str) -> None:
    """Make the folder, for its owner alone; one that exists is left as it is."""
    try:
        os.makedirs(folder, 0o700, exist_ok=True)
    except OSError as error:
        raise explain_os(folder, error, "made") from None


def is_network(path: str, mounts: str) -> bool:
    """Whether a path lies on a file system that other machines write too, by the text of ``/proc/self/mounts``.

    SQLite's WAL needs memory that all its users share, which no network file system gives.
    """
    best, kind = "", ""
    for line in mounts.splitlines():
        words = line.split(" ")
        if len(words) < 3:
            continue
        point = words[1].replace("\\040", " ").rstrip("/")
        # The last mount over a point is the one that is seen.
        if (path == point or path.startswith(f"{point}/")) and len(point) >= len(best):
            best, kind = point, words[2]
    return kind in _NETWORK


def read_mounts(root: str = "/") -> str:
    """What is mounted where; empty on systems that do not say it this way."""
    try:
        with open(os.path.join(root, "proc/self/mounts"), encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""
