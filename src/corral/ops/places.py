"""The router's places, and the loads that the gateway has made: one at a time, after making room where there is none.

The router shows neither whom it is about to evict nor who waits in its queue; what can be concluded of that is here.
"""

from __future__ import annotations

from corral.ops.admission import Closure, MakeRoom, StartLoad
from corral.ops.line import WANTED, Line
from corral.wire import show_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

ROOM_S = 60.0
"""How long making room for another model keeps one closed at most, for what is said to its requests."""


class Places:
    """Who takes the router's places, who wants one, and who is to give one up; ``lines`` are the door's."""

    def __init__(self, lines: Mapping[str, Line], models_max: int | None) -> None:
        self.models_max = models_max
        self._lines = lines
        self._wanted: dict[str, None] = {}
        self._loading: str | None = None
        self._victim: tuple[str, Closure] | None = None

    def want(self, model: str) -> None:
        """Somebody waits for the load of a model."""
        self._wanted.setdefault(model)

    def is_loading(self, model: str) -> bool:
        """Whether the gateway has this model's load under way."""
        return self._loading == model

    @property
    def is_full(self) -> bool:
        """Whether one more model would make the router evict another."""
        if self.models_max is None or self.models_max < 1:
            return False
        taken = (line.is_resident or line.is_coming or line.model == self._loading for line in self._lines.values())
        return sum(taken) >= self.models_max

    @property
    def may_evict(self) -> bool:
        """Whether the router may evict an idle model by itself, for requests that it got before it was not to."""
        return any(line.is_queued for line in self._lines.values())

    @property
    def is_asking(self) -> bool:
        """Whether a load was asked for and has not begun: somebody else may have taken the place made for it."""
        return self._loading is not None and not self._lines[self._loading].is_resident

    def next(
        self, now: float, pinned: Collection[str], is_held: Callable[[str], bool]
    ) -> tuple[StartLoad | MakeRoom, Closure | None] | None:
        """What is to be done for whoever waits longest; with the closure of a model that gives up its place."""
        for model in [model for model in self._wanted if not self._is_wanted(model)]:
            del self._wanted[model]
        if self._loading is not None or self._victim is not None or not self._wanted:
            return None
        model = next(iter(self._wanted))
        if not self.is_full:
            self._loading = model
            del self._wanted[model]
            return StartLoad(model), None
        able = [line for line in self._lines.values() if line.may_go(now) and line.model not in pinned]
        # Idle for longest; one that is held could not come back, so it goes last.
        victim = min(able, key=lambda line: (is_held(line.model), line.idle_since), default=None)
        if victim is None:
            return None
        closure = Closure("the gateway", f"makes room for {show_name(model)}", now + ROOM_S, ROOM_S)
        self._victim = (victim.model, closure)
        return MakeRoom(victim.model, model), closure

    def finish_load(self, model: str) -> None:
        """A load is over."""
        self._loading = None if self._loading == model else self._loading

    def finish_room(self, victim: str) -> Closure | None:
        """Making room is over; gives the closure that is to be lifted."""
        if self._victim is None or self._victim[0] != victim:
            return None
        closure, self._victim = self._victim[1], None
        return closure

    def _is_wanted(self, model: str) -> bool:
        """Whether anybody still waits for the load of a model that is not up."""
        line = self._lines[model]
        return not line.is_resident and any(parked.reason == WANTED for parked in line.parked)
