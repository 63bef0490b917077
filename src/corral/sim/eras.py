"""How llama-server's router changed over time, as one table: what a simulated router of each era does.

A difference between builds is a field here and nowhere else; the other files ask the era, never its number.

Source: llama.cpp ``tools/server/server-models.cpp`` and ``server-http.cpp``, compared from December 2025 to b11434.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Era:
    """What one build of the router says and does."""

    name: str
    build: int
    not_running: str = "model is not running"
    already_running: str = "model is already running"
    not_found: str = "model '{}' not found"
    """The refusal of a proxied request; load and unload always say ``model is not found``."""
    invalid_json_status: int = 400
    has_events: bool = True
    """``/models/sse``, ``POST /models``, ``DELETE /models``, and ``source`` and ``can_remove`` in entries."""
    has_aliases: bool = True
    has_meta: bool = True
    has_architecture: bool = True
    has_cache_path: bool = False
    """``in_cache`` and ``path`` in entries."""
    has_reload: bool = True
    has_full_props: bool = True
    """``build_info``, ``models_autoload`` and the real maximum in the router's own ``/props``."""
    has_never_run_trap: bool = False
    """Models that never ran are listed ``failed`` with exit code 10, and the default stop-timeout is 0."""
    shows_sleeping: bool = True
    shows_waking: bool = True
    """A wake-up is listed as ``loading``, with progress events."""
    kills_loading: bool = True
    """An unload of a loading model kills it at once; else its child is told to stop, and does not listen."""
    refuses_loading: bool = False
    """An unload needs the model ``loaded``, and a load is refused only then."""
    kills_late: bool = True
    """SIGKILL after the stop-timeout; else a busy child is waited for without end."""
    waits_for_victim: bool = True
    """A load at the maximum answers only when the evicted child is gone."""
    evicts_busy: bool = False
    """At the maximum, a busy or loading model may be the victim, and requests do not queue."""
    reloads_stopping: bool = True
    """A request for a stopping model waits and loads it again; else it is sent to the dying child."""
    public_list: bool = False
    """``/models`` and ``/v1/models`` need no API key, whatever the method."""
    metrics_wakes: bool = False
    cors_methods: str = "GET, POST, DELETE, OPTIONS"

    @property
    def build_info(self) -> str:
        """What ``/props`` calls this build."""
        return f"b{self.build}-51e0a2b"


_B11434 = Era("b11434", 11434)
_B10240 = replace(
    _B11434,
    name="b10240",
    build=10240,
    invalid_json_status=500,
    evicts_busy=True,
    reloads_stopping=False,
    public_list=True,
    metrics_wakes=True,
)
_B9093 = replace(
    _B10240,
    name="b9093",
    build=9093,
    has_events=False,
    has_architecture=False,
    has_never_run_trap=True,
    shows_waking=False,
    cors_methods="GET, POST",
)
_V2 = replace(
    _B9093,
    name="v2",
    build=7800,
    not_running="model is not loaded",
    already_running="model is already loaded",
    not_found="model not found",
    has_aliases=False,
    has_meta=False,
    has_reload=False,
    has_full_props=False,
    has_never_run_trap=False,
    shows_sleeping=False,
    kills_loading=False,
)
_V1 = replace(
    _V2,
    name="v1",
    build=7360,
    has_cache_path=True,
    refuses_loading=True,
    kills_late=False,
    waits_for_victim=False,
)

ERAS = {era.name: era for era in (_V1, _V2, _B9093, _B10240, _B11434)}
"""Every era by name, the oldest first."""

DEFAULT_ERA = "b11434"
