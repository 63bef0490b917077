"""What happened and what is promised: holds, pins, sets, leases and the log, in one SQLite file.

Importing this imports nothing else; each name is loaded when it is first asked for. ``note``, ``has_ledger`` and
``has_open_leases`` need no database.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.ledger.errors import LedgerError
    from corral.ledger.ledger import Ledger, read_promises
    from corral.ledger.log import make_ids, note, read_log
    from corral.ledger.pins import list_pinned
    from corral.ledger.place import find_folder
    from corral.ledger.sets import check_set_name
    from corral.ledger.surroundings import read_moment, read_owner

_HOMES = {
    "Ledger": "ledger",
    "LedgerError": "errors",
    "check_set_name": "sets",
    "find_folder": "place",
    "list_pinned": "pins",
    "make_ids": "log",
    "note": "log",
    "read_log": "log",
    "read_moment": "surroundings",
    "read_owner": "surroundings",
    "read_promises": "ledger",
}

__all__ = [
    "Ledger",
    "LedgerError",
    "check_set_name",
    "find_folder",
    "has_ledger",
    "has_open_leases",
    "list_pinned",
    "make_ids",
    "note",
    "read_log",
    "read_moment",
    "read_owner",
    "read_promises",
]


def has_ledger(folder: str) -> bool:
    """Whether there is a file that may promise anything: one stat."""
    try:
        return os.stat(os.path.join(folder, "ledger.db")).st_size > 0
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        # It may be there: whoever opens it gets the reason why it cannot be read.
        return True


def has_open_leases(folder: str) -> bool:
    """Whether a lease may be open: one stat, of the file that ``ledger.leases`` keeps for this."""
    try:
        os.stat(os.path.join(folder, "leases.open"))
    except OSError:
        return False
    return True


def __getattr__(name: str) -> object:
    """Load a name from its home the first time it is used."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'corral.ledger' has no attribute {name!r}")
    # Without importlib, whose import a short command feels.
    value: object = getattr(__import__(f"corral.ledger.{home}", fromlist=[name]), name)
    globals()[name] = value
    return value
