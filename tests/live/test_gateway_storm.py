"""The storm of ``tests/gateway`` on a real router: nothing cut, lost, swapped, overtaken, or loaded while held."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from corral.gateway.rules import Rules
from corral.ops.admission import Limits
from corral.sim.launch import RealRouter
from corral.wire import Event
from tests.gateway.house import housed
from tests.gateway.storm import Findings, Storm
from tests.support.live import ModelFiles

pytestmark = [
    pytest.mark.live,
    pytest.mark.since(11114, "older routers evict what is busy, gateway or not"),
]
MODELS = tuple(f"model-{number}" for number in range(8))


async def storm(url: str, folder: Path, requests: int, clients: int) -> Findings:
    """Eight models in four places; the router itself says what it loads."""
    loads: Counter[str] = Counter()

    def count(event: Event) -> None:
        if event.kind == "model_status" and event.status == "loading":
            loads[event.model] += 1

    rules = Rules(Limits(parked_max=20), eject_s=10.0)
    async with housed(url, folder, rules=rules, sees_machine=True) as house:
        house.control.watcher.subscribe(count)
        return await Storm(house, MODELS, loads.__getitem__, Random(2), tokens=8, pace_s=0.3).run(requests, clients)


def test_storm(llama_server_binary: str, model_files: ModelFiles, tmp_path: Path) -> None:
    """Whatever operators do, 500 requests over 8 models are answered whole, or told why not."""
    presets = {name: {"model": str(model_files.quick), "stop-timeout": "5"} for name in MODELS}
    with RealRouter(llama_server_binary, presets, models_max=4, context=1024) as router:
        found = asyncio.run(storm(router.url, tmp_path, 500, 24))

    print(found)
    assert not found.faults, str(found)
    assert found.answered + sum(found.refused.values()) == 500
    assert found.answered > 150 and found.most_parked > 0
