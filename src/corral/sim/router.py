"""The router's mind: loads, unloads, the maximum, and the requests that wait for a model.

It owns all models and the one timer. Whoever changes a model calls ``settle``: due changes are made, events go to
the subscribers, the queue is served, and everybody who waits for something looks again.
"""

from __future__ import annotations

import asyncio

from corral.sim.config import SimConfig
from corral.sim.faults import FaultBox
from corral.sim.models import Event, SimModel

_DOWNLOAD_STOP_S = 0.05
_FIRST_PORT = 40001


class RefusalError(Exception):
    """The router refuses: status, message and the type in its error envelope."""

    def __init__(self, status: int, message: str, kind: str = "") -> None:
        super().__init__(message)
        self.status, self.message = status, message
        self.kind = kind or {400: "invalid_request_error", 404: "not_found_error"}.get(status, "server_error")


class ProxyError(Exception):
    """The router could not reach the child, or lost it; the text goes to the client as it is."""


class _Waiting:
    """The requests that wait for one model: its place in the queue."""

    def __init__(self, model: SimModel) -> None:
        self.model = model
        self.waiters: list[asyncio.Future[None]] = []
        self.generation: int | None = model.generation if model.value == "loading" else None
        """The child that was started for them; None before."""
        self.is_stuck = False

    def finish(self, error: RefusalError | None = None) -> None:
        for waiter in self.waiters:
            if waiter.done():
                continue
            if error is None:
                self.model.reserved += 1
                waiter.set_result(None)
            else:
                waiter.set_exception(error)


