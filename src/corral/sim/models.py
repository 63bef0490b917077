"""One model of the router as a state machine: no clock, no sockets; time is passed in.

Commands (``spawn``, ``stop``, ``wake``) change it at once or set a time at which it will change; ``advance(now)``
makes the changes that are due and ``due`` says when the next one is. What the router would put on its event stream
collects in ``news``.
"""

from __future__ import annotations

from corral.sim.config import ModelSpec, SimConfig

Event = dict[str, object]
_KILLED = 1
"""The exit code that the router lists for a child that it killed (POSIX)."""
_KILL_S = 0.001
_STAGES = ["text_model"]


class SimModel:
    """A model, its child process included."""

    def __init__(self, spec: ModelSpec, config: SimConfig, now: float) -> None:
        self.spec, self.config, self.era = spec, config, config.features
        self.value = spec.status
        self.port = 0
        self.generation = 0
        """How many children it had."""
        self.exit_code = 10 if self.era.has_never_run_trap else 0
        self.in_flight = 0
        self.reserved = 0
        """Requests let through that have not reached the child yet: it must not be evicted before its own request."""
        self.last_used = now
        self.is_stopping = False
        self.never_unloads = False
        self.news: list[Event] = []
        self._plan: list[tuple[float, str]] = []
        self._idle_since = now
        if self.is_resident:
            self.generation, self.port, self.exit_code = 1, 40000, 0
        if self.value == "loading":
            self._plan = self._plan_load(now, self._load_s)

    @property
    def is_resident(self) -> bool:
        """Whether it has a child process and counts against the maximum."""
        return self.value in ("loading", "loaded", "sleeping")

    @property
    def is_ready(self) -> bool:
        """Whether its child takes requests."""
        return self.value in ("loaded", "sleeping") and not self.is_stopping

    @property
    def has_failed(self) -> bool:
        """Whether the router lists it as failed."""
        return self.value == "unloaded" and self.exit_code != 0

    @property
    def stop_timeout_s(self) -> float:
        """How long a stop may take before the kill."""
        return self.config.find_stop_timeout(self.spec)

    @property
    def sleep_idle_s(self) -> float | None:
        """After how long without requests it falls asleep; None: never."""
        return self.spec.sleep_idle_s if self.spec.sleep_idle_s is not None else self.config.sleep_idle_s

    @property
    def due(self) -> float | None:
        """When the next change comes by itself; None: no change is planned."""
        times = [at for at, _ in self._plan]
        if self._may_sleep and self.sleep_idle_s is not None:
            times.append(self._idle_since + self.sleep_idle_s)
        return min(times, default=None)

    def spawn(self, now: float, port: int, fails_with: int | None = None) -> None:
        """Start a child on ``port``."""
        self.value, self.port, self.exit_code = "loading", port, 0
        self.generation += 1
        self.is_stopping = False
        self.last_used = now
        self._tell("model_status", status="loading")
        failing = fails_with if fails_with is not None else self.spec.fails_with
        self._plan = self._plan_load(now, self._load_s)
        if failing is not None:
            self._plan = [*self._plan[:1], (now + self._load_s, f"exit {failing}")]

    def stop(self, now: float) -> None:
        """Tell the child to end; a repeat changes nothing."""
        if self.is_stopping or not self.is_resident or self.never_unloads:
            return
        was_loading = self.value == "loading"
        self.is_stopping = True
        self._plan = []
        if was_loading and self.era.kills_loading:
            self._plan = [(now + _KILL_S, f"exit {_KILLED}")]
            return
        if self.era.kills_late:
            self._plan.append((now + self.stop_timeout_s, f"exit {_KILLED}"))
        # A child that loads does not read its input, and one that answers waits for its answers to end.
        if not was_loading and self.in_flight == 0:
            self._plan.append((now + self._exit_s, "exit 0"))

    def die(self, now: float, exit_code: int) -> None:
        """The child ends now, whatever it was doing."""
        if self.is_resident:
            self._exit(now, exit_code)

    def wake(self, now: float) -> None:
        """A request reaches a sleeping child."""
        if self.value == "sleeping" and not self.is_stopping:
            self.value = "loading" if self.era.shows_waking else "loaded"
            self._plan = self._plan_load(now, self.config.wake_s, "awake")

    def begin_request(self, now: float, is_post: bool = True) -> None:
        """One more request is with the child; only a POST counts as use when a victim is chosen."""
        self.in_flight += 1
        if is_post:
            self.last_used = now

    def end_request(self, now: float) -> None:
        """One request less; the last one lets a stopping child go."""
        self.in_flight -= 1
        self._idle_since = now
        if self.in_flight == 0 and self.is_stopping and self.is_resident:
            self._plan.append((now + self._exit_s, "exit 0"))

    def advance(self, now: float) -> bool:
        """Make every change that is due by ``now``; whether there was one."""
        changed = False
        while (at := self.due) is not None and at <= now:
            changed = True
            ready = [item for item in self._plan if item[0] == at]
            if ready:
                self._plan.remove(ready[0])
                self._do(ready[0][1], now)
            else:
                self.value = "sleeping"
                self._tell("status_change", status="sleeping")
        return changed

    @property
    def _load_s(self) -> float:
        return self.config.load_s if self.spec.load_s is None else self.spec.load_s

    @property
    def _exit_s(self) -> float:
        return self.config.exit_s if self.spec.exit_s is None else self.spec.exit_s

    @property
    def _may_sleep(self) -> bool:
        return self.value == "loaded" and not self.is_stopping and self.in_flight == 0 and not self._plan

    def _plan_load(self, now: float, seconds: float, end: str = "loaded") -> list[tuple[float, str]]:
        # The real router sends a progress event at most every 200 ms; the first and the last always come.
        steps = max(1, int(seconds * 0.5 / 0.2))
        ticks = [(now + seconds * (0.5 + 0.4 * step / steps), f"progress {step / steps}") for step in range(steps + 1)]
        return [*ticks, (now + seconds, end)]

    def _do(self, what: str, now: float) -> None:
        verb, _, value = what.partition(" ")
        if verb == "exit":
            self._exit(now, int(value))
        elif verb == "progress":
            progress = {"stages": _STAGES, "current": _STAGES[0], "value": float(value)}
            self._tell("status_change", status="loading", progress=progress)
        else:
            self.value = "loaded"
            self._idle_since = now
            detail: Event = {"info": self.build_info(now)} if verb == "loaded" else {}
            self._tell("status_change", status="loaded", **detail)

    def _exit(self, now: float, exit_code: int) -> None:
        self.value, self.exit_code, self.is_stopping = "unloaded", exit_code, False
        self._plan = []
        self._idle_since = now
        self._tell("status_change", status="unloaded", exit_code=exit_code)

    def _tell(self, event: str, **data: object) -> None:
        self.news.append({"model": self.spec.id, "event": event, "data": data})

    def build_info(self, now: float) -> Event:
        """What the child says about itself when it is up."""
        return {
            "id": self.spec.id,
            "aliases": [self.spec.id],
            "tags": list(self.spec.tags),
            "object": "model",
            "architecture": {"input_modalities": ["text"], "output_modalities": ["text"]},
            "created": int(now),
            "owned_by": "llamacpp",
            "meta": build_meta(),
        }


def build_meta() -> Event:
    """What a tiny model's child reports about its model."""
    return {
        "vocab_type": 1,
        "n_vocab": 380,
        "n_ctx": 256,
        "n_ctx_train": 2048,
        "n_embd": 64,
        "n_params": 106560,
        "size": 426240,
        "ftype": "(guessed) all F32",
    }
