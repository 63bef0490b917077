"""A whole gateway on the test's own event loop, in front of a router, and a client that asks it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple, TypeVar

import aiohttp

from corral.client.aio import AsyncRouter
from corral.client.target import parse_url
from corral.gateway import settings as settings_of
from corral.gateway.api import build_routes
from corral.gateway.control import Control
from corral.gateway.documents import build_stale_list
from corral.gateway.lane import Lane
from corral.gateway.rules import Rules
from corral.gateway.security import Guard
from corral.gateway.server import Gateway
from corral.gateway.settings import Listener, Mount, Settings
from corral.gateway.upstream import Upstream
from corral.gateway.visits import Visits
from corral.ops.admission import Limits
from corral.ops.measurement import Measurement, Meter, Process
from corral.wire import Model

TOKEN = "a-token-that-only-the-tests-know"
DEADLINE_S = 20.0
T = TypeVar("T")


class Blind:
    """A meter that sees nothing, as on another machine."""

    def measure(
        self, models: Sequence[Model], *, memory: bool, recent: bool = False, only: Sequence[str] = ()
    ) -> Measurement:
        """Nothing."""
        return Measurement((), reason="it is another machine")

    def find_living(self, processes: Sequence[Process]) -> tuple[Process, ...]:
        """None."""
        return ()


class Reply(NamedTuple):
    """One answer of the gateway."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def error(self) -> Any:
        """The error that it tells."""
        return self.json["error"]


class House:
    """A gateway that listens, and the means to ask it."""

    def __init__(self, gateway: Gateway, control: Control, session: aiohttp.ClientSession) -> None:
        self.gateway, self.control, self.session = gateway, control, session
        self.url = gateway.addresses[0]
        self.door = control.gate.door

    async def ask(self, method: str, path: str, document: Any = None, **headers: str) -> Reply:
        """Ask anything."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        data = None if document is None else document if isinstance(document, bytes) else json.dumps(document).encode()
        if data is not None:
            given.setdefault("Content-Type", "application/json")
        async with self.session.request(method, self.url + path, data=data, headers=given) as response:
            lower = {name.lower(): value for name, value in response.headers.items()}
            return Reply(response.status, lower, await response.read())

    async def own(self, method: str, name: str, document: Any = None) -> Any:
        """Ask Corral's own API, and expect it to do it."""
        reply = await self.ask(method, f"/corral/v1/{name}", document, Corral_Token=TOKEN)
        assert reply.status == 200, reply.body
        return reply.json

    async def chat(
        self, model: str, *, stream: bool = False, tokens: int = 4, query: str = "", **headers: str
    ) -> Reply:
        """Ask a model."""
        body = {"model": model, "max_tokens": tokens, "stream": stream, "messages": [{"role": "user", "content": "hi"}]}
        return await self.ask("POST", "/v1/chat/completions", body, **headers)

    async def statuses(self) -> dict[str, str]:
        """What the router lists, by way of the gateway."""
        reply = await self.ask("GET", "/v1/models")
        return {entry["id"]: entry["status"]["value"] for entry in reply.json["data"]}

    async def until(self, condition: Callable[[], Any]) -> None:
        """Wait until something is so."""
        deadline = monotonic() + DEADLINE_S
        while not condition():
            assert monotonic() < deadline, "the condition did not come true"
            await asyncio.sleep(0.005)

    async def until_parked(self, count: int) -> None:
        """Wait until so many requests wait at the door."""
        await self.until(lambda: self.door.parked == count)

    async def until_busy(self, model: str, count: int = 1) -> None:
        """Wait until so many requests are in flight."""
        await self.until(lambda: self.door.count_in_flight(model) == count)


@asynccontextmanager
async def housed(
    url: str,
    folder: Path,
    *,
    limits: Limits | None = None,
    rules: Rules | None = None,
    api_key: str | None = None,
    client_keys: tuple[tuple[str, str], ...] = (),
    sees_machine: bool = False,
    port: int = 0,
    transfer: settings_of.Limits | None = None,
) -> AsyncIterator[House]:
    """Run a gateway in front of a router until the block ends."""
    mount = Mount(parse_url(url), api_key=api_key)
    listener = Listener(parse_url(f"http://127.0.0.1:{port}"), (mount,))
    settings = Settings((listener,), transfer or settings_of.Limits(), client_keys)
    chosen = rules or Rules(limits or Limits())
    # Of a simulated router the machine shows nothing, and would be asked for a while.
    meter: Meter | None = None if sees_machine else Blind()
    control = Control(AsyncRouter(url, api_key=api_key), str(folder), Visits(), rules=chosen, meter=meter)
    try:
        upstream = Upstream(mount.target)
        routes = build_routes(control, settings, Guard(settings, TOKEN))
        stale = partial(build_stale_list, control)
        lane = Lane(settings, mount, upstream, control.gate, control.visits, routes, control, stale, control.loop)
        gateway = Gateway(settings, [[lane]])
        await gateway.start()
        try:
            connector = aiohttp.TCPConnector(limit=0)
            async with aiohttp.ClientSession(connector=connector) as session:
                yield House(gateway, control, session)
        finally:
            gateway.hurry()
            await gateway.stop()
    finally:
        await control.close()
        # Transports are closed by callbacks of the loop's next rounds.
        await asyncio.sleep(0.01)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a test to its end, and no longer than it may take."""

    async def limited() -> T:
        async with asyncio.timeout(DEADLINE_S * 2):
            return await work

    return asyncio.run(limited())
