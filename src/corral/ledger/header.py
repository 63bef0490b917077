"""What the head of the ledger's file tells, without a database being imported or opened.

Nearly nobody pins anything, and ``unload --all`` must know for certain: that SQLite is imported and the file opened
only to find nothing would be felt each time.

Source: SQLite's file format (sqlite.org/fileformat2.html, 1.3): the user version stands at byte 60 and the application
id at byte 68, and a change of either is a part of its transaction.
"""

from __future__ import annotations

import os

from corral.ledger.schema import APPLICATION_ID, MIGRATIONS

_MAGIC = b"SQLite format 3\0"
_HEAD_BYTES = 100


def may_hold_pins(path: str) -> bool:
    """Whether there may be a pin: False only where the file says that there never was one.

    Not for a process that has the ledger open: closing the file here would drop SQLite's locks on it.
    """
    # Before the file: what stands in these is newer, and may be moved over into it at any moment.
    if not all(_is_empty(path + ending) for ending in ("-wal", "-journal")):
        return True
    try:
        with open(path, "rb", buffering=0) as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return True
    numbers = [int.from_bytes(head[at : at + 4], "big") for at in (60, 68)]
    return not head.startswith(_MAGIC) or numbers != [len(MIGRATIONS), APPLICATION_ID]


def _is_empty(path: str) -> bool:
    try:
        return os.stat(path).st_size == 0
    except FileNotFoundError:
        return True
    except OSError:
        return False
