"""Listens, leads each request to its lane, and stops without cutting what can still end.

``Gateway`` is the whole of it::

    gateway = Gateway(settings, lanes)
    await gateway.start()
    ...
    cut = await gateway.stop()
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from aiohttp import web

from corral.client.target import Target
from corral.gateway.bodies import Bodies
from corral.gateway.connection import Connection, build_factory, limit_connections
from corral.gateway.dispatch import Dispatch
from corral.gateway.lane import Lane
from corral.gateway.listening import bind_tcp, bind_unix
from corral.gateway.settings import Listener, Settings

log = logging.getLogger("corral.gateway")
_BACKLOG = 512
_CLOSING_S = 0.2


class Gateway:
    """All listeners of one process; ``lanes`` has one list of lanes for each listener of the settings."""

    def __init__(self, settings: Settings, lanes: Sequence[Sequence[Lane]]) -> None:
        self._settings = settings
        self._lanes = [list(group) for group in lanes]
        keepers = [lane.keeper for group in lanes for lane in group if lane.keeper is not None]
        self._keepers = list(dict.fromkeys(keepers))
        self._bodies = Bodies(settings.limits)
        self._dispatches: list[Dispatch] = []
        self._runners: list[web.AppRunner] = []
        self._servers: list[asyncio.Server] = []
        self._socket_paths: list[str] = []
        self._is_hurried = False
        self._changed = asyncio.Event()
        self.addresses: list[str] = []
        """Where it listens, as URLs; ports that were left to the system are known here."""

    async def start(self) -> None:
        """Listen on every address, or on none.

        Raises BadArgumentError for one that cannot be listened on, LedgerError where what is promised is not known.
        """
        try:
            await asyncio.gather(*(keeper.start() for keeper in self._keepers))
            for listener, lanes in zip(self._settings.listeners, self._lanes, strict=True):
                await self._listen(listener, lanes)
        except BaseException:
            await self.stop()
            raise

    @property
    def held_bytes(self) -> int:
        """Bytes of request bodies that are held at this moment."""
        return self._bodies.held_bytes

    def hurry(self) -> None:
        """Let no answer end any more: ``stop`` returns at once."""
        self._is_hurried = True
        self._changed.set()

    async def stop(self) -> int:
        """Take nobody new, answer who is parked, let answers end for a while; returns how many were cut."""
        await self._stop_listening()
        for path in self._socket_paths:
            with suppress(OSError):
                os.unlink(path)
        for dispatch in self._dispatches:
            dispatch.stop()
        lanes = [lane for group in self._lanes for lane in group]
        for lane in lanes:
            lane.gate.stop()
        for runner in self._runners:
            if runner.server is not None:
                runner.server.pre_shutdown()
        await self._wait_for_answers(lanes)
        cut = sum(visit.counts for lane in lanes for visit in lane.visits)
        servers = [runner.server for runner in self._runners if runner.server is not None]
        left = [connection.transport for server in servers for connection in server.connections]
        await asyncio.gather(*(runner.cleanup() for runner in self._runners))
        for transport in left:
            # Its client may not even take what was written.
            if transport is not None:
                transport.abort()
        await asyncio.gather(*(proxy.close() for dispatch in self._dispatches for proxy in dispatch.proxies))
        for lane in lanes:
            lane.pulse.close()
            lane.upstream.close()
        await asyncio.gather(*(keeper.close() for keeper in self._keepers))
        # Transports are closed by callbacks of the loop's next round.
        await asyncio.sleep(0)
        return cut

    async def _stop_listening(self) -> None:
        """Accept no more, let those be connected that were accepted, then close."""
        loop = asyncio.get_running_loop()
        for server in self._servers:
            for sock in server.sockets:
                loop.remove_reader(sock.fileno())
        # asyncio connects what it accepted in a task, which fails, and forgets the socket, on a closed server.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for server in self._servers:
            server.close()

    async def _wait_for_answers(self, lanes: list[Lane]) -> None:
        """Only what a model answers is waited for; a list or an event stream is not."""
        for lane in lanes:
            lane.visits.subscribe(self._changed.set)
        with suppress(TimeoutError):
            async with asyncio.timeout(self._settings.limits.stop_s):
                while not self._is_hurried and any(visit.counts for lane in lanes for visit in lane.visits):
                    self._changed.clear()
                    await self._changed.wait()

    async def _listen(self, listener: Listener, lanes: list[Lane]) -> None:
        dispatch = Dispatch(lanes, self._bodies)
        self._dispatches.append(dispatch)
        limits = self._settings.limits
        options: dict[str, Any] = {
            "keepalive_timeout": limits.idle_s,
            "max_line_size": limits.max_head_bytes,
            "max_field_size": limits.max_head_bytes,
            "lingering_time": limits.linger_s,
            "auto_decompress": False,
            "access_log": None,
            "logger": log,
        }
        runner = web.AppRunner(dispatch.build_app(), handler_cancellation=True, shutdown_timeout=_CLOSING_S, **options)
        await runner.setup()
        self._runners.append(runner)
        server = runner.server
        assert server is not None
        # What passes through needs none of the application's routing.
        server.request_handler = dispatch.lead(server.request_handler)
        loop = asyncio.get_running_loop()
        factory = build_factory(
            server,
            lambda: Connection(server, loop=loop, **options),
            limit_connections(limits.max_connections),
        )
        address = listener.address
        if address.scheme == "unix":
            sock = bind_unix(address)
            self._socket_paths.append(address.socket_path)
            self._servers.append(await loop.create_unix_server(factory, sock=sock, backlog=_BACKLOG))
            self.addresses.append(address.label)
            return
        port = address.port
        for sock in bind_tcp(address):
            self._servers.append(await loop.create_server(factory, sock=sock, backlog=_BACKLOG))
            port = sock.getsockname()[1]
        self.addresses.append(Target("http", address.host, port, lanes[0].mount.base).label)
