"""A simulated router in a thread of this process, and the handle a test steers it with.

    with simulate(SimConfig(models=("a", "b"))) as sim:
        sim.set_fault("never-unloads", model="a")
        ...
        assert [request.path for request in sim.request_log] == ["/models"]

Every method may be called from any thread; what changes something runs on the simulation's own loop.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

from corral.sim.child import Child
from corral.sim.config import SimConfig
from corral.sim.faults import Fault
from corral.sim.models import Event, SimModel
from corral.sim.router import SimRouter
from corral.sim.server import LoggedRequest, SimServer

_T = TypeVar("_T")
_DEADLINE_S = 20.0


class Simulation:
    """A running simulated router."""

    def __init__(self, server: SimServer, loop: asyncio.AbstractEventLoop) -> None:
        self._server, self._loop = server, loop
        self.config = server.config
        self.url = server.url
        self.port = server.port

    @property
    def request_log(self) -> list[LoggedRequest]:
        """Every request so far, in order of arrival."""
        return list(self._server.log)

    def requests(self, method: str | None = None, path: str | None = None) -> list[LoggedRequest]:
        """The requests with this method and this path (without prefix and query)."""
        full = None if path is None else self.config.api_prefix + path
        return [item for item in self.request_log if method in (None, item.method) and full in (None, item.path)]

    def clear_log(self) -> None:
        """Forget the requests so far."""
        self._run(self._server.log.clear)

    def state(self, model: str) -> str:
        """The model's status now."""
        return self._model(model).value

    def port_of(self, model: str) -> int:
        """The port of the model's current or last child; 0 before the first."""
        return self._model(model).port

    def spawn_count(self, model: str) -> int:
        """How many children the model had: it counts loads, whoever caused them."""
        return self._model(model).generation

    def in_flight(self, model: str) -> int:
        """How many requests the model's child is answering."""
        return self._model(model).in_flight

    def set_fault(self, kind: str, **fields: Any) -> None:
        """Put a fault in force; the fields are those of Fault."""
        fault = Fault(kind, **fields)
        self._run(lambda: self._server.faults.add(fault))

    def clear_faults(self) -> None:
        """End all faults."""
        self._run(self._server.faults.clear)

    def load(self, model: str) -> None:
        """Load a model as another operator would; raises what the router refuses with."""
        self._await(self._server.router.load(self._model(model)))

    def unload(self, model: str) -> None:
        """Unload a model as another operator would; raises what the router refuses with."""
        self._await(self._server.router.unload(self._model(model)))

    def kill_child(self, model: str, exit_code: int = 139) -> None:
        """End the model's child as a crash would."""
        self._change(model, lambda it, now: it.die(now, exit_code))

    @contextmanager
    def busy(self, model: str) -> Iterator[None]:
        """Keep one request in flight at the model, without a connection; it ends early if the child does."""
        entered, over = threading.Event(), threading.Event()
        work = _occupy(self._server.router, self._model(model), entered, over.is_set)
        holding = asyncio.run_coroutine_threadsafe(work, self._loop)
        entered.wait(_DEADLINE_S)
        try:
            yield
        finally:
            over.set()
            self._run(self._server.router.settle)
            holding.result(_DEADLINE_S)

    def send_event(self, event: Event) -> None:
        """Put this on the event stream, whatever it says."""
        self._run(lambda: self._server.router.publish(event))

    def subscriber_count(self) -> int:
        """How many clients follow the event stream now."""
        return len(self._server.router.subscribers)

    def drop_connections(self) -> None:
        """Break every connection; new ones are accepted."""
        self._await(self._server.http.drop_connections())

    def wait_for(self, model: str, status: str, timeout_s: float = _DEADLINE_S) -> None:
        """Return when the model has this status; raises TimeoutError."""
        self.wait_until(lambda: self.state(model) == status, timeout_s)

    def wait_until(self, is_so: Callable[[], bool], timeout_s: float = _DEADLINE_S) -> None:
        """Return when ``is_so`` says so; raises TimeoutError."""

        async def watch() -> None:
            # Requests and subscriptions are no changes of a model, so look now and then as well.
            async with asyncio.timeout(timeout_s):
                while not is_so():
                    await asyncio.sleep(0.001)

        self._await(watch())

    def _model(self, name: str) -> SimModel:
        return self._server.router.models[name]

    def _change(self, model: str, change: Callable[[SimModel, float], None]) -> None:
        router, found = self._server.router, self._model(model)

        def run() -> None:
            change(found, router.now())
            router.touch(found)
            router.settle()

        self._run(run)

    def _run(self, work: Callable[[], None]) -> None:
        async def run() -> None:
            work()

        self._await(run())

    def _await(self, work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(3600)


@contextmanager
def simulate(config: SimConfig | None = None, **fields: Any) -> Iterator[Simulation]:
    """Run a simulated router in a thread until the block ends; ``fields`` override those of ``config``."""
    chosen = replace(config or SimConfig(), **fields)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="corral-sim", daemon=True)
    thread.start()
    try:
        server = asyncio.run_coroutine_threadsafe(_start(chosen), loop).result()
        try:
            yield Simulation(server, loop)
        finally:
            asyncio.run_coroutine_threadsafe(server.close(), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _start(config: SimConfig) -> SimServer:
    server = SimServer(config)
    await server.start()
    return server


async def _occupy(router: SimRouter, model: SimModel, entered: threading.Event, is_over: Callable[[], bool]) -> None:
    child = Child(router, model)
    generation = model.generation
    child.enter(is_post=True)
    entered.set()
    try:
        while not is_over() and model.generation == generation and model.is_resident:
            await router.wait_for_change()
    finally:
        child.leave()
