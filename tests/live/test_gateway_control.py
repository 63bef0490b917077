"""Drains, holds, pins and Ejects through a gateway on a real router."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from corral.sim.launch import RealRouter
from tests.gateway.house import House, housed, run

pytestmark = pytest.mark.live
Start = Callable[..., RealRouter]


def find_port(house: House, model: str) -> int | None:
    """The child's port, which is a new one for each load."""
    listing = house.control.watcher.listing
    found = None if listing is None else listing.find(model)
    return None if found is None else found.port


def test_unload_all_while_a_stream_runs(start_router: Start, tmp_path: Path) -> None:
    """The stream ends whole, then the model goes, its memory is seen free, and who came meanwhile is answered."""

    async def work(url: str) -> None:
        async with housed(url, tmp_path, sees_machine=True) as house:
            stream = asyncio.create_task(house.chat("busy", stream=True, tokens=150))
            await house.until_busy("busy")
            await house.until(lambda: any(visit.first_byte_at for visit in house.control.visits.of("busy")))
            unload = asyncio.create_task(house.ask("POST", "/models/unload-all"))
            await house.until(lambda: house.control.operator.drains.find("busy"))
            late = asyncio.create_task(house.chat("busy", tokens=1))
            await house.until_parked(1)
            (row,) = (await unload).json["models"]
            assert stream.done() and (await stream).body.rstrip().endswith(b"data: [DONE]")
            assert (row["id"], row["outcome"], row["cut"]) == ("busy", "unloaded", 0)
            assert row["freed_bytes"] > 1 << 20
            assert (await late).status == 200

    run(work(start_router().url))


def test_nothing_loads_while_held(start_router: Start, tmp_path: Path) -> None:
    """While all is held, no request of any kind loads anything; what is up serves; afterwards all is as before."""

    async def work(url: str) -> None:
        async with housed(url, tmp_path, sees_machine=True) as house:
            assert (await house.chat("plain")).status == 200
            await house.own("POST", "hold", {"all": True, "duration_s": 600, "reason": "rendering"})
            before = find_port(house, "busy")
            for path in ("/props?model=busy", "/slots?model=busy&autoload=true", "/metrics?model=busy"):
                assert (await house.ask("GET", path)).status in (400, 501)
            for path in ("/v1/chat/completions?autoload=1", "/v1/completions", "/tokenize", "/infill", "/embeddings"):
                body = {"model": "busy", "prompt": "x", "content": "x", "input": "x", "messages": []}
                assert (await house.ask("POST", path, body)).status == 503
            escaped = b'{"mo\\u0064el": "busy", "messages": []}'
            assert (await house.ask("POST", "/v1/chat/completions", escaped)).status == 503
            assert (await house.ask("POST", "/models/load", {"model": "busy"})).status == 423
            assert (await house.chat("plain")).status == 200
            await house.control.watcher.refresh()
            statuses = await house.statuses()
            assert {name for name, status in statuses.items() if status != "unloaded"} == {"plain"}
            assert find_port(house, "busy") == before
            await house.own("POST", "release", {"all": True})
            assert (await house.chat("busy", tokens=1)).status == 200

    run(work(start_router().url))


@pytest.mark.since(9660, "before that a sleeping model is listed as loaded")
def test_held_model_is_not_woken(start_router: Start, tmp_path: Path) -> None:
    """A held model that fell asleep is woken by nobody."""

    async def work(url: str) -> None:
        async with housed(url, tmp_path, sees_machine=True) as house:
            assert (await house.chat("plain")).status == 200
            line = house.door.find_line("plain")
            assert line is not None
            await house.until(lambda: line.status == "sleeping")
            await house.own("POST", "hold", {"models": "plain", "duration_s": 600})
            assert (await house.chat("plain")).error["reason"] == "model_held"
            assert (await house.ask("GET", "/slots?model=plain")).error["reason"] == "model_held"
            await house.control.watcher.refresh()
            assert line.status == "sleeping"
            await house.own("POST", "release", {"models": "plain"})
            assert (await house.chat("plain")).status == 200

    run(work(start_router(sleep_idle_s=1).url))


@pytest.mark.since(9661, "older builds evict what is busy when somebody else loads")
def test_pinned_model_is_nobodys_victim(start_router: Start, tmp_path: Path) -> None:
    """At the router's maximum a pinned model stays; the other place goes from one model to the next."""

    async def work(url: str) -> None:
        async with housed(url, tmp_path, sees_machine=True) as house:
            assert (await house.chat("plain")).status == 200
            await house.control.watcher.refresh()
            port = find_port(house, "plain")
            assert port is not None
            await house.own("POST", "pin", {"models": "plain"})
            for model in ("busy", "emoji 🐎 ü:Q4", "al1", "busy"):
                assert (await house.chat(model, tokens=1)).status == 200
                await house.control.watcher.refresh()
                statuses = await house.statuses()
                assert statuses["plain"] == "loaded"
                assert sum(status != "unloaded" for status in statuses.values()) == 2
            assert find_port(house, "plain") == port, "it is the same child all the time"

    run(work(start_router(models_max=2).url))


@pytest.mark.since(9661, "older builds may overlook a child that ends at once")
def test_load_that_fails(start_router: Start, tmp_path: Path) -> None:
    """Whoever asks for a model that cannot be loaded is told so, while something else is held too."""

    async def work(url: str) -> None:
        async with housed(url, tmp_path, sees_machine=True) as house:
            await house.own("POST", "hold", {"models": "busy", "duration_s": 600})
            replies = await asyncio.gather(*(house.chat("broken") for _ in range(3)))
            assert {reply.status for reply in replies} == {500}
            assert {reply.error["reason"] for reply in replies} == {"load_failed"}
            assert house.door.parked == 0

    run(work(start_router().url))
