"""The door in an event loop: parked requests are futures, its timer is the loop's, its loads are somebody's tasks.

The one owner of the Door: whoever sees something of the router, or changes a promise, tells it here, and what the
door asks for in return is done before the call returns.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from time import monotonic
from typing import Protocol

from corral.gateway.admission import Pass, Refusal
from corral.gateway.visits import Visit
from corral.ops import admission
from corral.ops.admission import Admit, Closure, Effect, Held, MakeRoom, Refuse, Request, StartLoad
from corral.ops.door import Door
from corral.wire import Listing, attribution

_KINDS = {
    attribution.WORK: admission.WORK,
    attribution.STREAM: admission.STREAM,
    attribution.LOOK: admission.PROBE,
}


_MOST_TRIES = 6
_PAUSE_S = 0.02


class Hand(Protocol):
    """Does what the door cannot do itself."""

    def begin_load(self, model: str) -> None:
        """Load a model in a task of its own, and tell ``Gate.answer_load``."""
        ...

    def begin_room(self, victim: str, wanted: str) -> None:
        """Unload a model, if it is idle, in a task of its own, and tell ``Gate.answer_room``."""
        ...


class _Ticket:
    """One request between its question and its answer."""

    __slots__ = ("answer", "future", "is_resuming", "model")

    def __init__(self, model: str | None) -> None:
        self.model = model
        self.answer: Pass | Refusal | None = None
        self.future: asyncio.Future[Pass | Refusal] | None = None
        self.is_resuming = False


class Gate:
    """Asks the door about each request, and keeps those waiting that it does not let on yet."""

    def __init__(self, door: Door, clock: Callable[[], float] = monotonic) -> None:
        self.door = door
        self.hand: Hand | None = None
        self._clock = clock
        self._tickets: dict[int, _Ticket] = {}
        self._resuming: Counter[str | None] = Counter()
        """How many were let on that have not come to know it yet."""
        self._models: dict[int, str | None] = {}
        """Of each request that is inside or waits, the model that it was let in for."""
        self._names: dict[str, str] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._callbacks: list[Callable[[], None]] = []
        self._told = False
        # Numbers of our own for the operator's loads, apart from those of the visits.
        self._numbers = count(-1, -1)
        self.look: Callable[[], Awaitable[None]] | None = None
        """Reads the router's list anew."""
        self._tries: Counter[int] = Counter()

    def subscribe(self, callback: Callable[[], None]) -> None:
        """Call back, once a round of the loop, after anything has changed."""
        self._callbacks.append(callback)

    def resolve(self, name: str) -> str | None:
        """The id of the model with this id or alias, by the newest list; None when there is none."""
        return self._names.get(name)

    async def admit(self, visit: Visit) -> Pass | Refusal:
        """Let a request through, keep it waiting until it may go on, or refuse it."""
        if visit.route.kind == attribution.LIST:
            # The router answers these itself: they load nothing.
            return Pass()
        kind = _KINDS.get(visit.route.kind, admission.CONTROL)
        label = visit.key_label or visit.client
        is_task = bool(visit.task)
        return await self._ask(Request(visit.id, visit.model, kind, visit.size, visit.autoload, is_task, label))

    async def reconsider(self, visit: Visit) -> Pass | Refusal | None:
        """Ask anew for a request that the router turned away unheard; None when that is the answer for its client.

        What was known of the model was not true any more, or the router itself pushed it out in that moment.
        """
        autoload = self.door.autoloads if visit.autoload is None else visit.autoload
        tries = self._tries[visit.id]
        if visit.model is None or not autoload or tries >= _MOST_TRIES:
            return None
        self._tries[visit.id] = tries + 1
        self.forget(visit.id)
        await asyncio.sleep(_PAUSE_S * (2**tries - 1))
        if self.look is not None:
            await self.look()
        return await self.admit(visit)

    def leave(self, visit: Visit) -> None:
        """The request is over; one that was refused or has left already is nobody's business any more."""
        self._tries.pop(visit.id, None)
        self.forget(visit.id)

    def forget(self, number: int) -> None:
        """A request is over for certain."""
        if number in self._models:
            self._do(self.door.leave(number, self._models.pop(number), self._clock()))

    @contextmanager
    def loading(self, model: str) -> Iterator[None]:
        """Within this, a load is asked of the router directly."""
        number = next(self._numbers)
        self._models[number] = model
        self.door.enter(number, model, self._clock())
        try:
            yield
        finally:
            self.forget(number)

    def stop(self) -> None:
        """The gateway stops: who waits is refused, and nobody waits any more."""
        self._do(self.door.shut())

    async def admit_load(self, model: str) -> Refusal | None:
        """Return when an operator's load is done; what stands in its way is the refusal."""
        number = next(self._numbers)
        try:
            answer = await self._ask(Request(number, model, admission.LOAD))
        finally:
            self.forget(number)
        return answer if isinstance(answer, Refusal) else None

    async def _ask(self, request: Request) -> Pass | Refusal:
        ticket = self._tickets[request.id] = _Ticket(request.model)
        self._models[request.id] = request.model
        self._do(self.door.arrive(request, self._clock()))
        try:
            if ticket.answer is None:
                ticket.future = asyncio.get_running_loop().create_future()
                return await ticket.future
            if self._resuming[request.model]:
                # Those who waited were let on in this round of the loop, and go on in the next.
                self._resume(ticket)
                await asyncio.sleep(0)
            return ticket.answer
        finally:
            del self._tickets[request.id]
            if ticket.is_resuming:
                self._resuming[request.model] -= 1

    # What is seen and promised.

    def see(self, listing: Listing, asked_at: float) -> None:
        """The router's list, asked for at ``asked_at``."""
        self._names = {alias: model.id for model in reversed(listing.models) for alias in model.aliases}
        self._names |= {model.id: model.id for model in listing.models}
        self._do(self.door.see(listing, asked_at, self._clock()))

    def hear(self, model: str, status: str, at: float) -> None:
        """A model has a status since ``at``."""
        self._do(self.door.hear(model, status, at, self._clock()))

    def lose(self) -> None:
        """The router does not answer."""
        self._do(self.door.lose(self._clock()))

    def promise(self, holds: Sequence[Held], pinned: Collection[str]) -> None:
        """These holds and pins are in force now."""
        self._do(self.door.promise(holds, pinned, self._clock()))

    def list_holds(self) -> tuple[str, ...]:
        """The ids of the holds in force."""
        holds = self.door.holds
        return tuple(held.hold.id for held in holds if held.ends_at > self._clock()) if holds else ()

    def close(self, model: str, closure: Closure) -> None:
        """A drain begins."""
        self._do(self.door.close(model, closure, self._clock()))

    def reopen(self, model: str, closure: Closure) -> None:
        """A drain is over."""
        self._do(self.door.reopen(model, closure, self._clock()))

    def answer_load(self, model: str, failure: str) -> None:
        """A load is over; ``failure`` is empty when the model is up."""
        self._do(self.door.answer_load(model, failure, self._clock()))

    def answer_room(self, victim: str, *, is_gone: bool) -> None:
        """Making room is over."""
        self._do(self.door.answer_room(victim, is_gone, self._clock()))

    def _do(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Admit):
                self._settle(effect.id, Pass(effect.autoload))
            elif isinstance(effect, Refuse):
                self._models.pop(effect.id, None)
                self._settle(effect.id, _translate(effect.refusal))
            elif isinstance(effect, StartLoad):
                assert self.hand is not None, "a gate that loads has a hand"
                self.hand.begin_load(effect.model)
            elif isinstance(effect, MakeRoom):
                assert self.hand is not None, "a gate that loads has a hand"
                self.hand.begin_room(effect.victim, effect.wanted)
            else:
                self._wake(effect.at)
        if self._callbacks and not self._told:
            self._told = True
            asyncio.get_running_loop().call_soon(self._tell)

    def _settle(self, number: int, answer: Pass | Refusal) -> None:
        ticket = self._tickets.get(number)
        if ticket is None or ticket.answer is not None:
            return
        ticket.answer = answer
        if ticket.future is not None and not ticket.future.done():
            ticket.future.set_result(answer)
            self._resume(ticket)

    def _resume(self, ticket: _Ticket) -> None:
        ticket.is_resuming = True
        self._resuming[ticket.model] += 1

    def _wake(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(max(0.0, at - self._clock()), self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._do(self.door.tick(self._clock()))

    def _tell(self) -> None:
        self._told = False
        for callback in self._callbacks:
            callback()


def _translate(refusal: admission.Refusal) -> Refusal:
    return Refusal(
        refusal.status,
        refusal.message,
        refusal.code,
        refusal.retry_after_s,
        refusal.should_retry,
        "unavailable_error" if refusal.status == 503 else "server_error",
    )
