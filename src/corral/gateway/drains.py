"""Drains through the gateway: new requests stop at the door, those inside end, then unload and verify.

What is in flight is known exactly for all that came through the gateway; what bypasses it the unload itself looks
for, on the machine's connections or by asking the child, as a direct ``corral unload`` does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from time import monotonic

from corral.client.aio import AsyncRouter
from corral.gateway.gate import Gate
from corral.gateway.tasks import Tasks
from corral.ops import Outcome, Selection, Unload, UnloadReport
from corral.ops import outcome as words
from corral.ops.admission import Closure
from corral.ops.promises import Owner
from corral.wire import DEFAULT_STOP_TIMEOUT_S, CorralError, Record, show_name

SLACK_S = 5.0
"""What a parked request is granted beyond grace and stop-timeout."""
PARK_GRACE_S = 30.0
"""A drain may have all the time in the world; requests are kept waiting for it as if it had this at most."""
CANCELLED = "cancelled"
"""The outcome of a drain that somebody called off."""


class Order(Record):
    """What is asked for."""

    owner: Owner
    command: str
    """For the log, such as ``unload``."""
    grace_s: float
    force: bool = False
    """When the grace is over, unload all the same and cut what is in flight."""
    parks: bool = True
    """Requests that come meanwhile wait; else they are refused at once."""


class Drain:
    """One model on its way out."""

    def __init__(self, model: str, order: Order, stop_timeout_s: float, now: float) -> None:
        self.model, self.order = model, order
        self.began_at = now
        self.grace_ends_at = now + order.grace_s
        self.is_forced = order.force
        self.is_cancelled = False
        self.is_stopping = False
        """Whether the router has been, or is just being, asked."""
        self.result: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        park_s = min(order.grace_s, PARK_GRACE_S) + stop_timeout_s + SLACK_S if order.parks else 0.0
        ends_at = self.grace_ends_at + stop_timeout_s + SLACK_S
        self.closure = Closure(order.owner.label, "is being unloaded", ends_at, park_s)

    def is_due(self, in_flight: int, now: float) -> bool:
        """Whether it waits no longer for what is in flight."""
        return in_flight == 0 or now >= self.grace_ends_at or self.is_cancelled


class Drains:
    """All drains of one router; a model has one at a time, and who asks again joins it."""

    def __init__(
        self,
        router: AsyncRouter,
        gate: Gate,
        on_done: Callable[[Drain, Outcome], None],
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._router, self._gate, self._on_done, self._clock = router, gate, on_done, clock
        self._drains: dict[str, Drain] = {}
        self._tasks = Tasks()
        self._changed = asyncio.Event()
        gate.subscribe(self._changed.set)

    def find(self, model: str) -> Drain | None:
        """The drain of a model; None when it has none."""
        return self._drains.get(model)

    def begin(self, models: Sequence[tuple[str, float]], order: Order) -> list[Drain]:
        """Begin to drain models, given with their stop-timeouts; one that is drained already is joined."""
        now = self._clock()
        fresh = []
        for model, stop_timeout_s in models:
            running = self._drains.get(model)
            if running is None:
                drain = self._drains[model] = Drain(model, order, stop_timeout_s, now)
                self._gate.close(model, drain.closure)
                fresh.append(drain)
            elif order.force:
                running.is_forced = True
                running.grace_ends_at = min(running.grace_ends_at, now + order.grace_s)
        if fresh:
            self._tasks.start(self._drain(fresh))
        self._changed.set()
        return [self._drains[model] for model, _ in models]

    def cancel(self, model: str) -> bool:
        """Call a drain off, as long as the router was not asked; False when there is none, or it is too late."""
        drain = self._drains.get(model)
        if drain is None or drain.is_stopping:
            return False
        drain.is_cancelled = True
        self._changed.set()
        return True

    async def close(self) -> None:
        """End all drains; the router goes on with what it was asked."""
        await self._tasks.close()

    async def _drain(self, drains: list[Drain]) -> None:
        """Unload each when its turn comes, those whose turn comes together with one verb."""
        waiting = list(drains)
        try:
            while waiting:
                now = self._clock()
                due = [drain for drain in waiting if drain.is_due(self._gate.door.count_in_flight(drain.model), now)]
                waiting = [drain for drain in waiting if drain not in due]
                going = [drain for drain in due if not self._give_up(drain)]
                self._go(going)
                if waiting:
                    await self._wait(min(drain.grace_ends_at for drain in waiting))
        finally:
            for drain in waiting:
                self._conclude(drain, Outcome(drain.model, words.NOT_REQUESTED, None, detail=_STOPPED))

    def _give_up(self, drain: Drain) -> bool:
        """Whether a drain ends without an unload: called off, or still busy."""
        in_flight = self._gate.door.count_in_flight(drain.model)
        if drain.is_cancelled:
            outcome = Outcome(drain.model, CANCELLED, None, detail="it was called off", in_flight=in_flight)
        elif in_flight and not drain.is_forced:
            outcome = _tell_busy(drain.model, in_flight)
        else:
            return False
        self._conclude(drain, outcome)
        return True

    async def _wait(self, until: float) -> None:
        self._changed.clear()
        try:
            async with asyncio.timeout(max(0.0, until - self._clock())):
                await self._changed.wait()
        except TimeoutError:
            return

    def _go(self, drains: list[Drain]) -> None:
        """Ask the router for those that are idle with what is left of their grace, for the others at once."""
        for drain in drains:
            drain.is_stopping = True
        busy = [drain for drain in drains if self._gate.door.count_in_flight(drain.model)]
        idle = [drain for drain in drains if drain not in busy]
        if busy:
            self._tasks.start(self._unload(busy, 0.0, True))
        if idle:
            left_s = max(drain.grace_ends_at for drain in idle) - self._clock()
            self._tasks.start(self._unload(idle, max(0.0, left_s), all(drain.is_forced for drain in idle)))

    async def _unload(self, drains: list[Drain], grace_s: float, force: bool) -> None:
        cut = {drain.model: self._gate.door.count_in_flight(drain.model) for drain in drains}
        outcomes: dict[str, Outcome] = {}
        try:
            outcomes = await run_unload(self._router, [drain.model for drain in drains], grace_s, force)
        except CorralError as error:
            outcomes = {
                drain.model: Outcome(drain.model, words.UNREACHABLE, None, detail=error.message, error=error)
                for drain in drains
            }
        finally:
            for drain in drains:
                stopped = Outcome(drain.model, words.REQUESTED, None, detail=_STOPPED)
                self._conclude(drain, _count_cut(outcomes.get(drain.model, stopped), cut[drain.model]))

    def _conclude(self, drain: Drain, outcome: Outcome) -> None:
        if self._drains.get(drain.model) is drain:
            del self._drains[drain.model]
        if outcome.outcome in (words.UNLOADED, words.NOT_SEEN_FREE):
            self._gate.hear(drain.model, "unloaded", self._clock())
        self._gate.reopen(drain.model, drain.closure)
        if not drain.result.done():
            drain.result.set_result(outcome)
        self._on_done(drain, outcome)


async def run_unload(router: AsyncRouter, models: Sequence[str], grace_s: float, force: bool) -> dict[str, Outcome]:
    """Unload models of which nothing that came through the gateway is in flight. Raises CorralError."""
    outcomes = await _run_verb(router, models, grace_s, force)
    unseen = [model for model, outcome in outcomes.items() if outcome.outcome == words.WORK_UNSEEN]
    # Nothing shows what may bypass the gateway: then its own knowledge has to do.
    return outcomes | await _run_verb(router, unseen, 0.0, True) if unseen else outcomes


async def _run_verb(router: AsyncRouter, models: Sequence[str], grace_s: float, force: bool) -> dict[str, Outcome]:
    report: UnloadReport = await router.run(Unload(Selection(tuple(models)), grace_s=grace_s, force=force))
    outcomes = {outcome.model: outcome for outcome in report.outcomes}
    if report.error is None:
        return outcomes
    lost = [outcome for outcome in report.outcomes if outcome.outcome in (words.NOT_SEEN_UNLOADED, words.NOT_REQUESTED)]
    return outcomes | {
        outcome.model: Outcome(
            outcome.model, words.UNREACHABLE, outcome.status, detail=report.error.message, error=report.error
        )
        for outcome in lost
    }


def _tell_busy(model: str, in_flight: int) -> Outcome:
    count = f"{in_flight} request{'s' if in_flight > 1 else ''}"
    detail = f"{count} in flight when the grace period ended; nothing was cut"
    return Outcome(model, words.STILL_BUSY, "loaded", detail=detail, in_flight=in_flight)


def _count_cut(outcome: Outcome, through_us: int) -> Outcome:
    """With what the gateway knows of the requests that a forced unload cut, where the machine shows less."""
    if not through_us or outcome.outcome not in (words.UNLOADED, words.NOT_SEEN_FREE, words.CAME_BACK):
        return outcome
    fields = {name: getattr(outcome, name) for name in Outcome._fields}
    cut = max(through_us, outcome.cut or 0)
    fields |= {"cut": cut, "detail": outcome.detail or f"{cut} {'request was' if cut == 1 else 'requests were'} cut"}
    return Outcome(**fields)


_STOPPED = "the gateway was stopped"


def find_stop_timeout(stop_timeout_s: float | None) -> float:
    """A model's stop-timeout, or the router's own default where it is not listed."""
    return DEFAULT_STOP_TIMEOUT_S if stop_timeout_s is None else stop_timeout_s


def explain_busy(drain: Drain, in_flight: int) -> str:
    """What an Eject is told that could not be done in time."""
    if in_flight:
        return f"still busy: {in_flight} request{'' if in_flight == 1 else 's'}"
    return f"{show_name(drain.model)} is still stopping"
