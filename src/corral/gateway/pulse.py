"""Whether the router still lives while requests wait for it, without a limit on how long a model may load.

A router that hangs accepts connections and says nothing, and so does one whose model takes minutes to load. So what
waits is given up only when the router has not said a word to anybody for a long time, not even about its health,
which it answers without any model.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

_PROBES = 5


class Pulse:
    """Feels a router's pulse while somebody waits for it.

    ``probe`` asks for a sign of life within so many seconds; ``heard_at`` is when the last one came by itself.
    """

    def __init__(self, probe: Callable[[float], Awaitable[bool]], heard_at: Callable[[], float], hung_s: float) -> None:
        self._probe, self._heard_at, self._hung_s = probe, heard_at, hung_s
        self._limits: set[asyncio.Timeout] = set()
        self._task: asyncio.Task[None] | None = None

    def watch(self, limit: asyncio.Timeout) -> None:
        """End this wait when the router hangs."""
        self._limits.add(limit)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._feel(), name="corral-pulse")

    def release(self, limit: asyncio.Timeout) -> None:
        """It is over."""
        self._limits.discard(limit)

    def close(self) -> None:
        """Feel no more."""
        if self._task is not None:
            self._task.cancel()

    async def _feel(self) -> None:
        loop = asyncio.get_running_loop()
        alive_at = loop.time()
        pause_s = self._hung_s / _PROBES
        while True:
            await asyncio.sleep(pause_s)
            if not self._limits:
                return
            if await self._probe(pause_s):
                alive_at = loop.time()
            alive_at = max(alive_at, self._heard_at())
            if loop.time() - alive_at >= self._hung_s:
                for limit in self._limits:
                    if not limit.expired():
                        limit.reschedule(loop.time())
