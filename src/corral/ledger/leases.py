"""The ledger's leases: what a ``corral run`` took away and owes back.

While any is open there is a file beside the ledger (``place.OPEN_LEASES``), so that every command can tell with one
stat that nothing is owed. It is made before the first lease is in the ledger and removed after the last has ended,
both under the write lock; so after a crash it may be there in vain, but never be missing.
"""

from __future__ import annotations

import os
from contextlib import suppress

from corral.ledger.errors import LedgerError, explain_os
from corral.ledger.place import OPEN_LEASES
from corral.ledger.rows import OF_ROUTER, read_lease, read_number, write_actor, write_models
from corral.ops.promises import RESTORING, SAVED, STEPS, Actor, Hold, Lease, Moment, Owner, RouterKey

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.ledger.store import Store

_KEPT = 100
"""So many leases that are over are remembered."""


class Leases:
    """What is owed. Each method is one transaction, or one look."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._mark = os.path.join(os.path.dirname(store.path), OPEN_LEASES)

    def begin(
        self,
        router: RouterKey,
        models: tuple[str, ...],
        *,
        owner: Owner,
        corral: Actor,
        now: Moment,
        restores: bool = True,
    ) -> Lease:
        """Write down what is resident, before anything is touched; the lease is at step ``saved``."""
        values = (
            *(router.key, router.label, owner.user, owner.host, now.wall, now.boot_s, now.boot_id),
            *(SAVED, write_models(models), "[]", int(restores)),
            *write_actor(corral),
        )
        with self._store.transaction():
            self._store.execute(
                "DELETE FROM leases WHERE ended_wall IS NOT NULL AND number <= (SELECT max(number) FROM leases) - ?",
                (_KEPT,),
            )
            lease = self._read(self._store.insert(_INSERT, values))[0]
            self._make_mark()
        return lease

    def advance(
        self,
        lease_id: str,
        step: str,
        *,
        hold: str | None = None,
        unloaded: tuple[str, ...] | None = None,
        models: tuple[str, ...] | None = None,
        command: Actor | None = None,
    ) -> Lease | None:
        """Write down the next step before it is done, and what is known by then; None keeps what was.

        Returns the lease as it is now; None when it is over or was never there: somebody else has dealt with it.
        """
        assert step in STEPS, step
        changes: dict[str, object] = {"step": step}
        if hold is not None:
            changes["hold"] = hold
        if unloaded is not None:
            changes["unloaded"] = write_models(unloaded)
        if models is not None:
            changes["models"] = write_models(models)
        if command is not None:
            names = ("command_pid", "command_started", "command_boot_id")
            changes.update(zip(names, write_actor(command), strict=True))
        number = read_number(lease_id, "r")
        sets = ", ".join(f"{name} = ?" for name in changes)
        with self._store.transaction():
            changed = self._store.execute(
                f"UPDATE leases SET {sets} WHERE number = ? AND ended_wall IS NULL", (*changes.values(), number)
            )
            return self._read(number)[0] if changed and number is not None else None

    def hand_over(self, models: tuple[str, ...], hold_id: str) -> Lease | None:
        """Let the lease that has this hold put these models back as well, after its own.

        Returns it as it is now; None where no lease has it, or one that puts nothing back, or has begun to.
        """
        with self._store.transaction():
            found = next((lease for lease in self.list_open() if lease.hold == hold_id), None)
            if found is None or not found.restores or found.step == RESTORING:
                return None
            return self._add(found, models)

    def take_over(self, lease_id: str, hold: Hold) -> Lease | None:
        """Let a lease whose hold has just begun put back, too, what others are putting back and the hold covers.

        What they have not loaded yet they will leave away, and what they have is unloaded by whoever has the hold.
        Returns the lease as it is now; None when it is over.
        """
        with self._store.transaction():
            lease = self.find(lease_id)
            if lease is None or lease.ended_wall is not None:
                return None
            others = [each for each in self.list_open(lease.router) if each.step == RESTORING and each.id != lease_id]
            owed = (model for each in others if each.restores for model in each.models if hold.covers(model))
            return self._add(lease, tuple(owed))

    def _add(self, lease: Lease, models: tuple[str, ...]) -> Lease:
        """Put these behind what a lease has to put back."""
        together, gone = (tuple(dict.fromkeys((*old, *models))) for old in (lease.models, lease.unloaded))
        values = (write_models(together), write_models(gone), read_number(lease.id, "r"))
        self._store.execute("UPDATE leases SET models = ?, unloaded = ? WHERE number = ?", values)
        return self._read(read_number(lease.id, "r"))[0]

    def claim(self, lease: Lease, corral: Actor) -> Lease | None:
        """Make this process responsible for a lease that was left behind.

        Returns it as it is now; None when it is over, or when another process was quicker.
        """
        number = read_number(lease.id, "r")
        with self._store.transaction():
            changed = self._store.execute(
                "UPDATE leases SET corral_pid = ?, corral_started = ?, corral_boot_id = ? WHERE number = ? "
                "AND ended_wall IS NULL AND corral_pid = ? AND corral_started = ? AND corral_boot_id = ?",
                (*write_actor(corral), number, *write_actor(lease.corral)),
            )
            return self._read(number)[0] if changed and number is not None else None

    def end(self, lease_id: str, wall: float) -> bool:
        """Nothing is owed any more; False when the lease was over already."""
        number = read_number(lease_id, "r")
        changed = self._store.execute(
            "UPDATE leases SET ended_wall = ? WHERE number = ? AND ended_wall IS NULL", (wall, number)
        )
        with suppress(LedgerError):
            # It is over all the same.
            self.tidy()
        return changed > 0

    def tidy(self) -> None:
        """Remove the mark where no lease is open."""
        with self._store.transaction():
            if not self.list_open():
                # One that cannot be removed is a stat in vain for every command, and no more.
                with suppress(OSError):
                    os.unlink(self._mark)

    def find(self, lease_id: str) -> Lease | None:
        """The lease with this id, over or not; None when there is none, or no longer."""
        number = read_number(lease_id, "r")
        return next(iter(self._read(number)), None) if number is not None else None

    def list_open(self, router: RouterKey | None = None) -> list[Lease]:
        """The leases that are not over, oldest first; of one router, or of all."""
        where, values = (f"AND {OF_ROUTER}", (router.key, router.label)) if router is not None else ("", ())
        query = f"SELECT * FROM leases WHERE ended_wall IS NULL {where} ORDER BY number"
        return self._store.read_each(read_lease, query, values)

    def _make_mark(self) -> None:
        try:
            os.close(os.open(self._mark, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise explain_os(self._mark, error, "made") from None

    def _read(self, number: int | None) -> list[Lease]:
        return self._store.read_each(read_lease, "SELECT * FROM leases WHERE number = ?", (number,))


_INSERT = """
INSERT INTO leases (router, label, user, host, created_wall, created_boot, boot_id, step, models, unloaded, restores,
corral_pid, corral_started, corral_boot_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
