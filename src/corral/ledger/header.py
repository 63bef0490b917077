"""What the head of the ledger's file tells, without a database being imported or opened.

Nearly nobody pins anything, and ``unload --all`` must know for certain: that SQLite is imported and the file opened
only to find nothing would be felt each time.

Source: SQLite's file format (sqlite.org/fileformat2.html, 1.3): the size of a page stands at byte 16, their number at
28, the user version at 60 and the application id at 68; a change of these is a part of its transaction.
"""

from __future__ import annotations

import os

from corral.ledger.schema import APPLICATION_ID, MIGRATIONS

_MAGIC = b"SQLite format 3\0"
_HEAD_BYTES = 100


def may_hold_pins(path: str) -> bool:
    """Whether there may be a pin: False only where the file is whole by its size, and says that there is none.

    Not for a process that has the ledger open: closing the file here would drop SQLite's locks on it.
    """
    # SQLite keeps the two beside the file that a symbolic link leads to.
    real = os.path.realpath(path)
    # Before the file: what stands in these is newer, and may be moved over into it at any moment.
    if not all(_is_empty(real + ending) for ending in ("-wal", "-journal")):
        return True
    try:
        with open(real, "rb", buffering=0) as file:
            size, head = os.fstat(file.fileno()).st_size, file.read(_HEAD_BYTES)
    except OSError:
        return True
    pages, version, application_id = (int.from_bytes(head[at : at + 4], "big") for at in (28, 60, 68))
    # A page of 65,536 bytes does not fit into its field, and Corral makes no such file.
    is_whole = head.startswith(_MAGIC) and size == pages * int.from_bytes(head[16:18], "big")
    return not is_whole or version != len(MIGRATIONS) or application_id != APPLICATION_ID


def _is_empty(path: str) -> bool:
    try:
        return os.stat(path).st_size == 0
    except FileNotFoundError:
        return True
    except OSError:
        return False
