"""One router behind the gateway, with all that belongs to it alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any, Protocol

from aiohttp import web

from corral.gateway.admission import Admission
from corral.gateway.loops import Loop
from corral.gateway.pulse import Pulse
from corral.gateway.settings import Mount, Settings
from corral.gateway.upstream import Upstream, UpstreamError
from corral.gateway.visits import Visits

visit_ids = count(1)
"""Numbers visits through all lanes."""


class Keeper(Protocol):
    """What must run while requests are taken."""

    async def start(self) -> None:
        """Begin; no request is taken before this returns, and none when it raises CorralError."""
        ...

    async def close(self) -> None:
        """End, started or not; closing twice is fine."""
        ...


class Lane:
    """A router, the way to it, who is being answered by it, and who decides about that."""

    def __init__(
        self,
        settings: Settings,
        mount: Mount,
        upstream: Upstream,
        gate: Admission,
        visits: Visits,
        routes: Sequence[web.RouteDef] = (),
        keeper: Keeper | None = None,
        build_stale_list: Callable[[], dict[str, Any] | None] | None = None,
        loop: Loop | None = None,
    ) -> None:
        self.settings = settings
        self.mount = mount
        self.upstream = upstream
        self.gate = gate
        self.visits = visits
        self.routes = tuple(routes)
        """What the gateway answers itself, as paths below the mount's base; all else goes to the router."""
        self.keeper = keeper
        """Is started before the first request is taken, and closed after the last."""
        self.build_stale_list = build_stale_list
        """The list for clients when the router does not answer; None, or giving None, where there is none."""
        self.loop = loop or Loop("")
        self.pulse = Pulse(self.is_reachable, lambda: upstream.heard_at, settings.limits.hung_s)
        self.key = mount.api_key if settings.client_keys else None
        """What the router is shown, in the place of what the client showed."""

    async def is_reachable(self, within_s: float) -> bool:
        """Whether the router answers at all; asks for its health, which needs no key and touches no model."""
        target = self.mount.target
        head = b"GET %b/health HTTP/1.1\r\nHost: %b\r\n\r\n" % (target.prefix.encode(), target.authority.encode())
        try:
            async with asyncio.timeout(within_s):
                reply = await self.upstream.send("GET", head, b"")
        except (UpstreamError, TimeoutError):
            return False
        reply.close()
        return True