class SimRouter:
    """All models of one simulated router."""

    def __init__(self, config: SimConfig, faults: FaultBox) -> None:
        self.config, self.era, self.faults = config, config.features, faults
        self._loop = asyncio.get_running_loop()
        self.models = {spec.id: SimModel(spec, config, self.now()) for spec in config.build_specs()}
        self.subscribers: list[asyncio.Queue[Event]] = []
        self._queue: list[_Waiting] = []
        self._looks: set[asyncio.Future[None]] = set()
        self._active = {model.spec.id: model for model in self.models.values() if model.is_resident}
        self._is_closed = False
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._next_port = _FIRST_PORT
        for model in self._active.values():
            model.port = self._take_port()
        self.settle()

    def now(self) -> float:
        """The time of everything here."""
        return self._loop.time()

    async def close(self) -> None:
        """Stop the clock."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def find(self, name: object) -> SimModel | None:
        """The model with this id or, where the era has them, alias."""
        if not isinstance(name, str):
            return None
        if name in self.models or not self.era.has_aliases:
            return self.models.get(name)
        return next((model for model in self.models.values() if name in model.spec.aliases), None)

    async def load(self, model: SimModel) -> None:
        """What ``POST /models/load`` does; returns when it would answer, raises RefusalError."""
        if model.is_resident and not (self.era.refuses_loading and model.value == "loading"):
            raise RefusalError(400, self.era.already_running)
        while not model.is_resident and model.value != "downloading":
            if self._has_room():
                self._spawn(model)
                for entry in self._queue:
                    if entry.model is model:
                        entry.is_stuck, entry.generation = False, model.generation
            elif not self._evict():
                raise RefusalError(500, "model limit reached, try again later")
            elif not self.era.waits_for_victim:
                self._spawn(model)
            else:
                await self.wait_for_change()
        self.settle()

    async def unload(self, model: SimModel) -> None:
        """What ``POST /models/unload`` does; returns when it would answer, raises RefusalError."""
        model.never_unloads = self.faults.find("never-unloads", model.spec.id) is not None
        if model.value == "downloading":
            await self._cancel_download(model)
            return
        if not model.is_resident or (self.era.refuses_loading and model.value != "loaded"):
            raise RefusalError(400, self.era.not_running)
        if model.value == "loading" and self.config.queue_hangs:
            for entry in self._queue:
                if entry.model is model and not model.is_stopping:
                    entry.is_stuck = True
        model.stop(self.now())
        self.settle()

    async def admit(self, model: SimModel, autoload: bool) -> None:
        """Let a request through when its model can take it, loading it first where asked; raises what refuses it."""
        is_waking = model.value == "loading" and model.in_flight > 0 and not model.is_stopping
        if model.is_ready or is_waking:
            return
        if not model.is_resident and (not autoload or model.value == "downloading"):
            raise RefusalError(400, "model is not loaded")
        if not autoload:
            raise ProxyError("proxy error: Could not establish connection")
        if self.era.evicts_busy:
            await self._admit_without_queue(model)
        else:
            await self._admit_by_queue(model)

    async def wait_for_change(self) -> None:
        """Return after anything at all has changed."""
        look: asyncio.Future[None] = self._loop.create_future()
        self._looks.add(look)
        try:
            await look
        finally:
            self._looks.discard(look)

    def settle(self) -> None:
        """Make what is due happen, tell everybody, and set the timer for what comes next."""
        self._advance()
        self._serve_queue()
        while self._advance():
            # What came up only now is waited for, perhaps, and nothing else would serve it.
            self._serve_queue()
        for look in self._looks:
            if not look.done():
                look.set_result(None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = min((model.due for model in self._active.values() if model.due is not None), default=None)
        if due is not None and not self._is_closed:
            self._timer = self._loop.call_at(due, self.settle)

    def publish(self, event: Event) -> None:
        """Send an event to everybody who listens now."""
        for subscriber in self.subscribers:
            subscriber.put_nowait(event)

    def touch(self, model: SimModel) -> None:
        """Say that a model was changed from outside; follow it with ``settle``."""
        self._active[model.spec.id] = model

    def ask_for(self, model: SimModel, delay_s: float) -> None:
        """Ask for a model after a while, as a client would."""
        task = asyncio.create_task(self._come_back(model, delay_s))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _come_back(self, model: SimModel, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        try:
            await self.admit(model, autoload=True)
        except (RefusalError, ProxyError):
            return

    def _advance(self) -> bool:
        """Make what is due happen; whether anything was."""
        changed = False
        for model in list(self._active.values()):
            changed = model.advance(self.now()) or changed
            news, model.news = model.news, []
            for event in news:
                self.publish(event)
                back = self.faults.find("comes-back", model.spec.id)
                if back is not None and model.value == "unloaded":
                    self.ask_for(model, back.seconds)
            if not model.is_resident:
                self._active.pop(model.spec.id, None)
        return changed

    def _take_port(self) -> int:
        self._next_port += 1
        return self._next_port - 1

    def _spawn(self, model: SimModel) -> None:
        failing = self.faults.find("load-fails", model.spec.id)
        fails_with = None if failing is None else 1 if failing.code is None else failing.code
        model.spawn(self.now(), self._take_port(), fails_with)
        self.touch(model)

    def _has_room(self) -> bool:
        return self.config.models_max <= 0 or len(self._active) < self.config.models_max

    def _evict(self) -> bool:
        """See that a place becomes free; False when nobody can go."""
        if any(model.is_stopping for model in self._active.values()):
            return True
        wanted = {entry.model.spec.id for entry in self._queue}
        victims = [
            model
            for model in self._active.values()
            if self.era.evicts_busy
            or (model.is_ready and model.in_flight + model.reserved == 0 and model.spec.id not in wanted)
        ]
        if not victims:
            return False
        min(victims, key=lambda model: model.last_used).stop(self.now())
        self._loop.call_soon(self.settle)
        return True

    def _serve_queue(self) -> None:
        """Serve the head of the queue, and the next one only when that is done."""
        while self._queue:
            entry = self._queue[0]
            model = entry.model
            entry.waiters = [waiter for waiter in entry.waiters if not waiter.done()]
            if not entry.waiters:
                pass
            elif model.is_ready:
                entry.finish()
            elif model.is_resident or entry.is_stuck:
                return
            elif entry.generation == model.generation:
                entry.finish(RefusalError(500, f"model name={model.spec.id} failed to load"))
            elif self._has_room():
                self._spawn(model)
                entry.generation = model.generation
                return
            else:
                self._evict()
                return
            self._queue.pop(0)

    async def _admit_by_queue(self, model: SimModel) -> None:
        entry = next((entry for entry in self._queue if entry.model is model), None)
        if entry is None:
            entry = _Waiting(model)
            if model.is_stopping:
                entry.generation = None
            self._queue.append(entry)
        waiter: asyncio.Future[None] = self._loop.create_future()
        entry.waiters.append(waiter)
        self.settle()
        try:
            await waiter
        finally:
            if not waiter.cancel() and waiter.exception() is None:
                model.reserved -= 1
            self._loop.call_soon(self.settle)

    async def _admit_without_queue(self, model: SimModel) -> None:
        if model.is_stopping and model.value != "loading":
            raise ProxyError("proxy error: Could not establish connection")
        if not model.is_resident:
            await self.load(model)
        while model.value == "loading":
            await self.wait_for_change()
        if not model.is_ready:
            raise RefusalError(500, f"model name={model.spec.id} failed to load")

    async def _cancel_download(self, model: SimModel) -> None:
        while model.never_unloads:
            # As when the download's child died without a word: the real call never returns either.
            await asyncio.sleep(3600)
        await asyncio.sleep(_DOWNLOAD_STOP_S)
        model.value = "unloaded"
        self.publish({"model": model.spec.id, "event": "download_failed"})
