"""``from corral import AsyncRouter``: the async client with the command line's defaults; see ``corral.facade``."""

from __future__ import annotations

from corral.client.aio import AsyncRouter as AsyncClient
from corral.client.settings import Timeouts
from corral.client.target import DEFAULT_URL
from corral.facade import find_machine, find_pinned
from corral.ops.measurement import Meter


class AsyncRouter(AsyncClient):
    """A llama-server in router mode, at one address; see ``Router`` for parameters, promises and errors.

    ::

        from corral import AsyncRouter

        async with AsyncRouter("http://127.0.0.1:8080") as router:
            report = await router.unload_all()

    Cancelling a verb's task stops it at once; the router goes on with what it was asked.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        ca_file: str | None = None,
        timeouts: Timeouts | None = None,
        meter: Meter | None = None,
    ) -> None:
        super().__init__(
            url,
            api_key=api_key,
            ca_file=ca_file,
            timeouts=timeouts,
            meter=meter,
            find_pinned=lambda: find_pinned(self.target),
        )
        if meter is None:
            self.meter = find_machine(self.target)
