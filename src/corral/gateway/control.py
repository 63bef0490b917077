"""Everything that the gateway does for one router besides passing on: gate, watcher, promises, operator."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from secrets import token_hex
from time import monotonic
from typing import Any, TypeVar

from corral.client.aio import AsyncRouter
from corral.gateway.gate import Gate
from corral.gateway.keeper import IdleKeeper
from corral.gateway.logs import log
from corral.gateway.loops import MARK_HEADER, Loop
from corral.gateway.operator import Operator
from corral.gateway.promises import PromiseKeeper
from corral.gateway.rules import Rules
from corral.gateway.visits import Visits
from corral.gateway.watcher import Watcher
from corral.machine import Machine
from corral.ops import Selection
from corral.ops.admission import Held
from corral.ops.door import Door
from corral.ops.measurement import Meter
from corral.ops.promises import Owner
from corral.wire import EVERY_MODEL, AuthError, CorralError

Value = TypeVar("Value")
_FIRST_LOOK_S = 3.0


class Control:
    """One router behind the gateway. ``start`` before the first request is taken; ``close`` in any case."""

    def __init__(
        self,
        router: AsyncRouter,
        folder: str,
        visits: Visits,
        *,
        rules: Rules | None = None,
        meter: Meter | None = None,
        ca_file: str | None = None,
    ) -> None:
        self.router = router
        self.ca_file = ca_file
        self.rules = rules or Rules()
        self.visits = visits
        self.folder = folder
        self.gate = Gate(Door(self.rules.limits))
        self.loop = Loop(token_hex(8))
        router.headers[MARK_HEADER] = self.loop.mark
        target = router.target
        router.meter = meter or Machine.for_router(target.host, target.port, target.socket_path)
        self.watcher = Watcher(router, self.gate)
        self.promises = PromiseKeeper(folder, router.url, self.gate)
        self.operator = Operator(router, self.gate, self.watcher, self.promises)
        self._keeper = IdleKeeper(router, self.gate, self.watcher, self.operator, self.promises.owner, self.rules)
        self._callbacks: list[Callable[[], None]] = []
        self._works: set[asyncio.Task[Any]] = set()
        self.gate.subscribe(self._tell)
        self.gate.look = self._look

    @property
    def lacks_key(self) -> bool:
        """Whether the router wants a key that the gateway does not have."""
        return isinstance(self.watcher.error, AuthError)

    def subscribe(self, callback: Callable[[], None]) -> None:
        """Call back after anything has changed: requests, models, promises."""
        self._callbacks.append(callback)

    def unsubscribe(self, callback: Callable[[], None]) -> None:
        """Call back no more."""
        self._callbacks.remove(callback)

    async def hold(
        self, models: tuple[str, ...] | None, excepted: tuple[str, ...], owner: Owner, duration_s: float, reason: str
    ) -> Held:
        """Begin a hold; it returns when nothing that was let in before can bring the models up, or after a while.

        Raises LedgerError.
        """
        held = await self.promises.hold(models, excepted, owner, duration_s, reason)
        rows = [
            (model, "held", None, f"until {held.until}{f': {reason}' if reason else ''}")
            for model in models or (EVERY_MODEL,)
        ]
        await self.promises.record(owner, "hold", rows)
        changed = asyncio.Event()
        self.subscribe(changed.set)
        try:
            async with asyncio.timeout(self.rules.settle_s):
                while self.gate.door.list_unsettled(monotonic()):
                    changed.clear()
                    await changed.wait()
        except TimeoutError:
            pass
        finally:
            self.unsubscribe(changed.set)
        return held

    @property
    def works(self) -> int:
        """How many changes of what is promised are under way."""
        return len(self._works)

    async def see_through(self, work: Coroutine[Any, Any, Value]) -> Value:
        """Do this to its end, also when whoever asked for it goes away meanwhile."""
        task = asyncio.create_task(work)
        self._works.add(task)
        task.add_done_callback(self._works.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(_tell_failure)
            raise

    async def find_held(self, name: str) -> str:
        """The id that is meant by a name of a held model, also of one that the router no longer lists."""
        for held in self.promises.holds:
            if name in (held.hold.models or ()):
                return name
        _, models = await self.operator.find(Selection((name,)))
        return models[0].id

    async def _look(self) -> None:
        """Read the list anew; a router that does not answer is known as such then."""
        with suppress(CorralError):
            await self.watcher.refresh()

    def _tell(self) -> None:
        for callback in list(self._callbacks):
            callback()

    async def start(self) -> None:
        """Put in force what is promised, and look at the router. Raises LedgerError; a router may be away."""
        await self.promises.start()
        self.watcher.start()
        with suppress(CorralError, TimeoutError):
            async with asyncio.timeout(_FIRST_LOOK_S):
                await self.watcher.refresh()
        self._keeper.start()

    async def close(self) -> None:
        """Stop everything; what is promised stays promised. Closing twice is fine."""
        for task in self._works:
            task.cancel()
        await asyncio.gather(*self._works, return_exceptions=True)
        await self._keeper.close()
        await self.operator.close()
        await self.watcher.close()
        await self.promises.close()
        await self.router.aclose()


def _tell_failure(task: asyncio.Task[Any]) -> None:
    """Nobody else hears of it."""
    if not task.cancelled() and (error := task.exception()) is not None:
        said = error.message if isinstance(error, CorralError) else f"internal error: {type(error).__name__}: {error}"
        log.error("what an operator asked for, who has left, was not done: %s", said)
