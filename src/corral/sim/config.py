"""What a simulated router is made of: its models, its options, its times.

The times are those of the real router (b11434) with tiny models, measured: a child is loaded after 16 to 22 ms and
gone 3 to 7 ms after an unload (or 55 ms, when its exit falls into the router's slower look).
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field

from corral.sim.eras import DEFAULT_ERA, ERAS, Era
from corral.sim.faults import Fault

DEFAULT_STOP_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class ModelSpec:
    """One model as the preset file would describe it. None means: as the router's default."""

    id: str
    aliases: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    status: str = "unloaded"
    """What it is when the simulation starts: ``unloaded``, ``loaded``, ``sleeping``, ``loading``, ``downloading``."""
    source: str = "preset"
    """``preset``, ``models_dir`` or ``cache``."""
    stop_timeout_s: float | None = None
    sleep_idle_s: float | None = None
    load_s: float | None = None
    exit_s: float | None = None
    fails_with: int | None = None
    """Every load ends with this exit code."""
    is_hidden: bool = False
    """Omitted from the list (``dedup-cache-models``), yet it loads, unloads and appears in events."""
    slots: int = 2
    metrics: bool = False
    """Answers ``/metrics`` even where the router's default is not to."""
    extra: dict[str, object] = field(default_factory=dict)
    """Put into its entry as it is, over what the era would send."""


@dataclass(frozen=True)
class SimConfig:
    """A simulated llama-server. ``models`` is a number of made-up ones, or ids, or specs."""

    models: int | tuple[str | ModelSpec, ...] = 3
    era: str = DEFAULT_ERA
    models_max: int = 4
    """0: no limit."""
    autoload: bool = True
    api_keys: tuple[str, ...] = ()
    api_prefix: str = ""
    host: str = "127.0.0.1"
    port: int = 0
    unix_socket: str | None = None
    tls: ssl.SSLContext | None = None
    """Speak TLS with this server-side context."""
    single: str | None = None
    """Be a llama-server with this one model instead of a router."""
    is_starting: bool = False
    """Answer 503 ``Loading model`` to everything, as a single-model server does while it loads."""
    string_status: bool = False
    """Send ``status`` as a plain string, as some forks do."""
    metrics: bool = False
    slots: bool = True
    load_s: float = 0.018
    exit_s: float = 0.006
    wake_s: float = 0.005
    stop_timeout_s: float | None = None
    """None: the era's own default."""
    sleep_idle_s: float | None = None
    token_s: float = 0.002
    idle_drop_s: float = 5.0
    requests_per_connection: int = 100
    queue_hangs: bool = True
    """Killing a loading model that requests wait for leaves the load queue stuck (the real one: now and then)."""
    faults: tuple[Fault, ...] = ()

    @property
    def features(self) -> Era:
        """The era's table row."""
        return ERAS[self.era]

    def build_specs(self) -> list[ModelSpec]:
        """The models as specs, sorted by id as the router lists them."""
        if isinstance(self.models, int):
            specs = [ModelSpec(f"model-{number:02}") for number in range(1, self.models + 1)]
        else:
            specs = [ModelSpec(item) if isinstance(item, str) else item for item in self.models]
        return sorted(specs, key=lambda spec: spec.id.encode())

    def find_stop_timeout(self, spec: ModelSpec) -> float:
        """How long a child of ``spec`` may take to stop before it is killed."""
        if spec.stop_timeout_s is not None:
            return spec.stop_timeout_s
        if self.stop_timeout_s is not None:
            return self.stop_timeout_s
        return 0.0 if self.features.has_never_run_trap else DEFAULT_STOP_TIMEOUT_S
