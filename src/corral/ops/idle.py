"""Idle models: for how long each has been, and which of them have been so for too long.

Two halves that know nothing of each other. ``judge`` is the rule, over a table of idle times whatever they come from.
``IdleTimes`` is such a source for a stock router: it counts by the connections to each model's process, in looks at
the machine that touch nothing. Looks at most LOOK_S apart see every request that was answered, since the system
remembers for a minute that a connection ended.

Time is the caller's, of a clock that never runs backwards; what a machine slept through does not count as idle.
"""

from __future__ import annotations

from corral.ops.room import read_sleep_idle_s
from corral.wire import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from corral.ops.measurement import Child, Measurement
    from corral.wire import Listing, Model

LOOK_S = 30.0
"""The longest time between two looks that are to miss nothing."""
_REMEMBERED_S = 55.0
"""For how long a look can surely tell that a connection ended; the system remembers five seconds longer."""

# Why a model stays.

NEVER = "never"
PINNED = "pinned"
NO_LIMIT = "no_limit"
LOADING = "loading"
BUSY = "busy"
NOT_VISIBLE = "not_visible"
NOT_YET = "not_yet"


class IdleLimits(Record):
    """For how long a model may be idle."""

    usual_s: float | None = None
    """Where no pattern matches; None is for ever."""
    matches: tuple[tuple[str, float], ...] = ()
    """Globs for ids and aliases with their limits in seconds; the first that matches counts."""

    @property
    def shortest_s(self) -> float | None:
        """The shortest of all limits; None when there is none."""
        every = [limit_s for _, limit_s in self.matches]
        return min(every if self.usual_s is None else [*every, self.usual_s], default=None)

    def find(self, model: Model) -> tuple[float | None, str]:
        """The limit of a model, and the pattern that it comes from; empty when it is the usual one."""
        from fnmatch import fnmatchcase

        for pattern, limit_s in self.matches:
            if any(fnmatchcase(name, pattern) for name in (model.id, *model.aliases)):
                return limit_s, pattern
        return self.usual_s, ""


class Idle(Record):
    """What is known of one resident model's rest."""

    model: Model
    idle_s: float | None
    """Since the end of its last answer, at least; 0 while it answers. None when that cannot be seen."""
    in_flight: int | None = None
    note: str = ""
    """Why something is None."""


class Verdict(Record):
    """What the rule says of one resident model."""

    model: str
    status: str
    idle_s: float | None
    limit_s: float | None
    pattern: str
    """Where the limit comes from; empty when it is the usual one."""
    left_s: float | None
    """In how many seconds it is due if nothing happens; 0 when it is. None when no time makes it due."""
    stays: str = ""
    """Why it is not due, as one of the words above; empty when it is."""
    note: str = ""

    @property
    def is_due(self) -> bool:
        """Whether it goes now."""
        return not self.stays


def judge(
    table: Iterable[Idle], limits: IdleLimits, *, never: Collection[str] = (), pinned: Collection[str] = ()
) -> list[Verdict]:
    """Say of each resident model whether it has been idle for too long; ``never`` and ``pinned`` are ids."""
    return [_judge(idle, limits, never, pinned) for idle in table]


def _judge(idle: Idle, limits: IdleLimits, never: Collection[str], pinned: Collection[str]) -> Verdict:
    model = idle.model
    limit_s, pattern = limits.find(model)
    left_s = None
    if model.id in never:
        stays = NEVER
    elif model.id in pinned:
        stays = PINNED
    elif limit_s is None:
        stays = NO_LIMIT
    elif model.status == "loading":
        stays = LOADING
    elif idle.idle_s is None:
        stays = NOT_VISIBLE
    else:
        left_s = max(0.0, limit_s - idle.idle_s)
        stays = BUSY if idle.in_flight and left_s else NOT_YET if left_s else ""
    return Verdict(model.id, model.status, idle.idle_s, limit_s, pattern, left_s, stays, idle.note)


class _Known:
    """One model's process, as the newest look showed it."""

    __slots__ = ("active_at", "child", "model", "seen_at")

    def __init__(self, model: Model, child: Child, active_at: float, seen_at: float) -> None:
        self.model, self.child, self.active_at, self.seen_at = model, child, active_at, seen_at


class IdleTimes:
    """Idle times by connections. Feed it a look at least every LOOK_S; after a longer gap it assumes the worst.

    A process that is new counts from its coming up, one that was there before the first look from what that look
    shows: a request within the last minute, sleep, else the look itself.
    """

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}
        self._table: list[tuple[Model, str]] = []
        """The residents of the newest look, with why nothing is known of one."""

    def take(self, listing: Listing, measurement: Measurement, now: float) -> None:
        """A look at list and machine; ``measurement`` was asked for what was recent."""
        before, self._known, self._table = self._known, {}, []
        for model in listing.models:
            if not model.is_resident:
                continue
            child = measurement.find(model.id)
            note = _find_blindness(model, child)
            self._table.append((model, note))
            if child is not None and not note:
                known = before.get(model.id)
                is_same = known is not None and _identify(known.child) == _identify(child)
                self._known[model.id] = _look(model, child, known if is_same else None, now)

    def put_off(self, model_id: str, now: float) -> None:
        """Count a model's rest from now on, whatever was seen."""
        if model_id in self._known:
            self._known[model_id].active_at = now

    def tell(self, now: float) -> list[Idle]:
        """Every resident of the newest look."""
        found = []
        for model, note in self._table:
            known = self._known.get(model.id)
            if known is None:
                found.append(Idle(model, None, note=note))
            else:
                found.append(Idle(model, max(0.0, now - known.active_at), known.child.in_flight))
        return found


def _identify(child: Child) -> tuple[int, int]:
    """A process by number and start; its name may change."""
    return child.process.pid, child.process.started


def _find_blindness(model: Model, child: Child | None) -> str:
    if child is None:
        return "its process is not seen"
    if child.in_flight is None and model.status != "sleeping":
        return "; ".join(child.reasons) or "its connections are not seen"
    return ""


def _look(model: Model, child: Child, known: _Known | None, now: float) -> _Known:
    """What one look shows of a process, in the light of the one before (None: there was none)."""
    if model.status == "sleeping":
        sleep_s = read_sleep_idle_s(model) or 0.0
        if known is not None and known.model.status == "sleeping" and now - known.seen_at < sleep_s:
            # It cannot have woken and fallen asleep again: whatever was connected asked nothing of the model.
            return _Known(model, child, known.active_at, now)
        return _Known(model, child, min(_find_activity(child, known, now), now - sleep_s), now)
    has_come_up = known is not None and known.model.status == "loading"
    is_at_work = model.status == "loading" or has_come_up or bool(child.in_flight)
    return _Known(model, child, now if is_at_work else _find_activity(child, known, now), now)


def _find_activity(child: Child, known: _Known | None, now: float) -> float:
    """When it last answered, or came up, at the latest."""
    if known is None:
        return now if child.last_active_s is None else now - child.last_active_s
    latest = known.active_at
    if now - known.seen_at > _REMEMBERED_S:
        # So long unwatched it may have answered, and nothing tells of it any more.
        latest = max(latest, now - _REMEMBERED_S)
    return latest if child.last_active_s is None else max(latest, now - child.last_active_s)
