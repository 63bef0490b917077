"""The ledger's holds."""

from __future__ import annotations

from corral.ledger.rows import OF_ROUTER, read_hold, read_number, write_actor, write_models, write_text
from corral.ops.promises import Actor, Hold, Moment, Owner, RouterKey, is_in_force

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from corral.ledger.store import Store


class Holds:
    """What is to be kept from coming up. Each method is one transaction, or one look."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def add(
        self,
        router: RouterKey,
        models: tuple[str, ...] | None,
        *,
        owner: Owner,
        duration_s: float,
        now: Moment,
        reason: str = "",
        excepted: tuple[str, ...] = (),
        enforcer: Actor | None = None,
    ) -> Hold:
        """Begin a hold on models (None: all but ``excepted``) and return it; ended ones are forgotten on the way."""
        values = (
            *(router.key, router.label, owner.user, owner.host),
            *(now.wall, now.boot_s, now.boot_id, duration_s),
            *(None if models is None else write_models(models), write_models(excepted), write_text(reason)),
            *write_actor(enforcer),
        )
        with self._store.transaction():
            for ended in self._list_ended(now):
                self._store.execute("DELETE FROM holds WHERE number = ?", (read_number(ended.id, "h"),))
            number = self._store.insert(_INSERT, values)
            return self._read(number)[0]

    def list_in_force(self, now: Moment, router: RouterKey | None = None) -> list[Hold]:
        """The holds that count now, oldest first; of one router, or of all."""
        where, values = (f"AND {OF_ROUTER}", (router.key, router.label)) if router is not None else ("", ())
        query = f"SELECT * FROM holds WHERE released_wall IS NULL {where} ORDER BY number"
        return [hold for hold in self._store.read_each(read_hold, query, values) if is_in_force(hold, now)]

    def find(self, hold_id: str) -> Hold | None:
        """The hold with this id, in force or not; None when there is none, or no longer."""
        number = read_number(hold_id, "h")
        return next(iter(self._read(number)), None) if number is not None else None

    def release(self, hold_id: str, now: Moment) -> bool:
        """End a hold; False when there was nothing to end."""
        with self._store.transaction():
            hold = self.find(hold_id)
            if hold is None or not is_in_force(hold, now):
                return False
            self._end(hold, now)
        return True

    def release_models(self, hold_id: str, models: Collection[str], now: Moment) -> Hold | None:
        """Take models out of a hold, and end it when none is left; returns what it is now, None when it had ended."""
        with self._store.transaction():
            hold = self.find(hold_id)
            if hold is None or not is_in_force(hold, now):
                return None
            excepted = tuple(dict.fromkeys((*hold.excepted, *models)))
            number = read_number(hold.id, "h")
            self._store.execute("UPDATE holds SET excepted = ? WHERE number = ?", (write_models(excepted), number))
            if hold.models is not None and set(hold.models) <= set(excepted):
                self._end(hold, now)
            return self.find(hold_id)

    def set_enforcer(self, hold_id: str, enforcer: Actor | None) -> None:
        """Say which process sees to a hold now."""
        self._store.execute(
            "UPDATE holds SET enforcer_pid = ?, enforcer_started = ?, enforcer_boot_id = ? WHERE number = ?",
            (*write_actor(enforcer), read_number(hold_id, "h")),
        )

    def set_unloaded(self, hold_id: str, models: Sequence[str]) -> None:
        """Remember what was unloaded for a hold, in order."""
        self._store.execute(
            "UPDATE holds SET unloaded = ? WHERE number = ?",
            (write_models(tuple(models)), read_number(hold_id, "h")),
        )

    def _read(self, number: int) -> list[Hold]:
        return self._store.read_each(read_hold, "SELECT * FROM holds WHERE number = ?", (number,))

    def _list_ended(self, now: Moment) -> list[Hold]:
        holds = self._store.read_each(read_hold, "SELECT * FROM holds")
        return [hold for hold in holds if not is_in_force(hold, now)]

    def _end(self, hold: Hold, now: Moment) -> None:
        number = read_number(hold.id, "h")
        self._store.execute("UPDATE holds SET released_wall = ? WHERE number = ?", (now.wall, number))


_INSERT = """
INSERT INTO holds (router, label, user, host, created_wall, created_boot, boot_id, duration_s, models, excepted, reason,
enforcer_pid, enforcer_started, enforcer_boot_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
