"""Runs a verb in an event loop: calls and looks are tasks, events come from a task, one queue feeds the verb."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from time import monotonic
from typing import TYPE_CHECKING

import aiohttp

from corral.client.engine import measure
from corral.client.events import FIRST_PAUSE_S, HEADERS_S, LAST_PAUSE_S
from corral.ops import (
    Answered,
    Ask,
    Done,
    Heard,
    Listed,
    Listen,
    Look,
    LookFailed,
    Measure,
    Say,
    Send,
    StreamLost,
    StreamOpened,
    Tick,
    Told,
    Unsent,
    WakeAt,
)
from corral.ops.protocol import Effect, Input, Verb
from corral.wire import Call, CorralError, RefusedError, SseDecoder, follow_events, list_models, read_event

if TYPE_CHECKING:
    from corral.client.aio import AsyncRouter


class AsyncEngine:
    """One run of one verb; ``inbox`` may be given inputs by other tasks, such as Ended."""

    def __init__(
        self,
        router: AsyncRouter,
        verb: Verb,
        say: Callable[[object], None] | None,
        inbox: asyncio.Queue[Input] | None = None,
    ) -> None:
        self._router = router
        self._verb = verb
        self._say = say
        self._inbox: asyncio.Queue[Input] = asyncio.Queue() if inbox is None else inbox
        self._tasks: set[asyncio.Task[None]] = set()
        self._wake_at: float | None = None

    async def run(self) -> object:
        """Run the verb to its Done and return the report."""
        try:
            effects = self._verb.start(monotonic())
            while True:
                for effect in effects:
                    if isinstance(effect, Done):
                        return effect.report
                    self._perform(effect)
                effects = self._verb.on(await self._wait(), monotonic())
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _wait(self) -> Input:
        if self._wake_at is None:
            return await self._inbox.get()
        try:
            async with asyncio.timeout(max(0.0, self._wake_at - monotonic())):
                return await self._inbox.get()
        except TimeoutError:
            self._wake_at = None
            return Tick()

    def _perform(self, effect: Effect) -> None:
        if isinstance(effect, Look):
            self._start(self._look())
        elif isinstance(effect, Send) and self._is_over():
            self._verb.on(Unsent(effect.tag), monotonic())
        elif isinstance(effect, Send):
            self._start(self._send(effect.tag, effect.call, effect.apart))
        elif isinstance(effect, Ask):
            self._start(self._ask(effect))
        elif isinstance(effect, Measure):
            self._start(self._measure(effect))
        elif isinstance(effect, Listen):
            self._start(follow_stream(self._router, self._inbox.put_nowait))
        elif isinstance(effect, WakeAt):
            self._wake_at = effect.at
        elif isinstance(effect, Say) and self._say is not None:
            self._say(effect.fact)

    def _is_over(self) -> bool:
        return self._verb.deadline is not None and monotonic() >= self._verb.deadline

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _look(self) -> None:
        try:
            self._inbox.put_nowait(Listed(await self._router.send(list_models(), self._verb.deadline)))
        except CorralError as error:
            self._inbox.put_nowait(LookFailed(error))

    async def _send(self, tag: str, call: Call, apart: bool) -> None:
        error: CorralError | None = None
        try:
            await (self._router.send_apart(call) if apart else self._router.send(call, self._verb.deadline))
        except CorralError as refusal:
            error = refusal
        self._inbox.put_nowait(Answered(tag, error))

    async def _ask(self, effect: Ask) -> None:
        try:
            self._inbox.put_nowait(Told(effect.tag, await self._router.send(effect.call, self._verb.deadline)))
        except CorralError as error:
            self._inbox.put_nowait(Told(effect.tag, None, error))

    async def _measure(self, effect: Measure) -> None:
        """In a thread: a large process takes the kernel a while to add up."""
        self._inbox.put_nowait(await asyncio.to_thread(measure, self._router.meter, effect))


async def follow_stream(router: AsyncRouter, put: Callable[[StreamOpened | Heard | StreamLost], None]) -> None:
    """Put what the router says into ``put``, reopening the stream when it breaks; ends where there is none."""
    pause_s = FIRST_PAUSE_S
    while True:
        opened_at = monotonic()
        error: CorralError | None = None
        try:
            async with router.open_stream(follow_events(), HEADERS_S) as response:
                put(StreamOpened())
                await _read_stream(response, put)
        except CorralError as refusal:
            error = refusal
        put(StreamLost(error))
        if isinstance(error, RefusedError) and error.status in (401, 403, 404, 501):
            return
        pause_s = FIRST_PAUSE_S if monotonic() - opened_at > LAST_PAUSE_S else min(pause_s * 2, LAST_PAUSE_S)
        await asyncio.sleep(pause_s)


async def _read_stream(response: aiohttp.ClientResponse, put: Callable[[Heard], None]) -> None:
    decoder = SseDecoder()
    # A cut stream is expected: the router went away.
    with contextlib.suppress(OSError, aiohttp.ClientError):
        async for data in response.content.iter_any():
            now = monotonic()
            for message in decoder.feed(data):
                event = read_event(message.data)
                if event is not None:
                    put(Heard(event, now))
