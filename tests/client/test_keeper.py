"""The idle keeper under both drivers, against the simulator and a machine that is played."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from queue import SimpleQueue
from typing import Any

from corral import AsyncRouter
from corral.ops import Ended, Protected
from corral.ops.idle import IdleLimits
from corral.ops.keeper import Evicted, Keep, KeepReport, Looked
from corral.ops.measurement import Child, Measurement, Process
from corral.sim import ModelSpec, Simulation, simulate
from corral.wire import Model
from tests.support.clients import Use


class Played:
    """A machine on which every listed resident has a process that was last active long ago."""

    def __init__(self, sim: Simulation) -> None:
        self.sim = sim

    def measure(
        self, models: Sequence[Model], *, memory: bool, recent: bool = False, only: Sequence[str] = ()
    ) -> Measurement:
        """One look."""
        up = [model for model in models if model.is_resident and model.port is not None]
        return Measurement(
            tuple(
                Child(model.id, Process(model.port or 0, 1, model.id), model.port or 0, 0, last_active_s=50.0)
                for model in up
            )
        )

    def find_living(self, processes: Sequence[Process]) -> tuple[Process, ...]:
        """Those whose model is up."""
        return tuple(process for process in processes if self.sim.state(process.name) != "unloaded")


def test_keeper_under_both_drivers(use: Use) -> None:
    """What is idle goes, what is protected in answer to a look stays, no model is asked anything, and Ended ends it."""
    said: list[object] = []

    def work(router: Any) -> Any:
        inbox: Any = asyncio.Queue() if isinstance(router, AsyncRouter) else SimpleQueue()

        def say(fact: object) -> None:
            said.append(fact)
            if isinstance(fact, Looked):
                inbox.put_nowait(Protected(("pinned",)))
            elif isinstance(fact, Evicted):
                inbox.put_nowait(Ended("enough"))

        return router.run(Keep(IdleLimits(40.0)), say, inbox)

    models = [ModelSpec(name, status="loaded") for name in ("idle", "pinned")]
    with simulate(models=(*models, ModelSpec("other"))) as sim:
        report: KeepReport = use(sim.url, work, meter=Played(sim))
        states = {name: sim.state(name) for name in ("idle", "pinned", "other")}
        asked = {request.path.partition("?")[0] for request in sim.requests()}

    assert {"idle": "unloaded", "pinned": "loaded", "other": "unloaded"} == states
    assert (1, ["idle"]) == (
        report.unloaded,
        [o.model for f in said if isinstance(f, Evicted) for o in f.report.outcomes],
    )
    assert {"/models", "/models/sse", "/models/unload"} == asked
