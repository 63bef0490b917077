"""A storm of requests and operators at a gateway before a simulated router: nothing cut, lost, swapped or overtaken."""

from __future__ import annotations

from pathlib import Path
from random import Random

from corral.gateway.rules import Rules
from corral.ops.admission import Limits
from corral.sim.control import simulate
from tests.gateway.house import housed, run
from tests.gateway.storm import Findings, Storm

MODELS = tuple(f"model-{number}" for number in range(8))


async def storm(folder: Path, requests: int, clients: int, seed: int) -> Findings:
    """Eight models in four places."""
    with simulate(models=MODELS, models_max=4, load_s=0.01, token_s=0.0005) as sim:
        rules = Rules(Limits(parked_max=60), eject_s=5.0)
        async with housed(sim.url, folder, rules=rules) as house:
            return await Storm(house, MODELS, sim.spawn_count, Random(seed)).run(requests, clients)


def test_storm(tmp_path: Path) -> None:
    """Whatever operators do, nothing is cut, lost, answered by the wrong model, overtaken, or loaded while held."""
    found = run(storm(tmp_path, 1500, 64, 1))

    print(found)
    assert not found.faults, str(found)
    assert found.answered > 300 and sum(found.refused.values()) > 10 and found.most_parked > 0
    assert found.answered + sum(found.refused.values()) == 1500
    assert found.deeds["hold"] > 3 and found.deeds["unload_all"] > 1
