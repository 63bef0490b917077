"""Follows the router for the gate: its list, its events, its settings; and keeps the last list for when it is gone.

The event stream is a hint and the list is the truth: the list is read at least every two seconds, at once after the
stream opened, broke or spoke of the whole list, and often while requests wait at a router without a stream.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from time import monotonic, time

from corral.client.aio import AsyncRouter
from corral.client.aio_engine import follow_stream
from corral.gateway.gate import Gate
from corral.gateway.logs import log
from corral.ops import Heard, StreamLost, StreamOpened
from corral.wire import CorralError, Event, Listing, NotARouterError, UnreachableError, escape_controls, list_models
from corral.wire.props import ask_props

LOOK_S = 2.0
"""Between two looks at the list while the stream is open."""
WAIT_LOOK_S = 0.25
"""Between two looks while requests wait and no stream tells."""
_BUNCH_S = 0.05
_RETRY_S = (0.1, 0.25, 0.5, 1.0, 2.0)
_SETTINGS_S = 60.0
"""The router's settings change only with a restart; that is noticed by its absence, or at the latest after this."""


class Watcher:
    """What is known of one router."""

    def __init__(self, router: AsyncRouter, gate: Gate, clock: Callable[[], float] = monotonic) -> None:
        self._router, self._gate, self._clock = router, gate, clock
        self.listing: Listing | None = None
        """The newest list; None before the first."""
        self.listed_wall: float | None = None
        self.error: CorralError | None = None
        """Why the newest look failed; None when it did not."""
        self.build: str | None = None
        self._hurry = asyncio.Event()
        self._looked = asyncio.Condition()
        self._asked_at = clock() - LOOK_S
        """When the newest look that is over was begun."""
        self._stream_open = False
        self._timer: asyncio.TimerHandle | None = None
        self._settings_at = -_SETTINGS_S
        self._tasks: list[asyncio.Task[None]] = []
        self._callbacks: list[Callable[[Event], None]] = []

    def start(self) -> None:
        """Begin to follow."""
        follow = asyncio.create_task(follow_stream(self._router, self._take), name="corral-events")
        self._tasks = [asyncio.create_task(self._look_on(), name="corral-list"), follow]

    async def close(self) -> None:
        """Follow no more."""
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    def subscribe(self, callback: Callable[[Event], None]) -> None:
        """Call back with everything that the router's event stream says."""
        self._callbacks.append(callback)

    def hurry(self) -> None:
        """Look at once."""
        self._hurry.set()

    def _hurry_soon(self) -> None:
        """Events come in bunches, and one look tells of them all."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_BUNCH_S, self._hurry.set)

    async def refresh(self) -> Listing:
        """The list as it is now; raises CorralError when the router does not tell."""
        now = self._clock()
        self._hurry.set()
        async with self._looked:
            # A look that is under way was begun too early: the one after it counts.
            await self._looked.wait_for(lambda: self._asked_at >= now)
        if self.error is not None or self.listing is None:
            raise self.error or UnreachableError("The router was not asked yet.", "Try again.")
        return self.listing

    async def _look_on(self) -> None:
        failures = 0
        while True:
            failures = 0 if await self._look() else failures + 1
            if failures:
                pause_s = _RETRY_S[min(failures, len(_RETRY_S)) - 1]
            elif self._stream_open or not self._gate.door.parked:
                pause_s = LOOK_S
            else:
                pause_s = WAIT_LOOK_S
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._hurry.wait()

    async def _look(self) -> bool:
        self._hurry.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        asked_at, before = self._clock(), self.error
        try:
            listing: Listing = await self._router.send(list_models())
            if asked_at - self._settings_at >= _SETTINGS_S:
                await self._read_settings(asked_at)
            self.listing, self.listed_wall, self.error = listing, time(), None
            self._gate.see(listing, asked_at)
        except CorralError as error:
            self.error = error
            self._settings_at = -_SETTINGS_S
            if isinstance(error, UnreachableError | NotARouterError):
                self._gate.lose()
        except Exception as error:  # noqa: BLE001 - without looks nothing would ever be known again
            log.error("internal error: %s: %s", type(error).__name__, error)
            self.error = UnreachableError("The router could not be looked at.", "The gateway's log says more.")
        self._tell_change(before)
        async with self._looked:
            self._asked_at = asked_at
            self._looked.notify_all()
        return self.error is None

    def _tell_change(self, before: CorralError | None) -> None:
        """Once when the router begins to fail, and once when it is well again."""
        error, where = self.error, self._router.url
        if error is not None and before is None:
            log.warning("%s gives no list of models: %s", where, escape_controls(f"{error.message} {error.hint}"))
        elif error is None and before is not None:
            log.info("%s gives its list of models again", where)

    async def _read_settings(self, now: float) -> None:
        """The router's maximum, and whether it loads what requests name."""
        with contextlib.suppress(CorralError):
            props = await self._router.send(ask_props())
            self._gate.door.models_max = props.models_max
            self._gate.door.autoloads = props.autoload is not False
            self.build = props.build_info
            self._settings_at = now

    def _take(self, said: StreamOpened | Heard | StreamLost) -> None:
        if not isinstance(said, Heard):
            self._stream_open = isinstance(said, StreamOpened)
            self._hurry.set()
            return
        event = said.event
        if event.status is not None:
            if self._gate.resolve(event.model) == event.model:
                self._gate.hear(event.model, event.status, said.at)
            if event.progress is None:
                self._hurry_soon()
        elif event.kind in ("models_reload", "model_remove"):
            self._hurry_soon()
        for callback in self._callbacks:
            callback(event)
