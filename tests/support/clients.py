"""Every test that takes ``use`` runs with the blocking client and with the async one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from corral import AsyncRouter, Router

Use = Callable[..., Any]
"""``use(url, work, **options)``: open a client, run ``work(client)``, return its result."""


def use_blocking(url: str, work: Callable[[Any], Any], **options: Any) -> Any:
    """With ``Router``."""
    with Router(url, **options) as router:
        return work(router)


def use_async(url: str, work: Callable[[Any], Any], **options: Any) -> Any:
    """With ``AsyncRouter``, in an event loop of its own."""

    async def run() -> Any:
        async with AsyncRouter(url, **options) as router:
            return await work(router)

    return asyncio.run(run())


@pytest.fixture(params=[use_blocking, use_async], ids=["blocking", "async"])
def use(request: pytest.FixtureRequest) -> Use:
    """Runs work on a client of either kind."""
    chosen: Use = request.param
    return chosen
