"""``Ledger``: everything that is promised, behind one open file."""

from __future__ import annotations

import os

from corral.ledger.holds import Holds
from corral.ledger.leases import Leases
from corral.ledger.pins import Pins
from corral.ledger.place import LEDGER
from corral.ledger.sets import Sets
from corral.ledger.store import open_for_reading, open_for_writing, open_nothing
from corral.ops.promises import Promises

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

    from corral.ledger.store import Store, Transaction
    from corral.ops.promises import Moment


class Ledger:
    """What is promised in one folder.

    ::

        with Ledger.open(folder) as ledger:
            ledger.pins.add(router, ["embedder"], owner=owner, wall=now.wall)

    Every method raises LedgerError when the file cannot be used; what it held is then as it was. Not for two
    threads at once; give each its own.
    """

    def __init__(self, folder: str, store: Store, *, writes: bool) -> None:
        self.folder = folder
        self._writes = writes
        self._use(store)

    @classmethod
    def open(cls, folder: str) -> Ledger:
        """Open for reading and writing; folder and file are made where needed."""
        return cls(folder, open_for_writing(os.path.join(folder, LEDGER)), writes=True)

    @classmethod
    def look(cls, folder: str) -> Ledger:
        """Open for reading; makes nothing. Where there is no file, it is an empty ledger."""
        return cls(folder, _open_or_nothing(folder), writes=False)

    def changed(self) -> bool:
        """Whether another process has changed it since the last call; cheap enough for several times a second.

        False the first time. A file that was moved away or replaced counts, and the new one is opened.
        """
        if self.is_replaced:
            path = os.path.join(self.folder, LEDGER)
            # Opened first: where that fails, the one from before may come back to its place.
            fresh = open_for_writing(path) if self._writes else _open_or_nothing(self.folder)
            self._store.close()
            self._use(fresh)
            # From now on: what is in it already is read by whoever hears of this.
            self._store.is_changed()
            return True
        return self._store.is_changed()

    @property
    def is_replaced(self) -> bool:
        """Whether the file was moved away or replaced since it was opened."""
        return self._store.is_replaced

    def transaction(self) -> Transaction:
        """``with ledger.transaction():`` all that is changed within is done together, or nothing of it."""
        return self._store.transaction()

    def read_promises(self, now: Moment) -> Promises:
        """The holds in force, the pins and the open leases of all routers."""
        return Promises(
            tuple(self.holds.list_in_force(now)), tuple(self.pins.list_pins()), tuple(self.leases.list_open())
        )

    def close(self) -> None:
        """Close the file; closing twice is fine."""
        self._store.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _use(self, store: Store) -> None:
        self._store = store
        self.holds = Holds(store)
        self.pins = Pins(store)
        self.sets = Sets(store)
        self.leases = Leases(store)


def read_promises(folder: str, now: Moment) -> Promises:
    """What is promised now; nothing, at the price of one stat, where there is no ledger. Raises LedgerError."""
    with Ledger.look(folder) as ledger:
        return ledger.read_promises(now)


def _open_or_nothing(folder: str) -> Store:
    path = os.path.join(folder, LEDGER)
    return open_for_reading(path) or open_nothing(path)
