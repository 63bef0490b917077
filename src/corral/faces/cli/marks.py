"""What is promised about models, as marks beside their names: PINNED, HELD. One stat where there is no ledger."""

from __future__ import annotations

from os import environ

from corral.ledger import has_ledger
from corral.wire import CorralError, Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.faces.cli.console import Console
    from corral.ops.promises import Hold, Moment, Promises

_HELD = {True: "HELD", False: "HELD (not enforced)", None: "HELD (elsewhere)"}


class Held(Record):
    """A hold in force, and whether somebody sees to it (None: on another machine)."""

    hold: Hold
    is_enforced: bool | None
    left_s: float


class Marks(Record):
    """The promises about one router."""

    pinned: frozenset[str] | None = frozenset()
    """None when the ledger cannot be read."""
    holds: tuple[Held, ...] = ()
    """Those that last longest first."""

    def show(self, model_id: str) -> str:
        """The marks of a model, for people; empty when there are none."""
        held = self._find_hold(model_id)
        pinned = ["PINNED"] if model_id in (self.pinned or ()) else []
        return ", ".join([*pinned, _HELD[held.is_enforced]] if held is not None else pinned)

    def describe(self, model_id: str) -> dict[str, Any]:
        """The marks of a model for ``--json``; None is not known."""
        if self.pinned is None:
            return {"pinned": None, "held": None, "hold": None, "hold_enforced": None}
        held = self._find_hold(model_id)
        return {
            "pinned": model_id in self.pinned,
            "held": held is not None,
            "hold": None if held is None else held.hold.id,
            "hold_enforced": None if held is None else held.is_enforced,
        }

    def _find_hold(self, model_id: str) -> Held | None:
        return next((held for held in self.holds if held.hold.covers(model_id)), None)


def read_marks(url: str, console: Console) -> Marks:
    """What the ledger promises about the models of a router; a ledger that cannot be read is told on stderr."""
    from corral.ledger import find_folder

    try:
        folder = find_folder(environ)
    except CorralError:
        # Without a place for a ledger there is none.
        return Marks()
    if not has_ledger(folder):
        return Marks()
    try:
        from corral.client import identify
        from corral.ledger import read_moment, read_promises

        now = read_moment()
        promises = read_promises(folder, now).select(identify(url))
    except CorralError as error:
        console.say(f"What is pinned or held is not known: {error.message} {error.hint}")
        return Marks(None)
    return Marks(frozenset(pin.model for pin in promises.pins), _find_holds(promises, now))


def _find_holds(promises: Promises, now: Moment) -> tuple[Held, ...]:
    if not promises.holds:
        return ()
    from corral.machine import read_process
    from corral.ops.promises import count_left, is_enforced

    seen = [read_process(hold.enforcer.process.pid) for hold in promises.holds if hold.enforcer is not None]
    living = [process for process in seen if process is not None]
    held = [Held(hold, is_enforced(hold, now, living), count_left(hold, now)) for hold in promises.holds]
    return tuple(sorted(held, key=lambda one: -one.left_s))
