"""A guard at work beside something else: it keeps models away in a thread of its own, on a connection of its own."""

from __future__ import annotations

import time
from queue import SimpleQueue
from threading import Event as Flag
from threading import Thread

from corral.ops import Ended, LetOut, Outranked, Requested, Selection
from corral.ops.guard import Guard
from corral.ops.guard_facts import RELEASED, CameUp, NotMoved, WentAgain, WorkUnseen
from corral.wire import BadArgumentError, CorralError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from corral.client import Router
    from corral.faces.cli.lease import Cover
    from corral.ops.promises import Hold
    from corral.ops.protocol import Input

_PAUSE_S = 1.0
_PATIENCE_S = 5.0


class GuardThread:
    """Keeps away what a hold covers, until it is stopped or its time is up.

    A router that does not answer at first is tried again: whoever uses what was freed is not disturbed.
    """

    def __init__(
        self,
        open_router: Callable[[], Router],
        cover: Cover,
        duration_s: float,
        *,
        grace_s: float | None = None,
        force: bool = False,
    ) -> None:
        names = cover.models or ()
        self._grace_s, self._force = grace_s, force
        self._selection = Selection(names, cover.models is None, excepted=cover.excepted)
        self._open_router = open_router
        self._until = time.monotonic() + duration_s
        self._inbox: SimpleQueue[Input] = SimpleQueue()
        self._is_over = Flag()
        self._router: Router | None = None
        self._elders: tuple[Hold, ...] = ()
        self._thread = Thread(target=self._run, name="corral-guard", daemon=True)
        self.loads: dict[str, int] = {}
        """How often each held model came up."""
        self.stopping: set[str] = set()
        """Models that were asked to unload and were not yet seen to be gone."""
        self.unseen: set[str] = set()
        """Models that came up and stay, because whether they are answering can't be seen."""

    def start(self) -> None:
        """Begin to keep models away, those included that are resident by now."""
        self._thread.start()

    def let_out(self, models: tuple[str, ...]) -> None:
        """These are not held any more."""
        self._inbox.put(LetOut(models))

    def leave_to(self, elders: tuple[Hold, ...]) -> None:
        """What comes up of these older holds is left to whoever sees to them."""
        if elders != self._elders:
            self._elders = elders
            self._inbox.put(Outranked(elders))

    def stop(self) -> None:
        """End it; when this returns it asks nothing more of the router."""
        self._is_over.set()
        self._inbox.put(Ended(RELEASED))
        if self._thread.ident is None:
            return
        self._thread.join(_PATIENCE_S)
        if self._thread.is_alive() and self._router is not None:
            self._router.break_off()
            self._thread.join(_PATIENCE_S)

    def _run(self) -> None:
        while not self._is_over.is_set() and time.monotonic() < self._until:
            try:
                with self._open_router() as self._router:
                    guard = Guard(
                        self._selection,
                        until=self._until,
                        takes_residents=True,
                        grace_s=self._grace_s,
                        force=self._force,
                    )
                    self._inbox.put(Outranked(self._elders))
                    self._router.run(guard, self._hear, self._inbox)
                    return
            except BadArgumentError:
                # What it was to keep away is not in the router's list any more.
                return
            except CorralError:
                self._is_over.wait(_PAUSE_S)

    def _hear(self, fact: object) -> None:
        if isinstance(fact, CameUp):
            self.loads[fact.model] = self.loads.get(fact.model, 0) + 1
        elif isinstance(fact, Requested):
            self.stopping.add(fact.model)
        elif isinstance(fact, WentAgain | NotMoved):
            self.stopping.discard(fact.model)
        elif isinstance(fact, WorkUnseen):
            self.unseen.add(fact.model)
