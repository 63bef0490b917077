"""The gateway's idle keeper: what has been idle for too long goes, counted exactly, and nothing else does."""

from __future__ import annotations

import asyncio
from pathlib import Path

from corral.gateway.rules import Rules
from corral.ops.idle import IdleLimits
from corral.sim.config import ModelSpec
from corral.sim.control import simulate
from tests.gateway.house import housed, run

SPECS = tuple(ModelSpec(name, status="loaded") for name in ("busy", "idle", "kept", "pinned", "quick"))


def test_idle_models_go(tmp_path: Path) -> None:
    """A model goes when it has been idle for its limit, from the end of its last answer; looking is no use of it."""

    async def work() -> None:
        rules = Rules(idle=IdleLimits(0.6, (("quick", 0.1),)), idle_never=("kept",))
        with simulate(models=SPECS, models_max=0, token_s=0.05) as sim:
            async with housed(sim.url, tmp_path, rules=rules) as house:
                await house.own("POST", "pin", {"models": "pinned"})
                answer = asyncio.create_task(house.chat("busy", stream=True, tokens=60))
                await house.until(lambda: sim.state("quick") == "unloaded")
                assert sim.state("idle") == "loaded", "its own limit is longer"
                while sim.state("idle") == "loaded":
                    await house.ask("GET", "/props?model=idle&autoload=false")
                    await asyncio.sleep(0.02)
                assert not answer.done() and sim.state("busy") == "loaded"
                assert (await answer).body.endswith(b"data: [DONE]\n\n")
                assert sim.state("busy") == "loaded", "its time begins only now"
                await house.until(lambda: sim.state("busy") == "unloaded")
                assert (sim.state("kept"), sim.state("pinned")) == ("loaded", "loaded")
                assert (await house.chat("quick")).status == 200, "whoever asks gets it again"
                entries = (await house.own("GET", "log"))["entries"]
                assert {entry["name"] for entry in entries if entry["command"] == "keep"} >= {"busy", "idle", "quick"}
                assert {entry["user"] for entry in entries if entry["command"] == "keep"} == {"keeper"}

    run(work())


def test_use_past_the_gateway_is_not_cut(tmp_path: Path) -> None:
    """A model that somebody uses past the gateway stays while it answers."""

    async def work() -> None:
        rules = Rules(idle=IdleLimits(0.1))
        with simulate(models=(ModelSpec("alpha", status="loaded"),)) as sim, sim.busy("alpha"):
            async with housed(sim.url, tmp_path, rules=rules) as house:
                await house.until(lambda: sim.requests("GET", "/slots"))
                await asyncio.sleep(0.2)
                assert sim.state("alpha") == "loaded"

    run(work())
