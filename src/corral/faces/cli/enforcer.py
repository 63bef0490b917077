"""A hold that this process sees to: written to the ledger, watched there, and ended there.

The ledger tells others, and they end it there (``corral release``). Where it can't be written, there is a warning and
a hold all the same. Time is counted as the ledger counts it, so that neither a clock that jumps nor a machine that
slept makes the hold longer.
"""

from __future__ import annotations

from os import environ
from queue import SimpleQueue
from threading import Event, Thread

from corral.client import identify
from corral.faces.cli.records import open_ledger
from corral.ledger import Ledger, LedgerError, find_folder, read_moment, read_owner
from corral.machine import read_process
from corral.ops import Ended, LetOut, Outranked
from corral.ops.guard_facts import EXPIRED, RELEASED
from corral.ops.promises import Actor, Hold, count_left, list_elders

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from corral.ops.protocol import Input

POLL_S = 0.1
"""How often the ledger is asked whether it has changed; shorter than a guard leaves alone what has just come up."""
HEARD_S = 0.4
"""So soon the verb has heard that the hold is over, unless it waits for a router that does not answer."""


def _do_nothing() -> None:
    return None


class Enforcer:
    """One hold and the thread that watches over it; close it, whatever happens.

    ``inbox`` is for the verb that does the work: it gets Ended and LetOut.
    """

    def __init__(self, hold: Hold, *, is_recorded: bool) -> None:
        self.break_off: Callable[[], None] = _do_nothing
        """Ends a call to the router that takes its time while the hold is over already; called by the thread."""
        self.hold = hold
        self.is_recorded = is_recorded
        """Whether the ledger knows it."""
        self.ended = ""
        """Why it is over: ``released`` or ``expired``; empty while it lasts."""
        self.elders: tuple[Hold, ...] = ()
        """Older holds that others see to."""
        self.trouble: LedgerError | None = None
        """Why it could not be written to the ledger, or ended there."""
        self.inbox: SimpleQueue[Input] = SimpleQueue()
        self._is_over = Event()
        self._thread = Thread(target=self._watch, daemon=True)
        self._thread.start()

    @property
    def name(self) -> str:
        """What it is called by: its id, where the ledger gave it one."""
        return self.hold.id if self.is_recorded else ""

    def remember(self, unloaded: list[str]) -> None:
        """What was unloaded for it, to be loaded again by ``corral release --restore``."""
        if not (self.is_recorded and unloaded):
            return
        try:
            with open_ledger() as ledger:
                ledger.holds.set_unloaded(self.hold.id, unloaded)
        except LedgerError as error:
            self.trouble = error

    def close(self) -> bool:
        """Stop watching, and end the hold if nothing else has; returns whether that was to be done, and is."""
        self._is_over.set()
        self._thread.join()
        if not self.is_recorded:
            return False
        try:
            with open_ledger() as ledger:
                is_released = ledger.holds.release(self.hold.id, read_moment())
                ledger.holds.set_enforcer(self.hold.id, None)
                return is_released
        except LedgerError as error:
            self.trouble = error
            return False

    def count_left(self) -> float:
        """Seconds until it ends by itself."""
        return count_left(self.hold, read_moment())

    def _watch(self) -> None:
        view = _View(self.hold) if self.is_recorded else None
        while not self._is_over.wait(POLL_S):
            if self.count_left() <= 0:
                self._end(EXPIRED)
            elif view is not None:
                if view.read():
                    self._follow(view.hold)
                self._see_elders(view.others)
            if self.ended:
                break
        if view is not None:
            view.close()
        while self.ended and not self._is_over.wait(HEARD_S):
            self.break_off()

    def _follow(self, found: Hold | None) -> None:
        """Do what the ledger says now; None is a hold that ended, and that the next one to begin has swept away."""
        if found is None or found.created != self.hold.created or found.released_wall is not None:
            self._end(RELEASED)
            return
        let_out = tuple(model for model in found.excepted if model not in self.hold.excepted)
        if let_out:
            self.hold = found
            self.inbox.put(LetOut(let_out))

    def _see_elders(self, others: Sequence[Hold]) -> None:
        """Whose turn it is where several hold the same: a process may end without a word in the ledger."""
        elders = find_elders(self.hold, others)
        if elders != self.elders:
            self.elders = elders
            self.inbox.put(Outranked(elders))

    def _end(self, why: str) -> None:
        self.ended = why
        self.inbox.put(Ended(why))


def find_elders(hold: Hold, others: Sequence[Hold]) -> tuple[Hold, ...]:
    """Of these holds the older ones that a living process sees to."""
    if all(other.id == hold.id for other in others):
        return ()
    seen = [read_process(other.enforcer.process.pid) for other in others if other.enforcer is not None]
    return list_elders(hold, others, read_moment(), [process for process in seen if process is not None])


class _View:
    """A hold as the ledger has it, for one thread."""

    def __init__(self, hold: Hold) -> None:
        self.hold: Hold | None = hold
        self.others: Sequence[Hold] = ()
        """All holds of its router."""
        self._router = hold.router
        self._id = hold.id
        self._ledger: Ledger | None = None
        self._is_due = True

    def read(self) -> bool:
        """Read it if the ledger has changed; whether that was so. What can't be read is read the next time."""
        try:
            if self._ledger is None:
                self._ledger = Ledger.look(find_folder(environ))
            if self._ledger.changed():
                self._is_due = True
            if self._is_due:
                self.hold = self._ledger.holds.find(self._id)
                self.others = self._ledger.holds.list_in_force(read_moment(), self._router)
                self._is_due = False
                return True
        except LedgerError:
            self._is_due = True
            self.close()
        return False

    def close(self) -> None:
        """Close the ledger."""
        if self._ledger is not None:
            self._ledger.close()
            self._ledger = None


def begin(
    url: str, models: tuple[str, ...] | None, excepted: tuple[str, ...], duration_s: float, reason: str
) -> Enforcer:
    """Begin a hold that this process sees to, in the ledger if that can be written."""
    key, owner, now = identify(url), read_owner(environ), read_moment()
    process = read_process()
    enforcer = None if process is None else Actor(process, now.boot_id)
    try:
        with open_ledger() as ledger:
            hold = ledger.holds.add(
                key,
                models,
                owner=owner,
                duration_s=duration_s,
                now=now,
                reason=reason,
                excepted=excepted,
                enforcer=enforcer,
            )
        return Enforcer(hold, is_recorded=True)
    except LedgerError as error:
        hold = Hold("", key, models, owner, now, duration_s, reason, excepted, enforcer)
        unrecorded = Enforcer(hold, is_recorded=False)
        unrecorded.trouble = error
        return unrecorded
