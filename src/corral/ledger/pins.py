"""The ledger's pins."""

from __future__ import annotations

import sys
from json import dumps

from corral.ledger.rows import OF_ROUTER, read_pin
from corral.ledger.schema import APPLICATION_ID, PINNED_ID
from corral.ops.promises import Owner, Pin, RouterKey

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from corral.ledger.store import Store

_ADD = "INSERT INTO pins (router, label, model, user, host, pinned_wall) VALUES (?, ?, ?, ?, ?, ?)"


def list_pinned(folder: str, router: RouterKey) -> tuple[str, ...]:
    """The ids pinned on a router, with no more of the ledger imported than that takes. Raises LedgerError."""
    from corral.ledger.header import may_hold_pins
    from corral.ledger.place import LEDGER

    path = f"{folder}/{LEDGER}"
    # Where SQLite was imported, this process may have the file open. Only a command with one thread comes here so.
    if "sqlite3" not in sys.modules and not may_hold_pins(path):
        return ()
    from corral.ledger.store import open_for_reading

    store = open_for_reading(path)
    if store is None:
        return ()
    try:
        return tuple(pin.model for pin in Pins(store).list_pins(router))
    finally:
        store.close()


class Pins:
    """The models that no rule may choose. Each method is one transaction, or one look."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def add(self, router: RouterKey, models: Iterable[str], *, owner: Owner, wall: float) -> list[str]:
        """Pin models; returns those that were not pinned before."""
        added = []
        with self._store.transaction():
            pinned = {pin.model for pin in self.list_pins(router)}
            for model in models:
                if model not in pinned:
                    values = (router.key, router.label, dumps(model), owner.user, owner.host, wall)
                    self._store.execute(_ADD, values)
                    pinned.add(model)
                    added.append(model)
            self._tell_head()
        return added

    def remove(self, router: RouterKey, models: Iterable[str]) -> list[str]:
        """Take pins away; returns the models that were pinned."""
        removed = []
        with self._store.transaction():
            for model in models:
                values = (dumps(model), router.key, router.label)
                if self._store.execute(f"DELETE FROM pins WHERE model = ? AND {OF_ROUTER}", values):
                    removed.append(model)
            self._tell_head()
        return removed

    def _tell_head(self) -> None:
        """Within the transaction that changes it: whether there is a pin (see ``ledger.header``)."""
        has_pins = self._store.read_number("SELECT EXISTS (SELECT 1 FROM pins)")
        self._store.execute(f"PRAGMA application_id = {PINNED_ID if has_pins else APPLICATION_ID}")

    def list_pins(self, router: RouterKey | None = None) -> list[Pin]:
        """The pins, oldest first; of one router, or of all. A model that is pinned twice under two names comes once."""
        where, values = (f"WHERE {OF_ROUTER}", (router.key, router.label)) if router is not None else ("", ())
        pins = self._store.read_each(read_pin, f"SELECT * FROM pins {where} ORDER BY rowid", values)
        if router is None:
            return pins
        return [*{pin.model: pin for pin in reversed(pins)}.values()][::-1]
