"""Unloads what has been idle for too long, by the same rule as ``corral keep``.

Idle time is exact for what came through the gateway: from the end of the last answer, monitoring ignored. For clients
that go past it the machine is asked once more before a model goes, and the unload itself cuts nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from time import monotonic

from corral.client.aio import AsyncRouter
from corral.gateway.drains import Order
from corral.gateway.gate import Gate
from corral.gateway.logs import log
from corral.gateway.operator import Operator
from corral.gateway.rules import Rules
from corral.gateway.watcher import Watcher
from corral.ops import Selection
from corral.ops import outcome as words
from corral.ops.idle import Idle, judge
from corral.ops.promises import Owner
from corral.wire import CorralError, Model

LEAST_S = 0.2
MOST_S = 30.0
"""The pins, the holds and the list may have changed after so long."""
PUT_OFF_S = 60.0
"""A model that would not go, or was in use past the gateway, is left alone for so long."""


class IdleKeeper:
    """Looks when a model may be due, and has those unloaded that are."""

    def __init__(
        self,
        router: AsyncRouter,
        gate: Gate,
        watcher: Watcher,
        operator: Operator,
        owner: Owner,
        rules: Rules,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._router, self._gate, self._watcher, self._operator = router, gate, watcher, operator
        self._order = Order(Owner("keeper", owner.host), "keep", 0.0)
        self._rules, self._clock = rules, clock
        self._put_off: dict[str, float] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, if there is any limit."""
        if self._rules.idle.shortest_s is not None:
            self._task = asyncio.create_task(self._keep(), name="corral-keeper")

    async def close(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _keep(self) -> None:
        while True:
            try:
                pause_s = await self._look()
            except CorralError as error:
                log.warning("idle models were not looked at: %s", error.message)
                pause_s = MOST_S
            await asyncio.sleep(min(MOST_S, max(LEAST_S, pause_s)))

    async def _look(self) -> float:
        """Unload what is due; returns in how many seconds the next may be."""
        listing = self._watcher.listing
        if listing is None or self._watcher.error is not None:
            return 1.0
        residents = [model for model in listing.models if model.is_resident]
        never = [self._gate.resolve(name) or name for name in self._rules.idle_never]
        verdicts = judge(self._tell(residents), self._rules.idle, never=never, pinned=self._gate.door.pinned)
        due = [verdict.model for verdict in verdicts if verdict.is_due]
        for model in await self._spare_used(due, residents):
            outcomes = await self._operator.unload(Selection((model,)), self._order)
            if outcomes[0].outcome not in (words.UNLOADED, words.ALREADY_UNLOADED, words.NOT_SEEN_FREE):
                self._put_off[model] = self._clock() + PUT_OFF_S
        left = [verdict.left_s for verdict in verdicts if verdict.left_s]
        return min(left, default=MOST_S)

    def _tell(self, residents: Iterable[Model]) -> Iterable[Idle]:
        now, door = self._clock(), self._gate.door
        for model in residents:
            line = door.find_line(model.id)
            if line is None or not line.is_up or line.closures or now < self._put_off.get(model.id, now):
                yield Idle(model, None, note="it is not up, or was left alone a moment ago")
            elif line.in_flight or line.parked:
                yield Idle(model, 0.0, len(line.in_flight))
            else:
                yield Idle(model, max(0.0, now - line.idle_since), 0)

    async def _spare_used(self, due: list[str], residents: list[Model]) -> list[str]:
        """Without those that the machine shows to have been in use within the last minute."""
        meter = self._router.meter
        if not due or meter is None:
            return due
        measured = await asyncio.to_thread(meter.measure, residents, memory=False, recent=True)
        kept = []
        for model in due:
            child, (limit_s, _) = measured.find(model), self._find_limit(model, residents)
            active_s = None if child is None else child.last_active_s
            if active_s is None or limit_s is None or active_s >= limit_s:
                kept.append(model)
            else:
                self._put_off[model] = self._clock() + limit_s - active_s
        return kept

    def _find_limit(self, model_id: str, residents: list[Model]) -> tuple[float | None, str]:
        return self._rules.idle.find(next(model for model in residents if model.id == model_id))
