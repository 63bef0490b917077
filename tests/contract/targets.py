"""The two servers that must keep the same contract: the simulator, and the real llama-server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from corral.sim import ModelSpec, SimConfig, simulate
from corral.sim.launch import RealRouter
from tests.contract.eras import EXPECTED
from tests.contract.kit import BROKEN, BUSY, EMOJI, NAP, PLAIN, QUOTED, Server
from tests.support.live import ModelFiles

SPECS = (
    ModelSpec(PLAIN),
    ModelSpec(QUOTED, aliases=("al1", "al2"), tags=("t1", "t2")),
    ModelSpec(EMOJI),
    ModelSpec(BUSY, stop_timeout_s=1, load_s=0.4, metrics=True),
    ModelSpec(BROKEN, fails_with=1),
    ModelSpec(NAP, sleep_idle_s=1),
)


class SimTarget:
    """Starts simulated servers."""

    @contextmanager
    def router(self, *, models_max: int = 4, api_key: str = "", prefix: str = "") -> Iterator[Server]:
        """A router with the suite's models."""
        keys = tuple(filter(None, api_key.split(",")))
        config = SimConfig(
            SPECS, EXPECTED.era, models_max, api_keys=keys, api_prefix=prefix, token_s=0.004, queue_hangs=False
        )
        with simulate(config) as sim:
            yield Server(sim.port, prefix)

    @contextmanager
    def single(self) -> Iterator[Server]:
        """A server with one model."""
        with simulate(single="solo", era=EXPECTED.era) as sim:
            yield Server(sim.port)


class LiveTarget:
    """Starts real servers."""

    def __init__(self, binary: str, files: ModelFiles) -> None:
        self._binary, self._files = binary, files
        quick = {"model": str(files.quick)}
        self._presets = {
            PLAIN: quick,
            QUOTED: quick | {"alias": "al1,al2", "tags": "t1,t2"},
            EMOJI: quick,
            BUSY: {"model": str(files.slow), "stop-timeout": "1", "metrics": "true"},
            BROKEN: {"model": f"{files.quick}.missing"},
            NAP: quick | {"sleep-idle-seconds": "1"},
        }

    @contextmanager
    def router(self, *, models_max: int = 4, api_key: str = "", prefix: str = "") -> Iterator[Server]:
        """A router with the suite's models."""
        first, _, others = api_key.partition(",")
        with RealRouter(
            self._binary,
            self._presets,
            models_max=models_max,
            context=2048,
            api_key=first or None,
            api_prefix=prefix,
            extra_args=["--api-key", others] if others else [],
        ) as router:
            yield Server(_read_port(router.url), prefix)

    @contextmanager
    def single(self) -> Iterator[Server]:
        """A server with one model: whatever else is said, a model on the command line makes it no router."""
        with RealRouter(self._binary, {}, extra_args=["--model", str(self._files.quick), "--alias", "solo"]) as router:
            yield Server(_read_port(router.url))


def _read_port(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None
    return port
