"""A router's address that leads back to the gateway."""

from __future__ import annotations

import asyncio
from pathlib import Path

from corral.gateway.loops import MARK_HEADER, Loop
from corral.sim.launch import pick_free_port
from tests.gateway.house import housed, run


def test_two_gateways_in_a_circle(tmp_path: Path) -> None:
    """Two gateways that have each other for a router say so, and no request goes round."""

    async def work() -> None:
        port = pick_free_port()
        async with (
            housed(f"http://127.0.0.1:{port}", tmp_path / "one") as one,
            housed(one.url, tmp_path / "other", port=port) as other,
        ):
            for house in (one, other):
                # The gateway's own look comes round soon.
                async with asyncio.timeout(10):
                    while (reply := await house.chat("any")).status != 508:
                        await asyncio.sleep(0.05)
                assert "leads back" in reply.error["message"]
            assert len(list(one.control.visits)) + len(list(other.control.visits)) < 10

    run(work())


def test_a_circle_that_was_opened() -> None:
    """A while after nothing came back any more requests pass again."""
    now = [0.0]
    loop = Loop("mine", lambda: now[0])

    assert loop.check({MARK_HEADER: "another's"}) is None
    assert loop.check({MARK_HEADER: "mine"}) is not None and loop.check({}) is not None
    now[0] = 6.0
    assert loop.check({}) is None
